"""The engine of one machine: a process a run, as many at a time as there are slots."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import IO, Any, Protocol

import lidcli
from lidcli.config.kinds import allowed
from lidcli.sweep.queue import Job, Outcome, note_failure, settled

__all__ = ["Watcher", "find_device", "run_local", "slots", "usable_cores"]

TICK = 0.2
GRACE = 5.0
WORKER = "lidcli.sweep.worker"
ROOT = str(Path(lidcli.__file__).resolve().parents[1])
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class Watcher(Protocol):
    """Hears how a sweep goes; the command line prints it."""

    def started(self, job: Job, slot: int) -> None:
        """A run begins in a slot, counted from 0."""
        ...

    def event(self, job: Job, slot: int, event: dict[str, Any]) -> None:
        """A worker says how far it is: start, step, epoch or evaluating."""
        ...

    def finished(self, outcome: Outcome, slot: int | None) -> None:
        """A run ended, in whatever way; without a slot it needed no worker."""
        ...

    def stopping(self, running: int) -> None:
        """A signal came and was passed on to the running workers."""
        ...


def usable_cores() -> int:
    """CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def find_device(name: str) -> tuple[str, int]:
    """The device that `auto`, `cpu`, `cuda` or `cuda:1` names, and how many GPUs there are.

    Without a GPU driver `auto` is answered without importing torch, which takes seconds.

    Raises:
        ConfigError: no such device here.
    """
    if name == "cpu" or (name == "auto" and not _driver()):
        return "cpu", 0
    import torch

    from lidcli.training.device import pick_device

    return str(pick_device(name)), torch.cuda.device_count()


def _driver() -> bool:
    """Whether the library that every CUDA program loads, or AMD's device, is here."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return Path("/dev/kfd").exists()
    return True


def slots(device: str, gpus: int, *, workers: int | None, threads: int, per_gpu: int) -> list[str]:
    """The device of each worker.

    Args:
        device: `cpu`, `cuda` (every GPU) or `cuda:i`.
        gpus: GPUs of this machine.
        workers: how many at most; None for cores / threads, or for every place on the GPUs.
        threads: of a worker.
        per_gpu: workers on one GPU.

    Example:
        >>> slots("cuda", 2, workers=3, threads=1, per_gpu=2)
        ['cuda:0', 'cuda:1', 'cuda:0']
        >>> slots("cpu", 0, workers=2, threads=1, per_gpu=1)
        ['cpu', 'cpu']
    """
    if device == "cpu":
        return ["cpu"] * (workers or max(1, usable_cores() // threads))
    devices = [device] if ":" in device else [f"cuda:{index}" for index in range(gpus)]
    return (devices * per_gpu)[:workers]


@dataclass
class _Worker:
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


@contextlib.contextmanager
def _received() -> Iterator[list[int]]:
    """The SIGINT and SIGTERM that came while the block ran."""
    signals: list[int] = []

    def note(signum: int, frame: FrameType | None) -> None:
        signals.append(signum)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Pool:
    """The running workers, and the pipe of each."""

    def __init__(self, threads: int, experiment: str, results: Path, restart: bool) -> None:
        self.threads, self.restart = threads, restart
        self.experiment, self.results = experiment, results
        self.workers: list[_Worker] = []
        self.pipes = selectors.DefaultSelector()

    def start(self, job: Job, slot: int, device: str) -> None:
        """Start a run's process in a session of its own, so that a terminal's Ctrl-C spares it."""
        config = job.config.document()
        config["runtime"] |= {"device": device, "threads": self.threads}
        order = {
            "config": config,
            "results": str(self.results),
            "experiment": self.experiment,
            "restart": self.restart,
            "allowed": allowed(),
            "argv": sys.argv,
        }
        path = os.pathsep.join(filter(None, [ROOT, os.environ.get("PYTHONPATH")]))
        errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed with its worker)
        process = subprocess.Popen(
            [sys.executable, "-m", WORKER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=os.environ
            | dict.fromkeys(THREAD_VARIABLES, str(self.threads))
            | {"PYTHONPATH": path},
            start_new_session=True,
        )
        worker = _Worker(job, slot, process, errors)
        self.workers.append(worker)
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(json.dumps(order).encode())
            process.stdin.close()
        self.pipes.register(process.stdout, selectors.EVENT_READ, worker)

    def send(self, signum: int) -> None:
        """Pass a signal on to every worker."""
        for worker in self.workers:
            worker.process.send_signal(signum)

    def remove(self, worker: _Worker, stopped: bool) -> Outcome:
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


def run_local(
    jobs: Sequence[Job],
    *,
    results: Path,
    experiment: str,
    devices: Sequence[str],
    threads: int,
    watcher: Watcher,
    restart: bool = False,
    fail_fast: bool = False,
) -> tuple[list[Outcome], int | None]:
    """Do the jobs, each in a process of its own.

    A run that fails, or whose process is lost, does not stop the others. SIGINT and SIGTERM are
    passed on to the workers, which stop after a checkpoint; a second one stops them at once, a
    third kills them.

    Args:
        jobs: of one experiment.
        results: folder of all runs.
        experiment: folder of these below it.
        devices: of each worker; their number is the number of workers.
        threads: of each worker.
        watcher: hears how it goes.
        restart: whether to discard what there is of each run.
        fail_fast: whether the first failure stops the others, after a checkpoint.

    Returns:
        The outcome of each job, in order, and the signal that ended the sweep, if one did.
    """
    outcomes: dict[int, Outcome] = {}
    places = {id(job): index for index, job in enumerate(jobs)}
    waiting = list(reversed(jobs))
    free = list(reversed(range(len(devices))))
    passed_on, given_up = 0, False

    def finish(outcome: Outcome, slot: int | None) -> None:
        outcomes[places[id(outcome.job)]] = outcome
        watcher.finished(outcome, slot)

    pool = _Pool(threads, experiment, results, restart)
    with _received() as signals, contextlib.closing(pool):
        while pool.workers or (waiting and not signals and not given_up):
            while waiting and free and not signals and not given_up:
                job = waiting.pop()
                known = None if restart else settled(job)
                if known is not None:
                    finish(known, None)
                    continue
                slot = free.pop()
                watcher.started(job, slot)
                pool.start(job, slot, devices[slot])
            for key, _ in pool.pipes.select(TICK):
                worker = key.data
                said = worker.events()
                for event in said or ():
                    if event["event"] == "end":
                        worker.end = event
                    else:
                        watcher.event(worker.job, worker.slot, event)
                if said is None:
                    outcome = pool.remove(worker, bool(signals) or given_up)
                    free.append(worker.slot)
                    finish(outcome, worker.slot)
                    if outcome.failed and fail_fast and not given_up:
                        given_up = True
                        pool.send(signal.SIGTERM)
            while passed_on < len(signals):
                pool.send(signals[passed_on] if passed_on < 2 else signal.SIGKILL)
                passed_on += 1
                watcher.stopping(len(pool.workers))
        ended = signals[0] if signals else None
    for job in reversed(waiting):
        outcomes[places[id(job)]] = Outcome(job, "waiting")
    return [outcomes[index] for index in range(len(jobs))], ended
