"""`lid show RUN --samples`: the sentences that a run of text left."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from lidcli.cli import options
from lidcli.errors import ConfigError

if TYPE_CHECKING:
    from lidcli.report.collect import Record
    from lidcli.report.texts import Texts

__all__ = ["show_samples", "wrapped"]

NARROWEST = 20


def show_samples(record: Record, as_json: bool) -> None:
    """Print a run's sentences and words.

    Raises:
        ConfigError: it has none.
    """
    from lidcli.report.texts import texts_of

    texts = texts_of(record)
    if texts is None:
        raise ConfigError(
            f"{record.run_id} has no sentences to show: only finished runs of text have."
        )
    if as_json:
        content = {
            "run": record.run_id,
            "folder": record.folder,
            "experiment": record.experiment,
            "texts": texts.document(),
        }
        options.print_json("show", content)
        return
    click.echo(f"{record.experiment}/{record.run_id}: {record.method} on {record.data}")
    width = max(NARROWEST, shutil.get_terminal_size((80, 24)).columns)
    for line in _lines(texts, record.facts.symbol or "z", width):
        click.echo(line)


def _lines(texts: Texts, symbol: str, width: int) -> Iterator[str]:
    def items(title: str, entries: tuple[tuple[str, ...], ...]) -> Iterator[str]:
        if entries:
            yield f"\n{title}"
        for number, entry in enumerate(entries, 1):
            for mark, text in zip((f"{number:>3}  ", "  -> "), entry, strict=False):
                yield from wrapped(text, width, mark)

    def alone(entries: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
        return tuple((text,) for text in entries)

    yield from items("documents, and below each its reconstruction", texts.reconstructions)
    yield from items("samples from the prior", alone(texts.samples))
    yield from items("from one document's latent to another's", alone(texts.interpolation))
    if texts.words:
        yield f"\nwords that each unit of {symbol} raises (+) and lowers (-) most"
    for unit, moved in enumerate(texts.words, 1):
        for sign, words in zip("+-", moved, strict=True):
            yield from wrapped(", ".join(words), width, f"{unit:>3} {sign}" + " ")


def wrapped(text: str, width: int, mark: str = "") -> list[str]:
    """A text in lines of at most so many columns, however wide its letters are.

    Args:
        text: without control characters.
        width: columns of a line, more than those of the mark.
        mark: in front of the first line; the others are indented by its length.

    Example:
        >>> wrapped("a small world", 10, "1  ")
        ['1  a small', '   world']
    """
    from rich.cells import cell_len, chop_cells

    room, lines = width - len(mark), [""]
    for word in text.split():
        for i, part in enumerate(chop_cells(word, room)):
            line = f"{lines[-1]} {part}" if lines[-1] and not i else part
            if i or cell_len(line) > room:
                lines.append(part)
            else:
                lines[-1] = line
    indent = " " * len(mark)
    return [(indent if i else mark) + line for i, line in enumerate(lines)]
