"""Clusters of the training data in the coordinates of β, for fixed components of a prior."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lidcli.data.directions import principal_directions
from lidcli.data.neighbours import graph_clusters, nearest_clusters
from lidcli.errors import DataError

__all__ = ["Anchor", "Coordinates", "anchor", "clusters_of", "coordinates"]

Floats = NDArray[np.float64]
SEED = 0
"""Of k-means: the clusters are the data's, the same for every run."""
STARTS = 10
LEAST_SD = 0.2
"""Of a component, in sds of all data along its direction."""
WITHIN = 0.5
"""Of the variance around the nearest centre, which a posterior starts with."""


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

    def posterior(
        self, x: NDArray[np.floating], means: NDArray[np.floating]
    ) -> tuple[Floats, Floats]:
        """Logits of the cluster of a datum x, as weight (C, D) and bias (C,): weight x + bias.

        They are those of a mixture of equal spherical Gaussians at the clusters, whose variance is
        half of what data have around their nearest one.

        Args:
            x: (N, D), the training part.
            means: (C, M), of the clusters in sds.

        Raises:
            DataError: every datum is the centre of its cluster, so that there is no variance.

        Example:
            >>> x = np.array([[-3.0], [-2.0], [2.0], [3.0]])
            >>> found = anchor(x, 1, 2)
            >>> weight, bias = found.coordinates.posterior(x, found.means)
            >>> np.abs(weight).round(1).tolist(), bias.round(1).tolist()
            ([[20.0], [20.0]], [-25.0, -25.0])
        """
        centres = means * self.sd
        around = (x - self.mean) @ self.vectors - centres[self.nearest(x, means)]
        variance = WITHIN * np.square(around).mean()
        if variance <= np.finfo(np.float32).eps * np.square(centres).mean():
            raise DataError(
                f"The {len(x)} training data are the centres of the {len(means)} clusters"
                " themselves, which leaves q(c|x) no variance to start with: lower"
                " model.categories, or inference.category_start=labels."
            )
        weight = centres @ self.vectors.T / variance
        return weight, -weight @ self.mean - np.square(centres).sum(1) / (2 * variance)


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


def anchor(x: NDArray[np.floating], latent: int, categories: int, *, graph: bool = False) -> Anchor:
    """Means and sds of C clusters of data along M principal directions.

    Directions weigh by how much the data vary along them; the clusters do not depend on the run's
    seed, and no label is used.

    Args:
        x: (N, D), the training part alone.
        latent: M, in [1, D].
        categories: C >= 2.
        graph: clusters of the graph of nearest neighbours (`graph_clusters`), not those of k-means.

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
    frame = coordinates(x, latent)
    w = frame.of(x)
    y = w * frame.sd
    distinct = len(np.unique(y, axis=0))
    if distinct < categories:
        raise DataError(
            f"The {len(x)} training data are {distinct} distinct ones, fewer than the {categories}"
            " categories whose means are theirs: lower model.categories."
        )
    labels = graph_clusters(y, categories) if graph else _k_means(y, categories)
    clusters = [w[labels == c] for c in np.unique(labels)]
    means = np.stack([cluster.mean(0) for cluster in clusters])
    scales = np.stack([np.maximum(cluster.std(0), LEAST_SD) for cluster in clusters])
    if len(np.unique(means.astype(np.float32), axis=0)) < categories:
        raise DataError(
            f"Two of the {categories} clusters of the training data coincide, and so would the"
            " components at their means: lower model.categories."
        )
    return Anchor(frame, means, scales)


def _k_means(y: Floats, clusters: int) -> NDArray[np.int64]:
    """The cluster (N,) of each point."""
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return np.asarray(KMeans(clusters, n_init=STARTS, random_state=SEED).fit(y).labels_)


def clusters_of(
    x: NDArray[np.floating],
    train: NDArray[np.floating],
    means: NDArray[np.floating],
    *,
    graph: bool = False,
) -> NDArray[np.int64]:
    """The cluster of each datum, of those that `anchor` found in the training part.

    Args:
        x: (N, D); of the training part itself, the clusters that were found.
        train: what was given to `anchor`.
        means: (C, M), what it gave.
        graph: as given to it; a datum elsewhere is of the cluster commonest around it.

    Returns:
        (N,) in [0, C).

    Example:
        >>> x = np.array([[-3.0], [-2.0], [2.0], [3.0]])
        >>> own = clusters_of(np.array([[-9.0], [-1.0], [1.0]]), x, anchor(x, 1, 2).means)
        >>> bool(own[0] == own[1]), bool(own[1] == own[2])
        (True, False)
    """
    frame = coordinates(train, means.shape[1])
    if not graph:
        return frame.nearest(x, means)
    y = frame.of(train) * frame.sd
    labels = graph_clusters(y, len(means))
    return labels if x is train else nearest_clusters(y, labels, frame.of(x) * frame.sd)
