"""Encoded documents, and the data set of text that a loader returns."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lidcli.data.vocabulary import END_ID, Vocabulary

__all__ = [
    "Ceiling",
    "Documents",
    "TextDataset",
    "documents_of",
    "fingerprint",
    "pack",
    "pad",
    "unpack",
]


@dataclass(frozen=True)
class Documents:
    """Documents one after the other; each ends with `</s>`, which is predicted like any token.

    Attributes:
        ids: (total,) int32 in 0 .. V - 1.
        offsets: (N + 1,) int64, document n is ids[offsets[n]:offsets[n + 1]].
        labels: (N,) int64 in 0 .. classes - 1, or None; never seen in training.

    Raises:
        ValueError: the parts do not fit.

    Example:
        >>> documents_of([[2, 3], [4]]).lengths
        array([3, 2])
    """

    ids: NDArray[np.int32]
    offsets: NDArray[np.int64]
    labels: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        ids, offsets = self.ids, self.offsets
        types = ids.dtype == np.int32 and offsets.dtype == np.int64
        if not types or ids.ndim != 1 or offsets.ndim != 1:
            raise ValueError("Documents are (total,) int32 ids and (N + 1,) int64 offsets.")
        if len(offsets) < 1 or offsets[0] != 0 or offsets[-1] != len(ids):
            raise ValueError("The offsets of documents run from 0 to the number of ids.")
        if (np.diff(offsets) < 1).any() or (ids[offsets[1:] - 1] != END_ID).any():
            raise ValueError("Every document ends with </s>.")
        if self.labels is not None and self.labels.shape != (len(self),):
            raise ValueError(f"{len(self)} documents have labels of shape {self.labels.shape}.")

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> NDArray[np.int32]:
        """The ids of one document, `</s>` last."""
        if not 0 <= row < len(self):
            raise IndexError(f"Document {row} of {len(self)}.")
        return self.ids[self.offsets[row] : self.offsets[row + 1]]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(N,) tokens of each document that are predicted, `</s>` among them."""
        return np.diff(self.offsets)

    def take(self, rows: NDArray[np.int64]) -> Documents:
        """Those documents, in that order."""
        flat, offsets = self._positions(rows)
        labels = None if self.labels is None else self.labels[rows]
        return Documents(self.ids[flat], offsets, labels)

    def _positions(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Where the ids of some rows are, one row after the other, and their new offsets."""
        lengths = self.lengths[rows]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        shift = np.repeat(self.offsets[:-1][rows] - offsets[:-1], lengths)
        return np.arange(offsets[-1]) + shift, offsets


def documents_of(encoded: list[list[int]], labels: NDArray[np.int64] | None = None) -> Documents:
    """Join encoded documents, and end each with `</s>`.

    Args:
        encoded: ids of each document without `</s>`.
        labels: (N,) or None.

    Example:
        >>> documents_of([[2, 3], [4]]).ids
        array([2, 3, 0, 4, 0], dtype=int32)
    """
    lengths = np.array([len(ids) + 1 for ids in encoded], np.int64)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    flat = np.full(offsets[-1], END_ID, np.int32)
    for start, ids in zip(offsets, encoded, strict=False):
        flat[start : start + len(ids)] = ids
    return Documents(flat, offsets, labels)


def pad(
    documents: Documents, rows: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Some documents as a rectangle.

    Args:
        documents: of N documents.
        rows: (B,) which of them.

    Returns:
        ids (B, T) int64, T the longest length, `</s>` wherever a document has ended; lengths (B,).

    Example:
        >>> ids, lengths = pad(documents_of([[2, 3], [4]]), np.array([1, 0]))
        >>> ids
        array([[4, 0, 0],
               [2, 3, 0]])
        >>> lengths
        array([2, 3])
    """
    flat, _ = documents._positions(rows)
    lengths = documents.lengths[rows]
    width = int(lengths.max(initial=0))
    ids = np.full((len(rows), width), END_ID, np.int64)
    ids[np.arange(width) < lengths[:, None]] = documents.ids[flat]
    return ids, lengths


@dataclass(frozen=True)
class Ceiling:
    """What is known of the distribution that generated documents, in nats per document.

    Attributes:
        entropy: E[-log p(x)]; no model's expected log-likelihood is above its negative.
        entropy_se: its standard error.
        information: I(x; z) between a document and the latent that generated it.
        information_se: its standard error.
    """

    entropy: float
    entropy_se: float
    information: float
    information_se: float


@dataclass(frozen=True)
class TextDataset:
    """Text ready for a model.

    Attributes:
        name: as the configuration names it.
        train: what models and the vocabulary learn from.
        valid: held out of it.
        test: for the figures that are reported.
        vocabulary: of all three, from the training part alone or from a file.
        classes: number of labels, or None without labels.
        sha256: over the vocabulary and the arrays above.
        notes: how the data differ from the published ones, for the footnotes of tables.
        ceiling: where the distribution is known.
        form: `text`.
    """

    name: str
    train: Documents
    valid: Documents
    test: Documents
    vocabulary: Vocabulary
    classes: int | None
    sha256: str
    notes: tuple[str, ...] = ()
    ceiling: Ceiling | None = None
    form: str = "text"

    @property
    def shape(self) -> tuple[int, ...]:
        """The vocabulary's size."""
        return (len(self.vocabulary),)

    @property
    def entropy(self) -> float | None:
        """Nats per document, where it is known."""
        return None if self.ceiling is None else self.ceiling.entropy


def fingerprint(vocabulary: Vocabulary, *parts: Documents) -> str:
    """SHA-256 over tokens, shapes, ids, offsets and labels, in order.

    Example:
        >>> part = documents_of([[2]])
        >>> fingerprint(Vocabulary(["a"]), part) == fingerprint(Vocabulary(["b"]), part)
        False
    """
    digest = hashlib.sha256("\n".join(vocabulary.tokens).encode())
    for part in parts:
        for array in (part.ids, part.offsets, part.labels):
            digest.update(_bytes(array))
    return digest.hexdigest()


def _bytes(array: NDArray[Any] | None) -> bytes:
    if array is None:
        return b"none"
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    return f"{little.dtype.str}{little.shape}".encode() + little.tobytes()


def pack(data: TextDataset) -> list[NDArray[Any]]:
    """A data set without a ceiling as arrays of numbers, for `lidcli.data.cache`.

    Example:
        >>> part = documents_of([[2]])
        >>> data = TextDataset("a", part, part, part, Vocabulary(["b"]), None, "0" * 64)
        >>> unpack(pack(data)).vocabulary == data.vocabulary
        True
    """
    facts = {
        "name": data.name,
        "tokens": data.vocabulary.tokens[2:],
        "classes": data.classes,
        "sha256": data.sha256,
        "notes": data.notes,
    }
    arrays: list[NDArray[Any]] = [np.frombuffer(json.dumps(facts).encode(), np.uint8)]
    for part in (data.train, data.valid, data.test):
        labels = np.zeros(0, np.int64) if part.labels is None else part.labels
        arrays += [part.ids, part.offsets, labels]
    return arrays


def unpack(arrays: list[NDArray[Any]]) -> TextDataset:
    """The data set that `pack` took apart."""
    facts = json.loads(arrays[0].tobytes())
    parts = [
        Documents(ids, offsets, None if facts["classes"] is None else labels)
        for ids, offsets, labels in zip(arrays[1::3], arrays[2::3], arrays[3::3], strict=True)
    ]
    return TextDataset(
        name=facts["name"],
        train=parts[0],
        valid=parts[1],
        test=parts[2],
        vocabulary=Vocabulary(facts["tokens"]),
        classes=facts["classes"],
        sha256=facts["sha256"],
        notes=tuple(facts["notes"]),
    )
