"""`lid list runs --watch`: where the runs of a results folder stand, again and again."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.live import Live

from lidcli.cli.progress import figures
from lidcli.cli.run_table import Row, duration, table
from lidcli.errors import StoreError
from lidcli.report.values import clean

if TYPE_CHECKING:
    from lidcli.store.run import Run

__all__ = ["Watched", "follow", "totals"]

SECONDS = 2.0
ORDER = ("running", "silent", "stopped", "interrupted", "failed", "diverged", "complete")


def totals(rows: Sequence[Row]) -> str:
    """How many runs are in each state, and how long the running ones take at most."""
    counts = Counter(row.state for row in rows)
    found = ", ".join(f"{counts[state]} {state}" for state in ORDER if counts[state])
    left = [row.left for row in rows if row.state == "running" and row.left is not None]
    longest = f"; the running ones at most {duration(max(left))} more" if left else ""
    return f"{len(rows)} run{'s' * (len(rows) != 1)}: {found or 'none'}{longest}"


class Watched:
    """The runs of a results folder; a record is read again when its file was replaced.

    Args:
        results: folder of the runs.
        experiments: only theirs; none means all.
    """

    def __init__(self, results: Path, experiments: Sequence[str] = ()) -> None:
        from lidcli.store.lease import Watch

        self._results, self._experiments = results, experiments
        self._known: dict[Path, tuple[tuple[int, int], dict[str, Any]]] = {}
        self._leases = Watch()
        self.unread: dict[Path, str] = {}

    def look(self) -> list[Row]:
        """Where they stand now, those that are at work first."""
        from lidcli.store.run import find_runs

        rows = []
        for folder in find_runs(self._results, self._experiments):
            facts = self._facts(folder)
            if facts is not None:
                state, where = self._hands(folder, facts.pop("status"))
                rows.append(Row(state=state, where=where, **facts))
        known = {state: rank for rank, state in enumerate(ORDER)}
        return sorted(rows, key=lambda row: (known.get(row.state, 0), row.name))

    def _facts(self, folder: Path) -> dict[str, Any] | None:
        """What a record says; None where it cannot be read, which is noted."""
        from lidcli.store.run import Run

        try:
            status = (folder / "run.h5").stat()
            stamp = status.st_ino, status.st_mtime_ns
            if folder not in self._known or self._known[folder][0] != stamp:
                self._known[folder] = (stamp, _facts(Run.open(folder)))
        except FileNotFoundError:
            return None
        except StoreError as error:
            self.unread[folder] = clean(f"Left out: {error}")
            return None
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            self.unread[folder] = clean(f"Left out: {folder} is no record of a run ({error!r}).")
            return None
        self.unread.pop(folder, None)
        return dict(self._known[folder][1])

    def _hands(self, folder: Path, status: str) -> tuple[str, str]:
        """The state of a run, and the other machine that has it."""
        from lidcli.store.lock import held_on_this_machine

        if status == "complete":
            return status, ""
        try:
            if held_on_this_machine(folder):
                return "running", ""
            found, lease = self._leases.look(folder), self._leases.lease(folder)
        except StoreError:
            return status, ""
        if lease is not None:
            return ("silent" if found == "silent" else "running"), clean(lease.host)
        return ("stopped" if status == "running" else status), ""


def _facts(run: Run) -> dict[str, Any]:
    """What a row shows of a record."""
    config, told = clean(run.config), clean(run.provenance)
    last = {name: float(curve[-1]) for name, curve in run.curves.items() if len(curve)}
    done, epochs = told.get("epochs_done"), (config.get("train") or {}).get("epochs")
    place = clean(f"{run.folder.parent.name}/{run.folder.name}")
    rate, left = _pace(told, epochs) if run.status == "running" else (None, None)
    return {
        "name": f"{place} {config['method']} {config['data']['name']}",
        "status": str(told["status"]),
        "epoch": f"{done}/{epochs}" if done is not None and epochs is not None else "",
        "figures": figures(last),
        "rate": rate,
        "left": left,
    }


def _pace(told: dict[str, Any], epochs: int | None) -> tuple[float | None, float | None]:
    """Steps a second, and the seconds that all epochs would still take."""
    done, steps = told.get("epochs_done"), told.get("steps")
    seconds = told.get("train_seconds") or 0.0
    if not done or seconds <= 0:
        return None, None
    rate = steps / seconds if steps else None
    return rate, None if epochs is None else (epochs - done) * seconds / done


def follow(results: Path, experiments: Sequence[str] = ()) -> list[str]:
    """Show where runs stand until Ctrl-C; a table on a terminal, changes as lines elsewhere.

    Args:
        results: folder of the runs.
        experiments: only theirs; none means all.

    Returns:
        A sentence for every run that could not be read.
    """
    watched = Watched(results, experiments)
    with _interruptible(), _display() as show:
        while True:
            show(watched.look())
            time.sleep(SECONDS)
    return list(watched.unread.values())


@contextmanager
def _interruptible() -> Iterator[None]:
    """Take Ctrl-C as the end."""
    try:
        yield
    except KeyboardInterrupt:
        return


@contextmanager
def _display() -> Iterator[Any]:
    """What shows rows."""
    if not sys.stdout.isatty():
        yield _Lines().show
        return
    console = Console()
    with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
        yield lambda rows: live.update(table(rows, totals(rows), console.height - 3), refresh=True)


class _Lines:
    """A line for every row that changed, and one for all."""

    def __init__(self) -> None:
        self._shown: dict[str, str] = {}

    def show(self, rows: Sequence[Row]) -> None:
        changed = False
        for row in rows:
            line = row.line()
            if self._shown.get(row.name) != line and (self._shown or row.state != "complete"):
                click.echo(line)
                changed = True
            self._shown[row.name] = line
        if changed or not self._shown:
            click.echo(totals(rows))
            sys.stdout.flush()
        self._shown.setdefault("", "")
