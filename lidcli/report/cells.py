"""What one cell of a table says: its number, its precision, its mark and whether it is bold."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from lidcli.report.collect import Record, finite
from lidcli.report.groups import Group, Statistic
from lidcli.report.notes import FLOAT32_LOG10

__all__ = [
    "DASH",
    "MARKS",
    "Cell",
    "Column",
    "Row",
    "Table",
    "best_rows",
    "filled",
    "marked",
    "number",
    "pooled",
    "shared_decimals",
]

DASH = "–"
SATURATED = 0.5
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
    """What every format prints: title, head, rows, units, numbered footnotes and remarks."""

    name: str
    title: str
    head: tuple[str, ...]
    rows: tuple[Row, ...]
    units: str
    notes: tuple[str, ...]
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Column:
    """A metric, its head, and how it is pooled and judged."""

    metric: str
    head: str
    best: bool = False
    percent: bool = False
    lowest: bool = False
    always: bool = False
    decimals: int | None = None


def number(value: float, decimals: int) -> str:
    """A number with fixed decimals and a true minus, never a negative zero.

    Example:
        >>> number(-0.001, 2)
        '0.00'
    """
    text = f"{value:.{decimals}f}"
    return f"{0:.{decimals}f}" if float(text) == 0 else text.replace("-", "−")


def shared_decimals(column: Column, statistics: Iterable[Statistic | None]) -> int:
    """Decimals that suit every mean of a column."""
    if column.decimals is not None:
        return column.decimals
    largest = max((abs(s.mean) for s in statistics if s is not None), default=0.0)
    if column.metric in ("ll", "elbo"):
        return 3 if largest < 10 else 2 if largest < 100 else 1
    return 3 if largest < 0.1 else 2 if largest < 100 else 1


def pooled(group: Group, column: Column) -> Statistic | None:
    """A column's statistic over a group's complete runs."""
    if column.metric == "slope_log10":
        slopes = [_slope(record) for record in group.used]
        found = [slope for slope in slopes if slope is not None]
        return Statistic(min(found), None, 0.0, len(found), min(found)) if found else None
    return group.statistic(column.metric)


def _slope(record: Record) -> float | None:
    """log10 of the smallest slope measured; below float32's resolution, that resolution."""
    names = ("min_singular_value", "min_secant")
    found = [record.metrics[n] for n in names if finite(record.metrics.get(n))]
    return max(math.log10(max(min(found), 1e-300)), FLOAT32_LOG10) if found else None


def filled(column: Column, statistic: Statistic | None, decimals: int, mark: str) -> Cell:
    """A statistic as a cell, a dash where there is none."""
    if statistic is None:
        return Cell()
    factor = 100.0 if column.percent else 1.0
    if column.lowest:
        return Cell(number(statistic.lowest, decimals), mark=mark)
    sd = "" if statistic.sd is None else number(factor * statistic.sd, decimals)
    return Cell(number(factor * statistic.mean, decimals), sd, mark=mark)


def best_rows(column: Column, statistics: list[Statistic | None]) -> set[int]:
    """Rows with the highest mean, and those within two standard errors of it."""
    found = {i: s for i, s in enumerate(statistics) if s is not None}
    if not column.best or len(found) < 2:
        return set()
    top = max(found.values(), key=lambda s: s.mean)
    return {
        i
        for i, s in found.items()
        if s is top or top.mean - s.mean <= NEAR * math.hypot(top.se, s.se)
    }


def marked(column: Column, group: Group, statistic: Statistic | None) -> str:
    """The mark of a cell that cannot be taken at its face value."""
    if column.metric in ("mi/w", "mi/z") and any(
        r.metrics.get(column.metric, -math.inf) > r.metrics.get("log_n", math.inf) - SATURATED
        for r in group.used
    ):
        return "†"
    below = statistic is not None and statistic.lowest <= FLOAT32_LOG10
    return "‡" if column.lowest and below else ""


MARKS = {
    "†": "† within 0.5 of log N, where the estimate saturates: a lower bound.",
    "‡": "‡ at or below float32's resolution (log10 −6.9): identifiable on paper at most.",
}
