"""Scatter plots and image grids: latents, categories and samples, from the arrays of runs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lidcli.report.figures.style import Sketch, new, palette
from lidcli.report.groups import Block, Group

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "Shown",
    "categories",
    "categories_sketches",
    "category_panel",
    "components",
    "components_sketches",
    "images",
    "images_sketches",
    "matching",
    "picture_row",
]

Array = npt.NDArray[np.floating[Any]]
Names = npt.NDArray[np.integer[Any]]
Shown = Sequence[tuple[Group, dict[str, Array]]]


Palette = Mapping[int, tuple[str, str]]
SEED = "the run of the lowest seed, chosen without looking at any"


def categories_sketches(block: Block, shown: Shown) -> Iterator[Sketch]:
    """Points in the plane by category, all models together and each by itself."""
    flat = [(g, a) for g, a in shown if "x" in a and a["x"].shape[1:] == (2,)]
    flat = [(g, a) for g, a in flat if "category" in a or "samples" in a]
    if not flat:
        return
    yield Sketch(
        "categories",
        f"{block.data}: test points by true label and by argmax q(c|x) of each model, and samples"
        f" of each model ({SEED}). Colours are matched to the labels one to one.",
        partial(categories, flat),
    )
    for group, arrays in flat if len(flat) > 1 else []:
        yield Sketch(
            f"categories-{group.label}",
            f"{block.data}, {group.label}: test points and samples ({SEED}).",
            partial(categories, [(group, arrays)]),
            part=True,
        )


def components_sketches(block: Block, shown: Shown) -> Iterator[Sketch]:
    """Posterior means of the latent that the decoder sees, for models that can draw samples."""
    symbol = block.facts.symbol
    mean = f"{symbol}_mean"
    seen = [
        (g, a)
        for g, a in shown
        if mean in a and a[mean].ndim == 2 and a[mean].shape[1] > 1 and ("samples" in a or "x" in a)
    ]
    crosses = "; crosses are the prior means of the components" if block.facts.categorical else ""
    if seen:
        yield Sketch(
            "components",
            f"{block.data}: posterior means of {symbol} by true label{crosses} ({SEED}).",
            partial(components, seen, symbol),
        )


def images_sketches(block: Block, shown: Shown) -> Iterator[Sketch]:
    """Samples, reconstructions and decoded components of each model of images."""
    for group, arrays in shown if block.facts.data_form == "image" else []:
        if "samples" in arrays:
            means = ", and the mean of every component, decoded" if "components" in arrays else ""
            yield Sketch(
                f"images-{group.label}",
                f"{block.data}, {group.label}: samples, and test images above their"
                f" reconstructions{means} ({SEED}).",
                partial(images, group, arrays),
            )


def _palette(*categories: Array | None) -> Palette:
    """Colours and markers of every category of some arrays."""
    return palette(int(v) for part in categories if part is not None for v in np.unique(part))


def _scatter(axes: Axes, points: Array, category: Array | None, style: Palette) -> None:
    """Points by category, each with its colour and marker; grey where there is none."""
    groups = [None] if category is None else np.unique(category)
    for value in groups:
        rows = slice(None) if value is None else category == value
        colour, marker = ("#444444", "o") if value is None else style[int(value)]
        axes.scatter(
            points[rows, 0],
            points[rows, 1],
            s=5,
            marker=marker,
            color=colour,
            alpha=0.6,
            linewidths=0,
            rasterized=True,
        )


def matching(category: Array, labels: Array | None) -> Names:
    """The name of each category that makes as many data as possible equal their labels."""
    from scipy.optimize import linear_sum_assignment

    c = category.astype(int)
    if labels is None or len(labels) != len(c):
        return np.arange(c.max() + 1)
    y = labels.astype(int)
    size = int(max(c.max(), y.max())) + 1
    if y.min() < 0 or size > 1000:
        return np.arange(c.max() + 1)
    table = np.zeros((size, size))
    np.add.at(table, (c, y), 1)
    return np.asarray(linear_sum_assignment(-table)[1])


def _renamed(category: Array | None, names: Names | None) -> Array | None:
    """Categories by their names; those that no datum has keep their numbers."""
    if category is None or names is None:
        return category
    c = category.astype(int)
    known = c < len(names)
    return np.where(known, names[np.where(known, c, 0)], c).astype(float)


def categories(shown: Shown) -> Figure:
    """Two panels a model, categories above samples; first the truth. Four columns at most."""
    first = shown[0][1]
    columns = min(len(shown) + 1, 4)
    strips = math.ceil((len(shown) + 1) / columns)
    figure, grid = new(columns, 2 * strips, 2.3, 2.3)
    places = [
        (grid[2 * (i // columns)][i % columns], grid[2 * (i // columns) + 1][i % columns])
        for i in range(strips * columns)
    ]
    low, high = first["x"].min(0), first["x"].max(0)
    margin = 0.15 * (high - low)
    for axes in (axes for pair in places for axes in pair):
        axes.set_axis_off()
        axes.set_xlim(low[0] - margin[0], high[0] + margin[0])
        axes.set_ylim(low[1] - margin[1], high[1] + margin[1])
        axes.set_aspect("equal")
    named = [_named(arrays) for _, arrays in shown]
    style = _palette(first.get("labels"), *(part for pair in named for part in pair))
    _scatter(places[0][0], first["x"], first.get("labels"), style)
    places[0][0].set_title("true labels" if "labels" in first else "data")
    _scatter(places[0][1], first["x"], None, style)
    places[0][1].set_title("data")
    for (group, arrays), (own, drawn), (above, below) in zip(
        shown, named, places[1:], strict=False
    ):
        _scatter(above, arrays["x"], own, style)
        above.set_title(_title(group))
        if "samples" in arrays:
            _scatter(below, arrays["samples"], drawn, style)
            below.set_title("samples")
    return figure


def category_panel(axes: Axes, group: Group, arrays: Mapping[str, Array]) -> None:
    """Points of the plane by the likeliest category of one model, its accuracy below.

    Args:
        axes: taken without spines.
        group: for its accuracy.
        arrays: of its representative run; holds `x` and `category`.
    """
    own, _ = _named(arrays)
    _scatter(axes, arrays["x"], own, _palette(own, arrays.get("labels")))
    axes.set_aspect("equal")
    axes.set_xticks([])
    axes.set_yticks([])
    record = group.representative
    accuracy = record.metrics.get("accuracy") if record else None
    if accuracy is not None:
        axes.set_xlabel(f"accuracy {100 * accuracy:.1f} %")


def _named(arrays: Mapping[str, Array]) -> tuple[Array | None, Array | None]:
    """Categories of the data and of the samples, by the labels that they match."""
    category = arrays.get("category")
    names = None if category is None else matching(category, arrays.get("labels"))
    return _renamed(category, names), _renamed(arrays.get("samples_c"), names)


def _title(group: Group) -> str:
    record = group.representative
    accuracy = record.metrics.get("accuracy") if record else None
    return group.label + (f" (acc. {100 * accuracy:.1f} %)" if accuracy is not None else "")


def components(shown: Shown, symbol: str) -> Figure:
    """Posterior means in the plane of the latent, or of their first two principal axes."""
    columns = min(len(shown), 4)
    rows = math.ceil(len(shown) / columns)
    figure, grid = new(columns, rows, 2.6, 2.6)
    style = _palette(*(_labels(arrays, len(arrays[f"{symbol}_mean"])) for _, arrays in shown))
    for i in range(rows * columns):
        axes = grid[i // columns][i % columns]
        if i >= len(shown):
            axes.set_visible(False)
            continue
        group, arrays = shown[i]
        means = arrays[f"{symbol}_mean"]
        prior = _prior_means(arrays, means.shape[1])
        name = symbol
        if means.shape[1] > 2:
            centre = means.mean(0)
            axis = np.linalg.svd(means - centre, full_matrices=False)[2][:2].T
            means = (means - centre) @ axis
            prior = None if prior is None else (prior - centre) @ axis
            name = f"principal axis of {symbol}"
        _scatter(axes, means, _labels(arrays, len(means)), style)
        if prior is not None:
            axes.scatter(prior[:, 0], prior[:, 1], s=70, marker="x", color="black", linewidths=1.8)
        axes.set_title(group.label)
        axes.set_xlabel(f"{name} 1")
        axes.set_ylabel(f"{name} 2")
    return figure


def _labels(arrays: Mapping[str, Array], count: int) -> Array | None:
    """True labels, or categories where there are none, if there are so many."""
    labels = arrays.get("labels", arrays.get("category"))
    return labels if labels is not None and len(labels) == count else None


def _prior_means(arrays: Mapping[str, Array], width: int) -> Array | None:
    stored = arrays.get("prior_means")
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


def picture_row(group: Group, images: Array) -> Array:
    """Images (N, D) of a group's data side by side, as one picture."""
    return _tile(images, _shape(group), len(images))


USED = 1e-3
"""Share of the data from which a component counts as used."""


def _shares(arrays: Mapping[str, Array]) -> Array:
    """The mean of q(c | x) over the data that are kept, (C,)."""
    q_c = arrays.get("q_c")
    count = len(arrays["components"])
    fits = q_c is not None and q_c.shape[1:] == (count,)
    return q_c.mean(0) if q_c is not None and fits else np.zeros(count)


def _by_use(arrays: Mapping[str, Array]) -> Array:
    """The decoded means, the commonest first."""
    return arrays["components"][np.argsort(-_shares(arrays), kind="stable")]


def _used(arrays: Mapping[str, Array]) -> str:
    shares = _shares(arrays)
    if not shares.any():
        return "means of the components"
    return f"components, the commonest first: {(shares > USED).sum()} of {len(shares)} in use"


def images(group: Group, arrays: dict[str, Array]) -> Figure:
    """A grid of samples, test images above their reconstructions, and the components' means."""
    shape, title = _shape(group), group.label
    panels = [(f"{title}: samples", _tile(arrays["samples"][:64], shape, 8))]
    if "reconstructions" in arrays:
        originals, rebuilt = arrays["originals"], arrays["reconstructions"]
        count = min(len(originals), len(rebuilt), 32) // 8 * 8 or min(len(originals), len(rebuilt))
        pairs = [part[i : i + 8] for i in range(0, count, 8) for part in (originals, rebuilt)]
        panels.append(("originals above reconstructions", _tile(np.concatenate(pairs), shape, 8)))
    if "components" in arrays:
        panels.append((_used(arrays), _tile(_by_use(arrays), shape, 8)))
    figure, grid = new(len(panels), 1, 3.2, 3.4)
    for axes, (text, canvas) in zip(grid[0], panels, strict=True):
        axes.imshow(canvas, cmap="gray_r", vmin=0, vmax=1, interpolation="nearest")
        axes.set_title(text)
        axes.set_axis_off()
    return figure
