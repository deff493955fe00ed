"""What every loader returns."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Dataset", "Split", "fingerprint"]


@dataclass(frozen=True)
class Split:
    """One part of a data set.

    Attributes:
        x: (N, D) float32, images flattened row by row.
        labels: (N,) int64 in 0 .. classes - 1, or None; never seen in training.
    """

    x: NDArray[np.float32]
    labels: NDArray[np.int64] | None

    def __post_init__(self) -> None:
        assert self.x.ndim == 2
        assert self.x.dtype == np.float32
        if self.labels is not None:
            assert self.labels.shape == self.x.shape[:1]
            assert self.labels.dtype == np.int64


@dataclass(frozen=True)
class Dataset:
    """Data ready for a model.

    Attributes:
        name: as the configuration names it.
        form: of a datum, `points` or `image`.
        train: intensities in [0, 1] where `stochastic`.
        valid: held out of the training data; bits where `stochastic`.
        test: bits where `stochastic`.
        shape: of one datum, (D,) or (height, width).
        classes: number of labels, or None without labels.
        stochastic: the training loop draws fresh bits from `train.x` each epoch.
        sha256: over the arrays above.
        notes: how the data differ from the published ones, for the footnotes of tables.
        entropy: of the data's distribution in nats per datum, where it is known; no model's
            expected log-likelihood is above its negative.
    """

    name: str
    form: str
    train: Split
    valid: Split
    test: Split
    shape: tuple[int, ...]
    classes: int | None
    stochastic: bool
    sha256: str
    notes: tuple[str, ...] = ()
    entropy: float | None = None


def fingerprint(*splits: Split) -> str:
    """SHA-256 over shapes, data and labels, in order.

    Example:
        >>> part = Split(np.zeros((2, 3), np.float32), None)
        >>> fingerprint(part) == fingerprint(part)
        True
    """
    digest = hashlib.sha256()
    for split in splits:
        for array in (split.x, split.labels):
            if array is None:
                digest.update(b"none")
                continue
            little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
            digest.update(f"{little.dtype.str}{little.shape}".encode())
            digest.update(little.tobytes())
    return digest.hexdigest()
