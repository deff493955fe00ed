"""Clusters of points that are joined by their nearest neighbours, whatever their shape."""

from __future__ import annotations

import warnings
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from lidcli.errors import DataError

__all__ = ["NEIGHBOURS", "graph_clusters", "nearest_clusters"]

Floats = NDArray[np.float64]
NEIGHBOURS = 10
"""Of each point, itself among them, that the graph joins it with."""
SEED = 0


def graph_clusters(y: Floats, clusters: int) -> NDArray[np.int64]:
    """The cluster of each point: a normalised cut of the graph of nearest neighbours.

    Args:
        y: (N, M), more points than clusters and than neighbours.
        clusters: >= 2.

    Returns:
        (N,) in [0, clusters), the same for the same points.

    Raises:
        DataError: too few points.

    References:
        Shi and Malik, "Normalized cuts and image segmentation" (2000); von Luxburg, "A tutorial
        on spectral clustering" (2007).

    Example:
        >>> y = np.repeat([[0.0], [1.0]], 12, axis=0) + np.linspace(0, 0.1, 24)[:, None]
        >>> labels = graph_clusters(y, 2)
        >>> len(set(labels[:12])), len(set(labels[12:])), bool(labels[0] == labels[-1])
        (1, 1, False)
    """
    least = max(clusters, NEIGHBOURS) + 1
    if len(y) < least:
        raise DataError(
            f"A graph of neighbours needs at least {least} training data, and there are {len(y)}:"
            " set model.means to data."
        )
    y = np.ascontiguousarray(y, np.float64)
    return _cut(y.tobytes(), y.shape[1], clusters).copy()


@lru_cache(maxsize=1)
def _cut(content: bytes, dimensions: int, clusters: int) -> NDArray[np.int64]:
    """`graph_clusters` of float64 points, of which a run asks more than once."""
    from sklearn.cluster import SpectralClustering

    y = np.frombuffer(content).reshape(-1, dimensions)
    cut = SpectralClustering(
        clusters, affinity="nearest_neighbors", n_neighbors=NEIGHBOURS, random_state=SEED
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Graph is not fully connected")
        return np.asarray(cut.fit_predict(y), np.int64)


def nearest_clusters(y: Floats, labels: NDArray[np.int64], new: Floats) -> NDArray[np.int64]:
    """The commonest cluster among a point's nearest neighbours.

    Args:
        y: (N, M) points whose clusters are known, at least as many as neighbours.
        labels: (N,) of them.
        new: (K, M).

    Returns:
        (K,).

    Example:
        >>> y = np.arange(20.0)[:, None]
        >>> nearest_clusters(y, np.repeat([0, 1], 10), np.array([[2.2], [16.1]])).tolist()
        [0, 1]
    """
    from sklearn.neighbors import KNeighborsClassifier

    known = KNeighborsClassifier(NEIGHBOURS).fit(y, labels)
    return np.asarray(known.predict(new), np.int64)
