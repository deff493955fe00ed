"""What Fisher information allows a latent, beside what was measured of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lidcli.report.collect import Record
from lidcli.report.figures.style import GREY, MARKERS, Sketch, colours, legend, new

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from lidcli.report.collect import Array

__all__ = ["Point", "allowance", "allowance_sketches", "informations", "variances"]

SHOWN = 1e-6
"""Values below it are drawn at it."""
WIDE = 100
"""Ratio of largest to smallest value from which axes are logarithmic."""


class Point(NamedTuple):
    """A unit, or a run: what its model's Fisher information allows, and what was measured."""

    method: str
    allowed: float
    measured: float

    @property
    def beyond(self) -> bool:
        """Whether more was measured than is allowed, beyond the rounding of what is stored."""
        return self.measured > self.allowed * (1 + SHOWN) + SHOWN


def allowance_sketches(records: Sequence[Record]) -> Iterator[Sketch]:
    """Allowance against measurement, where runs hold both."""
    units, runs = variances(records), informations(records)
    if units:
        above = sum(unit.beyond for unit in units)
        over = sum(run.beyond for run in runs)
        yield Sketch(
            "allowance",
            "What the decoder's Fisher information allows, against what was measured: variance of"
            f" each unit's posterior mean ({above} of {len(units)} above the line of equality), and"
            f" MI of each run ({over} of {len(runs)} above it). An allowance holds for data from"
            f" the model under its exact posterior; values below {SHOWN:g} lie at the edge.",
            partial(allowance, units, runs),
        )


def variances(records: Sequence[Record]) -> list[Point]:
    """Allowed and measured variance of the posterior mean, every unit of every run that has both.

    Args:
        records: of any experiments.
    """
    out = []
    for record in records:
        symbol = record.facts.symbol
        allowed: list[float] = []
        while (name := f"allowed/variance/{symbol}/{len(allowed) + 1}") in record.metrics:
            allowed.append(record.metrics[name])
        held = _held(record, f"{symbol}_variance") if allowed else None
        if held is not None and held.shape == (len(allowed),):
            out += [Point(record.method, a, float(m)) for a, m in zip(allowed, held, strict=True)]
    return out


def _held(record: Record, name: str) -> Array | None:
    """An array of a record, of finite numbers; its file is read only where it is no small one."""
    if name not in record.few:
        return record.arrays().get(name) if name in record.held else None
    return record.few[name] if np.isfinite(record.few[name]).all() else None


def informations(records: Sequence[Record]) -> list[Point]:
    """Allowed and measured MI of the latent that the decoder sees, of every run that has both.

    Args:
        records: of any experiments.
    """
    pairs = ((r, r.metrics.get(f"mi/{r.facts.symbol}")) for r in records)
    return [
        Point(r.method, r.metrics["allowed/mi"], mi)
        for r, mi in pairs
        if mi is not None and "allowed/mi" in r.metrics
    ]


def allowance(units: Sequence[Point], runs: Sequence[Point]) -> Figure:
    """Two panels with a line of equality: variances by unit, information by run.

    Args:
        units: from `variances`.
        runs: from `informations`.
    """
    figure, grid = new(2 if runs else 1, 1, 3.9, 3.6)
    methods = list(dict.fromkeys(point.method for point in (*units, *runs)))
    panels = [(units, "variance of a unit's posterior mean"), (runs, "MI of a run, nats")]
    for axes, (points, words) in zip(grid[0], panels, strict=False):
        _scattered(axes, points, methods)
        axes.set_title(words)
        axes.set_xlabel("allowed by the Fisher information")
    grid[0][0].set_ylabel("measured")
    legend(figure, grid[0])
    return figure


def _scattered(axes: Axes, points: Sequence[Point], methods: Sequence[str]) -> None:
    from matplotlib.ticker import LogLocator

    shades = colours(len(methods))
    for i, method in enumerate(methods):
        own = [point for point in points if point.method == method]
        axes.plot(
            [max(point.allowed, SHOWN) for point in own],
            [max(point.measured, SHOWN) for point in own],
            linestyle="",
            marker=MARKERS[i % len(MARKERS)],
            markersize=5,
            color=shades[i],
            alpha=0.7,
            label=method if own else None,
        )
    values = np.array([max(v, SHOWN) for point in points for v in point[1:]])
    ends = [values.min(), values.max()]
    axes.plot(ends, ends, color=GREY, linewidth=1, label="equality")
    if values.max() < WIDE * values.min():
        return
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(numticks=5))
        axis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.set_minor_formatter(lambda value, _: "")
