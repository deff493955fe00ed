"""The corpora of text: which files they are, and which documents train, validate and test."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lidcli.data.lines import Labels
from lidcli.errors import ConfigError, DataError
from lidcli.names import nearest

__all__ = ["CORPORA", "Corpus", "File", "Part", "corpus_of"]

FIRST_TRAIN = 30_000
"""Training documents of the large splits that the paper uses: the first ones."""


@dataclass(frozen=True)
class File:
    """A file of a corpus; `known` are the labels that may occur, where they are known."""

    path: Path
    labels: Labels = "none"
    known: tuple[str, ...] = ()


@dataclass(frozen=True)
class Part:
    """The documents of a file from one share of it to another."""

    file: int
    begin: float = 0.0
    end: float = 1.0

    def rows(self, count: int) -> NDArray[np.int64]:
        """Which of the file's documents."""
        return np.arange(round(self.begin * count), round(self.end * count), dtype=np.int64)


WHOLE = (Part(0), Part(1), Part(2))
ONE_TRAINS = (Part(0), Part(1, end=0.5), Part(1, begin=0.5))
"""Of two files: the first trains, half of the second validates and half tests."""


@dataclass(frozen=True)
class Corpus:
    """Files in one folder, and what is made of them.

    Attributes:
        files: paths inside `data.root`.
        parts: training, validation and test; None: random parts of the one file.
        train: training documents where nothing else is asked for; None: all.
        notes: how this differs from the published split.
    """

    files: tuple[File, ...]
    parts: tuple[Part, Part, Part] | None = WHOLE
    train: int | None = None
    notes: tuple[str, ...] = ()

    def inside(self, root: Path) -> Corpus:
        """The same with the folder in front."""
        files = tuple(File(root / f.path, f.labels, f.known) for f in self.files)
        return Corpus(files, self.parts, self.train, self.notes)


def _files(
    folder: str, *names: str, labels: Labels = "none", known: tuple[str, ...] = ()
) -> tuple[File, ...]:
    return tuple(File(Path(folder) / name, labels, known) for name in names)


CORPORA: dict[str, tuple[Corpus, ...]] = {
    "yahoo": (
        Corpus(
            _files("yahoo", "yahoo.train.txt", "yahoo.valid.txt", "yahoo.test.txt"),
            train=FIRST_TRAIN,
        ),
        Corpus(
            _files("yahoo", "yahoo.valid.txt", "yahoo.test.txt"),
            ONE_TRAINS,
            notes=(
                "without the published training file; the published validation file trains, and"
                " the two halves of the test file validate and test",
            ),
        ),
    ),
    "yelp": (
        Corpus(
            _files(
                "yelp/yelp15", "yelp.train.txt", "yelp.valid.txt", "yelp.test.txt", labels="tab"
            ),
            train=FIRST_TRAIN,
        ),
        Corpus(
            _files(
                "yelp/yelp13",
                "valid.txt",
                "test.txt",
                labels="space",
                known=("0", "1", "2", "3", "4"),
            ),
            ONE_TRAINS,
            notes=(
                "not the published Yelp15 split: reviews of Yelp 2013 cut at 50 words stand in"
                " for it; their validation file trains, and the two halves of their test file"
                " validate and test",
            ),
        ),
    ),
    "short-yelp": (
        Corpus(
            _files(
                "yelp/short_yelp",
                "short_yelp.train.10000.txt",
                "short_yelp.valid.txt",
                "short_yelp.test.txt",
                labels="tab",
                known=("0", "1"),
            )
        ),
    ),
}
"""Of each name the ways to get it, the published one first; the first whose files are there."""


def corpus_of(name: str, root: Path) -> Corpus:
    """The best of a name's corpora whose files are all inside `root`.

    Raises:
        ConfigError: an unknown name.
        DataError: no corpus is whole; the message says what to type.
    """
    if name not in CORPORA:
        raise ConfigError(
            f"Text {name!r} has neither a path nor a known name; {nearest(name, CORPORA)}"
        )
    choices = [corpus.inside(root) for corpus in CORPORA[name]]
    for corpus in choices:
        if all(file.path.exists() for file in corpus.files):
            return corpus
    missing = next(file.path for file in choices[-1].files if not file.path.exists())
    raise DataError(f"{missing} is missing; `lid fetch {name}` gets it.")
