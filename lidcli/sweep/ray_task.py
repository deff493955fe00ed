"""What happens inside a Ray cluster: a run as a task, and the mailbox to the sweep."""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

import psutil

from lidcli.errors import LidError
from lidcli.store.run import FILES
from lidcli.sweep.worker import Reporter, work

__all__ = ["Files", "Mailbox", "do", "read_files", "write_files"]

Files = dict[str, bytes]
"""A run's record and checkpoints, by file name."""


class Mailbox:
    """An actor beside the sweep: what tasks say, and what the sweep answers them."""

    def __init__(self) -> None:
        self._events: list[tuple[int, dict[str, Any]]] = []
        self._answers: dict[int, asyncio.Queue[Files | str]] = {}

    async def say(self, index: int, event: dict[str, Any]) -> None:
        """Leave an event of a job for the sweep."""
        self._events.append((index, event))

    async def take(self) -> list[tuple[int, dict[str, Any]]]:
        """The events since the last call, each with the index of its job."""
        events, self._events = self._events, []
        return events

    async def ask(self, index: int) -> Files | str:
        """A run's files as the sweep has them, or why they cannot be had."""
        answers = self._answers.setdefault(index, asyncio.Queue())
        self._events.append((index, {"event": "ask"}))
        return await answers.get()

    async def answer(self, index: int, answer: Files | str) -> None:
        """Answer a task that asks."""
        await self._answers.setdefault(index, asyncio.Queue()).put(answer)


def read_files(folder: Path) -> Files:
    """What a run's folder holds of record and checkpoints."""
    found: Files = {}
    for name in FILES:
        with contextlib.suppress(FileNotFoundError):
            found[name] = (folder / name).read_bytes()
    return found


def write_files(folder: Path, files: Files) -> None:
    """Put record and checkpoints into a run's folder, each at once, the record last.

    What is not among them is removed: a run that was begun anew has it no more. The caller holds
    the folder's lock, which clears what a killed writer leaves.

    Raises:
        OSError: they cannot be written; what was there is whole.
    """
    for name in reversed(FILES):
        if name in files:
            temporary = folder / f".{name}.tmp"
            with open(temporary, "wb") as file:
                file.write(files[name])
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, folder / name)
        else:
            (folder / name).unlink(missing_ok=True)


class _Reporter(Reporter):
    """Sends what an observer hears to the mailbox.

    Args:
        index: of the job.
        mailbox: handle of the actor.
        memory: bytes that this process may use, None for any.
    """

    def __init__(self, index: int, mailbox: Any, memory: int | None) -> None:
        super().__init__(-1)
        self._index, self._mailbox, self._memory = index, mailbox, memory
        self._carried: Path | None = None
        self._stamp: tuple[int, int] | None = None
        self.end: dict[str, Any] = {}

    def say(self, event: str, **content: Any) -> None:
        """Send an event, and with it a checkpoint that has to be carried; keep the last word."""
        if event == "end":
            self.end = content
            return
        self._mailbox.say.remote(self._index, {"event": event, **content})
        if event != "begun":
            self._check_memory()
            self._send_checkpoint()

    def carry(self, folder: Path) -> None:
        """Send the files of this folder, which the sweep cannot see, at every checkpoint."""
        self._carried = folder
        self._stamp = self._checkpoint()

    def _checkpoint(self) -> tuple[int, int] | None:
        """What changes with every checkpoint."""
        with contextlib.suppress(FileNotFoundError, TypeError):
            status = os.stat(self._carried / "checkpoint.h5")  # type: ignore[operator]
            return status.st_ino, status.st_mtime_ns
        return None

    def _send_checkpoint(self) -> None:
        if self._carried is not None and (stamp := self._checkpoint()) != self._stamp:
            self._stamp = stamp
            event = {"event": "files", "files": read_files(self._carried)}
            self._mailbox.say.remote(self._index, event)

    def _check_memory(self) -> None:
        used = psutil.Process().memory_info().rss
        if self._memory is not None and used > self._memory:
            raise LidError(
                f"The run used {used / 2**20:,.0f} MiB, and --memory allows"
                f" {self._memory / 2**20:,.0f}; allow more, or try a smaller"
                " --set train.batch_size=... or runtime.batch=..."
            )


def do(
    order: dict[str, Any], index: int, token: str, mailbox: Any, memory: int | None
) -> dict[str, Any]:
    """Do one run on whatever node this is; SIGINT, as Ray cancels, stops it after a checkpoint.

    Where the results folder is the sweep's own, the run is done there, under its lock. Elsewhere
    the sweep holds the lock, and the files go to and fro.

    Args:
        order: as `orders.order` gives it, with the folder to work in as `cwd`.
        index: of the job in the sweep.
        token: name of a file in the results folder, by which it is known.
        mailbox: handle of the `Mailbox`.
        memory: bytes that the process may use, None for any.

    Returns:
        `status`, `message` and `seconds`, and `files` where the sweep has to store them.
    """
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        return _do(order, index, token, mailbox, memory)
    except KeyboardInterrupt:
        return {"status": "interrupted", "message": "Stopped before it began.", "seconds": 0.0}


def _do(
    order: dict[str, Any], index: int, token: str, mailbox: Any, memory: int | None
) -> dict[str, Any]:
    import ray

    with contextlib.suppress(OSError):
        os.chdir(order["cwd"])
    sys.argv = order["argv"]
    reporter = _Reporter(index, mailbox, memory)
    reporter.say("begun", node=platform.node())
    if Path(order["results"], token).exists():
        work(order, reporter)
        return reporter.end
    answer = ray.get(mailbox.ask.remote(index))
    if isinstance(answer, str):
        return {"status": "locked", "message": answer, "seconds": 0.0}
    with tempfile.TemporaryDirectory(prefix="lid-") as scratch:
        folder = Path(scratch, order["experiment"], order["run"])
        if answer:
            folder.mkdir(parents=True)
            write_files(folder, answer)
        reporter.carry(folder)
        work(order | {"results": scratch}, reporter)
        return {**reporter.end, "files": read_files(folder)}
