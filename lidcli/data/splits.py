"""Which data are for training, validation and test: the same for every run seed."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from lidcli.config.sections import Image, Points
from lidcli.errors import ConfigError, DataError

__all__ = ["Indices", "Stream", "generator", "split"]

SMALLEST = 2
"""Data to train on, and to measure: an estimate of one datum has no standard error."""


class Stream(IntEnum):
    """Purposes of random numbers, so that changing one never moves another."""

    TEST = 0
    TRAIN_SUBSET = 1
    TEST_SUBSET = 2
    VALID = 3
    VALID_BITS = 4
    TEST_BITS = 5
    TRAIN_DRAWS = 6
    TEST_DRAWS = 7


@dataclass(frozen=True)
class Indices:
    """Rows of the training pool, and of the test pool (the same one without a published split)."""

    train: NDArray[np.int64]
    valid: NDArray[np.int64]
    test: NDArray[np.int64]


def generator(seed: int, stream: Stream) -> np.random.Generator:
    """The generator of one purpose."""
    return np.random.Generator(np.random.PCG64([seed, int(stream)]))


def split(config: Points | Image, count: int, test_count: int | None) -> Indices:
    """Choose test, training subset and validation, in that order, by `split_seed`.

    Args:
        config: gives `split_seed`, `train`, `test` and the fractions.
        count: data in the training pool.
        test_count: data in the published test set; None: `test_fraction` of the pool is cut off.

    Raises:
        ConfigError: more data asked for than there are.
        DataError: fewer than two data would be left to train on, or to test with.

    Example:
        >>> parts = split(Points(name="mine"), 100, None)
        >>> len(parts.train), len(parts.valid), len(parts.test)
        (81, 9, 10)
    """
    pool = np.arange(count, dtype=np.int64)
    if test_count is None:
        test, pool = _cut(pool, config.test_fraction, config.split_seed, Stream.TEST)
    else:
        test = np.arange(test_count, dtype=np.int64)
    test = _subset(test, config.test, config, Stream.TEST_SUBSET, "test")
    pool = _subset(pool, config.train, config, Stream.TRAIN_SUBSET, "train")
    valid, train = _cut(pool, config.valid_fraction, config.split_seed, Stream.VALID)
    if min(len(train), len(test)) < SMALLEST:
        raise DataError(
            f"{config.name} has too few data to split: {count} leave {len(train)} for training"
            f" and {len(test)} for the test; {SMALLEST} of each are needed, so more data or other"
            " fractions."
        )
    return Indices(train, valid, test)


def _cut(
    pool: NDArray[np.int64], fraction: float, seed: int, stream: Stream
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """A random fraction of the pool, at least one, and the rest."""
    size = max(1, round(len(pool) * fraction))
    order = generator(seed, stream).permutation(pool)
    return order[:size], order[size:]


def _subset(
    pool: NDArray[np.int64], size: int | None, config: Points | Image, stream: Stream, key: str
) -> NDArray[np.int64]:
    if size is None or size == len(pool):
        return pool
    if size > len(pool):
        raise ConfigError(f"data.{key} = {size}, but {config.name} has {len(pool)} {key} data.")
    return generator(config.split_seed, stream).permutation(pool)[:size]
