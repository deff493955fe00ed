"""Clusters of the training data in the coordinates of β, for fixed components of a prior."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lidcli.data.directions import principal_directions
from lidcli.errors import DataError

__all__ = ["Anchor", "Coordinates", "anchor", "coordinates"]

Floats = NDArray[np.float64]
SEED = 0
"""Of k-means: the clusters are the data's, the same for every run."""
STARTS = 10
LEAST_SD = 0.2
"""Of a component, in sds of all data along its direction."""


@dataclass(frozen=True)
class Coordinates:
    """Data along their leading principal directions, in sds.

    Attributes:
        mean: (D,) of the data.
        vectors: (D, M), orthonormal columns.
        sd: (M,) of the data along them, positive.
    """

    mean: Floats
    vectors: Floats
    sd: Floats

    def of(self, x: NDArray[np.floating]) -> Floats:
        """w (N, M) of data (N, D): sd 1 in every column for those they were made from."""
        return np.asarray((x @ self.vectors - self.mean @ self.vectors) / self.sd, np.float64)

    def nearest(self, x: NDArray[np.floating], means: NDArray[np.floating]) -> NDArray[np.int64]:
        """The cluster (N,) of each datum, by the distance that k-means measures.

        Args:
            x: (N, D).
            means: (C, M), of the clusters in sds.
        """
        y, centres = self.of(x) * self.sd, means * self.sd
        gap = np.square(centres).sum(1) - 2 * (y @ centres.T)
        return np.asarray(gap.argmin(1), np.int64)


@dataclass(frozen=True)
class Anchor:
    """Distinct components at clusters of data.

    Attributes:
        coordinates: in which they are.
        means: (C, M), of each cluster in sds of all data.
        scales: (C, M), its sds, at least 0.2.
    """

    coordinates: Coordinates
    means: Floats
    scales: Floats


def coordinates(x: NDArray[np.floating], latent: int) -> Coordinates:
    """The coordinates that data give.

    Args:
        x: (N, D), the training part alone.
        latent: M, in [1, D].

    Raises:
        DataError: the data vary in fewer than M directions, or are not finite.
        ValueError: M exceeds D.

    Example:
        >>> frame = coordinates(np.array([[0.0, 0.0], [-3.0, -4.0], [3.0, 4.0]]), 1)
        >>> frame.of(np.array([[3.0, 4.0]])).round(3).tolist()
        [[1.225]]
    """
    found = principal_directions(x, latent)
    return Coordinates(found.mean, found.vectors, np.sqrt(found.variances))


def anchor(x: NDArray[np.floating], latent: int, categories: int) -> Anchor:
    """Means and sds of C clusters of data, by k-means along M principal directions.

    K-means weighs directions by how much the data vary along them; its result does not depend on
    the run's seed, and no label is used.

    Args:
        x: (N, D), the training part alone.
        latent: M, in [1, D].
        categories: C >= 2.

    Raises:
        DataError: fewer distinct data than clusters, clusters that coincide in float32, or data
            that vary in fewer than M directions.
        ValueError: M exceeds D.

    References:
        Arthur and Vassilvitskii (2007), k-means++: how each of the ten starts is chosen.

    Example:
        >>> found = anchor(np.array([[-3.0], [-2.0], [2.0], [3.0]]), 1, 2)
        >>> sorted(found.means.round(3).ravel().tolist()), found.scales.round(3).ravel().tolist()
        ([-0.981, 0.981], [0.2, 0.2])
    """
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    frame = coordinates(x, latent)
    w = frame.of(x)
    y = w * frame.sd
    distinct = len(np.unique(y, axis=0))
    if distinct < categories:
        raise DataError(
            f"The {len(x)} training data are {distinct} distinct ones, fewer than the {categories}"
            " categories whose means are theirs: lower model.categories."
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        labels = KMeans(categories, n_init=STARTS, random_state=SEED).fit(y).labels_
    clusters = [w[labels == c] for c in np.unique(labels)]
    means = np.stack([cluster.mean(0) for cluster in clusters])
    scales = np.stack([np.maximum(cluster.std(0), LEAST_SD) for cluster in clusters])
    if len(np.unique(means.astype(np.float32), axis=0)) < categories:
        raise DataError(
            f"Two of the {categories} clusters of the training data coincide, and so would the"
            " components at their means: lower model.categories."
        )
    return Anchor(frame, means, scales)
