"""A whole report: from the runs to the files of every format."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from lidcli.config.plan import parts
from lidcli.report.aside import aside
from lidcli.report.cells import Table
from lidcli.report.claims import answers
from lidcli.report.collect import Collection, frame
from lidcli.report.command import commands
from lidcli.report.embedded import GLANCE
from lidcli.report.figures.draw import Picture, pictures, pictures_across, slug
from lidcli.report.groups import blocks
from lidcli.report.html import Section, page
from lidcli.report.tables import block_tables, headline

if TYPE_CHECKING:
    from lidcli.config.read import Experiments

__all__ = ["FORMATS", "Report", "build", "text_of", "write"]

FORMATS = {
    "markdown": "report.md",
    "latex": "report.tex",
    "csv": "runs.csv",
    "html": "report.html",
}
BESIDE = ("latex", "csv")
"""Formats without a word on figures, made while those are drawn."""


@dataclass(frozen=True)
class Report:
    """Everything a report says, by experiment, and what had to be left out."""

    collection: Collection
    experiments: dict[str, list[Section]]
    warnings: list[str] = field(default_factory=list)

    def headlines(self, experiment: str) -> list[str]:
        """The verdict of an experiment, a sentence for each data set."""
        return headline(section.block for section in self.experiments[experiment])

    def answers(self) -> list[str]:
        """What the runs of all experiments say to the question, with their numbers."""
        return [
            text
            for sections in self.experiments.values()
            for text in answers(section.block for section in sections)
        ]

    def glances(self) -> list[Path]:
        """The pictures that show an answer, where they were drawn."""
        return [picture.png for picture in self.pictures() if picture.name.endswith(GLANCE)]

    def pictures(self) -> list[Picture]:
        """All figures."""
        return [p for parts in self.experiments.values() for part in parts for p in part.pictures]

    def tables(self, experiment: str) -> list[Table]:
        """The tables of an experiment."""
        return [table for section in self.experiments[experiment] for table in section.tables]


def build(collection: Collection) -> Report:
    """Make the tables of what was collected.

    Args:
        collection: from `collect`.
    """
    experiments = {
        name: [Section(block, block_tables(block)) for block in blocks(records)]
        for name, records in collection.experiments().items()
    }
    return Report(collection, experiments, list(collection.warnings))


def text_of(report: Report, kind: str) -> str:
    """The report as Markdown, LaTeX or CSV.

    Args:
        report: from `build`.
        kind: markdown, latex or csv.
    """
    from lidcli.report.render import latex_document, markdown, markdown_text

    if kind == "csv":
        return str(frame(report.collection.records).to_csv(index=False))
    if kind == "latex":
        return latex_document(t for name in report.experiments for t in report.tables(name))
    lines = ["# lid report", ""]
    for warning in report.warnings:
        lines += [f"> {markdown_text(warning)}", ""]
    for name, records in report.collection.experiments().items():
        lines += [f"## {markdown_text(name)}", ""]
        lines += [f"- {markdown_text(text)}" for text in report.headlines(name)]
        lines += ["", *(markdown(table) for table in report.tables(name))]
        made = commands(records)
        if 0 < len(made) <= 8:
            lines += ["To reproduce:", "", *(f"    {line}" for line in made), ""]
    return "\n".join(lines)


def write(
    report: Report,
    folder: Path,
    kinds: Sequence[str],
    figures: bool,
    known: Experiments | None = None,
) -> list[Path]:
    """Write a report's files.

    Args:
        report: from `build`; figures that cannot be drawn are added to its warnings.
        folder: takes the files; made if absent.
        kinds: of `FORMATS`.
        figures: whether to draw, into `figures/<experiment>` below the folder.
        known: models and data, from which the page tells the command of a single run, and
            experiments, whose parts may share a figure.

    Returns:
        The files, figures last.

    Raises:
        OSError: the folder cannot be written.
    """
    if figures:
        _plan(report, folder / "figures", known)
    with aside([picture.draw for picture in report.pictures()]) as results:
        texts = {kind: text_of(report, kind) for kind in kinds if kind in BESIDE}
        _settle(report, results())
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for kind in kinds:
        if kind == "html":
            title = f"lid report: {', '.join(report.experiments)}"
            text = page(report.experiments, report.warnings, title, folder, known)
        else:
            text = texts.get(kind) or text_of(report, kind)
        files.append(folder / FORMATS[kind])
        _replace(files[-1], text)
    return files + [path for picture in report.pictures() for path in (picture.png, picture.pdf)]


def _plan(report: Report, folder: Path, known: Experiments | None) -> None:
    """Give each section the figures that its runs have data for, those across all to the first."""
    made = {
        name: [record for section in sections for record in section.block.records]
        for name, sections in report.experiments.items()
    }
    for name, sections in report.experiments.items():
        place = folder / slug(name)
        for section in sections:
            section.pictures = pictures(section.block, place)
        taken = parts(known, name)[1:] if known and name in known.experiments else []
        more = [record for part in taken for record in made.get(part, [])]
        sections[0].pictures[:0] = pictures_across(made[name], name, place, more)


def _settle(report: Report, failures: Sequence[str | None]) -> None:
    """Leave out the figures that could not be drawn, with a warning for each."""
    failed = dict(zip(map(id, report.pictures()), failures, strict=True))
    report.warnings.extend(filter(None, failures))
    for sections in report.experiments.values():
        for section in sections:
            section.pictures = [p for p in section.pictures if failed[id(p)] is None]


def _replace(path: Path, text: str) -> None:
    """Write a file so that a reader never sees half of it."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            file.write(text)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
