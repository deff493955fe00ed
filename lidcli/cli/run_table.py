"""Runs as rows of one table on a terminal, and as lines elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rich.console import Group
from rich.table import Table
from rich.text import Text

from lidcli.cli.progress import figures_text

__all__ = ["Row", "duration", "table"]

FIGURES = ("ELBO", "MI", "AU")
COLUMNS = ("run", "state", "epoch", *FIGURES, "steps/s", "left")
TEXTS = ("run", "state")
"""Columns of words, which are broken where the terminal is narrow."""


@dataclass(frozen=True)
class Row:
    """Where one run stands.

    Args:
        name: of the run.
        state: one word.
        where: the other machine that has it.
        epoch: done, of how many.
        figures: of the last validation, by name, nats per datum or a fraction.
        rate: steps a second.
        left: seconds until its last epoch, which it may not need.
    """

    name: str
    state: str
    where: str = ""
    epoch: str = ""
    figures: Mapping[str, float] = field(default_factory=dict)
    rate: float | None = None
    left: float | None = None

    def cells(self) -> list[str]:
        """Text for each of `COLUMNS`."""
        state = f"{self.state} on {self.where}" if self.where else self.state
        shown = [_figure(name, self.figures.get(name)) for name in FIGURES]
        rate = "" if self.rate is None else f"{self.rate:.3g}"
        left = "" if self.left is None else duration(self.left)
        return [self.name, state, self.epoch, *shown, rate, left]

    def line(self) -> str:
        """All of it, for a log.

        Example:
            >>> Row("vae pinwheel seed 0", "training", epoch="3/9", rate=2.0, left=90.0).line()
            'training    vae pinwheel seed 0, epoch 3/9, 2 steps/s, 1m30s left'
        """
        _, state, *_, rate, left = self.cells()
        parts = [f"{state:<11} {self.name}"]
        parts += [f"epoch {self.epoch}"] if self.epoch else []
        parts += [figures_text(self.figures)] if self.figures else []
        parts += [f"{rate} steps/s"] if rate else []
        return ", ".join(parts + ([f"{left} left"] if left else []))


def _figure(name: str, value: float | None) -> str:
    """A figure as the table shows it."""
    if value is None:
        return ""
    return f"{value:.{3 if name == 'ELBO' and abs(value) < 100 else 2}f}"


def duration(seconds: float) -> str:
    """A time in two units at most.

    Example:
        >>> duration(5400.0), duration(75.0), duration(9.0)
        ('1h30m', '1m15s', '9s')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"


def table(rows: Sequence[Row], totals: str, most: int) -> Group:
    """A line on all runs, and below it the first of them.

    Args:
        rows: of the runs.
        totals: the line.
        most: rows at most.
    """
    shown = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for name in COLUMNS:
        if name in TEXTS:
            shown.add_column(name, overflow="fold")
        else:
            shown.add_column(name, no_wrap=True, justify="right")
    for row in rows[: max(1, most)]:
        shown.add_row(*map(Text, row.cells()))
    return Group(Text(totals), shown) if rows else Group(Text(totals))
