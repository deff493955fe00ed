"""The engine of one machine: as many runs at a time as there are slots, a worker each."""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import secrets
import signal
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from lidcli.store.index import Index
from lidcli.sweep.pool import Pool, Worker
from lidcli.sweep.queue import Job, Outcome, elsewhere, settled
from lidcli.sweep.received import received
from lidcli.sweep.stacks import stacks

__all__ = ["Watcher", "find_device", "run_local", "slots", "usable_cores"]

TICK = 0.2


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

    def again(self, outcome: Outcome, slot: int) -> None:
        """A run failed in its slot and is tried again later."""
        ...

    def stopping(self, running: int) -> None:
        """A signal came, or the time is up, and was passed on to the running workers."""
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


class _Sweep:
    """Which jobs wait, which slots are free, and how the other jobs ended.

    Args:
        jobs: all of them.
        devices: of each slot.
        pool: does the jobs.
        watcher: hears how it goes.
        signals: that came so far.
        fail_fast: whether the first failure stops the others.
        retries: further attempts at a run that failed.
        until: when the others are stopped, by `time.monotonic`.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        devices: Sequence[str],
        pool: Pool,
        watcher: Watcher,
        signals: Sequence[int],
        *,
        fail_fast: bool,
        retries: int,
        until: float,
    ) -> None:
        self.jobs, self.devices, self.pool = jobs, devices, pool
        self.watcher, self.signals, self.fail_fast = watcher, signals, fail_fast
        self.retries, self.until = retries, until
        self.index = Index.of(len(jobs))
        self.begun: Counter[int] = Counter()
        parts = stacks(jobs, len(devices)) if pool.stack else [[job] for job in jobs]
        self.waiting = list(reversed(parts))
        self.free = list(reversed(range(len(devices))))
        self.ended: dict[int, Outcome] = {}
        self.passed_on, self.given_up = 0, False

    @property
    def ending(self) -> bool:
        """Whether no other job begins."""
        return bool(self.signals) or self.given_up

    def start(self) -> None:
        """Begin waiting jobs while slots are free; what is settled already needs none."""
        while self.waiting and self.free and not self.ending:
            jobs = [job for job in self.waiting.pop() if not self._known(job)]
            if not jobs:
                continue
            slot = self.free.pop()
            for job in jobs:
                self.begun[id(job)] += 1
                self.watcher.started(job, slot)
            self.pool.start(jobs, slot, self.devices[slot])

    def _known(self, job: Job) -> bool:
        """Whether a job needs no worker; its outcome is taken note of."""
        known = (None if self.pool.restart else settled(job, self.index)) or elsewhere(job)
        if known is not None:
            self._finish(known, None)
        return known is not None

    def hear(self, worker: Worker) -> None:
        """Tell the watcher what a worker says, and take leave of it after its last word."""
        said = worker.events()
        for event in said or ():
            index = event.pop("job", 0)
            if event["event"] == "end":
                worker.ends[index] = event
            elif event["event"] == "over":
                worker.over = event["code"]
            elif worker.jobs:
                self.watcher.event(worker.jobs[index], worker.slot, event)
        if said is None:
            outcomes = self.pool.remove(worker, self.ending)
        elif worker.jobs and worker.over is not None:
            outcomes = self.pool.finish(worker, self.ending)
        else:
            return
        if outcomes:
            self.free.append(worker.slot)
        for outcome in outcomes:
            self._end(outcome, worker.slot)

    def _end(self, outcome: Outcome, slot: int) -> None:
        """Take note of how an attempt at a run ended."""
        tried = self.begun[id(outcome.job)]
        if outcome.failed and not outcome.lasting and tried <= self.retries and not self.ending:
            self.waiting.insert(0, [outcome.job])
            self.watcher.again(outcome, slot)
            return
        self._finish(outcome, slot)
        if outcome.failed and self.fail_fast:
            self._give_up()

    def _give_up(self) -> None:
        """Stop the others after a checkpoint, once."""
        if not self.given_up:
            self.given_up = True
            self.pool.send(signal.SIGTERM)

    def look_at_the_clock(self) -> None:
        """Stop the others if the time is up."""
        if time.monotonic() >= self.until and not self.ending:
            self._give_up()
            self.watcher.stopping(len(self.pool.busy))

    def pass_on(self) -> None:
        """Send the workers the signals that came since the last call.

        The second goes as SIGINT, which is never taken for the first again, the third as a kill.
        """
        while self.passed_on < len(self.signals):
            rank = min(self.passed_on, 2)
            self.pool.send((self.signals[0], signal.SIGINT, signal.SIGKILL)[rank])
            self.passed_on += 1
            self.watcher.stopping(len(self.pool.busy))

    def outcomes(self) -> list[Outcome]:
        """Of every job, in order."""
        return [self.ended.get(id(job)) or Outcome(job, "waiting") for job in self.jobs]

    def _finish(self, outcome: Outcome, slot: int | None) -> None:
        self.ended[id(outcome.job)] = outcome
        self.watcher.finished(outcome, slot)


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
    retries: int = 0,
    until: float = math.inf,
    stack: str | None = None,
) -> tuple[list[Outcome], int | None]:
    """Do the jobs, each in a process of its own, which a kept worker makes.

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
        retries: further attempts at a run that failed in a way that need not last, after the
            others; they go on from its checkpoint.
        until: when every run is stopped after a checkpoint, by `time.monotonic`.
        stack: `seeds` where runs that differ in their seed alone are trained as one batched model,
            in one process, `auto` where that is faster; a run that failed is tried again by itself.

    Returns:
        The outcome of each job, in order, and the signal that ended the sweep, if one did.
    """
    word = secrets.token_hex(4) if restart else ""
    pool = Pool(threads, experiment, results, word, stack)
    with received() as signals, contextlib.closing(pool):
        sweep = _Sweep(
            jobs,
            devices,
            pool,
            watcher,
            signals,
            fail_fast=fail_fast,
            retries=retries,
            until=until,
        )
        while pool.busy or (sweep.waiting and not sweep.ending):
            sweep.look_at_the_clock()
            sweep.start()
            for key, _ in pool.pipes.select(TICK):
                sweep.hear(key.data)
            sweep.pass_on()
    return sweep.outcomes(), signals[0] if signals else None
