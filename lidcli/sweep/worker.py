"""One run in a process of its own: a job as JSON on stdin, events as JSON lines on stdout."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from lidcli.config.kinds import allow
from lidcli.config.run import RunConfig
from lidcli.errors import DivergedError, Interrupted, LidError, LockedError

__all__ = ["main"]

STEP_SECONDS = 0.5


class Reporter:
    """Sends what an observer hears up the pipe.

    Where nobody listens any more the sweep is gone, and the run asks itself to stop after a
    checkpoint.
    """

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe
        self._last = 0.0
        self._heard = True

    def say(self, event: str, **content: Any) -> None:
        """Send one event."""
        line = json.dumps({"event": event, **content}) + "\n"
        try:
            if self._heard:
                os.write(self._pipe, line.encode())
        except BrokenPipeError:
            self._heard = False
            if event != "end":
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
    """Do one job and report its end."""
    started = time.monotonic()

    def end(status: str, message: str = "") -> None:
        seconds = time.monotonic() - started
        reporter.say("end", status=status, message=message, seconds=seconds)

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
    except Interrupted as error:
        end("interrupted", str(error))
    except LockedError as error:
        end("locked", str(error))
    except DivergedError as error:
        end("diverged", str(error))
    except LidError as error:
        end("failed", str(error))
    except MemoryError:
        end("failed", "Out of memory; try a smaller --set runtime.batch=...")
    except Exception as error:
        traceback.print_exc()
        end("failed", f"{type(error).__name__}: {error}")
    else:
        end("complete")


def main() -> None:
    """Read a job from stdin and do it; whatever else is printed goes to stderr."""
    pipe = os.dup(1)
    os.dup2(2, 1)
    job = json.load(sys.stdin)
    sys.argv = job["argv"]
    work(job, Reporter(pipe))


if __name__ == "__main__":
    main()
