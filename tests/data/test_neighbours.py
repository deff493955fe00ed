"""Clusters of the graph of nearest neighbours: curved ones whole, few data refused."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import make_moons

from lidcli.data.neighbours import NEIGHBOURS, graph_clusters, nearest_clusters
from lidcli.errors import DataError
from lidcli.metrics.clustering import purity


def moons(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    return make_moons(n, noise=0.05, random_state=seed)


def test_a_cluster_may_bend() -> None:
    y, labels = moons(300, 0)
    own = graph_clusters(y, 2)
    assert own.dtype == np.int64
    assert purity(labels, own).value == 1.0
    straight = (y @ np.array([1.0, 0.0]) > 0.5).astype(np.int64)
    assert purity(labels, straight).value < 0.9


def test_the_same_points_have_the_same_clusters_whatever_was_asked_between() -> None:
    y, _ = moons(120, 1)
    first = graph_clusters(y, 3)
    first[:] = -1
    graph_clusters(moons(120, 2)[0], 3)
    np.testing.assert_array_equal(graph_clusters(y, 3), graph_clusters(y.copy(), 3))
    assert set(graph_clusters(y, 3)) == {0, 1, 2}


def test_parts_that_no_neighbour_joins_are_clusters_without_a_warning() -> None:
    y = np.concatenate([np.random.default_rng(0).normal(size=(30, 2)) + 100 * c for c in range(3)])
    assert purity(np.repeat([0, 1, 2], 30), graph_clusters(y, 3)).value == 1.0


@pytest.mark.parametrize(("points", "clusters"), [(NEIGHBOURS, 2), (30, 30)])
def test_too_few_data_are_refused(points: int, clusters: int) -> None:
    y = np.arange(float(points))[:, None]
    with pytest.raises(DataError, match=f"and there are {points}: set model.means to data"):
        graph_clusters(y, clusters)


def test_a_new_point_is_of_the_cluster_around_it() -> None:
    y, _ = moons(300, 3)
    own = graph_clusters(y, 2)
    new = y[::7] + 1e-6
    np.testing.assert_array_equal(nearest_clusters(y, own, new), own[::7])
