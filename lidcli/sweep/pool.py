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
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from lidcli.sweep.memory import ADVICE, kills
from lidcli.sweep.orders import THREAD_VARIABLES, environment, stacked_order
from lidcli.sweep.queue import Job, Outcome, note_failure

__all__ = ["THREAD_VARIABLES", "Pool", "Worker"]

GRACE = 5.0
WORKER = "lidcli.sweep.worker"
LOG = 1 << 16
"""Bytes that are read of what a run printed, the last ones."""


@dataclass
class Worker:
    """One process, and the jobs that it does at present: one, or a stack of them.

    `ends` is what was said of how each ended, by its index; `over` is the exit code of the jobs'
    own process, once that has ended.
    """

    slot: int
    process: subprocess.Popen[bytes]
    errors: IO[bytes]
    jobs: tuple[Job, ...] = ()
    started: float = 0.0
    rest: bytes = b""
    ends: dict[int, dict[str, Any]] = field(default_factory=dict)
    over: int | None = None
    mark: int = 0
    killed: int = field(default_factory=kills)

    def begin(self, jobs: Sequence[Job], order: dict[str, Any]) -> bool:
        """Give an order for jobs; false where the process is gone."""
        self.jobs, self.started, self.ends, self.over = tuple(jobs), time.monotonic(), {}, None
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

    def outcomes(self, code: int, stopped: bool) -> list[Outcome]:
        """How each job ended, which its process may not have been able to say.

        Args:
            code: of the process that did them.
            stopped: whether it was told to.
        """
        size = os.fstat(self.errors.fileno()).st_size
        first = max(self.mark, size - LOG)
        details = os.pread(self.errors.fileno(), size - first, first)
        log = details.decode(errors="replace").strip()
        seconds = time.monotonic() - self.started
        return [
            self._outcome(job, self.ends.get(index), code, stopped, seconds, log)
            for index, job in enumerate(self.jobs)
        ]

    def _outcome(
        self,
        job: Job,
        end: dict[str, Any] | None,
        code: int,
        stopped: bool,
        seconds: float,
        log: str,
    ) -> Outcome:
        if end is not None:
            last = bool(end.get("lasting"))
            return Outcome(job, end["status"], end["message"], seconds, log, last)
        if stopped:
            return Outcome(job, "interrupted", "Stopped before it began.", seconds, log)
        message = f"{self._lost(code, log)}; the same sweep takes the run up again."
        note_failure(job.folder, message)
        return Outcome(job, "failed", message, seconds, log)

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

    def __init__(
        self, threads: int, experiment: str, results: Path, restart: str, stack: str | None
    ) -> None:
        self.threads, self.restart, self.stack = threads, restart, stack
        self.experiment, self.results = experiment, results
        self.workers: list[Worker] = []
        self.pipes = selectors.DefaultSelector()

    @property
    def busy(self) -> list[Worker]:
        """Those at work."""
        return [worker for worker in self.workers if worker.jobs]

    def start(self, jobs: Sequence[Job], slot: int, device: str) -> None:
        """Let the worker of a slot do a job, or a stack of them, a new one where there is none.

        Args:
            jobs: the run, or several that differ in their seed alone.
            slot: free.
            device: of the slot.
        """
        document = stacked_order(
            jobs,
            self.stack == "auto",
            results=self.results,
            experiment=self.experiment,
            device=device,
            threads=self.threads,
            restart=self.restart,
        )
        kept = next((worker for worker in self.workers if worker.slot == slot), None)
        if kept is not None and kept.begin(jobs, document):
            return
        if kept is not None:
            self._forget(kept)
            kept.errors.close()
        self._spawn(slot).begin(jobs, document)

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

    def finish(self, worker: Worker, stopped: bool) -> list[Outcome]:
        """The outcomes of jobs that are over; their worker waits for others."""
        assert worker.over is not None
        outcomes = worker.outcomes(worker.over, stopped)
        worker.jobs = ()
        return outcomes

    def remove(self, worker: Worker, stopped: bool) -> list[Outcome]:
        """Take leave of a worker that has said its last word; the outcomes of its jobs."""
        code = self._forget(worker)
        outcomes = worker.outcomes(code, stopped)
        worker.errors.close()
        return outcomes

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
