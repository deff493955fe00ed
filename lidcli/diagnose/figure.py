"""The units of a diagnosis, drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lidcli.metrics.quantity import ACTIVE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    from lidcli.diagnose.advice import Unit

__all__ = ["bars"]

BLUE, ORANGE = "#0072b2", "#d55e00"
HATCH: dict[str, Any] = {"hatch": "////", "facecolor": "none", "edgecolor": ORANGE, "linewidth": 0}
"""Behind collapsed units, whose bars may be too low to be seen; told without colour too."""
COLLAPSED = 0.05
"""Nats that the axis of the KL shows at least."""
NUMBERED = 40
"""Units whose numbers stand below their bars."""


def bars(units: Sequence[Unit], title: str) -> Figure:
    """Variance of the posterior mean, KL and Fisher information of every unit.

    Args:
        units: in the order in which they are drawn.
        title: above them.

    Returns:
        Panels for what is known; variances with their standard errors and what is allowed.

    Example:
        >>> from lidcli.diagnose.advice import Unit
        >>> [axes.get_ylabel() for axes in bars([Unit(1, 0.5, kl=0.7)], "").axes]
        ['variance of mean', 'KL (nats)']
    """
    from matplotlib.figure import Figure

    known: list[tuple[str, float, list[float | None]]] = [
        ("variance of mean", 5 * ACTIVE, [unit.variance for unit in units]),
        ("KL (nats)", COLLAPSED, [unit.kl for unit in units]),
        ("Fisher information", 5 * ACTIVE, [unit.fisher for unit in units]),
    ]
    panels = [panel for panel in known if any(value is not None for value in panel[2])]
    width = min(12.0, max(4.5, 2.0 + 0.22 * len(units)))
    figure = Figure(figsize=(width, 0.9 + 1.6 * len(panels)), layout="constrained")
    grid = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (label, _, values) in zip(grid, panels, strict=True):
        _panel(axes, units, [math.nan if value is None else value for value in values])
        axes.set_ylabel(label)
    _limits(grid[0], units)
    for axes, (_, least, _) in zip(grid, panels, strict=True):
        axes.set_ylim(top=max(least, axes.get_ylim()[1]))
    _numbers(grid[-1], units)
    handles = [*grid[0].get_legend_handles_labels()[0], *_patches(units)]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    figure.suptitle(title, fontsize="medium", wrap=True)
    return figure


def _panel(axes: Axes, units: Sequence[Unit], values: Sequence[float]) -> None:
    colours = [BLUE if unit.active else ORANGE for unit in units]
    axes.bar(range(len(units)), values, width=0.8, color=colours)
    for k, unit in enumerate(units):
        if not unit.active:
            axes.axvspan(k - 0.5, k + 0.5, **HATCH, alpha=0.3, zorder=0)
    axes.axhline(0, color="black", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)


def _patches(units: Sequence[Unit]) -> list[Patch]:
    """What the legend shows of active and of collapsed units, where there are such."""
    from matplotlib.patches import Patch

    found = []
    if any(unit.active for unit in units):
        found.append(Patch(color=BLUE, label="active"))
    if not all(unit.active for unit in units):
        found.append(Patch(**HATCH, label="collapsed"))
    return found


def _limits(axes: Axes, units: Sequence[Unit]) -> None:
    """Standard errors of the variances, the threshold, and what is allowed."""
    place = range(len(units))
    errors = [unit.variance_se or 0.0 for unit in units]
    axes.errorbar(
        place, [unit.variance for unit in units], errors, fmt="none", ecolor="black", elinewidth=0.8
    )
    axes.axhline(ACTIVE, color="black", linestyle=":", linewidth=1, label=f"active from {ACTIVE}")
    allowed = [unit.allowed for unit in units if unit.allowed is not None]
    if len(allowed) == len(units):
        style: dict[str, Any] = {"marker": "D", "linestyle": "none", "markerfacecolor": "white"}
        axes.plot(place, allowed, **style, color="black", markersize=3.5, label="allowed")


def _numbers(axes: Axes, units: Sequence[Unit]) -> None:
    axes.set_xlabel("unit")
    axes.set_xlim(-0.6 - 1 / len(units), len(units) - 0.4 + 1 / len(units))
    if len(units) <= NUMBERED:
        axes.set_xticks(range(len(units)), [str(unit.index) for unit in units], fontsize=8)
    else:
        axes.set_xticks([])
        axes.set_xlabel(f"{len(units)} units, by variance")
