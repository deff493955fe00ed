"""What an epoch draws from, and what an evaluation looks at."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lidcli.data.dataset import Dataset
from lidcli.models.batch import Batch, DenseBatch

__all__ = ["DenseSource", "Source", "split_of"]

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

    def fixed(self) -> Batch:
        """All data as an evaluation sees them, the same each time."""
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

    def fixed(self) -> DenseBatch:
        """The rows in order, binarised with a seed of their own where stochastic."""
        if not self._stochastic:
            return DenseBatch(self._x)
        generator = torch.Generator().manual_seed(BINARISATION_SEED)
        return DenseBatch(torch.bernoulli(self._x, generator=generator))


def split_of(data: Dataset, name: str, batch_size: int = 1) -> DenseSource:
    """The source of a data set's `train`, `valid` or `test`."""
    part = {"train": data.train, "valid": data.valid, "test": data.test}[name]
    stochastic = data.stochastic and name == "train"
    x = torch.from_numpy(part.x)
    return DenseSource(x, batch_size, stochastic=stochastic, labels=part.labels)
