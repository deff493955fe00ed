"""One task of a Slurm array: its runs one after the other, events as JSON lines on stdout."""

from __future__ import annotations

import _thread
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

from lidcli.errors import ConfigError, Interrupted, LidError
from lidcli.sweep.worker import Reporter, work

__all__ = ["ORDERS", "do", "main"]

ORDERS = "orders.json"
MOVES = ("step", "epoch")
HEARD = (signal.SIGTERM, signal.SIGUSR1)


class _Log(Reporter):
    """Writes what an observer hears into the task's output, as long as that can be written."""

    def __init__(self, pipe: int) -> None:
        super().__init__(pipe)
        self.run, self.moved = "", False
        self.end: dict[str, Any] = {}

    def say(self, event: str, **content: Any) -> None:
        """Write an event with the run's name, and keep how the run ended, which may not be all."""
        self.moved |= event in MOVES
        if event == "end":
            self.end = content
            return
        self.write(event, content)

    def write(self, event: str, content: dict[str, Any]) -> None:
        """Write an event with the run's name."""
        with contextlib.suppress(OSError):
            super().say(event, run_id=self.run, **content)


class _Ears:
    """Hears Slurm's signals in a thread, and passes the first one on to the run, as SIGTERM.

    Slurm may send SIGTERM twice, and a run that hears a second one does not wait for its
    checkpoint. SIGUSR1 says that the time is nearly over.
    """

    def __init__(self) -> None:
        self.time_is_over = False
        signal.signal(signal.SIGTERM, _stop)
        signal.pthread_sigmask(signal.SIG_BLOCK, HEARD)
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        self.time_is_over = signal.sigwait(HEARD) == signal.SIGUSR1
        _thread.interrupt_main(signal.SIGTERM)


def _stop(signum: int, frame: FrameType | None) -> None:
    raise Interrupted(signum)


def orders(folder: Path, index: int) -> list[dict[str, Any]]:
    """The orders of one task, counted from 1.

    Raises:
        ConfigError: there is no such task.
        LidError: the file of the orders is gone.
    """
    try:
        tasks: list[list[dict[str, Any]]] = json.loads((folder / ORDERS).read_text())
    except OSError as error:
        raise LidError(
            f"{folder / ORDERS} cannot be read ({error.strerror}); the results folder must be one"
            " that every node sees, and the array the newest of its sweep."
        ) from error
    if not 1 <= index <= len(tasks):
        raise ConfigError(
            f"The array {folder.name} has tasks 1 to {len(tasks)}, and there is no task {index}."
        )
    return tasks[index - 1]


def do(todo: list[dict[str, Any]], log: _Log) -> int:
    """Do the orders, and give the exit code: 143 where a signal stopped one after a checkpoint."""
    code = 0
    for order in todo:
        log.run = order["run"]
        log.say("begun")
        try:
            _attempt(order, log)
        except Interrupted as error:
            log.say("end", status="interrupted", message=str(error), seconds=0.0)
        log.write("end", log.end)
        if log.end["status"] == "interrupted":
            return 128 + signal.SIGTERM
        code = 3 if log.end["status"] in ("failed", "diverged") else code
    return code


def _attempt(order: dict[str, Any], log: _Log) -> None:
    """Do an order, and again where it fails in a way that need not last."""
    for _ in range(1 + order["retries"]):
        work(order, log)
        if log.end["status"] != "failed" or log.end["lasting"]:
            break


def main() -> None:
    """Do the task that the command line names: a submission's folder and an index.

    SIGTERM, as preemption and scancel send it, stops after a checkpoint; SIGUSR1 too, and puts
    the task back into the queue, provided that it got anywhere.
    """
    ears = _Ears()
    log = _Log(os.dup(1))
    os.dup2(2, 1)
    try:
        code = do(orders(Path(sys.argv[1]), int(sys.argv[2])), log)
    except LidError as error:
        sys.stderr.write(f"lid: {error}\n")
        sys.exit(error.exit_code)
    if ears.time_is_over and log.moved:
        task = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
        subprocess.run(["scontrol", "requeue", task], check=False)
    sys.exit(code)


if __name__ == "__main__":
    main()
