"""Tasks done aside give what they give here, whatever becomes of their process."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from lidcli.report.aside import aside

CORES = [{0}, {0, 1}, {0, 1, 2, 3, 4}]
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes fork on Linux only")


@pytest.fixture(params=CORES, ids=lambda cores: f"{len(cores)}-cores")
def cores(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: request.param)
    return len(request.param)


def numbered(count: int) -> list[Callable[[], list[int]]]:
    return [partial(lambda i: [i, os.getpid()], i) for i in range(count)]


@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_results_come_in_the_order_of_the_tasks(cores: int, count: int) -> None:
    with aside(numbered(count)) as results:
        done = results()
    assert [number for number, _ in done] == list(range(count))
    there = {process for _, process in done}
    assert (os.getpid() in there) == (0 < min(cores, count) < 2)
    assert len(there) == min(cores, count)


def test_what_a_task_raises_is_raised_here(cores: int) -> None:
    def full() -> None:
        raise OSError(28, "No space left on device")

    with (
        pytest.raises(OSError, match="No space left"),
        aside([*numbered(3), full]) as results,
    ):
        results()


def test_the_tasks_of_a_process_that_is_killed_are_done_here(cores: int) -> None:
    here = os.getpid()

    def task(i: int) -> int:
        if os.getpid() != here and i == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return i

    with aside([partial(task, i) for i in range(6)]) as results:
        assert results() == list(range(6))


def test_no_process_outlives_the_block(cores: int, tmp_path: Path) -> None:
    def forever() -> None:
        (tmp_path / str(os.getpid())).touch()
        signal.pause()

    if cores == 1:
        pytest.skip("one core needs no process")

    def interrupted() -> None:
        with aside([forever] * cores):
            while len(list(tmp_path.iterdir())) < cores:
                pass
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    for path in tmp_path.iterdir():
        with pytest.raises(ProcessLookupError):
            os.kill(int(path.name), 0)


def test_long_results_and_texts_in_any_letters_arrive_whole(cores: int) -> None:
    with aside([lambda: "ε\udc80" * 100_000, lambda: None]) as results:
        assert results() == ["ε\udc80" * 100_000, None]
