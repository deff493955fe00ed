"""Observers of a run and of a sweep whose curves are logged too."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from lidcli.cli.events import Events
from lidcli.cli.progress import Silent
from lidcli.cli.sweep_view import SilentSweep

if TYPE_CHECKING:
    from lidcli.sweep.queue import Job, Outcome

__all__ = ["Logged", "LoggedSweep"]


class Logged(Silent):
    """Hears a run for another observer, and logs its epochs.

    Args:
        inner: the other.
    """

    def __init__(self, inner: Silent) -> None:
        self._inner = inner
        self._events: Events | None = None

    def __enter__(self) -> Logged:
        self._inner.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        if self._events is not None:
            self._events.close()
        self._inner.__exit__(*error)

    def start(self, facts: dict[str, Any]) -> None:
        """Begin with what there is of earlier sessions."""
        self._inner.start(facts)
        self._events = Events(Path(facts["folder"]))
        self._events.begin(facts["step"])

    def step(self, done: int, total: int) -> None:
        """Pass it on."""
        self._inner.step(done, total)

    def epoch(self, record: dict[str, float]) -> None:
        """Log the epoch."""
        self._inner.epoch(record)
        if self._events is not None:
            self._events.epoch(record)

    def evaluating(self, split: str) -> None:
        """Pass it on."""
        self._inner.evaluating(split)


class LoggedSweep(SilentSweep):
    """Hears a sweep for another watcher, and logs the epochs of its runs, wherever they are done.

    A complete run of which there are no events yet is logged from its record.

    Args:
        inner: the other.
        place: folder of the sweep's runs.
    """

    def __init__(self, inner: SilentSweep, place: Path) -> None:
        self._inner, self._place = inner, place
        self._events: dict[Path, Events] = {}

    def __enter__(self) -> LoggedSweep:
        self._inner.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for events in self._events.values():
            events.close()
        self._inner.__exit__(kind, error, trace)

    def started(self, job: Job, slot: int) -> None:
        """Pass it on."""
        self._inner.started(job, slot)

    def event(self, job: Job, slot: int, event: dict[str, Any]) -> None:
        """Log an epoch, after what there is of earlier sessions."""
        self._inner.event(job, slot, event)
        if event["event"] == "start":
            self._close(job)
            events = self._events[job.folder] = Events(self._place / event["run"])
            events.begin(event["step"])
        elif event["event"] == "epoch" and job.folder in self._events:
            self._events[job.folder].epoch(event)

    def finished(self, outcome: Outcome, slot: int | None) -> None:
        """Log all of a complete run."""
        self._inner.finished(outcome, slot)
        events = self._close(outcome.job) or Events(outcome.job.folder)
        if outcome.status == "complete" and (slot is not None or not events.there()):
            events.begin()
            events.close()

    def again(self, outcome: Outcome, slot: int) -> None:
        """Pass it on."""
        self._inner.again(outcome, slot)
        self._close(outcome.job)

    def stopping(self, running: int) -> None:
        """Pass it on."""
        self._inner.stopping(running)

    def _close(self, job: Job) -> Events | None:
        """End what is open of a run."""
        events = self._events.pop(job.folder, None)
        if events is not None:
            events.close()
        return events
