"""Results that somebody spoilt: the rest is shown, what is bad is named, nothing hangs."""

from __future__ import annotations

import json
import os
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from lidcli.store import hdf5
from lidcli.store.hdf5 import write_atomic

Lid = Callable[..., "subprocess.CompletedProcess[str]"]


def forged(config: str, status: str = "complete", metrics: int = 0) -> Callable[[h5py.File], None]:
    """The writer of a whole, well-sealed record of any contents."""

    def write(file: h5py.File) -> None:
        provenance = json.dumps({"status": status, "message": ""})
        for name, text in (("config", config), ("provenance", provenance)):
            file.create_dataset(name, data=np.bytes_(text))
        for i in range(metrics):
            file[f"evaluation/test/m{i}"] = 1.0

    return write


def config_of(good: Path) -> dict[str, Any]:
    with h5py.File(good / "run.h5") as file:
        found: dict[str, Any] = json.loads(file["config"][()])
        return found


def spoil(demo: Path, good: Path) -> set[str]:
    """Put a bad run of every kind beside the good ones; their names."""
    config = config_of(good)
    words = json.dumps(config)
    folders = {}

    def folder(name: str) -> Path:
        folders[name] = demo / name
        folders[name].mkdir()
        return folders[name] / "run.h5"

    os.mkfifo(folder("pipe-s0"))
    folder("folder-s0").mkdir()
    folder("device-s0").symlink_to("/dev/zero")
    for name, start in (("sparse-s0", b""), ("sealed-s0", b"lid store, 1099511627776 bytes, sha")):
        path = folder(name)
        path.write_bytes(start + b"256 " + b"0" * 64 + b"\n")
        os.truncate(path, 1 << 40)
    shutil.copy(good / "run.h5", folder("copied-s0"))
    for name, text in {
        "infinite-s0": json.dumps({**config, "seed": float("inf")}),
        "negative-s0": json.dumps({**config, "seed": -1}),
        "huge-s0": json.dumps({**config, "seed": 10**400}),
        "large-s0": words[:-1] + f', "x": {10**400}}}',
        "long-s0": json.dumps({**config, "x": "x" * 10**7}),
        "deep-s0": words[:-1] + ', "x": ' + "[" * 500 + "]" * 500 + "}",
        "deeper-s0": words[:-1] + ', "x": ' + "[" * 10**6 + "]" * 10**6 + "}",
        "list-s0": "[]",
        "noname-s0": json.dumps({**config, "data": 3}),
    }.items():
        write_atomic(folder(name), forged(text))
    write_atomic(folder("many-s0"), forged(words, metrics=20_000))
    with pytest.MonkeyPatch.context() as later:
        later.setattr(hdf5, "SCHEMA_VERSION", 99)
        write_atomic(folder("newer-s0"), forged(words))
    return set(folders)


@pytest.fixture(scope="module")
def spoilt(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> tuple[Path, set[str]]:
    """Two good runs among many bad ones."""
    place = tmp_path_factory.mktemp("spoilt")
    add = runpy.run_path(str(repository / "tests" / "report" / "synthetic.py"))["add"]
    for seed in range(2):
        good = add(place / "results", "lidvae", seed=seed).folder
    return place, spoil(place / "results" / "demo", good)


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    "command",
    [("list", "runs"), ("list", "runs", "demo"), ("report", "--format", "terminal"),
     ("report", "demo", "--format", "csv"), ("report",)],
    ids=" ".join,
)  # fmt: skip
def test_bad_records_are_named_and_hide_nothing(
    lid: Lid, spoilt: tuple[Path, set[str]], command: tuple[str, ...]
) -> None:
    place, bad = spoilt
    done = lid(*command, cwd=place, timeout=60)
    assert done.returncode == 3, done.stderr
    assert "lidvae" in done.stdout
    said = [line for line in done.stderr.splitlines() if line.startswith("warning: ")]
    assert {next(name for name in bad if f"/{name}" in line) for line in said} == bad
    assert all(len(line) < 400 for line in said)
    last = f"lid: {len(bad)} runs were left out, see the warnings; everything else is shown."
    assert done.stderr.splitlines()[-1] == last


def test_documents_are_whole_too(lid: Lid, spoilt: tuple[Path, set[str]]) -> None:
    done = lid("list", "runs", "--json", cwd=spoilt[0])
    assert done.returncode == 3
    assert len(json.loads(done.stdout)["runs"]) == 2
    done = lid("report", "--json", "--format", "terminal", cwd=spoilt[0])
    assert done.returncode == 3
    assert len(json.loads(done.stdout)["experiments"][0]["runs"]) == 2


def test_the_number_of_done_runs_is_still_known(lid: Lid, spoilt: tuple[Path, set[str]]) -> None:
    done = lid("list", "experiments", cwd=spoilt[0])
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["pipe-s0", "copied-s0", "infinite-s0", "deeper-s0", "sealed-s0"])
def test_showing_or_measuring_a_bad_run_is_one_sentence(
    lid: Lid, spoilt: tuple[Path, set[str]], name: str
) -> None:
    for command in ("show", "evaluate"):
        done = lid(command, f"results/demo/{name}", cwd=spoilt[0], timeout=60)
        assert done.returncode in (1, 2), done.stderr
        assert "defect" not in done.stderr
        assert len(done.stderr.splitlines()) == 1


@pytest.fixture
def results(tmp_path: Path, repository: Path) -> Path:
    """A folder of one finished run."""
    add = runpy.run_path(str(repository / "tests" / "report" / "synthetic.py"))["add"]
    folder = tmp_path / "results"
    add(folder, "lidvae", ll=-0.9125)
    return folder


def shell(place: Path, line: str, **env: str) -> subprocess.CompletedProcess[bytes]:
    """A command line of `bash`, `lid` in it being this one."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("LID_")}
    line = line.replace("lid ", f"'{sys.executable}' -m lidcli ", 1)
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {line}"],
        cwd=place,
        env=clean | {"OMP_NUM_THREADS": "1"} | env,
        capture_output=True,
        timeout=120,
        check=False,
    )


def quiet(done: subprocess.CompletedProcess[bytes]) -> None:
    for word in (b"defect", b"Traceback", b"Exception ignored", b"Error:"):
        assert word not in done.stderr, done.stderr


@pytest.mark.parametrize(
    "command",
    ["list runs", "show demo/", "list runs --json", "report --format markdown"],
)
def test_a_folder_that_is_no_utf8_is_as_good_as_any(
    results: Path, tmp_path: Path, command: str
) -> None:
    odd = os.fsencode(tmp_path) + b"/r\xff\xfesults"
    os.rename(os.fsencode(results), odd)
    done = shell(tmp_path, f"lid {command} -o $'r\\xff\\xfesults'")
    quiet(done)
    assert done.returncode == 0, done.stderr
    assert b"lidvae" in done.stdout


@pytest.mark.parametrize(
    "env",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
    ids=["ascii", "C"],
)
@pytest.mark.parametrize("command", ["list data", "show demo/", "report --format terminal"])
def test_a_terminal_without_unicode_gets_the_tables_all_the_same(
    results: Path, tmp_path: Path, env: dict[str, str], command: str
) -> None:
    done = shell(tmp_path, f"lid {command}", **env)
    quiet(done)
    assert done.returncode == 0, done.stderr
    assert done.stdout
    if command.startswith("report"):
        assert done.stdout.isascii()
        assert b"+-" in done.stdout


@pytest.mark.parametrize("command", ["list runs", "list models --json", "report --format csv"])
def test_a_reader_that_leaves_early_is_no_news(results: Path, tmp_path: Path, command: str) -> None:
    done = shell(tmp_path, f"lid {command} | true")
    quiet(done)
    assert done.stderr == b"" or done.stderr.endswith(b"csv\n")
    done = shell(tmp_path, f"lid {command} | head -1")
    quiet(done)


@pytest.mark.parametrize("command", ["list runs", "list models --json", "report --format terminal"])
@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_defect_and_no_file_is_written_to(
    results: Path, tmp_path: Path, command: str, closed: str
) -> None:
    before = next(results.rglob("run.h5")).read_bytes()
    done = shell(tmp_path, f"lid {command} {closed}")
    quiet(done)
    assert done.returncode == 0
    assert next(results.rglob("run.h5")).read_bytes() == before


@pytest.mark.parametrize("command", ["list runs", "list models --json"])
def test_a_full_device_is_one_sentence(results: Path, tmp_path: Path, command: str) -> None:
    done = shell(tmp_path, f"lid {command} > /dev/full")
    quiet(done)
    assert done.returncode == 1
    assert b"lid: No space left on device." in done.stderr
