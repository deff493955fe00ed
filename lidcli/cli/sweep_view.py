"""How a sweep shows itself: one table that lives on a terminal, log lines elsewhere."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.live import Live

from lidcli.cli.run_table import table
from lidcli.cli.sweep_course import Course

if TYPE_CHECKING:
    from lidcli.sweep.queue import Job, Outcome

__all__ = ["SilentSweep", "SweepLog", "SweepTable", "view"]

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
    """A line for every start and end, and every half minute one for each running run."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self.course = Course(jobs)
        self._last: dict[Path, float] = {}

    def say(self, text: str) -> None:
        """Print a line."""
        print(text, file=sys.stderr, flush=True)

    def started(self, job: Job, slot: int) -> None:
        """Say that a run begins."""
        self._last[job.folder] = time.monotonic()
        self.course.begin(job)
        self.say(f"started     {job.label}")

    def event(self, job: Job, slot: int, event: dict[str, Any]) -> None:
        """Say how far a run is, and every warning at once."""
        for warning in event.get("warnings", ()):
            self.say(f"warning     {job.label}: {warning}")
        self.course.hear(job, event)
        now = time.monotonic()
        if event["event"] == "epoch" and now - self._last[job.folder] >= LOG_SECONDS:
            self._last[job.folder] = now
            self.say(self.course.row(job, job.label).line())

    def finished(self, outcome: Outcome, slot: int | None) -> None:
        """Say how a run ended."""
        self.course.end(outcome)
        if slot is not None:
            self.say(f"{ending(outcome)} [{self.course.done}/{self.course.total}]")

    def again(self, outcome: Outcome, slot: int) -> None:
        """Say that a run will be tried again."""
        self.course.leave(outcome.job)
        self.say(f"try again   {outcome.job.label}: {outcome.message}")

    def stopping(self, running: int) -> None:
        """Say that workers are stopping."""
        self.say(f"stopping: {running} workers write their checkpoints (again: at once)")


class SweepTable(SweepLog):
    """A table of the running runs that stays below the lines on starts and ends.

    It begins with the first run. What it writes goes to the terminal itself, also while an
    engine keeps stderr silent.
    """

    def __init__(self, jobs: Sequence[Job]) -> None:
        super().__init__(jobs)
        self._file = os.fdopen(os.dup(sys.stderr.fileno()), "w", errors=sys.stderr.errors)
        self._console = Console(file=self._file)
        self._live = Live(
            console=self._console,
            get_renderable=self._table,
            redirect_stdout=False,
            transient=True,
            vertical_overflow="crop",
        )

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()
        self._file.close()

    def _table(self) -> Group:
        return table(self.course.rows(), self.course.totals(), self._console.height - 3)

    def say(self, text: str) -> None:
        """Print a line above the table."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def started(self, job: Job, slot: int) -> None:
        """Show the run's row."""
        self.course.begin(job)
        self._live.start()

    def event(self, job: Job, slot: int, event: dict[str, Any]) -> None:
        """Take note for the run's row, and say every warning."""
        for warning in event.get("warnings", ()):
            self.say(f"warning     {job.label}: {warning}")
        self.course.hear(job, event)


def view(jobs: Sequence[Job], quiet: bool) -> SilentSweep:
    """The display that suits where stderr goes."""
    if quiet:
        return SilentSweep()
    return SweepTable(jobs) if sys.stderr.isatty() else SweepLog(jobs)
