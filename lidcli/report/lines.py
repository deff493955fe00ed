"""Line plots: training by epoch, and metrics by a numeric setting."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lidcli.report.canvas import COLOURS, MARKERS, new
from lidcli.report.groups import Block, Group

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["by_key", "curves"]

Array = npt.NDArray[np.floating[Any]]


def curves(block: Block) -> Figure:
    """ELBO, KL, MI and AU by epoch: validation solid, training dotted."""
    unit = block.judged
    panels = [
        ("ELBO (nats)", "valid/elbo", "train/elbo"),
        (f"KL of {unit} (nats)", f"valid/kl/{unit}", ""),
        (f"MI of {unit} (nats)", f"valid/mi/{unit}", ""),
        (f"AU of {unit}", f"valid/au/{unit}", ""),
    ]
    figure, grid = new(2, 2, 3.7, 2.5)
    styles = ["-", "--", ":", "-."]
    points = list(dict.fromkeys(group.grid for group in block.groups))
    for axes, (title, valid, train) in zip((a for row in grid for a in row), panels, strict=True):
        lowest = []
        for group in block.groups:
            colour = COLOURS[block.methods.index(group.method) % len(COLOURS)]
            line = styles[points.index(group.grid) % len(styles)]
            lines = [curve for r in group.records if (curve := _line(r.curves, valid))]
            for x, y in lines:
                axes.plot(x, y, color=colour, linewidth=0.5, alpha=0.4, linestyle=line)
                lowest.append(np.nanpercentile(y, 10))
            length = min((len(y) for _, y in lines), default=0)
            if length:
                mean = np.mean([y[:length] for _, y in lines], axis=0)
                x = lines[0][0][:length]
                axes.plot(x, mean, color=colour, linewidth=1.6, linestyle=line, label=group.label)
            for x, y in (c for r in group.records if train and (c := _line(r.curves, train))):
                axes.plot(x, y, color=colour, linewidth=0.8, alpha=0.6, linestyle=(0, (1, 2)))
        axes.set_title(title + (" (dotted: training)" if train else ""))
        if valid == "valid/elbo" and lowest and axes.get_ylim()[0] < min(lowest):
            axes.set_ylim(bottom=float(min(lowest)))
        if valid.startswith(("valid/kl", "valid/mi")):
            axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
        if valid.startswith("valid/au"):
            axes.set_ylim(-0.03, 1.03)
    for axes in grid[1]:
        axes.set_xlabel("epoch")
    handles, labels = grid[0][0].get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 3))
    return figure


def _line(curves: Any, name: str) -> tuple[Array, Array] | None:
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


def by_key(block: Block, key: str) -> Figure:
    """LL, MI and accuracy against a grid key, as in the paper's figures 1c and 1d."""
    unit = block.judged
    metrics: list[tuple[str, str, float]] = [
        ("LL (nats)", "ll", 1.0),
        (f"MI of {unit} (nats)", f"mi/{unit}", 1.0),
        ("accuracy (%)", "accuracy", 100.0),
    ]
    panels = [m for m in metrics if any(g.statistic(m[1]) for g in block.groups)]
    figure, grid = new(max(len(panels), 1), 1, 2.7, 2.6)

    def others(group: Group) -> tuple[tuple[str, Any], ...]:
        return tuple(point for point in group.grid if point[0] != key)

    for axes, (title, name, factor) in zip(grid[0], panels, strict=False):
        lines: dict[tuple[Any, ...], list[Group]] = {}
        for group in block.groups:
            lines.setdefault((group.method, *map(str, others(group))), []).append(group)
        for i, groups in enumerate(lines.values()):
            points = [(dict(g.grid)[key], s) for g in groups if (s := g.statistic(name))]
            if not points:
                continue
            label = Group(groups[0].method, others(groups[0]), ()).label
            axes.errorbar(
                [x for x, _ in points],
                [factor * s.mean for _, s in points],
                [factor * (s.sd or 0.0) for _, s in points],
                color=COLOURS[i % len(COLOURS)],
                marker=MARKERS[i % len(MARKERS)],
                markersize=4,
                capsize=3,
                label=label,
            )
        if name == "ll" and block.entropy is not None:
            axes.axhline(-block.entropy, color="#777777", linewidth=0.8, linestyle="--")
            axes.annotate(
                "−entropy of the data",
                (0.98, -block.entropy),
                xycoords=("axes fraction", "data"),
                ha="right",
                va="bottom",
                fontsize=7,
                color="#555555",
            )
        if name == "mi/c" and block.categories:
            axes.axhline(math.log(block.categories), color="#777777", linewidth=0.8, linestyle="--")
        axes.set_title(title)
        axes.set_xlabel(key)
        ticks = sorted({dict(g.grid)[key] for g in block.groups})
        axes.set_xticks(ticks if len(ticks) < 8 else ticks[:: len(ticks) // 6])
    handles, labels = grid[0][0].get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 4))
    return figure
