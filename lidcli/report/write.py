"""A whole report: from the runs to the files of every format."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lidcli.report.collect import Collection, frame
from lidcli.report.groups import Block, blocks
from lidcli.report.tables import Table, block_tables, headline

__all__ = ["FORMATS", "Report", "build", "text_of", "write"]

FORMATS = {
    "markdown": "report.md",
    "latex": "report.tex",
    "csv": "runs.csv",
    "html": "report.html",
}


@dataclass(frozen=True)
class Report:
    """Everything a report says, by experiment, and what had to be left out."""

    collection: Collection
    blocks: dict[str, list[Block]]
    tables: dict[str, list[Table]]
    warnings: list[str] = field(default_factory=list)

    def headlines(self, experiment: str) -> list[str]:
        """The verdict of an experiment, a sentence for each data set."""
        return headline(self.blocks[experiment])

    def all_tables(self) -> list[Table]:
        """The tables of every experiment."""
        return [table for tables in self.tables.values() for table in tables]


def build(collection: Collection) -> Report:
    """Make the tables of what was collected.

    Args:
        collection: from `collect`.
    """
    found = {name: blocks(records) for name, records in collection.experiments().items()}
    tables = {
        name: [table for block in own for table in block_tables(block)]
        for name, own in found.items()
    }
    return Report(collection, found, tables, list(collection.warnings))


def text_of(report: Report, kind: str) -> str:
    """The report as Markdown, LaTeX or CSV.

    Args:
        report: from `build`.
        kind: markdown, latex or csv.
    """
    from lidcli.report.html import commands
    from lidcli.report.render import latex_document, markdown, markdown_text

    if kind == "csv":
        return str(frame(report.collection.records).to_csv(index=False))
    if kind == "latex":
        return latex_document(report.all_tables())
    lines = ["# lid report", ""]
    for warning in report.warnings:
        lines += [f"> {markdown_text(warning)}", ""]
    for name, tables in report.tables.items():
        lines += [f"## {markdown_text(name)}", ""]
        lines += [f"- {markdown_text(text)}" for text in report.headlines(name)]
        lines += ["", *(markdown(table) for table in tables)]
        made = commands(r for block in report.blocks[name] for r in block.records)
        if 0 < len(made) <= 8:
            lines += ["To reproduce:", "", *(f"    {line}" for line in made), ""]
    return "\n".join(lines)


def write(report: Report, folder: Path, kinds: Sequence[str], figures: bool) -> list[Path]:
    """Write a report's files.

    Args:
        report: from `build`; figures that cannot be drawn are added to its warnings.
        folder: takes the files; made if absent.
        kinds: of `FORMATS`.
        figures: whether to draw, into `figures/<experiment>` below the folder.

    Returns:
        The files, figures last.

    Raises:
        OSError: the folder cannot be written.
    """
    from lidcli.report.figures import Picture, draw, slug
    from lidcli.report.html import page

    pictures: dict[str, list[Picture]] = {}
    for name, own in report.blocks.items() if figures else ():
        for block in own:
            drawn, failed = draw(block, folder / "figures" / slug(name))
            pictures.setdefault(name, []).extend(drawn)
            report.warnings.extend(failed)
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for kind in kinds:
        if kind == "html":
            title = f"lid report: {', '.join(report.blocks)}"
            text = page(report.blocks, report.tables, pictures, report.warnings, title)
        else:
            text = text_of(report, kind)
        files.append(folder / FORMATS[kind])
        _replace(files[-1], text)
    return files + [path for own in pictures.values() for p in own for path in (p.png, p.pdf)]


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
