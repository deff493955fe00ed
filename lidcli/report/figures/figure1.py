"""The paper's Figure 1: categories of points under two models, and images by the layers' number."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

from lidcli.metrics.quantities import QUANTITIES
from lidcli.metrics.quantity import Quantity
from lidcli.report.claims import DEPTH, pairs
from lidcli.report.collect import Record
from lidcli.report.figures.curves import trends
from lidcli.report.figures.latents import SEED, Array, category_panel
from lidcli.report.figures.style import Sketch, colours, legend, new
from lidcli.report.groups import Block, Group, blocks
from lidcli.report.paper import alias, paper_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["figure1", "figure1_sketches"]

Held = tuple[Group, dict[str, Array]]


def figure1_sketches(records: Sequence[Record]) -> Iterator[Sketch]:
    """Figure 1, where both models were fitted to points and, at several depths, to images.

    Args:
        records: complete runs of one experiment whose latent has a category.
    """
    found = blocks(records)
    points = [(block.data, held) for block in found if (held := _points(block)) is not None]
    images = [block for block in found if _by_depth(block)]
    if points and images:
        data, held = points[0]
        yield Sketch(
            "figure1",
            f"The paper's Figure 1. a, b: test points of {data} by the likeliest category of each"
            f" model ({SEED}). c, d: {images[0].data} by layers of the decoder, mean over seeds"
            " with bars of one standard deviation; crosses are the paper's LL of its Table 1,"
            " which is another bound than ours.",
            partial(figure1, held, images[0]),
        )


def _points(block: Block) -> tuple[Held, Held] | None:
    """The classical and the identifiable model of points in the plane, with their arrays."""
    for pair in pairs(block) if block.facts.data_form == "points" else []:
        held = (_held(pair.classical), _held(pair.identifiable))
        if all({"x", "category"} <= set(arrays) for _, arrays in held):
            return held
    return None


def _held(group: Group) -> Held:
    record = group.representative
    return group, record.arrays() if record is not None else {}


def _by_depth(block: Block) -> bool:
    """Whether a block is of images, and both models were measured at several depths."""
    image = block.facts.data_form == "image" and block.facts.judged == "c"
    return image and block.keys == (DEPTH,) and len(pairs(block)) > 1


def figure1(points: tuple[Held, Held], images: Block) -> Figure:
    """Four panels: points by category under either model, and accuracy and LL by layers.

    Args:
        points: the classical and the identifiable model of points, each with its arrays.
        images: whose grid is the layers of the decoder.
    """
    figure, grid = new(4, 1, 2.7, 2.8)
    panels = grid[0]
    for letter, axes, (group, arrays) in zip("ab", panels, points, strict=False):
        category_panel(axes, group, arrays)
        _name(axes, letter, group.label)
    shown = (QUANTITIES["accuracy"], QUANTITIES["ll"])
    for letter, axes, quantity in zip("cd", panels[2:], shown, strict=True):
        trends(axes, images, DEPTH, quantity)
        _name(axes, letter, axes.get_title())
        axes.set_xlabel("layers of the decoder")
    _papers(panels[3], images, shown[1])
    legend(figure, panels[2:])
    return figure


def _name(axes: Axes, letter: str, title: str) -> None:
    """Letter and title at the left, and no other."""
    axes.set_title("")
    axes.set_title(f"{letter}  {title}", loc="left")


def _papers(axes: Axes, block: Block, quantity: Quantity) -> None:
    """What the paper prints of the same methods at its depth."""
    paper = paper_table(block.data, block.facts.judged)
    if paper is None or DEPTH not in paper.settings:
        return
    for method, shade in zip(block.methods, colours(len(block.methods)), strict=True):
        printed = paper.rows.get(alias(method), {}).get(quantity.key)
        if printed is not None:
            label = f"{method}, the paper's"
            axes.scatter(paper.settings[DEPTH], printed, marker="x", color=shade, label=label)
