"""What one step sees of the data: dense rows, or tokens with lengths."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, Self, runtime_checkable

import torch
from torch import Tensor

__all__ = ["Batch", "DenseBatch", "TokenBatch"]

DIMENSIONS = 400
"""Dimensions of dense data that count as one decoding when memory is divided."""


@runtime_checkable
class Batch(Protocol):
    """N data."""

    def __len__(self) -> int:
        """N."""
        ...

    def rows(self, index: slice | Tensor) -> Self:
        """Some of the data."""
        ...

    def to(self, device: torch.device) -> Self:
        """The same data on a device."""
        ...

    def terms(self) -> int:
        """Terms over which losses of batches are compared: data, or tokens."""
        ...

    def size(self) -> int:
        """Decodings that the data count for when memory is divided."""
        ...

    def parts(self, size: int) -> list[Self]:
        """The data in order, in parts of at most this size or of one datum."""
        ...


@dataclass(frozen=True)
class DenseBatch:
    """Data as rows x (N, D).

    Example:
        >>> len(DenseBatch(torch.zeros(5, 2)).rows(slice(0, 3)))
        3
    """

    x: Tensor

    def __len__(self) -> int:
        return len(self.x)

    def rows(self, index: slice | Tensor) -> DenseBatch:
        """Some of the data."""
        return DenseBatch(self.x[index])

    def to(self, device: torch.device) -> DenseBatch:
        """The same data on a device."""
        return DenseBatch(self.x.to(device))

    def terms(self) -> int:
        """N."""
        return len(self.x)

    def size(self) -> int:
        """1 a datum for each 400 dimensions or part of them."""
        return len(self.x) * self._width

    def parts(self, size: int) -> list[DenseBatch]:
        """The data in order, in parts of at most this size or of one datum."""
        rows = max(1, size // self._width)
        return [self.rows(slice(i, i + rows)) for i in range(0, len(self.x), rows)]

    @property
    def _width(self) -> int:
        return max(1, math.ceil(self.x.shape[1] / DIMENSIONS))


@dataclass(frozen=True)
class TokenBatch:
    """Sequences as token ids (N, T), padded at the end, and their lengths (N,), each 1 to T.

    Example:
        >>> batch = TokenBatch(torch.tensor([[3, 1, 0], [2, 0, 0]]), torch.tensor([2, 1]))
        >>> batch.mask.tolist()
        [[True, True, False], [True, False, False]]
        >>> TokenBatch(torch.tensor([[3, 1, 3]]), torch.tensor([3])).first.tolist()
        [[True, True, False]]
    """

    ids: Tensor
    lengths: Tensor

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def mask(self) -> Tensor:
        """Which positions hold a token, (N, T)."""
        return torch.arange(self.ids.shape[1], device=self.ids.device) < self.lengths[:, None]

    @property
    def first(self) -> Tensor:
        """Which positions hold a token that its datum has not had before, (N, T)."""
        ids, places = torch.where(self.mask, self.ids, -1).sort(dim=1, stable=True)
        new = torch.ones_like(self.mask)
        new[:, 1:] = ids[:, 1:] != ids[:, :-1]
        return new.scatter(1, places, new) & self.mask

    def rows(self, index: slice | Tensor) -> TokenBatch:
        """Some of the data, cut to the longest of them."""
        lengths = self.lengths[index]
        longest = int(lengths.max()) if len(lengths) else 0
        return TokenBatch(self.ids[index][:, :longest], lengths)

    def to(self, device: torch.device) -> TokenBatch:
        """The same data on a device."""
        return TokenBatch(self.ids.to(device), self.lengths.to(device))

    def terms(self) -> int:
        """Tokens in all."""
        return int(self.lengths.sum())

    def size(self) -> int:
        """Positions, those of padding too."""
        return self.ids.numel()

    def parts(self, size: int) -> list[TokenBatch]:
        """The data in order, in parts of at most this size or of one datum."""
        parts, first, longest = [], 0, 0
        for row, length in enumerate(self.lengths.tolist()):
            longest = max(longest, length)
            if row > first and (row + 1 - first) * longest > size:
                parts.append(self.rows(slice(first, row)))
                first, longest = row, length
        return [*parts, self.rows(slice(first, len(self)))]
