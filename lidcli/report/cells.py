"""What one cell of a table says: its number, its precision, its mark and whether it is bold."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from lidcli.metrics.quantity import APART, FLOAT32_LOG10, Quantity
from lidcli.report.gaps import paired, reach
from lidcli.report.groups import Group, Statistic

__all__ = [
    "BOLD",
    "DASH",
    "MARKS",
    "UNTOLD",
    "Cell",
    "Column",
    "Row",
    "Table",
    "filled",
    "judged_rows",
    "marked",
    "number",
    "shared_decimals",
]

DASH = "–"
SATURATED = 0.5
"""Nats below the value at which an estimate saturates from which it is marked."""
NEAR = 2.0
"""Standard errors within which a mean is not told from the best."""


@dataclass(frozen=True)
class Cell:
    """One entry: a mean, its sd where there are several seeds, a mark explained below."""

    text: str = DASH
    sd: str = ""
    bold: bool = False
    mark: str = ""


@dataclass(frozen=True)
class Row:
    """A label, its grid values, cells, and the footnotes it refers to."""

    label: str
    cells: tuple[Cell, ...]
    notes: tuple[int, ...] = ()
    quiet: bool = False


@dataclass(frozen=True)
class Table:
    """What every format prints: title, head, rows, units, numbered footnotes and remarks.

    The first `keys` columns say what a row is of, wherever a table has to be folded.
    """

    name: str
    title: str
    head: tuple[str, ...]
    rows: tuple[Row, ...]
    units: str
    notes: tuple[str, ...]
    remarks: tuple[str, ...] = ()
    keys: int = 1


@dataclass(frozen=True)
class Column:
    """A quantity, and the letter of the latent that it is of."""

    quantity: Quantity
    latent: str = ""

    @property
    def head(self) -> str:
        """What stands above it."""
        return self.quantity.heading(self.latent)

    def pooled(self, group: Group) -> Statistic | None:
        """Its statistic over a group's complete runs."""
        return group.statistic(self.quantity, self.latent)


def number(value: float, decimals: int) -> str:
    """A number with fixed decimals and a true minus, never a negative zero.

    Example:
        >>> number(-0.001, 2)
        '0.00'
    """
    text = f"{value:.{decimals}f}"
    return f"{0:.{decimals}f}" if float(text) == 0 else text.replace("-", "−")


def shared_decimals(quantity: Quantity, statistics: Iterable[Statistic | None]) -> int:
    """Decimals that suit every mean of a column."""
    if quantity.decimals is not None:
        return quantity.decimals
    largest = max((abs(s.mean) for s in statistics if s is not None), default=0.0)
    small = 10.0 if quantity.likelihood else 0.1
    return 3 if largest < small else 2 if largest < 100 else 1


def filled(quantity: Quantity, statistic: Statistic | None, decimals: int) -> Cell:
    """A statistic as a cell, a dash where there is none."""
    if statistic is None:
        return Cell()
    if quantity.lowest:
        return Cell(number(quantity.factor * statistic.lowest, decimals))
    sd = "" if statistic.sd is None else number(quantity.factor * statistic.sd, decimals)
    return Cell(number(quantity.factor * statistic.mean, decimals), sd)


BOLD = (
    "Bold: the best mean of a column, those that print the same, and those within two of the best's"
    " own standard errors of it that are not told from it."
)
UNTOLD = "~"


def judged_rows(
    quantity: Quantity, statistics: Sequence[Statistic | None], decimals: int
) -> tuple[set[int], set[int]]:
    """Rows that are best, and rows that are only not told from the best.

    A mean is near the best by the best's own precision, never by its own noise: a row whose seeds
    scatter widely may not be told from the best, and is no better for it.

    Args:
        quantity: says which way is better.
        statistics: of the rows of a column.
        decimals: that the column is printed with.

    Returns:
        Rows with the best mean as printed, or within two of its standard errors of it and not told
        from it; and the others that are not told from it: no difference is within the 95% interval.
        Where two rows have the same seeds, several, the difference is of pairs.
    """
    found = {i: s for i, s in enumerate(statistics) if s is not None}
    if quantity.better == "none" or len(found) < 2:
        return set(), set()
    sign = 1.0 if quantity.better == "higher" else -1.0
    top = max(found.values(), key=lambda s: sign * s.mean)
    same = number(quantity.factor * top.mean, decimals)
    untold = {i for i, s in found.items() if _untold(top, s)}
    near = {i for i in untold if abs(top.mean - found[i].mean) <= NEAR * top.se}
    alike = {i for i, s in found.items() if number(quantity.factor * s.mean, decimals) == same}
    best = near | alike
    return best, untold - best


def _untold(top: Statistic, other: Statistic) -> bool:
    """Whether a difference to the best may be none; of one run each, by the data's error."""
    gap = paired(top, other)
    return abs(gap.mean) <= (reach(gap.n) if gap.n > 1 else NEAR) * gap.se


def marked(column: Column, group: Group, statistic: Statistic | None) -> str:
    """The mark of a cell that cannot be taken at its face value."""
    quantity = column.quantity
    drawn = quantity.saturates and column.latent != "c"
    if drawn and any(_unsettled(one.metrics, quantity, column.latent) for one in group.used):
        return "†"
    below = statistic is not None and statistic.lowest <= FLOAT32_LOG10
    return "‡" if quantity.log10 and below else ""


def _unsettled(metrics: Mapping[str, float], quantity: Quantity, latent: str) -> bool:
    """Whether N data tell a figure no closer than a lower bound."""
    value = quantity.value(metrics, latent)
    if value is None:
        return False
    above = metrics.get(f"{quantity.key}_above/{latent}")
    if above is None:
        return value > metrics.get(quantity.saturates, math.inf) - SATURATED
    return min(above, metrics.get("kl/joint", math.inf)) - value > APART


MARKS = {
    "†": "† a lower bound: with and without the datum in the aggregate the estimates differ by more"
    " than 0.25 nats, or, where only one is stored, it is within 0.5 of log N.",
    "‡": "‡ at or below float32's resolution (log10 −6.9): identifiable on paper at most.",
    UNTOLD: "~ not best, and not told from the best either: no difference is within the 95%"
    " interval (Student's t, over pairs where the seeds are the same; of single runs the data's"
    " error).",
}
