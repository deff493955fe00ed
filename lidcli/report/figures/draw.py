"""Which figures runs have data for, and their files as PNG and PDF."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lidcli.report.collect import Record
from lidcli.report.figures import allowance as allowances
from lidcli.report.figures import curves, depth, figure1, figures2to4, latents
from lidcli.report.figures import theorem1 as theorem
from lidcli.report.figures.style import STYLE, Sketch
from lidcli.report.groups import Block

__all__ = [
    "BLOCK_FIGURES",
    "EXPERIMENT_FIGURES",
    "Drawing",
    "Picture",
    "block_sketches",
    "experiment_sketches",
    "pictures",
    "pictures_across",
    "slug",
]

DPI = 150


@dataclass(frozen=True)
class Picture:
    """A figure that can be drawn: its files, and whether another figure already shows it."""

    name: str
    png: Path
    pdf: Path
    experiment: str
    sketch: Sketch

    @property
    def caption(self) -> str:
        """What it shows."""
        return self.sketch.caption

    @property
    def part(self) -> bool:
        """Whether another figure already shows it."""
        return self.sketch.part

    def draw(self) -> str | None:
        """Write its files, or say in a sentence why it cannot be made."""
        import matplotlib

        with matplotlib.rc_context(STYLE):
            try:
                figure = self.sketch.make()
            except (ValueError, IndexError, KeyError, TypeError) as error:
                return f"{self.experiment}: no figure {self.name} ({error})."
            self.png.parent.mkdir(parents=True, exist_ok=True)
            figure.savefig(self.png, dpi=DPI)
            figure.set_layout_engine("none")
            figure.savefig(self.pdf, dpi=DPI, metadata={"CreationDate": None})
        return None


@dataclass(frozen=True)
class Drawing:
    """A figure across the runs of an experiment, and what a run must hold to be in it.

    Args:
        arrays: names of arrays.
        scalars: names of scalars of its evaluation.
        sketches: from the complete runs that hold both to the figures that they allow.
        parts: whether the runs of the experiment's parts are in it too.
    """

    arrays: tuple[str, ...]
    scalars: tuple[str, ...]
    sketches: Callable[[Sequence[Record]], Iterator[Sketch]]
    parts: bool = False

    def holds(self, record: Record) -> bool:
        """Whether a run is complete and holds what is needed."""
        arrays, scalars = set(self.arrays), set(self.scalars)
        return record.complete and arrays <= set(record.held) and scalars <= set(record.metrics)


BLOCK_FIGURES: dict[str, Callable[[Block, latents.Shown], Iterator[Sketch]]] = {
    "glance": depth.glance_sketches,
    "depth": depth.depth_sketches,
    "categories": latents.categories_sketches,
    "components": latents.components_sketches,
    "images": latents.images_sketches,
    "curves": curves.curves_sketches,
    "by": curves.by_key_sketches,
}
"""Figures of a block of runs by name, each from the block and its representative runs' arrays."""

PLANE = ("shown_datum", "shown_mean", "weight", "eigenvalues")
EXPERIMENT_FIGURES: dict[str, Drawing] = {
    "figure1": Drawing((), ("mi/c",), figure1.figure1_sketches, parts=True),
    "figure2": Drawing(PLANE, ("sigma", "posterior_variance/z/2"), figures2to4.by_sigma_sketches),
    "figure3": Drawing(PLANE, ("sigma", "posterior_variance/z/2"), figures2to4.latents_sketches),
    "figure4": Drawing((), ("alpha/mean",), figures2to4.weight_sketches),
    "theorem1": Drawing((), ("identifiability_exact",), theorem.theorem1_sketches),
    "allowance": Drawing((), ("allowed/mi",), allowances.allowance_sketches),
}
"""Figures across an experiment by name: what runs must hold, and how they are drawn."""


def slug(text: str) -> str:
    """A file name from any text.

    Example:
        >>> slug("../lidvae, layers 9")
        'lidvae-layers-9'
    """
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-").lower() or "unnamed"


def block_sketches(block: Block) -> Iterator[Sketch]:
    """Every figure that a block's runs have data for, in the order of a report."""
    shown = [
        (group, arrays)
        for group in block.groups
        if group.representative is not None and (arrays := group.representative.arrays())
    ]
    for sketches in BLOCK_FIGURES.values():
        yield from sketches(block, shown)


def experiment_sketches(
    records: Sequence[Record], parts: Sequence[Record] = ()
) -> Iterator[Sketch]:
    """Every figure across the runs of an experiment that they have data for.

    Args:
        records: of one experiment.
        parts: of those that it takes in.

    Returns:
        `figure1`, `likelihood-by-sigma` (Figure 2), `latents` (Figure 3), `weight` (Figure 4),
        `theorem1` and `allowance`.
    """
    for drawing in EXPERIMENT_FIGURES.values():
        taken = [*records, *parts] if drawing.parts else records
        held = [record for record in taken if drawing.holds(record)]
        if held:
            yield from drawing.sketches(held)


def pictures(block: Block, folder: Path) -> list[Picture]:
    """Whatever a block's runs have data for, in the order of a report.

    Args:
        block: the runs of one experiment, data set and judged latent.
        folder: takes the files; made if absent.
    """
    prefix = f"{block.data}-{block.facts.judged}-" if block.facts.judged else f"{block.data}-"
    return _pictures(block_sketches(block), prefix, block.experiment, folder)


def pictures_across(
    records: Sequence[Record], experiment: str, folder: Path, parts: Sequence[Record] = ()
) -> list[Picture]:
    """Whatever the runs of an experiment have data for together.

    Args:
        records: of one experiment.
        experiment: its name.
        folder: takes the files; made if absent.
        parts: runs of the experiments that it takes in.
    """
    return _pictures(experiment_sketches(records, parts), "", experiment, folder)


def _pictures(
    sketches: Iterable[Sketch], prefix: str, experiment: str, folder: Path
) -> list[Picture]:
    made = []
    for sketch in sketches:
        stem = slug(f"{prefix}{sketch.name}")
        png, pdf = folder / f"{stem}.png", folder / f"{stem}.pdf"
        made.append(Picture(stem, png, pdf, experiment, sketch))
    return made
