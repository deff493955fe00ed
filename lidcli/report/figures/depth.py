"""Decoders by depth: what collapses as they deepen, in lines and in pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from lidcli.metrics.quantities import QUANTITIES
from lidcli.metrics.quantity import Quantity
from lidcli.report.claims import DEPTH, Pair, pairs
from lidcli.report.figures.latents import SEED, Shown, picture_row
from lidcli.report.figures.style import MARKERS, Sketch, colours, legend, new
from lidcli.report.groups import Block, Group

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["depth", "depth_sketches", "glance", "glance_sketches"]

Curve: TypeAlias = "np.ndarray[Any, np.dtype[np.float64]]"

DRAWN = ("au", "active", "mi", "ll")
LINES = ("-", "--", ":", "-.")
IMAGES = 10


def depth_sketches(block: Block, shown: Shown) -> Iterator[Sketch]:
    """AU, active dimensions, MI and LL against layers, where several depths were measured."""
    depths = {dict(group.grid)[DEPTH] for group in block.groups if group.used and _single(block)}
    if len(depths) > 1 and _drawn(block):
        yield Sketch(
            "depth",
            f"{block.data} by layers of the decoder: mean over seeds, bands of one standard"
            " deviation.",
            partial(depth, block),
        )


def _single(block: Block) -> bool:
    return block.keys == (DEPTH,)


def _drawn(block: Block) -> list[Quantity]:
    latent = block.facts.judged
    own = [QUANTITIES[key] for key in DRAWN]
    return [q for q in own if any(g.statistic(q, latent) for g in block.groups)]


def depth(block: Block) -> Figure:
    """A panel a quantity, a line a method, in a band of one sd over seeds.

    Args:
        block: whose grid is the layers of the decoder.
    """
    quantities = _drawn(block)
    figure, grid = new(len(quantities), 1, 3.0, 2.8)
    for axes, quantity in zip(grid[0], quantities, strict=True):
        _lines(axes, block, quantity, block.methods)
    legend(figure, grid[0])
    return figure


def _lines(axes: Axes, block: Block, quantity: Quantity, methods: Sequence[str]) -> None:
    shades = colours(len(block.methods))
    for method in methods:
        i = block.methods.index(method)
        x, mean, sd = _curve(block, quantity, method)
        if not len(x):
            continue
        axes.fill_between(x, mean - sd, mean + sd, color=shades[i], alpha=0.2, linewidth=0)
        axes.plot(
            x,
            mean,
            color=shades[i],
            linestyle=LINES[i % len(LINES)],
            marker=MARKERS[i % len(MARKERS)],
            markersize=5,
            label=method,
        )
    unit = " (nats)" if quantity.unit else ""
    axes.set_title(f"{quantity.said(block.facts.judged)}{unit}")
    axes.set_xlabel("layers of the decoder")
    axes.set_xticks(sorted({dict(group.grid)[DEPTH] for group in block.groups}))
    if quantity.low == 0 and quantity.high == 1:
        axes.set_ylim(-0.05, 1.08)


def _curve(block: Block, quantity: Quantity, method: str) -> tuple[Curve, Curve, Curve]:
    """Layers, and mean and sd over seeds at each."""
    found = [
        (dict(group.grid)[DEPTH], statistic)
        for group in block.groups
        if group.method == method
        and (statistic := group.statistic(quantity, block.facts.judged)) is not None
    ]
    x = np.array([layers for layers, _ in found], float)
    mean = quantity.factor * np.array([s.mean for _, s in found])
    return x, mean, quantity.factor * np.array([s.sd or 0.0 for _, s in found])


def glance_sketches(block: Block, shown: Shown) -> Iterator[Sketch]:
    """The answer as one picture: AU and LL by depth, and images of the deepest decoders."""
    found = pairs(block) if _single(block) else []
    if len(found) < 2:
        return
    deepest = found[-1]
    held = {id(group): arrays for group, arrays in shown}
    rows = [
        (group, held[id(group)])
        for group in (deepest.classical, deepest.identifiable)
        if "reconstructions" in held.get(id(group), {})
    ]
    images = (
        ""
        if len(rows) < 2
        else (f"; test images above what the decoders of {deepest.words} make of them ({SEED})")
    )
    yield Sketch(
        "glance",
        f"{block.data}: {deepest.classical.method} and {deepest.identifiable.method} by layers of"
        f" the decoder, means over seeds in bands of one standard deviation{images}.",
        partial(glance, block, deepest, rows),
    )


def glance(block: Block, pair: Pair, shown: Shown) -> Figure:
    """AU and LL of the classical and the identifiable model, and what they make of test images.

    Args:
        block: whose grid is the layers of the decoder.
        pair: the deepest models.
        shown: those of the two that left reconstructions, with their arrays.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    pictured = len(shown) == 2
    figure = Figure(figsize=(9.6 if pictured else 6.2, 3.1), layout="constrained")
    FigureCanvasAgg(figure)
    places = figure.add_gridspec(3, 3, width_ratios=(1, 1, 1.3 if pictured else 0.01))
    axes = [figure.add_subplot(places[:, i]) for i in (0, 1)]
    methods = (pair.classical.method, pair.identifiable.method)
    for one, key in zip(axes, ("au", "ll"), strict=True):
        _lines(one, block, QUANTITIES[key], methods)
    axes[0].legend(loc="center right", fontsize=9)
    if pictured:
        panels = [figure.add_subplot(places[i, 2]) for i in range(3)]
        _strip(panels[0], "test images", shown[0][1]["originals"], shown[0][0])
        for panel, (group, arrays) in zip(panels[1:], shown, strict=True):
            au = group.statistic(QUANTITIES["au"], block.facts.judged)
            said = f", AU {au.mean:.2f}" if au is not None else ""
            title = f"rebuilt by {group.method}, {pair.words}{said}"
            _strip(panel, title, arrays["reconstructions"], group)
    return figure


def _strip(axes: Axes, title: str, images: np.ndarray, group: Group) -> None:
    axes.imshow(
        picture_row(group, images[:IMAGES]), cmap="gray_r", vmin=0, vmax=1, interpolation="nearest"
    )
    axes.set_title(title, loc="left")
    axes.set_axis_off()
