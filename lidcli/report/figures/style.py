"""What every drawing shares: palette, markers, fonts, an empty figure and its legend."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "COLOURS",
    "GREY",
    "MARKERS",
    "STYLE",
    "Sketch",
    "colours",
    "legend",
    "new",
    "palette",
]

COLOURS = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#D55E00",
    "#332288",
    "#999933",
    "#882255",
    "#777777",
)
"""Okabe and Ito's palette, lengthened by Tol's."""
GREY = COLOURS[-1]
MARKERS = "os^DvP*X<>"
STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "pdf.fonttype": 42,
    "text.usetex": False,
    "text.parse_math": False,
}


class Sketch(NamedTuple):
    """A figure not yet made: name, caption, maker, and whether another figure shows it too."""

    name: str
    caption: str
    make: Callable[[], Figure]
    part: bool = False


def colours(count: int) -> tuple[str, ...]:
    """As many colours as are asked for, no two the same.

    Args:
        count: how many; up to ten are the palette, more are steps of a continuous colour map.

    Example:
        >>> colours(2)
        ('#0072B2', '#E69F00')
        >>> len(set(colours(50)))
        50
    """
    if count <= len(COLOURS):
        return COLOURS[:count]
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    return tuple(to_hex(colour) for colour in colormaps["turbo"](np.linspace(0.03, 0.97, count)))


def palette(values: Iterable[int]) -> Mapping[int, tuple[str, str]]:
    """Colour and marker of each category; a category below ten has that of its number.

    Args:
        values: every category that a figure shows.

    Example:
        >>> palette([3, 1])[1]
        ('#E69F00', 's')
    """
    found = sorted(set(values))
    if all(0 <= value < len(COLOURS) for value in found):
        return {value: (COLOURS[value], MARKERS[value]) for value in found}
    shades = colours(len(found))
    return {value: (shades[i], MARKERS[i % len(MARKERS)]) for i, value in enumerate(found)}


def new(columns: int, rows: int, width: float, height: float) -> tuple[Figure, list[list[Axes]]]:
    """An empty figure of so many columns and rows of axes, each width by height inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, columns, squeeze=False)
    return figure, [list(row) for row in grid]


def legend(figure: Figure, axes: Iterable[Axes], columns: int = 4) -> None:
    """What is labelled on some axes, each label once, below it, in as many columns as fit."""
    labelled: dict[str, Any] = {}
    for one in axes:
        for handle, label in zip(*one.get_legend_handles_labels(), strict=True):
            labelled.setdefault(label, handle)
    place = {"handles": list(labelled.values()), "labels": list(labelled)}
    for number in range(min(len(labelled), columns), 0, -1):
        made = figure.legend(**place, loc="outside lower center", ncols=number)
        if number == 1 or made.get_window_extent().width <= figure.bbox.width:
            return
        made.remove()
