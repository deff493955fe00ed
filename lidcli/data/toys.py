"""Data that need no download: the pinwheel and scikit-learn's digits."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lidcli.config.sections import Image, Points
from lidcli.data.dataset import Dataset, Split, fingerprint
from lidcli.data.grey import Images, grey_dataset
from lidcli.data.splits import Stream, generator, split

__all__ = ["PINWHEEL_ENTROPY", "digits", "pinwheel", "pinwheel_log_density"]

ARMS = 5
RADIAL_SD = 0.3
TANGENTIAL_SD = 0.05
RATE = 0.25
PINWHEEL_SCALE = 10 / 7.3909
PINWHEEL_SIZE = 5000
PINWHEEL_SEED = 2016
PINWHEEL_ENTROPY = 0.849
"""Nats per datum; a test integrates it from `pinwheel_log_density`."""

DIGITS_SHAPE = (8, 8)
DIGITS_LEVELS = 16

Floats = NDArray[np.float64]


def pinwheel(config: Points) -> Dataset:
    """Five warped Gaussian arms in the plane, pooled population sd 1 (Johnson et al. 2016).

    Draws are independent, the arm too, so that every figure is a mean over independent data.
    A smaller `train` or `test` is the beginning of a larger one.

    Args:
        config: `train` and `test` say how many are drawn, 5,000 each by default;
            `valid_fraction` of the former are held out; another `split_seed` draws others.

    Raises:
        DataError: too few data to split.

    Example:
        >>> data = pinwheel(Points(name="pinwheel"))
        >>> data.train.x.shape, data.valid.x.shape, data.test.x.shape
        ((4500, 2), (500, 2), (5000, 2))
    """
    sizes = config.train or PINWHEEL_SIZE, config.test or PINWHEEL_SIZE
    seed = PINWHEEL_SEED + config.split_seed
    pool, test = _draw(sizes[0], seed, Stream.TRAIN_DRAWS), _draw(sizes[1], seed, Stream.TEST_DRAWS)
    rows = split(config, *sizes)
    parts = [
        Split(part.x[chosen], None if part.labels is None else part.labels[chosen])
        for part, chosen in ((pool, rows.train), (pool, rows.valid), (test, rows.test))
    ]
    return Dataset(
        name=config.name,
        form="points",
        train=parts[0],
        valid=parts[1],
        test=parts[2],
        shape=(2,),
        classes=ARMS,
        stochastic=False,
        sha256=fingerprint(*parts),
        entropy=PINWHEEL_ENTROPY,
    )


def _draw(count: int, seed: int, stream: Stream) -> Split:
    features, arms = generator(seed, stream).spawn(2)
    f = features.standard_normal((count, 2)) * (RADIAL_SD, TANGENTIAL_SD) + (1, 0)
    labels = arms.integers(ARMS, size=count)
    angle = _angle(f[:, 0], labels)
    x = np.stack(_turn(f[:, 0], f[:, 1], -angle), axis=1)
    return Split((PINWHEEL_SCALE * x).astype(np.float32), labels)


def _angle(radial: Floats, arm: NDArray[np.int64]) -> Floats:
    return 2 * math.pi * arm / ARMS + RATE * np.exp(radial)


def _turn(first: Floats, second: Floats, angle: Floats) -> tuple[Floats, Floats]:
    """Counter-clockwise rotation of the plane."""
    cos, sin = np.cos(angle), np.sin(angle)
    return first * cos - second * sin, first * sin + second * cos


def pinwheel_log_density(x: NDArray[Any]) -> Floats:
    """Exact log density of the pinwheel's population, by change of variables.

    The angle of the warp depends on the radial feature, so a point has to be unwarped by solving
    one scalar equation an arm; its derivative is the Jacobian's determinant. All roots within
    nine sd of the radial feature are found on a grid and bisected.

    Args:
        x: (N, 2) points in the units of the data set.

    Returns:
        (N,) float64, nats; -inf beyond nine radial sd of every arm.

    Raises:
        ValueError: x is not of shape (N, 2).

    Example:
        >>> pinwheel_log_density(np.array([[-0.19, -1.05]])).round(2)
        array([-0.52])
    """
    if x.ndim != 2 or x.shape[1] != 2:
        raise ValueError(f"x must be of shape (N, 2), not {x.shape}.")
    chunks = [_log_density(part) for part in np.array_split(x, len(x) // 2000 + 1)]
    return np.concatenate(chunks)


def _log_density(x: NDArray[Any]) -> Floats:
    y = np.asarray(x, np.float64) / PINWHEEL_SCALE
    grid = np.linspace(1 - 9 * RADIAL_SD, 1 + 9 * RADIAL_SD, 200)
    log_p = np.full(len(y), -np.inf)
    for arm in range(ARMS):

        def unwarp(radial: Floats, rows: Any, arm: int = arm) -> tuple[Floats, Floats]:
            angle = _angle(radial, np.asarray(arm))
            first, second = _turn(y[rows, 0], y[rows, 1], angle)
            return radial - first, second

        gap, _ = unwarp(grid, np.arange(len(y))[:, None])
        point, cell = np.nonzero(np.sign(gap[:, :-1]) != np.sign(gap[:, 1:]))
        low, high = grid[cell], grid[cell + 1]
        sign = np.sign(gap[point, cell])
        for _ in range(45):
            middle = (low + high) / 2
            below = np.sign(unwarp(middle, point)[0]) == sign
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        radial = (low + high) / 2
        tangential = unwarp(radial, point)[1]
        determinant = np.abs(1 + RATE * np.exp(radial) * tangential)
        terms = (
            -0.5 * ((radial - 1) / RADIAL_SD) ** 2
            - 0.5 * (tangential / TANGENTIAL_SD) ** 2
            - math.log(2 * math.pi * RADIAL_SD * TANGENTIAL_SD * ARMS * PINWHEEL_SCALE**2)
            - np.log(determinant)
        )
        np.logaddexp.at(log_p, point, terms)
    return log_p


def digits(config: Image) -> Dataset:
    """The 1,797 handwritten digits of 8×8 pixels and 17 grey levels that scikit-learn bundles.

    Args:
        config: `test_fraction` and `valid_fraction` are held out by `split_seed`.

    Raises:
        ConfigError: more data asked for than there are.

    Example:
        >>> digits(Image(name="digits")).shape
        (8, 8)
    """
    from sklearn.datasets import load_digits

    bundle = load_digits()
    pixels = bundle.images.astype(np.float32) / DIGITS_LEVELS
    assert pixels.shape[1:] == DIGITS_SHAPE
    assert pixels.min() >= 0
    assert pixels.max() <= 1
    return grey_dataset(config, Images(pixels, bundle.target.astype(np.int64)), None, 10)
