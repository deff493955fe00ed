"""The directions in which training data vary most, for a decoder to start from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lidcli.errors import DataError

__all__ = ["Directions", "natural_mean", "principal_directions"]

Floats = NDArray[np.float64]
CHUNK = 4096


@dataclass(frozen=True)
class Directions:
    """The k leading principal directions of N data.

    Attributes:
        mean: (D,) of the data.
        vectors: (D, k), orthonormal columns, the largest entry of each positive.
        variances: (k,) of the data along them (divided by N), positive, falling.
    """

    mean: Floats
    vectors: Floats
    variances: Floats


def principal_directions(x: NDArray[np.floating], k: int) -> Directions:
    """The k leading principal directions of data, in float64, of the same sign on any machine.

    Args:
        x: (N, D), the training part alone.
        k: how many, in [1, D].

    Raises:
        DataError: when the data vary in fewer than k directions, or are not finite.
        ValueError: when x is not (N, D) with N >= 1, or k is out of range.

    Example:
        >>> found = principal_directions(np.array([[0.0, 0.0], [-3.0, -4.0], [3.0, 4.0]]), 1)
        >>> found.vectors.round(6).tolist(), found.variances.round(6).tolist()
        ([[0.6], [0.8]], [16.666667])
    """
    if x.ndim != 2 or len(x) < 1:
        raise ValueError(f"data must be (N, D) with N >= 1, got {x.shape}")
    count, dim = x.shape
    if not 1 <= k <= dim:
        raise ValueError(f"{k} principal directions of data in {dim} dimensions: 1 to {dim} exist")
    if not np.isfinite(x).all():
        raise DataError("The training data hold values that are not finite numbers.")
    varies = x.max(axis=0) > x.min(axis=0)
    if not varies.any():
        raise DataError(
            f"The {count} training data are all the same, so they have no principal direction."
        )
    mean = np.where(varies, x.mean(axis=0, dtype=np.float64), x[0].astype(np.float64))
    variances, vectors = _decompose(x, mean)
    floor = variances[0] * max(count, dim) * np.finfo(np.float64).eps
    rank = int((variances > floor).sum())
    if rank < k:
        raise DataError(
            f"The {count} training data vary in {rank} direction{'s' if rank > 1 else ''}, fewer "
            f"than the {k} latents: lower model.latent, or take decoder.beta = zeros and"
            " model.means = fixed."
        )
    return Directions(mean, _signed(vectors[:, :k]), variances[:k])


def natural_mean(mean: Floats, count: int, likelihood: Literal["bernoulli", "gaussian"]) -> Floats:
    """The likelihood's natural parameter (D,) at the mean of the data.

    Args:
        mean: (D,); in [0, 1] where the likelihood is Bernoulli.
        count: N >= 1, how many data it is the mean of.
        likelihood: "bernoulli", the logit of (N mean + ½) / (N + 1), finite for pixels that are
            always black too; "gaussian", the mean itself.

    Raises:
        ValueError: when the likelihood is another, count < 1, or a Bernoulli mean is outside
            [0, 1].

    Example:
        >>> natural_mean(np.array([0.0, 0.5]), 100, "bernoulli").round(3).tolist()
        [-5.303, 0.0]
    """
    if count < 1:
        raise ValueError(f"count must be >= 1, not {count}")
    if likelihood == "gaussian":
        return mean.astype(np.float64)
    if likelihood != "bernoulli":
        raise ValueError(f'likelihood must be "bernoulli" or "gaussian", not {likelihood!r}')
    if not ((mean >= 0) & (mean <= 1)).all():
        raise ValueError("the mean of bits must lie in [0, 1]")
    heads, tails = count * mean + 0.5, count * (1 - mean) + 0.5
    return np.asarray(np.log(heads) - np.log(tails), dtype=np.float64)


def _decompose(x: NDArray[np.floating], mean: Floats) -> tuple[Floats, Floats]:
    """Variances, falling, and directions (D, min(N, D)), from the smaller of the two products."""
    count, dim = x.shape
    if dim <= count:
        covariance = np.zeros((dim, dim))
        for start in range(0, count, CHUNK):
            part = x[start : start + CHUNK] - mean
            covariance += part.T @ part
        variances, vectors = np.linalg.eigh(covariance / count)
        return variances[::-1], vectors[:, ::-1]
    centred = x - mean
    variances, mixing = np.linalg.eigh(centred @ centred.T / count)
    vectors = np.linalg.qr(centred.T @ mixing[:, ::-1])[0]
    return variances[::-1], vectors


def _signed(vectors: Floats) -> Floats:
    """Each column with its largest entry positive, the first of those that rounding cannot tell."""
    size = np.abs(vectors)
    first = (size >= (1 - 1e-8) * size.max(axis=0)).argmax(axis=0)
    signs = np.where(vectors[first, np.arange(vectors.shape[1])] < 0, -1.0, 1.0)
    return np.asarray(vectors * signs, dtype=np.float64)
