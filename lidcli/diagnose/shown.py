"""A diagnosis in words: at a terminal, and in a notebook."""

from __future__ import annotations

import html
import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lidcli.metrics.quantities import headlines

if TYPE_CHECKING:
    from lidcli.diagnose.advice import Unit
    from lidcli.diagnose.result import Diagnosis

__all__ = ["HEADS", "cells", "figures", "page", "plus_minus", "text"]

WIDTH = 80
SHOWN = 12
"""Units listed one by one at a terminal, those of the largest variance."""
HEADS = ("unit", "variance of mean", "allowed", "KL", "Fisher information")
WIDTHS = (4, 16, 7, 14, 18)
SMALLEST = 5
"""Decimals beyond which powers of ten are written."""
BAR = 5.0
"""Width of a notebook's longest bar, in em."""
FULL = "currentColor"
HATCHED = "repeating-linear-gradient(135deg,currentColor 0 1px,transparent 1px 4px)"
COUNTS = ("au/z", "active/z")
"""Fractions of units, which always have an error: where it is 0, no unit is near the threshold."""


def plus_minus(value: float | None, se: float | None = None) -> str:
    """A value with two digits of its standard error, or three digits of it alone.

    Example:
        >>> plus_minus(0.8813, 0.0283), plus_minus(-1.2e-7, 3e-8), plus_minus(4.0), plus_minus(None)
        ('0.881 ± 0.028', '-1.2e-7 ± 3e-8', '4', '–')
    """
    if value is None:
        return "–"
    if se is None or not 0 < se < math.inf:
        return f"{value:.3g}"
    decimals = max(0, 1 - math.floor(math.log10(se)))
    if decimals > SMALLEST:
        exponent = math.floor(math.log10(max(abs(value), se)))
        digits = min(2, exponent - math.floor(math.log10(se)))
        return f"{_power(value, digits)} ± {_power(se, 0)}"
    return f"{value:.{decimals}f} ± {se:.{decimals}f}"


def _power(value: float, digits: int) -> str:
    """A number by a power of ten, without zeros before it."""
    mantissa, _, exponent = f"{value:.{digits}e}".partition("e")
    return f"{mantissa}e{int(exponent)}"


def figures(found: Diagnosis) -> list[tuple[str, str, str]]:
    """Every figure in words: its name, its value with its standard error, and what it is."""
    return [
        (label.replace(" of z", ""), _value(found, key), _remark(found, key, unit))
        for label, key, unit in headlines(found.scalars)
    ]


def _value(found: Diagnosis, key: str) -> str:
    value, se = found.scalars[key], found.scalars.get(f"{key}_se")
    if se == 0 and key in COUNTS:
        return f"{value:.2f} ± 0"
    return plus_minus(value, se) if se else f"{value:.4g}"


def _remark(found: Diagnosis, key: str, unit: str) -> str:
    if key == "ll":
        return f"{unit}, a lower bound with S = {found.scalars['ll_samples']:.0f}"
    if key in COUNTS:
        return f"{round(found.scalars[key] * len(found.units))} of {len(found.units)}"
    return unit


def cells(unit: Unit) -> tuple[str, ...]:
    """What a table has of a unit, in the order of `HEADS`."""
    return (
        str(unit.index),
        plus_minus(unit.variance, unit.variance_se),
        plus_minus(unit.allowed),
        plus_minus(unit.kl, unit.kl_se),
        plus_minus(unit.fisher),
    )


def text(found: Diagnosis) -> str:
    """For a terminal, at most 80 columns wide."""
    lines = [
        *_wrapped(found.verdict),
        f"{found.scalars['n']:,.0f} data; nats are per datum; ± is the standard error.",
        "",
    ]
    for label, value, remark in figures(found):
        lines.append(f"  {label:<24} {value:>19}  {remark}".rstrip())
    lines += ["", *_table(found.ranked())]
    for said in [*found.advice, *(f"Note: {note}" for note in found.notes)]:
        lines += ["", *_wrapped(said)]
    return "\n".join(lines)


def _table(units: Sequence[Unit]) -> list[str]:
    lines = [_row(HEADS)]
    for unit in units[:SHOWN]:
        lines.append(_row(cells(unit)) + ("" if unit.active else "  collapsed"))
    left = units[SHOWN:]
    if left:
        idle = sum(not unit.active for unit in left)
        lines.append(f"  and {len(left)} more, of lower variance, {idle} of them collapsed")
    return lines


def _row(words: Sequence[str]) -> str:
    """Words that end where their columns do; the next one makes up for one that is too long."""
    line, end = "", 0
    for word, width in zip(words, WIDTHS, strict=True):
        end += 2 + width
        line += "  " + word.rjust(end - len(line) - 2)
    return line


def _wrapped(said: str) -> list[str]:
    return textwrap.wrap(said, WIDTH)


def page(found: Diagnosis) -> str:
    """For a notebook: a verdict, two tables and the advice, without scripts.

    Bars are of the text's own colour, on light and on dark; those of collapsed units are hatched.
    """
    rows = "".join(
        f"<tr>{''.join(f'<td>{html.escape(word)}</td>' for word in row)}</tr>"
        for row in figures(found)
    )
    said = "".join(f"<li>{html.escape(text)}</li>" for text in (*found.advice, *found.notes))
    few = " open" if len(found.units) <= SHOWN else ""
    return (
        f"<p><b>{html.escape(found.verdict)}</b></p><table>{rows}</table>"
        f"<details{few}><summary>{len(found.units)} units</summary>{_units(found.ranked())}"
        f"</details><ul>{said}</ul>"
    )


def _units(units: Sequence[Unit]) -> str:
    """A table with three bars a unit, each over the longest of its column."""
    most = [
        max([value for unit in units if (value := _bars(unit)[k]) is not None], default=0.0)
        for k in range(len(HEADS))
    ]
    head = "".join(f"<th>{word}</th>" for word in (*HEADS, ""))
    body = ""
    for unit in units:
        fill = FULL if unit.active else HATCHED
        bars = (_bar(value, top, fill) for value, top in zip(_bars(unit), most, strict=True))
        body += "<tr>"
        body += "".join(
            f"<td>{word}{bar}</td>" for word, bar in zip(cells(unit), bars, strict=True)
        )
        body += f"<td>{'' if unit.active else 'collapsed'}</td></tr>"
    return f"<table><tr>{head}</tr>{body}</table>"


def _bars(unit: Unit) -> tuple[float | None, ...]:
    return (None, unit.variance, None, unit.kl, unit.fisher)


def _bar(value: float | None, most: float, fill: str) -> str:
    if value is None or not 0 < value <= most < math.inf:
        return ""
    shape = f"width:{BAR * value / most:.2f}em;height:.6em;margin-left:auto;opacity:.6"
    return f'<div style="{shape};background:{fill}"></div>'
