"""A worker of a sweep: jobs as JSON lines on stdin, events as JSON lines on stdout.

It imports once what a run needs and then forks for every job, so that each run has a process of
its own: its memory goes back, its crash is its own, and it begins in the state of a fresh one.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from lidcli.config.kinds import allow
from lidcli.config.run import RunConfig
from lidcli.errors import (
    ConfigError,
    DataError,
    DivergedError,
    Interrupted,
    LidError,
    LockedError,
)
from lidcli.sweep.memory import ADVICE

__all__ = ["Reporter", "main", "work"]

STEP_SECONDS = 0.5
KEPT = sys.platform == "linux"
"""Whether a worker forks: where system libraries have threads of their own it must not."""
NEEDED = (
    "lidcli.training.lifecycle",
    "lidcli.training.gradient",
    "lidcli.training.several",
    "lidcli.data.registry",
    "sklearn.metrics",
    "torch._decomp.decompositions_for_jvp",
    "torch._dynamo",
)
"""What most runs import sooner or later."""
STOPS = (signal.SIGINT, signal.SIGTERM)
ENDS = {Interrupted: "interrupted", LockedError: "locked", DivergedError: "diverged"}
"""Status of a run that one of these ended."""


class Reporter:
    """Sends what an observer hears up the pipe.

    Where nobody listens any more the sweep is gone, and the run asks itself to stop after a
    checkpoint.

    Args:
        pipe: to the sweep.
        job: index of the run in a stack, which every event then names.
    """

    def __init__(self, pipe: int, job: int | None = None) -> None:
        self._pipe = pipe
        self._whose = {} if job is None else {"job": job}
        self._last = 0.0
        self._heard = True

    def say(self, event: str, **content: Any) -> None:
        """Send one event."""
        line = json.dumps({"event": event, **self._whose, **content}) + "\n"
        try:
            if self._heard:
                os.write(self._pipe, line.encode())
        except BrokenPipeError:
            self._heard = False
            if event not in ("end", "over"):
                os.kill(os.getpid(), signal.SIGTERM)

    def start(self, facts: dict[str, Any]) -> None:
        """Send run, device, parameters and steps."""
        self.say("start", **facts)

    def step(self, done: int, total: int) -> None:
        """Send the step, at most twice a second."""
        now = time.monotonic()
        if now - self._last >= STEP_SECONDS:
            self._last = now
            self.say("step", done=done, total=total)

    def epoch(self, record: dict[str, float]) -> None:
        """Send an epoch's curves."""
        self.say("epoch", **record)

    def evaluating(self, split: str) -> None:
        """Send that training is over."""
        self.say("evaluating", split=split)


def work(job: dict[str, Any], reporter: Reporter) -> None:
    """Do one job and report its end, and whether another attempt would end the same way."""
    started = time.monotonic()
    try:
        from lidcli.training.lifecycle import execute

        allow(job["allowed"])
        execute(
            RunConfig.of(job["config"]),
            Path(job["results"]),
            job["experiment"],
            reporter,
            restart=job["restart"],
        )
    except Exception as error:
        _report(error, reporter, started)
    else:
        _report(None, reporter, started)


def work_together(
    jobs: Sequence[dict[str, Any]], reporters: Sequence[Reporter], measured: bool
) -> None:
    """Do jobs that differ in their seed alone as one batched model, and report the end of each."""
    started = time.monotonic()
    first = jobs[0]
    ends: list[Any]
    try:
        from lidcli.training.several import execute_together

        allow(first["allowed"])
        ends = execute_together(
            [RunConfig.of(job["config"]) for job in jobs],
            Path(first["results"]),
            first["experiment"],
            reporters,
            restart=first["restart"],
            measured=measured,
        )
    except Exception as error:
        ends = [error] * len(jobs)
    for end, reporter in zip(ends, reporters, strict=True):
        _report(end if isinstance(end, Exception) else None, reporter, started)


def _report(error: Exception | None, reporter: Reporter, started: float) -> None:
    """Say how a job ended, with what ended it before its time."""
    status, message, lasting = "complete", "", False
    if isinstance(error, LidError):
        message = str(error)
        status = next((word for kind, word in ENDS.items() if isinstance(error, kind)), "failed")
        lasting = isinstance(error, DivergedError | ConfigError | DataError)
    elif error is not None:
        traceback.print_exception(error)
        status, message = "failed", f"{type(error).__name__}: {error}"
        if isinstance(error, MemoryError) or "memory" in str(error).lower():
            message = f"Out of memory; {ADVICE}."
    seconds = time.monotonic() - started
    reporter.say("end", status=status, message=message, seconds=seconds, lasting=lasting)


@contextlib.contextmanager
def _held_back() -> Iterator[None]:
    """Keep signals waiting while a run's process is made."""
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)


def _spared(signum: int, frame: FrameType | None) -> None:
    """The worker itself outlives the signals that its run hears."""


def _alone(job: dict[str, Any], pipe: int) -> int:
    """Do a job in a process of its own.

    Returns:
        Its exit code, negative where a signal ended it.
    """
    with _held_back():
        child = os.fork()
        if child == 0:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        else:
            for signum in STOPS:
                signal.signal(signum, _spared)
            for signum in signal.sigpending() & set(STOPS):
                os.kill(child, signum)
    if child == 0:
        _leave(job, pipe)
    _, status = os.waitpid(child, 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    return os.waitstatus_to_exitcode(status)


def _do(job: dict[str, Any], pipe: int) -> None:
    """Do what an order says: one run, or a stack."""
    if "stack" in job:
        reporters = [Reporter(pipe, index) for index in range(len(job["stack"]))]
        work_together(job["stack"], reporters, job["measured"])
    else:
        work(job, Reporter(pipe))


def _leave(job: dict[str, Any], pipe: int) -> None:
    """Do a job as a run's own process, and end it without the worker's cleaning up."""
    code = 1
    try:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        _do(job, pipe)
        code = 0
    except KeyboardInterrupt:
        code = 128 + signal.SIGINT
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def main() -> None:
    """Do the jobs that come on stdin; whatever else is printed goes to stderr."""
    pipe = os.dup(1)
    os.dup2(2, 1)
    if KEPT:
        for name in NEEDED:
            importlib.import_module(name)
        gc.collect()
        gc.freeze()
    for line in sys.stdin:
        job = json.loads(line)
        sys.argv = job["argv"]
        if not KEPT:
            _do(job, pipe)
            return
        Reporter(pipe).say("over", code=_alone(job, pipe))
    os._exit(0)


if __name__ == "__main__":
    main()
