"""Line plots: training by epoch, and quantities by a numeric setting."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lidcli.metrics.quantities import QUANTITIES
from lidcli.metrics.quantity import Quantity
from lidcli.report.facts import StoredFacts
from lidcli.report.figures.style import GREY, MARKERS, Sketch, colours, legend, new
from lidcli.report.groups import Block, Group

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["by_key", "by_key_sketches", "curves", "curves_sketches", "trends"]

Array = npt.NDArray[np.floating[Any]]
Line = tuple[Array, Array]
STYLES = ("-", "--", ":", "-.")
THIN = 50
"""Of a group of more runs, so many have a line."""
IN_USE = ("au", "active")
"""What is drawn of the units though more of it is not better."""
MOST = 4
"""Panels beside each other."""


class _Panel(NamedTuple):
    """A quantity of which some run has a curve."""

    quantity: Quantity
    title: str
    valid: str
    train: str


def curves_sketches(block: Block, shown: Any) -> Iterator[Sketch]:
    """The course of training, where runs have one."""
    if _panels(block):
        most = max(len(group.records) for group in block.groups)
        some = f" (of the first {THIN} of a group)" if most > THIN else ""
        yield Sketch(
            "curves",
            f"{block.data}: validation by epoch; one thin line a run{some}, thick the mean of all.",
            partial(curves, block),
        )


def curves(block: Block) -> Figure:
    """Each quantity by epoch of which some run has a curve: validation solid, training dotted.

    Args:
        block: of whose runs one at least has a curve.
    """
    from matplotlib.ticker import MaxNLocator

    panels = _panels(block)
    columns = len(panels) if len(panels) < 4 else 2
    rows = -(-len(panels) // columns)
    figure, grid = new(columns, rows, 3.7 if columns < 3 else 2.7, 2.5)
    places = [axes for row in grid for axes in row]
    for axes in places[len(panels) :]:
        axes.remove()
    for axes, panel in zip(places, panels, strict=False):
        _courses(axes, block, panel)
    for axes in places[max(0, len(panels) - columns) : len(panels)]:
        axes.set_xlabel("epoch")
    for axes in places[: len(panels)]:
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    legend(figure, places[: len(panels)], 3)
    return figure


def _panels(block: Block) -> list[_Panel]:
    """Quantities whose course over training some run has; the joint KL where no other is."""
    held: set[str] = set()
    for record in block.records:
        held |= {name for name in record.curves.keys() - held if _line(record.curves, name)}
    panels = (_panel(quantity, block.facts, held) for quantity in QUANTITIES.values())
    return [panel for panel in panels if panel is not None]


def _panel(quantity: Quantity, facts: StoredFacts, held: set[str]) -> _Panel | None:
    """A quantity's panel, if it is drawn over training and among the curves that are held."""
    if not quantity.curve:
        return None
    name = quantity.name(facts.judged)
    title = quantity.head + (f" of {facts.judged}" if quantity.latent else "")
    if f"valid/{name}" not in held:
        name = f"{quantity.key}/joint"
        title = title if facts.judged == facts.symbol else f"joint {quantity.head}"
    if f"valid/{name}" not in held:
        return None
    unit = " (nats)" if quantity.unit else ""
    train = f"train/{name}" if f"train/{name}" in held else ""
    dotted = " (dotted: training)" if train else ""
    return _Panel(quantity, f"{title}{unit}{dotted}", f"valid/{name}", train)


def _courses(axes: Axes, block: Block, panel: _Panel) -> None:
    """One quantity of all runs: their lines thin, the mean of a group thick."""
    shades = dict(zip(block.methods, colours(len(block.methods)), strict=True))
    points = list(dict.fromkeys(group.grid for group in block.groups))
    lowest = []
    for group in block.groups:
        line: dict[str, Any] = {"color": shades[group.method]}
        line["linestyle"] = STYLES[points.index(group.grid) % len(STYLES)]
        found = [curve for r in group.records if (curve := _line(r.curves, panel.valid))]
        for x, y in found[:THIN]:
            axes.plot(x, y, linewidth=0.5, alpha=0.4, **line)
            lowest.append(float(np.nanpercentile(y, 10)))
        length = min((len(y) for _, y in found), default=0)
        if length:
            mean = np.mean([y[:length] for _, y in found], axis=0)
            axes.plot(found[0][0][:length], mean, linewidth=1.6, label=group.label, **line)
        dotted = line | {"linestyle": (0, (1, 2)), "linewidth": 0.8, "alpha": 0.6}
        for x, y in filter(None, (_line(r.curves, panel.train) for r in group.records[:THIN])):
            axes.plot(x, y, **dotted)
    axes.set_title(panel.title)
    _limits(axes, panel.quantity, lowest)


def _limits(axes: Axes, quantity: Quantity, lowest: list[float]) -> None:
    """Room for a quantity's range; of likelihoods without the first epochs' fall."""
    if quantity.low == 0 and quantity.high == 1:
        axes.set_ylim(-0.03, 1.03)
    elif quantity.likelihood:
        if lowest and axes.get_ylim()[0] < min(lowest):
            axes.set_ylim(bottom=min(lowest))
    else:
        axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))


def _apart(values: list[float]) -> list[float]:
    """Values in order, without those too near the one before for a label of their own."""
    kept = values[:1]
    for value in values[1:]:
        if value - kept[-1] >= 0.12 * (values[-1] - values[0]):
            kept.append(value)
    return kept


def _line(curves: Any, name: str) -> Line | None:
    """A curve against epochs, without the epochs at which it was not measured."""
    if name not in curves or "epoch" not in curves:
        return None
    epoch, y = np.asarray(curves["epoch"], float), np.asarray(curves[name], float)
    if not 0 < len(y) <= len(epoch):
        return None
    step = len(epoch) // len(y)
    x = epoch[step - 1 :: step][: len(y)]
    kept = np.isfinite(y)
    return (x[kept], y[kept]) if kept.any() else None


def by_key_sketches(block: Block, shown: Any) -> Iterator[Sketch]:
    """A figure for each numeric setting of the grid that takes several values."""
    for key in block.keys:
        values = {str(dict(group.grid)[key]) for group in block.groups if group.used}
        numeric = all(_numeric(dict(group.grid)[key]) for group in block.groups)
        if len(values) > 1 and numeric and _drawn(block):
            yield Sketch(
                f"by-{key}",
                f"{block.data} by {key}: mean over seeds, bars of one standard deviation.",
                partial(by_key, block, key),
            )


def _numeric(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _drawn(block: Block) -> list[Quantity]:
    """Of the first table's what some run has: of which one way is better, and what is in use."""
    latent = block.facts.judged
    return [
        q
        for q in QUANTITIES.values()
        if q.table == "fit"
        and (q.better != "none" or q.key in IN_USE)
        and any(g.statistic(q, latent) for g in block.groups)
        and not block.redundant(q)
    ]


def by_key(block: Block, key: str) -> Figure:
    """What is better or worse, and in use, against a grid key, as in figures 1c and 1d."""
    quantities = _drawn(block)
    rows = -(-len(quantities) // MOST)
    figure, grid = new(-(-len(quantities) // rows), rows, 2.7, 2.6)
    places = [axes for row in grid for axes in row]
    for axes, quantity in zip(places, quantities, strict=False):
        trends(axes, block, key, quantity)
    for axes in places[len(quantities) :]:
        figure.delaxes(axes)
    legend(figure, places[: len(quantities)])
    return figure


def trends(axes: Axes, block: Block, key: str, quantity: Quantity) -> None:
    """One quantity against a grid key, a line for each method and rest of the grid."""

    def others(group: Group) -> tuple[tuple[str, Any], ...]:
        return tuple(point for point in group.grid if point[0] != key)

    lines: dict[str, list[Group]] = {}
    for group in block.groups:
        lines.setdefault(Group(group.method, others(group), ()).label, []).append(group)
    shades = colours(len(lines))
    for i, (label, groups) in enumerate(lines.items()):
        style = {"color": shades[i], "marker": MARKERS[i % len(MARKERS)], "label": label}
        _trend(axes, groups, key, quantity, block.facts, style)
    _ceiling(axes, block, quantity)
    axes.set_title(_titled(quantity, block.facts.judged))
    axes.set_xlabel(key)
    _scale(axes, sorted({dict(g.grid)[key] for g in block.groups}))


def _trend(
    axes: Axes,
    groups: Sequence[Group],
    key: str,
    quantity: Quantity,
    facts: StoredFacts,
    style: dict[str, Any],
) -> None:
    """A line with its sds, and dotted above the latent's MI what its Fisher information allows."""
    x, mean, sd = _points(groups, key, quantity, facts.judged)
    if x:
        axes.errorbar(x, mean, sd, markersize=4, capsize=3, **style)
    if quantity.key == "mi" and facts.judged == facts.symbol:
        x, mean, _ = _points(groups, key, QUANTITIES["allowed/mi"], facts.judged)
        said = f"{style['label']}, allowed"
        if x:
            axes.plot(x, mean, color=style["color"], linestyle=":", linewidth=1.2, label=said)


def _points(
    groups: Sequence[Group], key: str, quantity: Quantity, latent: str
) -> tuple[list[float], list[float], list[float]]:
    """Values of a grid key, and a quantity's mean and sd at each that has it."""
    found = [(dict(g.grid)[key], s) for g in groups if (s := g.statistic(quantity, latent))]
    factor = quantity.factor
    return (
        [x for x, _ in found],
        [factor * s.mean for _, s in found],
        [factor * (s.sd or 0.0) for _, s in found],
    )


def _scale(axes: Axes, values: list[float]) -> None:
    """Ticks at the values of a grid key, evenly spaced where they span more than a decade."""
    if values[0] > 0 and values[-1] > 10 * values[0]:
        axes.set_xscale("log")
        axes.minorticks_off()
        axes.set_xticks(values, [f"{value:g}" for value in values])
    else:
        axes.set_xticks(_apart(values))


def _ceiling(axes: Axes, block: Block, quantity: Quantity) -> None:
    """A line at the most that a quantity can be, where that is known."""
    most = block.ceiling(quantity, block.facts.judged)
    if most is None:
        return
    axes.axhline(most.value, color=GREY, linewidth=0.8, linestyle="--")
    axes.annotate(
        most.words,
        (0.98, most.value),
        xycoords=("axes fraction", "data"),
        ha="right",
        va="bottom",
        fontsize=7,
        color="#555555",
    )


def _titled(quantity: Quantity, latent: str) -> str:
    """A quantity's words and its unit."""
    unit = "%" if quantity.factor == 100 else "nats" if quantity.unit else ""
    return f"{quantity.said(latent)} ({unit})" if unit else quantity.said(latent)
