"""Theorem 1 as a plot: the likelihood's variation against the KL, unit by unit."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lidcli.report.collect import Record
from lidcli.report.figures.style import GREY, MARKERS, Sketch, colours, new

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Unit", "rank_correlation", "theorem1", "theorem1_sketches", "units"]

FLOOR = 3.0
"""Standard errors below which a variation or a KL is nothing but noise."""
SMALLEST = 1e-3
"""A KL in nats, and a variation in squared nats, below which a unit counts as collapsed."""


class Unit(NamedTuple):
    """One unit of one run: zero where a value is below its noise floor."""

    run: str
    method: str
    name: str
    kl: float
    variation: float


def theorem1_sketches(records: Sequence[Record]) -> Iterator[Sketch]:
    """The plot of Theorem 1, where there are units enough to rank."""
    found = units(records)
    if len(found) >= 4 and math.isfinite(rank_correlation(found)):
        yield Sketch(
            "theorem1",
            "Theorem 1 as a measurement: variance of log p(x | unit) over the prior against"
            " KL(posterior ‖ prior), one mark a unit of a run; what is below the noise floor"
            " lies on the axes. The line is the exact relation of a maximum-likelihood PPCA."
            f" Rank correlation {rank_correlation(found):.3f} over {len(found)} units.",
            partial(theorem1, found),
        )


def units(records: Sequence[Record]) -> list[Unit]:
    """KL and likelihood variation of every unit of every run that has them.

    Args:
        records: of any experiments. The weight α of a mixture is left out: it is a latent of
            the whole data set, in whose nats it is measured; so is all latents' joint value.

    Returns:
        Both zero where they are within three standard errors of it or below 1e-3.
    """
    out = []
    for record in records:
        for key, kl in record.metrics.items():
            name = key.removeprefix("kl_unit/")
            if name == key or key.endswith("_se") or name in ("alpha", "joint"):
                continue
            if f"variation/{name}" not in record.metrics:
                continue
            variation = record.metrics[f"variation/{name}"]
            floors = [
                max(SMALLEST, FLOOR * record.metrics.get(f"{what}/{name}_se", 0.0))
                for what in ("kl_unit", "variation")
            ]
            out.append(
                Unit(
                    record.run_id,
                    record.method,
                    name,
                    kl if kl > floors[0] else 0.0,
                    variation if variation > floors[1] else 0.0,
                )
            )
    return out


def rank_correlation(found: Sequence[Unit]) -> float:
    """Spearman's correlation of KL and variation over units, ties at their mean rank.

    Args:
        found: from `units`.

    Example:
        >>> both = [Unit("a", "ppca", "z/1", float(i), float(i**3)) for i in range(5)]
        >>> round(rank_correlation(both), 6)
        1.0
    """
    from scipy.stats import rankdata

    ranks = [rankdata([u.kl for u in found]), rankdata([u.variation for u in found])]
    if min(np.ptp(r) for r in ranks) == 0:
        return math.nan
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def theorem1(found: Sequence[Unit]) -> Figure:
    """Variation against KL, a mark for each unit, beside the exact relation of a PPCA.

    Args:
        found: from `units`, at least one.
    """
    figure, grid = new(1, 1, 5.2, 3.9)
    axes = grid[0][0]
    kinds = list(dict.fromkeys((u.method, u.name.partition("/")[0]) for u in found))
    shades = colours(len(kinds))
    for i, (method, symbol) in enumerate(kinds):
        own = [u for u in found if (u.method, u.name.partition("/")[0]) == (method, symbol)]
        axes.plot(
            [max(u.kl, SMALLEST / 2) for u in own],
            [max(u.variation, SMALLEST / 2) for u in own],
            linestyle="",
            marker=MARKERS[i % len(MARKERS)],
            markersize=5,
            color=shades[i],
            alpha=0.8,
            label=f"{method}, {symbol}",
        )
    kl = np.geomspace(SMALLEST / 2, max(1e-2, *(u.kl for u in found)), 200)
    above = np.expm1(2 * kl)
    exact = (1 + above) * above + 0.5 * above**2
    shown = exact <= 2 * max(SMALLEST, *(u.variation for u in found))
    axes.plot(kl[shown], exact[shown], color=GREY, linewidth=1, label="PPCA, exact")
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.set_minor_formatter(lambda value, _: "")
    axes.set_xlabel("KL(posterior ‖ prior) of the unit, nats per datum")
    axes.set_ylabel("variance of log p(x | unit), nats²")
    axes.set_title(f"rank correlation {rank_correlation(found):.3f} over {len(found)} units")
    axes.legend(fontsize=8)
    return figure
