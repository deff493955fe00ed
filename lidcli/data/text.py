"""Text by name or of the user's: read, split, encoded, and kept for the next time."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lidcli.config.sections import Text
from lidcli.data.cache import keep, recall
from lidcli.data.corpora import Corpus, File, corpus_of
from lidcli.data.documents import (
    Documents,
    TextDataset,
    documents_of,
    fingerprint,
    pack,
    unpack,
)
from lidcli.data.lines import Labels, number_labels, parse_lines, read_bytes
from lidcli.data.splits import Stream, generator
from lidcli.data.synthetic import synthetic
from lidcli.data.vocabulary import END_ID, UNKNOWN, UNKNOWN_ID, Vocabulary
from lidcli.errors import ConfigError, DataError

__all__ = ["TextOptions", "load_documents", "load_text"]

FORMAT_VERSION = 1
"""Of how text is read and split; a new one makes what older versions kept worthless."""
PARTS = ("train", "valid", "test")
LONG = {"train": "training", "valid": "validation", "test": "test"}
SMALLEST_TRAIN = 2


@dataclass(frozen=True)
class TextOptions:
    """Which text, and how it is split and encoded.

    Attributes:
        name: of the registry, or of the user's choice with a `path`.
        path: a `.txt` file of the user's.
        root: the folder of data; what is encoded is kept in `.cache` there.
        train: documents kept for training; None: all (of a published split the first 30,000).
        valid: documents kept for validation; None: all.
        test: documents kept for the test; None: all.
        vocabulary: entries at most, `</s>` and `<unk>` among them, >= 3; or a file of tokens.
        max_length: words after which a document is cut, >= 1; None: never.
        labels: where those of a user's file are.
        valid_fraction: of a user's file without the test, in (0, 1).
        test_fraction: of a user's file, in (0, 1).
        split_seed: which documents of a user's file are in which part.
    """

    name: str
    path: Path | None = None
    root: Path = Path("data")
    train: int | None = None
    valid: int | None = None
    test: int | None = None
    vocabulary: int | Path = 20_000
    max_length: int | None = None
    labels: Labels = "auto"
    valid_fraction: float = 0.1
    test_fraction: float = 0.1
    split_seed: int = 0


def load_text(options: TextOptions) -> TextDataset:
    """Load the text that options name.

    Args:
        options: which text, and how.

    Raises:
        ConfigError: an unknown name, or more documents asked for than there are.
        DataError: files that are missing (the message says what to type) or wrong, named with
            the line.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "mine.txt"
        ...     _ = path.write_text("a small world\\n" * 20)
        ...     data = load_text(TextOptions("mine", path))
        >>> len(data.train), len(data.valid), len(data.test), len(data.vocabulary)
        (16, 2, 2, 5)
    """
    if options.name == "synthetic" and options.path is None:
        return synthetic(options.root, options.train, options.valid, options.test)
    corpus = _of_the_user(options) if options.path else corpus_of(options.name, options.root)
    contents = [read_bytes(file.path) for file in corpus.files]
    words = options.vocabulary
    listed = read_bytes(words, "data.vocabulary") if isinstance(words, Path) else None
    key = _key(options, corpus, [*contents, listed or b""])
    if (kept := recall(options.root, key)) is not None:
        return unpack(kept)
    data = _encode(options, corpus, contents, listed)
    keep(options.root, key, pack(data))
    return data


def _of_the_user(options: TextOptions) -> Corpus:
    assert options.path is not None
    if options.path.suffix.lower() != ".txt":
        raise ConfigError(f"data.kind: text takes a .txt file, not {options.path.name}.")
    return Corpus((File(options.path, options.labels),), parts=None)


def _key(options: TextOptions, corpus: Corpus, contents: list[bytes]) -> str:
    """What the encoded data depend on: the settings but for folders, and the files' bytes."""
    settings = {k: v for k, v in asdict(options).items() if k not in ("path", "root")}
    if isinstance(options.vocabulary, Path):
        settings["vocabulary"] = options.vocabulary.name
    files: list[list[Any]] = [[file.path.name, file.labels, file.known] for file in corpus.files]
    plan = [FORMAT_VERSION, settings, files, str(corpus.parts), corpus.train, corpus.notes]
    digest = hashlib.sha256(json.dumps(plan, sort_keys=True).encode())
    for content in contents:
        digest.update(hashlib.sha256(content).digest())
    return digest.hexdigest()


@dataclass(frozen=True)
class Chosen:
    """The documents of one part, before they are encoded."""

    words: list[list[str]]
    labels: NDArray[np.int64] | None


@dataclass(frozen=True)
class FileDocuments:
    """The documents of one file, their labels numbered."""

    path: Path
    words: list[list[str]]
    labels: NDArray[np.int64] | None

    def choose(self, rows: NDArray[np.int64]) -> Chosen:
        """Some of them."""
        labels = None if self.labels is None else self.labels[rows]
        return Chosen([self.words[i] for i in rows], labels)


def _encode(
    options: TextOptions, corpus: Corpus, contents: list[bytes], listed: bytes | None
) -> TextDataset:
    tables, classes = _tables(corpus, contents)
    if corpus.parts is None:
        chosen, notes = _random(options, tables[0])
    else:
        chosen, notes = _published(options, corpus, tables)
    if options.max_length is not None:
        chosen, longer = _cut(chosen, options.max_length)
        notes.append(f"cut after {options.max_length} words, which {longer:.1%} exceed")
    if listed is None:
        assert isinstance(options.vocabulary, int)
        vocabulary = Vocabulary.build(chosen[0].words, options.vocabulary)
        source = "of the training part"
    else:
        assert isinstance(options.vocabulary, Path)
        vocabulary = Vocabulary.parse(listed, options.vocabulary)
        source = f"of {options.vocabulary.name}"
    train, valid, test = (
        documents_of([vocabulary.encode(words) for words in part.words], part.labels)
        for part in chosen
    )
    unknown = [_unknown(documents) for documents in (train, test)]
    if unknown[0] == 1.0:
        raise DataError(
            f"{corpus.files[0].path}: every training word is {UNKNOWN} in the vocabulary {source};"
            " expected text and a vocabulary that fit."
        )
    notes.append(
        f"{len(vocabulary):,} tokens {source}; {unknown[0]:.1%} of the training words and"
        f" {unknown[1]:.1%} of the test's are {UNKNOWN}"
    )
    return TextDataset(
        name=options.name,
        train=train,
        valid=valid,
        test=test,
        vocabulary=vocabulary,
        classes=classes,
        sha256=fingerprint(vocabulary, train, valid, test),
        notes=tuple(f"{options.name}: {note}." for note in notes),
    )


def _tables(corpus: Corpus, contents: list[bytes]) -> tuple[list[FileDocuments], int | None]:
    lines = [
        parse_lines(content, file.path, file.labels, file.known)
        for content, file in zip(contents, corpus.files, strict=True)
    ]
    labels, classes = number_labels(lines)
    return [
        FileDocuments(one.path, one.words, numbers)
        for one, numbers in zip(lines, labels, strict=True)
    ], classes


def _published(
    options: TextOptions, corpus: Corpus, tables: list[FileDocuments]
) -> tuple[list[Chosen], list[str]]:
    """The first documents of each part, as many as asked for."""
    assert corpus.parts is not None
    notes = list(corpus.notes)
    chosen = []
    for name, part in zip(PARTS, corpus.parts, strict=True):
        table = tables[part.file]
        rows = part.rows(len(table.words))
        wanted = getattr(options, name)
        if wanted is None and name == "train" and corpus.train is not None:
            wanted = min(corpus.train, len(rows))
        kept = rows[: _wanted(options, name, wanted, len(rows))]
        if len(kept) < len(rows):
            notes.append(f"the first {len(kept):,} of {len(rows):,} {LONG[name]} documents")
        chosen.append(table.choose(kept))
    if corpus.notes:
        counts = " / ".join(f"{len(part.words):,}" for part in chosen)
        notes.append(f"{counts} documents train, validate and test")
    return chosen, notes


def _random(options: TextOptions, table: FileDocuments) -> tuple[list[Chosen], list[str]]:
    """Test, validation and training documents of one file, by the split seed."""
    count = len(table.words)
    order = generator(options.split_seed, Stream.TEST).permutation(count).astype(np.int64)
    test, rest = np.split(order, [max(1, round(count * options.test_fraction))])
    valid, train = np.split(rest, [max(1, round(len(rest) * options.valid_fraction))])
    if len(train) < SMALLEST_TRAIN or len(valid) < 1:
        raise DataError(
            f"{table.path} has too few documents to split: {count} leave {len(train)} to train;"
            f" at least {SMALLEST_TRAIN} are needed."
        )
    chosen = []
    for name, rows in zip(PARTS, (train, valid, test), strict=True):
        kept = rows[: _wanted(options, name, getattr(options, name), len(rows))]
        chosen.append(table.choose(np.sort(kept)))
    counts = " / ".join(f"{len(part.words):,}" for part in chosen)
    return chosen, [
        f"no published split; a random {counts} of {count:,} documents train, validate and test"
        f" (split seed {options.split_seed})"
    ]


def _wanted(options: TextOptions, name: str, wanted: int | None, count: int) -> int:
    if wanted is not None and wanted > count:
        raise ConfigError(
            f"data.{name} = {wanted}, but {options.name} has {count} {LONG[name]} documents."
        )
    return count if wanted is None else wanted


def _cut(chosen: list[Chosen], length: int) -> tuple[list[Chosen], float]:
    """Documents of at most so many words, and the share that was longer."""
    longer = sum(len(words) > length for part in chosen for words in part.words)
    total = sum(len(part.words) for part in chosen)
    cut = [Chosen([words[:length] for words in part.words], part.labels) for part in chosen]
    return cut, longer / total


def _unknown(part: Documents) -> float:
    """The share of words that are `<unk>`."""
    words = part.ids[part.ids != END_ID]
    return float((words == UNKNOWN_ID).mean())


def load_documents(settings: Text) -> TextDataset:
    """The text that section data of a run names.

    Args:
        settings: section data, of kind text.

    Raises:
        ConfigError, DataError: as `load_text`.
    """
    fields = TextOptions.__dataclass_fields__
    return load_text(TextOptions(**{name: getattr(settings, name) for name in fields}))
