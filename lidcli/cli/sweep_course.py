"""How far a sweep is: what is running, how fast, and how much is left."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lidcli.cli.progress import figures
from lidcli.cli.run_table import Row, duration

if TYPE_CHECKING:
    from lidcli.sweep.queue import Job, Outcome

__all__ = ["Course", "short_names"]

WINDOW = 60.0
"""Seconds over which steps are counted for a rate."""
LEFT = ("interrupted", "locked", "submitted", "waiting")
"""How runs end that are still to do."""


def short_names(labels: Sequence[str]) -> list[str]:
    """Labels without the words that all of them have, but with their seed.

    Args:
        labels: each `method data setting=value ... seed N`.

    Example:
        >>> short_names(["vae digits layers=5 seed 0", "vae digits layers=9 seed 0"])
        ['layers=5 seed 0', 'layers=9 seed 0']
    """
    split = [label.rpartition(" seed ") for label in labels]
    words = [head.split() for head, _, _ in split]
    common = set(words[0]).intersection(*words) if len(words) > 1 else set()
    return [
        " ".join([*(word for word in found if word not in common), "seed", seed])
        for found, (_, _, seed) in zip(words, split, strict=True)
    ]


class _Going:
    """How far one run is, from what its worker says."""

    def __init__(self) -> None:
        self.state = "starting"
        self.epoch = 0
        self.figures: dict[str, float] = {}
        self.steps: int | None = None
        self.seen: deque[tuple[float, int]] = deque()
        self.first = 0.0

    def hear(self, event: dict[str, Any]) -> None:
        if event["event"] == "start":
            self.state, self.steps = "training", event["steps"]
            self._see(event["step"])
            self.first = self.share
        elif event["event"] == "step":
            self.steps = event["total"]
            self._see(event["done"])
        elif event["event"] == "epoch":
            self.epoch, self.figures = int(event["epoch"]), figures(event)
        elif event["event"] == "evaluating":
            self.state = "evaluating"

    def _see(self, done: int) -> None:
        now = time.monotonic()
        self.seen.append((now, done))
        while len(self.seen) > 2 and self.seen[0][0] < now - WINDOW:
            self.seen.popleft()

    @property
    def share(self) -> float:
        """How much of its steps is done, from 0 to 1."""
        if self.state == "evaluating":
            return 1.0
        return self.seen[-1][1] / self.steps if self.seen and self.steps else 0.0

    @property
    def rate(self) -> float | None:
        """Steps a second, validation included."""
        if len(self.seen) < 2 or self.state != "training":
            return None
        (before, first), (now, last) = self.seen[0], self.seen[-1]
        return (last - first) / (now - before) if now > before and last > first else None

    @property
    def left(self) -> float | None:
        """Seconds until its last step."""
        rate = self.rate
        return (
            None if rate is None or self.steps is None else (self.steps - self.seen[-1][1]) / rate
        )


class Course:
    """The runs of a sweep: those that ended, and those at work.

    Args:
        jobs: all of them.

    Example:
        >>> Course([]).totals()
        '0 of 0 runs ended'
    """

    def __init__(self, jobs: Sequence[Job]) -> None:
        self.total, self.done, self.failed = len(jobs), 0, 0
        names = short_names([job.label for job in jobs]) if jobs else []
        self._jobs = {job.folder: (job, name) for job, name in zip(jobs, names, strict=True)}
        self._going: dict[Path, _Going] = {}
        self._began: float | None = None
        self._made = 0.0

    def begin(self, job: Job) -> None:
        """A run begins."""
        self._began = self._began or time.monotonic()
        self._going[job.folder] = _Going()

    def hear(self, job: Job, event: dict[str, Any]) -> None:
        """A worker says how far its run is."""
        self._going[job.folder].hear(event)

    def leave(self, job: Job) -> None:
        """A run is put back, to be tried again."""
        self._going.pop(job.folder, None)

    def end(self, outcome: Outcome) -> None:
        """A run ended, or was stopped, which leaves it to do."""
        going = self._going.pop(outcome.job.folder, None)
        if outcome.status in LEFT:
            return
        self.done += 1
        self.failed += outcome.failed
        self._made += 0.0 if going is None else 1.0 - going.first

    def row(self, job: Job, name: str) -> Row:
        """Where a run that is at work stands."""
        going = self._going[job.folder]
        epochs = getattr(job.config.train, "epochs", None)
        return Row(
            name,
            going.state,
            epoch=f"{going.epoch}/{epochs}" if epochs and going.figures else "",
            figures=going.figures,
            rate=going.rate,
            left=going.left,
        )

    def rows(self) -> list[Row]:
        """Where the runs at work stand, in the order in which they began."""
        return [self.row(*self._jobs[folder]) for folder in list(self._going)]

    def totals(self) -> str:
        """How many runs ended, failed and are at work, and about how long the rest takes."""
        parts = [f"{self.done} of {self.total} run{'s' * (self.total != 1)} ended"]
        parts += [f"{self.failed} failed"] if self.failed else []
        parts += [f"{len(self._going)} running"] if self._going else []
        text, left = ", ".join(parts), self._left()
        return text if left is None else f"{text}; about {duration(left)} left"

    def _left(self) -> float | None:
        """Seconds until the end, if the rest goes as fast as what was done so far."""
        going = list(self._going.values())
        made = self._made + sum(run.share - run.first for run in going)
        if self._began is None or made <= 0:
            return None
        rest = self.total - self.done - sum(run.share for run in going)
        return rest * (time.monotonic() - self._began) / made
