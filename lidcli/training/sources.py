"""What an epoch draws from, and what an evaluation looks at."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lidcli.data.buckets import buckets
from lidcli.data.dataset import Dataset
from lidcli.data.documents import Documents, TextDataset, pad
from lidcli.models.batch import Batch, DenseBatch, TokenBatch

__all__ = ["DenseSource", "Source", "TokenSource", "split_of"]

BINARISATION_SEED = 20212


class Source(Protocol):
    """One part of a data set."""

    batches: int
    """Batches of an epoch."""
    labels: npt.NDArray[np.int64] | None
    """Of `fixed()`, where there are any."""

    def __len__(self) -> int:
        """Data."""
        ...

    def epoch(self, generator: torch.Generator) -> Iterator[Batch]:
        """The batches of one epoch, a function of the generator alone."""
        ...

    def draw(self, generator: torch.Generator) -> Batch:
        """One random batch."""
        ...

    def fixed(self, most: int | None = None) -> Batch:
        """All data as an evaluation sees them, or the first of them, the same each time."""
        ...


class DenseSource:
    """Rows in random order; intensities become bits, fresh each epoch.

    Args:
        x: (N, D).
        batch_size: rows of a batch, >= 1; the last one may be smaller.
        stochastic: whether the rows are intensities in [0, 1].
        labels: (N,), which only scores look at.

    Example:
        >>> source = DenseSource(torch.rand(5, 2), 2, stochastic=True)
        >>> [len(batch) for batch in source.epoch(torch.Generator().manual_seed(0))]
        [2, 2, 1]
    """

    def __init__(
        self,
        x: Tensor,
        batch_size: int,
        *,
        stochastic: bool,
        labels: npt.NDArray[np.int64] | None = None,
    ) -> None:
        self._x, self._size, self._stochastic = x, batch_size, stochastic
        self.labels = labels
        self.batches = math.ceil(len(x) / batch_size)

    def __len__(self) -> int:
        return len(self._x)

    def epoch(self, generator: torch.Generator) -> Iterator[DenseBatch]:
        """The rows, shuffled and, where stochastic, binarised."""
        x = self._x[torch.randperm(len(self._x), generator=generator)]
        if self._stochastic:
            x = torch.bernoulli(x, generator=generator)
        for i in range(0, len(x), self._size):
            yield DenseBatch(x[i : i + self._size])

    def draw(self, generator: torch.Generator) -> DenseBatch:
        """Random rows, binarised where stochastic."""
        x = self._x[torch.randperm(len(self._x), generator=generator)[: self._size]]
        return DenseBatch(torch.bernoulli(x, generator=generator) if self._stochastic else x)

    def fixed(self, most: int | None = None) -> DenseBatch:
        """The rows in order, binarised with a seed of their own where stochastic."""
        if not self._stochastic:
            return DenseBatch(self._x[:most])
        generator = torch.Generator().manual_seed(BINARISATION_SEED)
        return DenseBatch(torch.bernoulli(self._x, generator=generator)[:most])


class TokenSource:
    """Documents in batches of similar length.

    Args:
        documents: encoded.
        batch_size: documents of a batch, >= 1.

    Example:
        >>> from lidcli.data.documents import documents_of
        >>> source = TokenSource(documents_of([[2, 3], [4], [5, 6, 7]]), 2)
        >>> source.fixed().lengths.tolist()
        [2, 3, 4]
    """

    def __init__(self, documents: Documents, batch_size: int) -> None:
        self._documents, self._size = documents, batch_size
        self.batches = math.ceil(len(documents) / batch_size)
        self._order = np.argsort(documents.lengths, kind="stable").astype(np.int64)
        labels = documents.labels
        self.labels = None if labels is None else labels[self._order]

    def __len__(self) -> int:
        return len(self._documents)

    def _batch(self, rows: npt.NDArray[np.int64]) -> TokenBatch:
        ids, lengths = pad(self._documents, rows)
        return TokenBatch(torch.from_numpy(ids), torch.from_numpy(lengths))

    def epoch(self, generator: torch.Generator) -> Iterator[TokenBatch]:
        """Every document once."""
        seed = int(torch.randint(2**62, (), generator=generator))
        for rows in buckets(self._documents.lengths, self._size, seed):
            yield self._batch(rows)

    def draw(self, generator: torch.Generator) -> TokenBatch:
        """Documents next to each other by length, from a random place."""
        most = max(1, len(self) - self._size + 1)
        first = int(torch.randint(most, (), generator=generator))
        return self._batch(self._order[first : first + self._size])

    def fixed(self, most: int | None = None) -> TokenBatch:
        """All documents, or some of the shortest, the shortest first."""
        return self._batch(self._order[:most])


def _dense(data: Dataset, name: str, batch_size: int) -> DenseSource:
    part = getattr(data, name)
    x = torch.from_numpy(part.x)
    stochastic = data.stochastic and name == "train"
    return DenseSource(x, batch_size, stochastic=stochastic, labels=part.labels)


def _tokens(data: TextDataset, name: str, batch_size: int) -> TokenSource:
    return TokenSource(getattr(data, name), batch_size)


SOURCES: dict[str, Callable[[Any, str, int], Any]] = {
    "points": _dense,
    "image": _dense,
    "text": _tokens,
}
"""What makes a source, by the form of the data."""


def split_of(data: Any, name: str, batch_size: int = 1) -> Any:
    """The source of a data set's `train`, `valid` or `test`."""
    return SOURCES[data.form](data, name, batch_size)
