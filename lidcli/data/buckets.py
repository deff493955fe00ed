"""Batches of documents of similar length, the same for the same seed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["buckets"]

SPREAD = 0.1
"""Documents are sorted by a length blurred by up to this share, so that company changes."""


def buckets(
    lengths: NDArray[np.int64], batch_size: int, seed: int | Sequence[int]
) -> list[NDArray[np.int64]]:
    """One epoch: every document once, in batches of similar length, in random order.

    A function of its arguments alone, so that an epoch is resumed at batch b by `[b:]`. The
    batch that is smaller, where there is one, may be anywhere among the lengths.

    Args:
        lengths: (N,) of the documents, at least 1 each.
        batch_size: documents in a batch.
        seed: of the epoch; a run gives its own and the epoch's number, or draws one.

    Returns:
        ceil(N / batch_size) arrays of rows, int64.

    Raises:
        ValueError: batch_size < 1, or a length below 1.

    Example:
        >>> lengths = np.array([3, 90, 4, 100, 3])
        >>> batches = buckets(lengths, 2, seed=[0, 1])
        >>> sorted(np.concatenate(batches).tolist())
        [0, 1, 2, 3, 4]
    """
    if batch_size < 1:
        raise ValueError(f"A batch has one document at least, not {batch_size}.")
    if len(lengths) == 0:
        return []
    if lengths.min() < 1:
        raise ValueError(f"A document has one token at least, not {lengths.min()}.")
    random = np.random.Generator(np.random.PCG64(seed))
    blurred = lengths * (1 + SPREAD * random.random(len(lengths)))
    order = np.argsort(blurred, kind="stable").astype(np.int64)
    sizes = np.full(-(-len(lengths) // batch_size), batch_size)
    sizes[random.integers(len(sizes))] -= sizes.sum() - len(lengths)
    batches = np.split(order, np.cumsum(sizes)[:-1])
    return [batches[i] for i in random.permutation(len(batches))]
