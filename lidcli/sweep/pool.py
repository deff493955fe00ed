"""The workers of a sweep, a process each that is kept from run to run, and what they say."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from lidcli.sweep.memory import ADVICE, kills
from lidcli.sweep.orders import THREAD_VARIABLES, environment, order
from lidcli.sweep.queue import Job, Outcome, note_failure

__all__ = ["THREAD_VARIABLES", "Pool", "Worker"]

GRACE = 5.0
WORKER = "lidcli.sweep.worker"
LOG = 1 << 16
"""Bytes that are read of what a run printed, the last ones."""


@dataclass
class Worker:
    """One process, and the job that it does at present.

    `over` is the exit code of the job's own process, once that has ended.
    """

    slot: int
    process: subprocess.Popen[bytes]
    errors: IO[bytes]
    job: Job | None = None
    started: float = 0.0
    rest: bytes = b""
    end: dict[str, Any] | None = None
    over: int | None = None
    mark: int = 0
    killed: int = field(default_factory=kills)

    def begin(self, job: Job, order: dict[str, Any]) -> bool:
        """Give an order for a job; false where the process is gone."""
        self.job, self.started, self.end, self.over = job, time.monotonic(), None, None
        self.mark, self.killed = os.fstat(self.errors.fileno()).st_size, kills()
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(order).encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            return False
        return True

    def events(self) -> list[dict[str, Any]] | None:
        """What the worker said since the last call, or None when it said its last word."""
        assert self.process.stdout is not None
        block = os.read(self.process.stdout.fileno(), 1 << 16)
        if not block:
            return None
        *lines, self.rest = (self.rest + block).split(b"\n")
        return [json.loads(line) for line in lines]

    def signal(self, signum: int) -> None:
        """Send a signal to the worker and to its run."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signum)

    def leave(self) -> int:
        """Wait for the process to end, now that it said its last word; its exit code."""
        assert self.process.stdout is not None
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        code = self.process.wait()
        self.process.stdout.close()
        return code

    def outcome(self, code: int, stopped: bool) -> Outcome:
        """How the job ended, which its process may not have been able to say.

        Args:
            code: of the process that did it.
            stopped: whether it was told to.
        """
        assert self.job is not None
        size = os.fstat(self.errors.fileno()).st_size
        first = max(self.mark, size - LOG)
        details = os.pread(self.errors.fileno(), size - first, first)
        log = details.decode(errors="replace").strip()
        seconds = time.monotonic() - self.started
        end = self.end
        if end is not None:
            last = bool(end.get("lasting"))
            return Outcome(self.job, end["status"], end["message"], seconds, log, last)
        if stopped:
            return Outcome(self.job, "interrupted", "Stopped before it began.", seconds, log)
        message = f"{self._lost(code, log)}; the same sweep takes the run up again."
        note_failure(self.job.folder, message)
        return Outcome(self.job, "failed", message, seconds, log)

    def _lost(self, code: int, log: str) -> str:
        """Why a process ended without a word."""
        if code == -signal.SIGKILL and kills() > self.killed:
            return f"Its process was killed because memory ran out: {ADVICE}"
        if code == -signal.SIGKILL:
            return "Its process was killed by SIGKILL (out of memory, perhaps)"
        if code < 0:
            return f"Its process was killed by {signal.Signals(-code).name}"
        return f"Its process ended with code {code}" + (f": {log.splitlines()[-1]}" if log else "")


class Pool:
    """The workers, at work or waiting for more, and the pipe of each."""

    def __init__(self, threads: int, experiment: str, results: Path, restart: bool) -> None:
        self.threads, self.restart = threads, restart
        self.experiment, self.results = experiment, results
        self.workers: list[Worker] = []
        self.pipes = selectors.DefaultSelector()

    @property
    def busy(self) -> list[Worker]:
        """Those at work."""
        return [worker for worker in self.workers if worker.job is not None]

    def start(self, job: Job, slot: int, device: str, *, again: bool = False) -> None:
        """Let the worker of a slot do a job, a new one where there is none.

        Args:
            job: the run.
            slot: free.
            device: of the slot.
            again: whether the sweep has begun the run before, so that nothing is discarded.
        """
        document = order(
            job,
            results=self.results,
            experiment=self.experiment,
            device=device,
            threads=self.threads,
            restart=self.restart and not again,
        )
        kept = next((worker for worker in self.workers if worker.slot == slot), None)
        if kept is not None and kept.begin(job, document):
            return
        if kept is not None:
            self._forget(kept)
            kept.errors.close()
        self._spawn(slot).begin(job, document)

    def _spawn(self, slot: int) -> Worker:
        """A worker in a session of its own, so that a terminal's Ctrl-C spares it."""
        errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed with its worker)
        process = subprocess.Popen(
            [sys.executable, "-m", WORKER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=os.environ | environment(self.threads),
            start_new_session=True,
        )
        worker = Worker(slot, process, errors)
        self.workers.append(worker)
        assert process.stdout is not None
        self.pipes.register(process.stdout, selectors.EVENT_READ, worker)
        return worker

    def send(self, signum: int) -> None:
        """Pass a signal on to every worker that has a run."""
        for worker in self.busy:
            worker.signal(signum)

    def finish(self, worker: Worker, stopped: bool) -> Outcome:
        """The outcome of a job that is over; its worker waits for another."""
        assert worker.over is not None
        outcome = worker.outcome(worker.over, stopped)
        worker.job = None
        return outcome

    def remove(self, worker: Worker, stopped: bool) -> Outcome | None:
        """Take leave of a worker that has said its last word; the outcome of its job, if any."""
        code = self._forget(worker)
        outcome = worker.outcome(code, stopped) if worker.job is not None else None
        worker.errors.close()
        return outcome

    def _forget(self, worker: Worker) -> int:
        self.pipes.unregister(worker.process.stdout)  # type: ignore[arg-type]
        self.workers.remove(worker)
        return worker.leave()

    def close(self) -> None:
        """Dismiss the workers, and stop whatever still runs after an error in the sweep itself."""
        self.send(signal.SIGTERM)
        last = time.monotonic() + GRACE
        for worker in self.workers:
            assert worker.process.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                worker.process.stdin.close()
        for worker in self.workers:
            try:
                worker.process.wait(max(0.0, last - time.monotonic()))
            except subprocess.TimeoutExpired:
                worker.signal(signal.SIGKILL)
                worker.process.wait()
        self.pipes.close()
