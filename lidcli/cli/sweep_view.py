"""How a sweep shows itself: bars on a terminal, log lines elsewhere."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from lidcli.cli.progress import summary_text

if TYPE_CHECKING:
    from lidcli.sweep.queue import Job, Outcome

__all__ = ["SilentSweep", "SweepBars", "SweepLog", "view"]

LOG_SECONDS = 30.0


def ending(outcome: Outcome) -> str:
    """One line on how a run ended, with its verdict where it has one."""
    text = f"{outcome.status:<11} {outcome.job.label}"
    if outcome.status != "complete":
        return f"{text}: {outcome.message}" if outcome.message else text
    from lidcli.errors import StoreError
    from lidcli.store.run import Run

    try:
        run = Run.open(outcome.job.folder)
    except StoreError:
        return text
    figures = run.evaluation.get(outcome.job.config.evaluate.split, {})
    parts = [str(run.provenance["verdict"])] if "verdict" in run.provenance else []
    parts += [f"LL {figures['ll']:.3f}"] if "ll" in figures else []
    return f"{text}: {', '.join(parts)} ({outcome.seconds:.0f} s)"


class SilentSweep:
    """Says nothing."""

    def __enter__(self) -> SilentSweep:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the display."""

    def started(self, job: Job, slot: int) -> None:
        """Ignore a start."""

    def event(self, job: Job, slot: int, event: dict[str, Any]) -> None:
        """Ignore a worker's word."""

    def finished(self, outcome: Outcome, slot: int | None) -> None:
        """Ignore an end."""

    def again(self, outcome: Outcome, slot: int) -> None:
        """Ignore a failed attempt."""

    def stopping(self, running: int) -> None:
        """Ignore a signal."""


class SweepLog(SilentSweep):
    """A line for every start and end, and every half minute one for each running worker."""

    def __init__(self, total: int) -> None:
        self._total, self._done = total, 0
        self._last: dict[Path, float] = {}

    def _say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def started(self, job: Job, slot: int) -> None:
        """Say that a run begins."""
        self._last[job.folder] = time.monotonic()
        self._say(f"started     {job.label}")

    def event(self, job: Job, slot: int, event: dict[str, Any]) -> None:
        """Say how far a run is, and every warning at once."""
        for warning in event.get("warnings", ()):
            self._say(f"warning     {job.label}: {warning}")
        now = time.monotonic()
        if event["event"] == "epoch" and now - self._last[job.folder] >= LOG_SECONDS:
            self._last[job.folder] = now
            self._say(f"epoch {event['epoch']:<5.0f} {job.label}: {summary_text(event)}")

    def finished(self, outcome: Outcome, slot: int | None) -> None:
        """Say how a run ended."""
        self._done += 1
        if slot is not None:
            self._say(f"{ending(outcome)} [{self._done}/{self._total}]")

    def again(self, outcome: Outcome, slot: int) -> None:
        """Say that a run will be tried again."""
        self._say(f"try again   {outcome.job.label}: {outcome.message}")

    def stopping(self, running: int) -> None:
        """Say that workers are stopping."""
        self._say(f"stopping: {running} workers write their checkpoints (again: at once)")


class SweepBars(SilentSweep):
    """A bar for the sweep, and one for each worker with the run's ELBO, KL, MI and AU."""

    def __init__(self, total: int) -> None:
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[note]}", markup=False),
            TimeRemainingColumn(compact=True),
            console=Console(stderr=True),
            transient=True,
        )
        self._all = self._bars.add_task("all runs", total=total, note=f"0/{total}")
        self._total, self._done = total, 0
        self._tasks: dict[Path, TaskID] = {}
        self._shares: dict[Path, float] = {}

    def __enter__(self) -> SweepBars:
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bars.stop()

    def _move(self) -> None:
        done = self._done + sum(self._shares.values())
        self._bars.update(self._all, completed=done, note=f"{self._done}/{self._total}")

    def _say(self, text: str) -> None:
        self._bars.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def started(self, job: Job, slot: int) -> None:
        """Show a bar for the run."""
        self._tasks[job.folder] = self._bars.add_task(job.label, total=None, note="starting")
        self._shares[job.folder] = 0.0

    def event(self, job: Job, slot: int, event: dict[str, Any]) -> None:
        """Move the run's bar."""
        task = self._tasks[job.folder]
        if event["event"] == "start":
            for warning in event["warnings"]:
                self._say(f"warning     {job.label}: {warning}")
            self._bars.update(task, total=event["steps"], completed=event["step"], note="training")
        elif event["event"] == "step":
            self._bars.update(task, completed=event["done"])
            self._shares[job.folder] = event["done"] / event["total"]
            self._move()
        elif event["event"] == "epoch":
            note = f"epoch {event['epoch']:.0f}  {summary_text(event)}"
            self._bars.update(task, note=note)
        else:
            self._bars.update(task, note=f"evaluating ({event['split']})")

    def finished(self, outcome: Outcome, slot: int | None) -> None:
        """Replace the run's bar by a line."""
        self._done += 1
        if slot is not None:
            self._bars.remove_task(self._tasks.pop(outcome.job.folder))
            self._shares.pop(outcome.job.folder)
            self._say(ending(outcome))
        self._move()

    def again(self, outcome: Outcome, slot: int) -> None:
        """Take the run's bar away until it is tried again."""
        self._bars.remove_task(self._tasks.pop(outcome.job.folder))
        self._shares.pop(outcome.job.folder)
        self._say(f"try again   {outcome.job.label}: {outcome.message}")
        self._move()

    def stopping(self, running: int) -> None:
        """Say that workers are stopping."""
        self._say(f"stopping: {running} workers write their checkpoints (again: at once)")


def view(total: int, quiet: bool) -> SilentSweep:
    """The display that suits where stderr goes."""
    if quiet:
        return SilentSweep()
    return SweepBars(total) if sys.stderr.isatty() else SweepLog(total)
