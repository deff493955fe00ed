"""The processes of a sweep, one a run, and what they say."""

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

from lidcli.sweep.orders import THREAD_VARIABLES, environment, order
from lidcli.sweep.queue import Job, Outcome, note_failure

__all__ = ["THREAD_VARIABLES", "Pool", "Worker"]

GRACE = 5.0
WORKER = "lidcli.sweep.worker"


@dataclass
class Worker:
    """One running process."""

    job: Job
    slot: int
    process: subprocess.Popen[bytes]
    errors: IO[bytes]
    started: float = field(default_factory=time.monotonic)
    rest: bytes = b""
    end: dict[str, Any] | None = None

    def events(self) -> list[dict[str, Any]] | None:
        """What the worker said since the last call, or None when it said its last word."""
        assert self.process.stdout is not None
        block = os.read(self.process.stdout.fileno(), 1 << 16)
        if not block:
            return None
        *lines, self.rest = (self.rest + block).split(b"\n")
        return [json.loads(line) for line in lines]

    def outcome(self, stopped: bool) -> Outcome:
        """How the process ended, which it may not have been able to say."""
        code = self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.errors.seek(0)
        details = self.errors.read().decode(errors="replace").strip()
        self.errors.close()
        seconds = time.monotonic() - self.started
        if self.end is not None:
            return Outcome(self.job, self.end["status"], self.end["message"], seconds, details)
        if stopped:
            return Outcome(self.job, "interrupted", "Stopped before it began.", seconds, details)
        if code < 0:
            message = f"Its process was killed by {signal.Signals(-code).name}"
            message += " (out of memory, perhaps)" if code == -signal.SIGKILL else ""
        else:
            message = f"Its process ended with code {code}"
            message += f": {details.splitlines()[-1]}" if details else ""
        message += "; the same sweep takes the run up again."
        note_failure(self.job.folder, message)
        return Outcome(self.job, "failed", message, seconds, details)


class Pool:
    """The running workers, and the pipe of each."""

    def __init__(self, threads: int, experiment: str, results: Path, restart: bool) -> None:
        self.threads, self.restart = threads, restart
        self.experiment, self.results = experiment, results
        self.workers: list[Worker] = []
        self.pipes = selectors.DefaultSelector()

    def start(self, job: Job, slot: int, device: str) -> None:
        """Start a run's process in a session of its own, so that a terminal's Ctrl-C spares it."""
        document = order(
            job,
            results=self.results,
            experiment=self.experiment,
            device=device,
            threads=self.threads,
            restart=self.restart,
        )
        errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed with its worker)
        process = subprocess.Popen(
            [sys.executable, "-m", WORKER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=os.environ | environment(self.threads),
            start_new_session=True,
        )
        worker = Worker(job, slot, process, errors)
        self.workers.append(worker)
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(json.dumps(document).encode())
            process.stdin.close()
        self.pipes.register(process.stdout, selectors.EVENT_READ, worker)

    def send(self, signum: int) -> None:
        """Pass a signal on to every worker."""
        for worker in self.workers:
            worker.process.send_signal(signum)

    def remove(self, worker: Worker, stopped: bool) -> Outcome:
        """Take leave of a worker that has said its last word."""
        self.pipes.unregister(worker.process.stdout)  # type: ignore[arg-type]
        self.workers.remove(worker)
        return worker.outcome(stopped)

    def close(self) -> None:
        """Stop whatever still runs; only an error in the sweep itself leaves anything."""
        self.send(signal.SIGTERM)
        last = time.monotonic() + GRACE
        for worker in self.workers:
            try:
                worker.process.wait(max(0.0, last - time.monotonic()))
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()
        self.pipes.close()
