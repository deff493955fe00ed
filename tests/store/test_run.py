"""One run's record, its checkpoints and its lock, whatever happens to the process."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lidcli.errors import LockedError, StoreError
from lidcli.store import hdf5
from lidcli.store.find import find_run, find_runs, with_runs
from lidcli.store.run import Run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(tmp_path / "demo" / "abc-s0", {"seed": 0}, {"experiment": "demo"})


def spoil(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_new_run_has_its_configuration_and_is_running(run: Run) -> None:
    again = Run.open(run.folder)
    assert again.config == {"seed": 0}
    assert again.status == "running"
    assert again.provenance["experiment"] == "demo"
    assert again.curves == again.evaluation == again.arrays == {}


def test_updates_merge_and_come_back(run: Run) -> None:
    run.update(curves={"train/elbo": [1.0, np.nan], "epoch": np.arange(2)})
    run.update(evaluation=("test", {"elbo": -1.5, "kl/c": 1.2, "kl/c_se": np.float32(0.25)}))
    run.update(
        provenance={
            "status": "complete",
            "data_shape": [2],
            "nested": {"é": None, "x": np.int64(3)},
        },
        curves={"train/elbo": [1.0, 2.0, 3.0]},
        evaluation=("valid", {"elbo": float("-inf")}),
        arrays={"x": np.ones((3, 2)), "labels": [0, 1, 2]},
    )
    run.update(evaluation=("test", {"ll": -1.0}))
    for record in (run, Run.open(run.folder)):
        assert record.status == "complete"
        assert record.provenance["nested"]["x"] == 3
        assert record.evaluation == {
            "test": {"elbo": -1.5, "kl/c": 1.2, "kl/c_se": 0.25, "ll": -1.0},
            "valid": {"elbo": float("-inf")},
        }
        assert list(record.curves["train/elbo"]) == [1, 2, 3]
        assert record.curves["epoch"].dtype == np.int64
        assert record.arrays["x"].dtype == np.float32
        assert record.arrays["x"].shape == (3, 2)


def test_a_record_can_be_read_with_h5py_and_json_alone(run: Run) -> None:
    import json

    import h5py

    run.update(evaluation=("test", {"mi/c": 1.5}))
    with h5py.File(run.folder / "run.h5") as file:
        assert json.loads(file["config"][()]) == {"seed": 0}
        assert file["evaluation/test/mi/c"][()] == 1.5
        assert file.attrs["schema_version"] == hdf5.SCHEMA_VERSION


def test_wrong_entries_are_refused_and_change_nothing(run: Run) -> None:
    before = (run.folder / "run.h5").read_bytes()
    with pytest.raises(ValueError, match="status is one of running"):
        run.update(provenance={"status": "finished"})
    with pytest.raises(ValueError, match="fewer than 10"):
        run.update(arrays={"x": np.zeros(10**6)})
    with pytest.raises(TypeError, match="a set cannot be part"):
        run.update(provenance={"x": {1}})
    with pytest.raises(ValueError, match="only numbers"):
        run.update(curves={"x": ["a"]})
    assert (run.folder / "run.h5").read_bytes() == before


def test_creating_a_run_that_exists_keeps_it(run: Run) -> None:
    run.update(provenance={"status": "complete"}, curves={"epoch": [1.0]})
    again = Run.create(run.folder, {"seed": 9}, {"experiment": "other"})
    assert again.status == "complete"
    assert again.config == {"seed": 0}
    assert list(again.curves) == ["epoch"]


def test_creating_a_run_whose_record_is_damaged_sets_it_aside_and_keeps_checkpoints(
    run: Run,
) -> None:
    run.save_checkpoint({"step": 3})
    spoil(run.folder / "run.h5")
    with pytest.raises(StoreError, match=r"run\.h5 is damaged"):
        Run.open(run.folder)
    again = Run.create(run.folder, {"seed": 0}, {})
    assert again.load_checkpoint() == ({"step": 3}, [])
    assert "set aside as run.damaged.h5" in again.provenance["warnings"][0]
    assert (run.folder / "run.damaged.h5").exists()


def test_a_folder_without_a_record_is_not_a_run(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is not a run"):
        Run.open(tmp_path)


def test_an_update_keeps_what_another_process_wrote_meanwhile(run: Run) -> None:
    other = Run.open(run.folder)
    other.update(evaluation=("valid", {"elbo": 1.0}))
    run.update(evaluation=("test", {"elbo": 2.0}))
    assert Run.open(run.folder).evaluation == {"valid": {"elbo": 1.0}, "test": {"elbo": 2.0}}


def test_taking_the_lock_shows_what_another_process_did_before(run: Run) -> None:
    Run.open(run.folder).update(provenance={"status": "complete"})
    assert run.status == "running"
    with run.lock():
        assert run.status == "complete"


def test_there_is_no_checkpoint_at_first(run: Run) -> None:
    assert run.load_checkpoint() == (None, [])


def test_the_newest_checkpoint_counts_and_the_one_before_is_kept(run: Run) -> None:
    for step in range(3):
        run.save_checkpoint({"step": step, "w": torch.full((10,), step)})
    tree, warnings = run.load_checkpoint()
    assert tree["step"] == 2
    assert warnings == []
    os.replace(run.folder / "checkpoint.prev.h5", run.folder / "checkpoint.h5")
    assert run.load_checkpoint()[0]["step"] == 1
    assert sorted(p.name for p in run.folder.iterdir()) == [".lock", "checkpoint.h5", "run.h5"]


@pytest.mark.parametrize("damage", [spoil, lambda p: p.write_bytes(b""), os.unlink])
def test_a_damaged_checkpoint_falls_back_to_the_one_before_and_says_so(
    run: Run, damage: Any
) -> None:
    for step in range(2):
        run.save_checkpoint({"step": step, "w": torch.randn(5000)})
    damage(run.folder / "checkpoint.h5")
    tree, warnings = run.load_checkpoint()
    assert tree["step"] == 0
    if damage is not os.unlink:
        assert len(warnings) == 1
        assert "checkpoint.h5 is damaged" in warnings[0]
    run.save_checkpoint({"step": 5})
    assert run.load_checkpoint() == ({"step": 5}, [])


def test_two_damaged_checkpoints_are_an_error_that_says_what_to_do(run: Run) -> None:
    for step in range(2):
        run.save_checkpoint({"step": step})
    spoil(run.folder / "checkpoint.h5")
    spoil(run.folder / "checkpoint.prev.h5")
    with pytest.raises(StoreError, match=r"checkpoint\.prev\.h5 is damaged.*--restart"):
        run.load_checkpoint()


def test_a_newer_checkpoint_is_not_passed_over(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run.save_checkpoint({"step": 0})
    monkeypatch.setattr(hdf5, "SCHEMA_VERSION", 2)
    run.save_checkpoint({"step": 1})
    monkeypatch.undo()
    with pytest.raises(StoreError, match="newer lid"):
        run.load_checkpoint()


@pytest.mark.parametrize("call", ["replace", "link", "fsync"])
def test_a_checkpoint_that_cannot_be_put_in_place_leaves_the_others(
    run: Run, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    run.save_checkpoint({"step": 0})
    run.save_checkpoint({"step": 1})

    def fail(*arguments: Any, **more: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, call, fail)
    if call == "link":
        run.save_checkpoint({"step": 2})
        assert run.load_checkpoint() == ({"step": 2}, [])
    else:
        with pytest.raises(StoreError, match="the disk is full"):
            run.save_checkpoint({"step": 2})
        assert run.load_checkpoint() == ({"step": 1}, [])
    assert (run.folder / "checkpoint.prev.h5").exists()


KILLED = """
import sys, numpy
from pathlib import Path
from lidcli.store.run import Run
run = Run.create(Path(sys.argv[1]), {}, {})
with run.lock():
    tree, _ = run.load_checkpoint()
    step = 0 if tree is None else tree["step"]
    print("ready", flush=True)
    while True:
        step += 1
        run.save_checkpoint({"step": step, "w": numpy.full(50_000, float(step))})
        print(step, flush=True)
        run.update(provenance={"steps": step}, curves={"epoch": list(range(step))})
"""


def test_killed_at_any_moment_a_run_has_a_good_checkpoint_and_record(tmp_path: Path) -> None:
    folder, draw, before = tmp_path / "demo" / "abc-s0", random.Random(0), 0
    for attempt in range(10):
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(folder)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        first = "" if attempt % 2 else process.stdout.readline()
        time.sleep(draw.uniform(0, 0.15))
        process.send_signal(signal.SIGKILL)
        said = [int(line) for line in (first + process.communicate()[0]).split()]
        run = Run.open(folder)
        tree, warnings = run.load_checkpoint()
        if said:
            assert warnings == []
            assert tree["step"] in (said[-1], said[-1] + 1)
            assert tree["step"] >= before
            assert bool((tree["w"] == tree["step"]).all())
            before = tree["step"]
        with run.lock():
            names = {path.name for path in folder.iterdir()}
        assert names <= {".lock", ".lease", "run.h5", "checkpoint.h5", "checkpoint.prev.h5"}
    assert before > 0


@pytest.mark.parametrize("order", ["write", "keep", "newest", "previous"])
def test_a_kill_between_any_two_steps_of_the_rotation_leaves_a_good_checkpoint(
    run: Run, monkeypatch: pytest.MonkeyPatch, order: str
) -> None:
    class Kill(BaseException):
        pass

    run.save_checkpoint({"step": 0})
    run.save_checkpoint({"step": 1})
    stop = {"write": 0, "keep": 1, "newest": 2, "previous": 3}[order]
    calls = 0

    def dying(real: Any) -> Any:
        def call(*arguments: Any, **more: Any) -> Any:
            nonlocal calls
            if calls == stop:
                raise Kill
            calls += 1
            return real(*arguments, **more)

        return call

    for name in ("link", "replace"):
        monkeypatch.setattr(os, name, dying(getattr(os, name)))
    try:
        run.save_checkpoint({"step": 2})
    except Kill:
        assert stop < 3
    monkeypatch.undo()
    expected = 1 if stop < 2 else 2
    assert run.load_checkpoint() == ({"step": expected}, [])
    if stop:
        spoil(run.folder / "checkpoint.h5")
    run.save_checkpoint({"step": 9})
    assert run.load_checkpoint() == ({"step": 9}, [])


def test_a_second_process_is_told_who_holds_the_lock(run: Run) -> None:
    script = (
        "import sys; from pathlib import Path; from lidcli.store.run import Run\n"
        "with Run.open(Path(sys.argv[1])).lock(): print('locked', flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(run.folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "locked\n"
    words = rf"abc-s0 is being worked on by process {process.pid} on"
    with pytest.raises(LockedError, match=words), run.lock():
        pass
    process.kill()
    process.communicate()
    with run.lock():
        pass


def test_the_lock_is_free_again_after_an_error(run: Run) -> None:
    with pytest.raises(KeyError), run.lock():
        raise KeyError
    with run.lock(), pytest.raises(LockedError), run.lock():
        pass
    with run.lock():
        assert run.status == "running"


def test_taking_the_lock_clears_what_a_killed_writer_left(run: Run) -> None:
    (run.folder / ".run.h5.abc.tmp").write_text("half")
    with run.lock():
        assert not list(run.folder.glob(".*.tmp"))


def test_a_discarded_run_can_be_made_anew_under_the_same_lock(run: Run) -> None:
    run.save_checkpoint({"step": 1})
    run.update(provenance={"status": "diverged"})
    with run.lock():
        run.discard()
        again = Run.create(run.folder, {"seed": 0}, {})
        assert again.status == "running"
        assert again.load_checkpoint() == (None, [])


def test_results_that_cannot_be_written_are_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("a file")
    with pytest.raises(StoreError, match=r"cannot be written: part of its path is a file"):
        Run.create(tmp_path / "results" / "demo" / "abc-s0", {}, {})


@pytest.fixture
def results(tmp_path: Path) -> Path:
    for name in ("demo/abc1-s0", "demo/abd2-s0", "depth/abc1-s0", "published/depth/abc1-s0",
                 "published/old/fff-s1"):  # fmt: skip
        Run.create(tmp_path / name, {}, {})
    (tmp_path / "demo" / "empty").mkdir()
    return tmp_path


def test_runs_are_found_the_published_ones_last_and_once(results: Path) -> None:
    names = [str(path.relative_to(results)) for path in find_runs(results)]
    assert names == ["demo/abc1-s0", "demo/abd2-s0", "depth/abc1-s0", "published/old/fff-s1"]
    assert [path.name for path in find_runs(results, ["demo"])] == ["abc1-s0", "abd2-s0"]
    assert find_runs(results, ["d*"]) == []


@pytest.mark.parametrize("closed", ["demo/abc1-s0/run.h5", "demo/abc1-s0", "demo"])
def test_a_run_that_may_not_be_read_is_found_and_its_reason_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, closed: str
) -> None:
    record = tmp_path / "demo" / "abc1-s0" / "run.h5"
    record.parent.mkdir(parents=True)
    record.write_bytes(b"")
    tmp_path.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    user, mode = os.geteuid(), (tmp_path / closed).stat().st_mode
    (tmp_path / closed).chmod(0)
    if user == 0:
        os.seteuid(65534)
    try:
        (found,) = find_runs(Path())
        assert with_runs(Path()) == {"demo"}
        with pytest.raises(StoreError, match=r"run\.h5 cannot be read: permission is denied"):
            Run.open(found)
    finally:
        os.seteuid(user)
        (tmp_path / closed).chmod(mode)


def test_a_run_is_named_by_path_or_by_the_beginning_of_its_id(results: Path) -> None:
    folder = results / "demo" / "abd2-s0"
    assert find_run(results, str(folder)) == folder
    assert find_run(results, str(folder / "run.h5")) == folder
    assert find_run(results, "abd") == folder
    assert find_run(results, "fff") == results / "published" / "old" / "fff-s1"
    assert find_run(results, "depth/abc1") == results / "depth" / "abc1-s0"


def test_a_run_that_is_not_or_not_uniquely_named_is_an_error(results: Path) -> None:
    with pytest.raises(StoreError, match=r"2 runs are named 'abc1': demo/abc1-s0, depth/abc1-s0"):
        find_run(results, "abc1")
    with pytest.raises(StoreError, match=r"no run 'abd3-s0' .* did you mean abd2-s0\?"):
        find_run(results, "abd3-s0")
    with pytest.raises(StoreError, match="lid list runs"):
        find_run(results, "zzz")
