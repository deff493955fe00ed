"""Two machines on one folder: a lease whose count moves is respected, one that stands is not."""

from __future__ import annotations

import contextlib
import copy
import itertools
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lidcli.errors import ConfigError, LockedError
from lidcli.store import lease
from lidcli.store.lease import Lease, Watch
from lidcli.store.run import Run

Wait = Callable[..., None]
FAR = Lease("them", 7, "node7", "node7/boot", 60.0)


class Clock:
    """The observer's own, which the test moves on; sleeping does too."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.slept: list[float] = []
        self.during: Callable[[], None] = lambda: None
        monkeypatch.setattr(lease.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(lease.time, "sleep", self.sleep)

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept.append(seconds)
        self.during()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def put(folder: Path, one: Lease) -> None:
    (folder / ".lease").write_bytes(one.bytes())


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(tmp_path / "demo" / "abc-s0", {"seed": 0}, {})


def test_a_lease_is_there_while_a_run_is_held_and_gone_afterwards(run: Run) -> None:
    with run.lock():
        held = lease.read(run.folder)
        assert held is not None
        assert (held.process, held.machine) == (os.getpid(), lease.here())
    assert lease.read(run.folder) is None


def test_the_count_of_a_holder_moves(
    run: Run, wait_for: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LID_LEASE", "0.1")
    with run.lock():
        wait_for(lambda: lease.read(run.folder).beat >= 3)  # type: ignore[union-attr]
        (run.folder / ".lease").unlink()
        wait_for(lambda: lease.read(run.folder) is not None)


def test_a_run_whose_count_moves_is_in_other_hands(run: Run, clock: Clock) -> None:
    put(run.folder, FAR)
    beats = iter(range(1, 100))
    clock.during = lambda: put(run.folder, replace(FAR, beat=next(beats)))
    with (
        pytest.raises(LockedError, match="process 7 on node7; wait for it, or stop it"),
        run.lock(),
    ):
        pass
    assert sum(clock.slept) <= 1.0
    assert lease.read(run.folder) == replace(FAR, beat=1)


def test_a_run_whose_count_stands_is_taken_over_after_the_holder_s_own_silence(
    run: Run, clock: Clock
) -> None:
    put(run.folder, FAR)
    with run.lock():
        assert lease.read(run.folder).machine == lease.here()  # type: ignore[union-attr]
    assert 60 <= sum(clock.slept) <= 61


def test_no_clock_but_the_observer_s_own_plays_a_part(run: Run, clock: Clock) -> None:
    put(run.folder, FAR)
    for year in (-1, 1):
        os.utime(run.folder / ".lease", (1e9 + year * 3e7,) * 2)
        assert Watch().look(run.folder) == "unknown"
    watch = Watch()
    assert watch.look(run.folder) == "unknown"
    clock.now += 59
    assert watch.look(run.folder) == "unknown"
    put(run.folder, replace(FAR, beat=1))
    assert watch.look(run.folder) == "held"
    clock.now += 59
    assert watch.look(run.folder) == "held"
    clock.now += 1
    assert watch.look(run.folder) == "silent"
    put(run.folder, replace(FAR, owner="others"))
    assert watch.look(run.folder) == "unknown"


def test_the_lease_of_a_dead_process_of_this_machine_costs_no_wait(run: Run, clock: Clock) -> None:
    put(run.folder, replace(FAR, machine=lease.here()))
    with run.lock():
        pass
    assert not clock.slept


def test_a_killed_process_leaves_a_lease_that_the_next_one_takes(run: Run, clock: Clock) -> None:
    script = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom lidcli.store.run import Run\n"
        "with Run.open(Path(sys.argv[1])).lock():\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(run.folder)], check=False)
    assert lease.read(run.folder) is not None
    with run.lock():
        pass
    assert not clock.slept


def test_who_was_taken_over_writes_nothing_more(run: Run) -> None:
    with run.lock():
        run.save_checkpoint({"step": 1})
        put(run.folder, FAR)
        for write in (lambda: run.save_checkpoint({"step": 2}), lambda: run.update(curves={})):
            with pytest.raises(LockedError, match="was taken over by process 7 on node7"):
                write()
    assert run.load_checkpoint()[0] == {"step": 1}
    assert lease.read(run.folder) == FAR


@pytest.mark.parametrize("status", ["complete", "interrupted"])
def test_who_wakes_after_another_had_the_run_and_gave_it_back_writes_nothing(
    run: Run, status: str
) -> None:
    with run.lock():
        run.save_checkpoint({"step": 1})
        run.update(curves={"epoch": [1]})
        (run.folder / ".lease").unlink()
        other = copy.copy(run)
        other.save_checkpoint({"step": 9})
        other.update(curves={"epoch": [1, 2, 3]}, provenance={"status": status})
        for write in (lambda: run.save_checkpoint({"step": 2}), lambda: run.update(curves={})):
            with pytest.raises(LockedError, match="was taken over"):
                write()
    left = Run.open(run.folder)
    assert (left.status, list(left.curves["epoch"])) == (status, [1, 2, 3])
    assert left.load_checkpoint()[0] == {"step": 9}


def test_a_holder_that_was_silent_for_too_long_does_not_make_its_lease_again(
    run: Run, wait_for: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LID_LEASE", "0.1")
    with run.lock():
        late = itertools.count(lease._clock() + 3600, 3600)
        monkeypatch.setattr(lease, "_clock", late.__next__)
        (run.folder / ".lease").unlink()
        wait_for(lambda: not beating())
        assert lease.read(run.folder) is None
        run.save_checkpoint({"step": 1})


def beating() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if "_beat" in thread.name]


def test_a_lease_that_a_full_disk_left_empty_is_no_one_else_s(run: Run) -> None:
    with run.lock():
        (run.folder / ".lease").write_bytes(b"")
        run.save_checkpoint({"step": 1})
    assert lease.read(run.folder) is None


@contextlib.contextmanager
def machine(name: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setattr(lease, "here", lambda: name)
        yield


def test_of_two_machines_without_common_locks_one_has_the_run(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LID_LEASE", "3")
    with machine("one", monkeypatch), lease.hold(run.folder):
        with machine("two", monkeypatch), pytest.raises(LockedError), lease.hold(run.folder):
            pass
        assert lease.read(run.folder).machine == "one"  # type: ignore[union-attr]


def test_of_many_who_find_a_dead_lease_at_once_one_is_left_and_the_others_see_it(run: Run) -> None:
    for _ in range(20):
        put(run.folder, FAR)
        start, inside, most = threading.Barrier(4), [], []

        def take(start=start, inside=inside, most=most) -> None:  # type: ignore[no-untyped-def]
            start.wait()
            lease.displace(run.folder, FAR)
            mine = replace(FAR, owner=str(threading.get_ident()))
            if lease._create(run.folder, mine):
                inside.append(mine.owner)

        threads = [threading.Thread(target=take) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        owner = lease.read(run.folder).owner  # type: ignore[union-attr]
        assert owner in inside
        for other in set(inside) - {owner}:
            with pytest.raises(LockedError, match="taken over"):
                lease.check(run.folder, replace(FAR, owner=other))
        assert not list(run.folder.glob(".lease.*"))
        (run.folder / ".lease").unlink()


def test_a_live_lease_is_put_back(run: Run) -> None:
    put(run.folder, replace(FAR, beat=2))
    lease.displace(run.folder, replace(FAR, beat=1))
    assert lease.read(run.folder) == replace(FAR, beat=2)


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"[]", b"null", b'{"owner": 1}', b"\xff" * 600, b"[" * 512]
)
def test_a_lease_that_says_nothing_is_watched_like_another(
    run: Run, clock: Clock, raw: bytes
) -> None:
    (run.folder / ".lease").write_bytes(raw)
    with run.lock():
        pass
    assert sum(clock.slept) >= lease.SECONDS


@pytest.mark.parametrize("text", ["", "soon", "0", "-1", "nan", "inf"])
def test_a_silence_that_is_no_time_is_one_sentence(
    run: Run, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("LID_LEASE", text)
    with pytest.raises(ConfigError, match="LID_LEASE is a number of seconds above 0"), run.lock():
        pass
