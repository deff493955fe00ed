"""What every drawing shares: palette, markers and an empty figure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["COLOURS", "MARKERS", "new"]

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
MARKERS = "os^DvP*X<>"


def new(columns: int, rows: int, width: float, height: float) -> tuple[Figure, list[list[Axes]]]:
    """An empty figure of so many columns and rows of axes, each width by height inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, columns, squeeze=False)
    return figure, [list(row) for row in grid]
