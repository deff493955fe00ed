"""Tasks done in processes of their own, beside what the report itself has to do."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

__all__ = ["aside"]

THREADED = ("jax", "torch")
"""Libraries whose threads do not outlive a fork."""
Task = Callable[[], Any]


@contextlib.contextmanager
def aside(tasks: Sequence[Task]) -> Iterator[Callable[[], list[Any]]]:
    """Begin tasks in as many processes as there are cores, and give what waits for their results.

    A process that ends without a result, because a task raised or the system killed it, loses
    nothing: its tasks are done again here, and raise here what they raise. No process outlives the
    block.

    Args:
        tasks: what they return is given as JSON has it; what they change is not seen.

    Example:
        >>> with aside([lambda: 1, lambda: [2]]) as results:
        ...     results()
        [1, [2]]
    """
    count = min(len(tasks), _cores())
    if count < 2:
        yield lambda: [task() for task in tasks]
        return
    shares = [tasks[first::count] for first in range(count)]
    started: list[tuple[int, int]] = []
    try:
        for share in shares:
            started.append(_fork(share))
        yield lambda: _gather(shares, started)
    finally:
        for child, pipe in started:
            os.close(pipe)
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def _cores() -> int:
    """Processes that may be forked: one, this one, where a fork would not be safe."""
    if sys.platform != "linux" or any(name in sys.modules for name in THREADED):
        return 1
    return len(os.sched_getaffinity(0))


def _fork(tasks: Sequence[Task]) -> tuple[int, int]:
    """A process that does some tasks, and the pipe that its results come by."""
    reader, writer = os.pipe()
    child = os.fork()
    if child:
        os.close(writer)
        return child, reader
    try:
        for signum in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signum, signal.SIG_DFL)
        os.close(reader)
        with open(writer, "w", encoding="ascii") as pipe:
            json.dump([task() for task in tasks], pipe)
    finally:
        os._exit(0)


def _gather(shares: Sequence[Sequence[Task]], started: Sequence[tuple[int, int]]) -> list[Any]:
    """The results of all tasks, in their order."""
    results: list[Any] = [None] * sum(map(len, shares))
    for first, (share, (_, pipe)) in enumerate(zip(shares, started, strict=True)):
        with open(pipe, encoding="ascii", closefd=False) as file:
            text = file.read()
        try:
            done = json.loads(text)
        except ValueError:
            done = None
        results[first :: len(shares)] = [task() for task in share] if done is None else done
    return results
