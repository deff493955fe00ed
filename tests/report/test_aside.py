"""Work done aside gives what it gives here, whatever becomes of its process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes fork on Linux only")
ROOT = str(Path(__file__).resolve().parents[2])
START = """
import json, os, signal, sys
from functools import partial
from lidcli.errors import LidError
from lidcli.report.aside import ahead, aside
cores = int(sys.argv[1])
os.sched_getaffinity = lambda process: set(range(cores))
here = os.getpid()
"""


@pytest.fixture(params=[1, 2, 5], ids=lambda cores: f"{cores}-cores")
def cores(request: pytest.FixtureRequest) -> int:
    return int(request.param)


def run(code: str, cores: int, *words: str) -> subprocess.CompletedProcess[str]:
    """A process without torch, as `lid report` is."""
    return subprocess.run(
        [sys.executable, "-c", START + code, str(cores), *words],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": ROOT},
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_results_come_in_the_order_of_the_tasks(cores: int, count: int) -> None:
    code = """
with aside([partial(lambda i: [i, os.getpid()], i) for i in range(int(sys.argv[2]))]) as results:
    done = results()
print(json.dumps([[i for i, _ in done], len({p for _, p in done}), here in {p for _, p in done}]))
"""
    done = run(code, cores, str(count))
    assert done.stderr == ""
    processes = min(cores, count)
    expected = [list(range(count)), processes, 0 < processes < 2]
    assert done.stdout.strip() == str(expected).replace("True", "true").replace("False", "false")


def test_what_a_task_raises_is_raised_here(cores: int) -> None:
    code = """
def full():
    raise OSError(28, "No space left on device")

with aside([lambda: 1, lambda: 2, full]) as results:
    results()
"""
    done = run(code, cores)
    assert done.returncode == 1
    assert done.stderr.strip().endswith("No space left on device")
    assert done.stderr.count("Traceback") == 1


def test_the_tasks_of_a_process_that_is_killed_are_done_here(cores: int) -> None:
    code = """
def task(i):
    if os.getpid() != here and i == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return i

with aside([partial(task, i) for i in range(6)]) as results:
    print(results())
"""
    assert run(code, cores).stdout.strip() == "[0, 1, 2, 3, 4, 5]"


def test_no_process_outlives_the_block(tmp_path: Path) -> None:
    code = """
from pathlib import Path

def forever():
    Path(sys.argv[2], str(os.getpid())).touch()
    signal.pause()

with aside([forever] * cores):
    while len(os.listdir(sys.argv[2])) < cores:
        pass
    raise KeyboardInterrupt
"""
    done = run(code, 3, str(tmp_path))
    assert done.returncode != 0
    children = [int(path.name) for path in tmp_path.iterdir()]
    assert len(children) == 3
    for child in children:
        with pytest.raises(ProcessLookupError):
            os.kill(child, 0)


def test_long_results_and_texts_in_any_letters_arrive_whole(cores: int) -> None:
    code = """
text = "\u03b5" * 100_000 + "\\udc80"
with aside([lambda: text, lambda: None]) as results:
    print(results() == [text, None])
"""
    assert run(code, cores).stdout.strip() == "True"


def test_lines_come_in_the_order_of_the_items_and_none_of_one_that_is_refused(cores: int) -> None:
    code = """
def line(i):
    if i == 3:
        raise LidError("\\n")
    return f"{i} {os.getpid() == here}"

with ahead(line, range(20_000)) as lines:
    done = list(lines)
expected = [None if i == 3 or cores < 2 else f"{i} False" for i in range(20_000)]
with ahead(line, []) as lines:
    print(done == expected, list(lines))
"""
    assert run(code, cores).stdout.strip() == "True []"


@pytest.mark.parametrize("end", ["os.kill(os.getpid(), signal.SIGKILL)", "1 / 0"])
def test_lines_that_a_process_did_not_live_to_make_are_none(end: str) -> None:
    code = """
def line(i):
    return str(i) * 50_000 if i < 5 else ending()

def ending():
    ENDING

with ahead(line, range(9)) as lines:
    done = list(lines)
print(len(done), set(done[5:]), all(line in (None, str(i) * 50_000) for i, line in enumerate(done)))
"""
    found = run(code.replace("ENDING", end), 2)
    assert (found.stdout.strip(), found.stderr) == ("9 {None} True", "")


def test_no_process_outlives_lines_that_nobody_waits_for() -> None:
    code = """
try:
    with ahead(lambda i: "x" * 1000 + str(os.getpid()), range(10**9)) as lines:
        child = int(next(lines)[1000:])
        raise KeyboardInterrupt
except KeyboardInterrupt:
    try:
        os.kill(child, 0)
    except ProcessLookupError:
        print("gone")
"""
    assert run(code, 2).stdout.strip() == "gone"


def test_a_record_that_changed_is_read_anew_and_a_damaged_one_named(
    cores: int, tmp_path: Path
) -> None:
    code = """
from pathlib import Path
from lidcli.report.collect import collect
from lidcli.store import index
from lidcli.store.run import Run

index.MANY, results = 1, Path(sys.argv[2])
told = {"status": "complete"}
config = {"method": "vae", "data": {"name": "x"}}
runs = [
    Run.create(results / "demo" / f"a-s{seed}", config | {"seed": seed}, told) for seed in range(5)
]
for run in runs:
    run.update(evaluation=("test", {"ll": -1.0}))
first = collect(results)
again = collect(results)
print([r.metrics for r in again.records] == [r.metrics for r in first.records], *again.warnings)
runs[3].update(evaluation=("test", {"ll": -2.0}))
raw = bytearray((runs[1].folder / "run.h5").read_bytes())
raw[-1] ^= 1
(runs[1].folder / "run.h5").write_bytes(raw)
found = collect(results)
print([(r.seed, r.metrics["ll"]) for r in found.records])
print(*found.warnings)
"""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LID_CACHE", str(tmp_path / "cache"))
        done = run(code, cores, str(tmp_path / "results"))
    assert done.stderr == ""
    same, figures, warning = done.stdout.splitlines()
    assert same == "True"
    assert figures == str([(0, -1.0), (2, -1.0), (3, -2.0), (4, -1.0)])
    assert warning.startswith("Left out: ")
    assert "a-s1/run.h5 is damaged: its bytes are not those that lid wrote." in warning


@pytest.mark.parametrize("module", ["torch", "jax"])
def test_beside_libraries_with_threads_of_their_own_nothing_is_forked(module: str) -> None:
    code = """
sys.modules[sys.argv[2]] = json
with aside([os.getpid] * 4) as results:
    print(set(results()) == {here})
"""
    assert run(code, 5, module).stdout.strip() == "True"


def test_a_report_imports_none_of_them(tmp_path: Path) -> None:
    code = """
from lidcli.cli import main
sys.argv = ["lid", "report", "-o", sys.argv[2]]
try:
    main()
finally:
    print(sorted({"torch", "jax"} & sys.modules.keys()))
"""
    assert run(code, 2, str(tmp_path)).stdout.strip() == "[]"
