"""Work done in processes of their own, beside what the report itself has to do."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import repeat
from typing import Any, TextIO, TypeVar

from lidcli.errors import LidError

__all__ = ["ahead", "aside"]

THREADED = ("jax", "torch")
"""Libraries whose threads do not outlive a fork."""
Task = Callable[[], Any]
T = TypeVar("T")


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
            started.append(_fork(partial(_do, share)))
        yield lambda: _gather(shares, started)
    finally:
        for child, pipe in started:
            _end(child, pipe)


@contextlib.contextmanager
def ahead(function: Callable[[T], str], items: Sequence[T]) -> Iterator[Iterator[str | None]]:
    """Begin to make a line of each item in another process, and give the lines in their order.

    Args:
        function: gives a line, not empty. What it has to say of an item that it refuses, with an
            error of lid's, is not handed over.
        items: any number of them.

    Returns:
        As many lines as items; None for one that was refused, that the process did not live to
        make, or that no process was begun for. Who needs it calls the function.

    Example:
        >>> with ahead(str.upper, ["a", "b"]) as lines:
        ...     [line or item.upper() for line, item in zip(lines, ["a", "b"], strict=True)]
        ['A', 'B']
    """
    if _cores() < 2 or not items:
        yield repeat(None, len(items))
        return
    child, pipe = _fork(partial(_write, function, items))
    try:
        with open(pipe, encoding="utf-8", closefd=False) as file:
            yield (_whole(file.readline()) for _ in items)
    finally:
        _end(child, pipe)


def _write(function: Callable[[T], str], items: Iterable[T], pipe: TextIO) -> None:
    """A line of each item; an empty one where there is none."""
    for item in items:
        try:
            line = function(item)
        except LidError:
            line = ""
        pipe.write(f"{line}\n")


def _whole(line: str) -> str | None:
    """What a line says that was written to its end."""
    return line[:-1] or None if line.endswith("\n") else None


def _cores() -> int:
    """Processes that may be forked: one, this one, where a fork would not be safe."""
    if sys.platform != "linux" or any(name in sys.modules for name in THREADED):
        return 1
    return len(os.sched_getaffinity(0))


def _fork(work: Callable[[TextIO], None]) -> tuple[int, int]:
    """A process that does some work, and the pipe that its results come by."""
    reader, writer = os.pipe()
    child = os.fork()
    if child:
        os.close(writer)
        return child, reader
    try:
        for signum in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signum, signal.SIG_DFL)
        os.close(reader)
        with open(writer, "w", encoding="utf-8") as pipe:
            work(pipe)
    finally:
        os._exit(0)


def _do(tasks: Sequence[Task], pipe: TextIO) -> None:
    """Do tasks, and write what they return."""
    json.dump([task() for task in tasks], pipe)


def _end(child: int, pipe: int) -> None:
    """See that a process is gone."""
    os.close(pipe)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def _gather(shares: Sequence[Sequence[Task]], started: Sequence[tuple[int, int]]) -> list[Any]:
    """The results of all tasks, in their order."""
    results: list[Any] = [None] * sum(map(len, shares))
    for first, (share, (_, pipe)) in enumerate(zip(shares, started, strict=True)):
        with open(pipe, encoding="utf-8", closefd=False) as file:
            text = file.read()
        try:
            done = json.loads(text)
        except ValueError:
            done = None
        results[first :: len(shares)] = [task() for task in share] if done is None else done
    return results
