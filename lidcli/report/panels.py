"""The drawings themselves: one matplotlib figure from the arrays or curves of runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lidcli.report.groups import Block, Group

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["by_key", "categories", "components", "curves", "images", "matched"]

Array = npt.NDArray[np.floating[Any]]
Shown = Sequence[tuple[Group, dict[str, Array]]]
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


def _new(columns: int, rows: int, width: float, height: float) -> tuple[Figure, list[list[Axes]]]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, columns, squeeze=False)
    return figure, [list(row) for row in grid]


def _scatter(axes: Axes, points: Array, category: Array | None) -> None:
    """Points by category, each with its colour and marker; grey where there is none."""
    groups = [None] if category is None else np.unique(category)
    for value in groups:
        rows = slice(None) if value is None else category == value
        i = 0 if value is None else int(value)
        axes.scatter(
            points[rows, 0],
            points[rows, 1],
            s=5,
            marker="o" if value is None else MARKERS[i % len(MARKERS)],
            color="#444444" if value is None else COLOURS[i % len(COLOURS)],
            alpha=0.6,
            linewidths=0,
            rasterized=True,
        )


def matched(category: Array, labels: Array | None) -> Array:
    """Categories renamed so that as many as possible equal the labels."""
    if labels is None or len(labels) != len(category):
        return category
    from scipy.optimize import linear_sum_assignment

    c, y = category.astype(int), labels.astype(int)
    size = int(max(c.max(), y.max())) + 1
    if min(c.min(), y.min()) < 0 or size > 1000:
        return category
    table = np.zeros((size, size))
    np.add.at(table, (c, y), 1)
    _, names = linear_sum_assignment(-table)
    return np.asarray(names[c], dtype=float)


def categories(shown: Shown) -> Figure:
    """Two panels a model, categories above samples; first the truth. Four columns at most."""
    first = shown[0][1]
    columns = min(len(shown) + 1, 4)
    strips = math.ceil((len(shown) + 1) / columns)
    figure, grid = _new(columns, 2 * strips, 2.3, 2.3)
    low, high = first["x"].min(0), first["x"].max(0)
    margin = 0.15 * (high - low)
    for i in range(strips * columns):
        above, below = (grid[2 * (i // columns) + k][i % columns] for k in (0, 1))
        for axes in (above, below):
            axes.set_axis_off()
            axes.set_xlim(low[0] - margin[0], high[0] + margin[0])
            axes.set_ylim(low[1] - margin[1], high[1] + margin[1])
            axes.set_aspect("equal")
        if i == 0:
            _scatter(above, first["x"], first.get("labels"))
            above.set_title("true labels" if "labels" in first else "data")
            _scatter(below, first["x"], None)
            below.set_title("data")
        elif i <= len(shown):
            group, arrays = shown[i - 1]
            category = arrays.get("category")
            if category is not None:
                category = matched(category, arrays.get("labels"))
            _scatter(above, arrays["x"], category)
            above.set_title(_title(group))
            if "samples" in arrays:
                _scatter(below, arrays["samples"], arrays.get("samples_c"))
                below.set_title("samples")
    return figure


def _title(group: Group) -> str:
    record = group.representative
    accuracy = record.metrics.get("accuracy") if record else None
    return group.label + (f" (acc. {100 * accuracy:.1f} %)" if accuracy is not None else "")


def components(shown: Shown, symbol: str) -> Figure:
    """Posterior means in the plane of the latent, or of their first two principal axes."""
    columns = min(len(shown), 4)
    rows = math.ceil(len(shown) / columns)
    figure, grid = _new(columns, rows, 2.6, 2.6)
    for i in range(rows * columns):
        axes = grid[i // columns][i % columns]
        if i >= len(shown):
            axes.set_visible(False)
            continue
        group, arrays = shown[i]
        means = arrays[f"{symbol}_mean"]
        prior = _prior_means(group, arrays, means.shape[1])
        name = symbol
        if means.shape[1] > 2:
            centre = means.mean(0)
            axis = np.linalg.svd(means - centre, full_matrices=False)[2][:2].T
            means = (means - centre) @ axis
            prior = None if prior is None else (prior - centre) @ axis
            name = f"principal axis of {symbol}"
        labels = arrays.get("labels", arrays.get("category"))
        labels = labels if labels is not None and len(labels) == len(means) else None
        _scatter(axes, means, labels)
        if prior is not None:
            axes.scatter(prior[:, 0], prior[:, 1], s=70, marker="x", color="black", linewidths=1.8)
        axes.set_title(group.label)
        axes.set_xlabel(f"{name} 1")
        axes.set_ylabel(f"{name} 2")
    return figure


def _prior_means(group: Group, arrays: dict[str, Array], width: int) -> Array | None:
    record = group.representative
    stored = arrays.get("prior_means")
    if stored is None and record is not None and record.provenance.get("prior_means"):
        try:
            stored = np.asarray(record.provenance["prior_means"], dtype=float)
        except (TypeError, ValueError):
            return None
    return stored if stored is not None and stored.ndim == 2 and stored.shape[1] == width else None


def _shape(group: Group) -> tuple[int, int] | None:
    record = group.representative
    stored = record.provenance.get("data_shape") if record else None
    if not isinstance(stored, list) or not all(isinstance(n, int) and n > 0 for n in stored):
        return None
    sizes = [n for n in stored if n > 1]
    return (sizes[-2], sizes[-1]) if len(sizes) >= 2 else None


def _tile(images: Array, shape: tuple[int, int] | None, columns: int) -> Array:
    """Images of (N, D) in one picture with lines between them, N filled up with white."""
    side = math.isqrt(images.shape[1])
    height, width = shape if shape and math.prod(shape) == images.shape[1] else (side, side)
    images = images[:, : height * width]
    rows = math.ceil(len(images) / columns)
    canvas = np.full((rows * (height + 1) - 1, columns * (width + 1) - 1), 0.5)
    for i, image in enumerate(images):
        y, x = (i // columns) * (height + 1), (i % columns) * (width + 1)
        canvas[y : y + height, x : x + width] = image.reshape(height, width)
    return canvas


def images(group: Group, arrays: dict[str, Array]) -> Figure:
    """A grid of samples, and test images above their reconstructions."""
    shape, title = _shape(group), group.label
    figure, grid = _new(2 if "reconstructions" in arrays else 1, 1, 3.2, 3.4)
    panels = [(f"{title}: samples", _tile(arrays["samples"][:64], shape, 8))]
    if "reconstructions" in arrays:
        originals, rebuilt = arrays["originals"], arrays["reconstructions"]
        count = min(len(originals), len(rebuilt), 32) // 8 * 8 or min(len(originals), len(rebuilt))
        pairs = [part[i : i + 8] for i in range(0, count, 8) for part in (originals, rebuilt)]
        panels.append(("originals above reconstructions", _tile(np.concatenate(pairs), shape, 8)))
    for axes, (text, canvas) in zip(grid[0], panels, strict=True):
        axes.imshow(canvas, cmap="gray_r", vmin=0, vmax=1, interpolation="nearest")
        axes.set_title(text)
        axes.set_axis_off()
    return figure


def curves(block: Block) -> Figure:
    """ELBO, KL, MI and AU by epoch: validation solid, training dotted."""
    unit = block.judged
    panels = [
        ("ELBO (nats)", "valid/elbo", "train/elbo"),
        (f"KL of {unit} (nats)", f"valid/kl/{unit}", ""),
        (f"MI of {unit} (nats)", f"valid/mi/{unit}", ""),
        (f"AU of {unit}", f"valid/au/{unit}", ""),
    ]
    figure, grid = _new(2, 2, 3.7, 2.5)
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
    figure, grid = _new(max(len(panels), 1), 1, 2.7, 2.6)

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
