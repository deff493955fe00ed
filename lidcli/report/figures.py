"""Figures of a block of runs, as PNG and PDF; colours and markers that survive a grey print."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lidcli.errors import StoreError
from lidcli.report import lines, panels
from lidcli.report.groups import Block, Group

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Picture", "draw", "save", "slug"]

Array = npt.NDArray[np.floating[Any]]
DPI = 150


@dataclass(frozen=True)
class Picture:
    """A drawn figure: a caption, its files, and whether another figure already shows it."""

    name: str
    caption: str
    png: Path
    pdf: Path
    part: bool = False


def slug(text: str) -> str:
    """A file name from any text.

    Example:
        >>> slug("../lidvae, layers 9")
        'lidvae-layers-9'
    """
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-").lower() or "unnamed"


def draw(block: Block, folder: Path) -> tuple[list[Picture], list[str]]:
    """Draw whatever a block's runs have data for.

    Args:
        block: the runs of one experiment, data set and family.
        folder: takes the files; made if absent.

    Returns:
        The pictures, in the order of a report, and a sentence for each that could not be drawn.
    """
    return save(_figures(block), f"{block.data}-{block.family}-", block.experiment, folder)


def save(
    figures: Iterable[tuple[str, str, Callable[[], Figure]]],
    prefix: str,
    experiment: str,
    folder: Path,
) -> tuple[list[Picture], list[str]]:
    """Make figures and write their files.

    Args:
        figures: name, caption and maker of each.
        prefix: of the files' names.
        experiment: for the sentence about a figure that cannot be drawn.
        folder: takes the files; made if absent.

    Returns:
        The pictures, and a sentence for each that could not be drawn.
    """
    import matplotlib

    pictures, warnings = [], []
    style: dict[Any, Any] = {
        "font.size": 9,
        "axes.titlesize": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "legend.frameon": False,
        "pdf.fonttype": 42,
        "text.usetex": False,
        "text.parse_math": False,
    }
    with matplotlib.rc_context(style):
        for name, caption, make in figures:
            try:
                figure = make()
            except (ValueError, IndexError, KeyError, TypeError) as error:
                warnings.append(f"{experiment}: no figure {prefix}{name} ({error}).")
                continue
            stem = slug(f"{prefix}{name}")
            folder.mkdir(parents=True, exist_ok=True)
            png, pdf = folder / f"{stem}.png", folder / f"{stem}.pdf"
            figure.savefig(png, dpi=DPI)
            figure.set_layout_engine("none")
            figure.savefig(pdf, dpi=DPI, metadata={"CreationDate": None})
            part = name.startswith("categories-")
            pictures.append(Picture(stem, caption, png, pdf, part))
    return pictures, warnings


def _figures(block: Block) -> Iterator[tuple[str, str, Callable[[], Figure]]]:
    """Name, caption and maker of every figure the block has data for."""
    shown = [(group, arrays) for group in block.groups if (arrays := _arrays(group))]
    seed = "the run of the lowest seed, chosen without looking at any"
    flat = [(g, a) for g, a in shown if "x" in a and a["x"].shape[1:] == (2,)]
    if block.kind == "points" and flat:
        yield (
            "categories",
            f"{block.data}: test points by true label and by argmax q(c|x) of each model, and"
            f" samples of each model ({seed}). Colours are matched to the labels one to one.",
            partial(panels.categories, flat),
        )
        for group, arrays in flat if len(flat) > 1 else []:
            yield (
                f"categories-{group.label}",
                f"{block.data}, {group.label}: test points and samples ({seed}).",
                partial(panels.categories, [(group, arrays)]),
            )
    mean = f"{block.symbol}_mean"
    latent = [(g, a) for g, a in shown if mean in a and a[mean].shape[1:] >= (2,)]
    if latent:
        yield (
            "components",
            f"{block.data}: posterior means of {block.symbol} by true label; crosses are the prior"
            f" means of the components ({seed}).",
            partial(panels.components, latent, block.symbol),
        )
    for group, arrays in shown if block.kind == "image" else []:
        if "samples" in arrays:
            yield (
                f"images-{group.label}",
                f"{block.data}, {group.label}: samples, and test images above their"
                f" reconstructions ({seed}).",
                partial(panels.images, group, arrays),
            )
    if any("epoch" in record.curves for record in block.records):
        yield (
            "curves",
            f"{block.data}: validation by epoch; one thin line a run, thick their mean.",
            partial(lines.curves, block),
        )
    for key in block.keys:
        values = {str(dict(group.grid)[key]) for group in block.groups if group.used}
        if len(values) > 1 and all(_numeric(dict(group.grid)[key]) for group in block.groups):
            yield (
                f"by-{key}",
                f"{block.data} by {key}: mean over seeds, bars of one standard deviation.",
                partial(lines.by_key, block, key),
            )


def _numeric(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _arrays(group: Group) -> dict[str, Array]:
    """The arrays for figures of a group's representative run; empty where it has none."""
    from lidcli.store.run import Run

    record = group.representative
    if record is None:
        return {}
    try:
        arrays = Run.open(record.folder).arrays
    except StoreError:
        return {}
    finite = {name: a for name, a in arrays.items() if a.ndim and np.isfinite(a).all()}
    return finite if "x" in finite or "samples" in finite else {}
