"""Clusters of data in the coordinates of β: what they are, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lidcli.data.anchor import LEAST_SD, anchor, clusters_of, coordinates
from lidcli.data.neighbours import graph_clusters
from lidcli.errors import DataError


def blobs(seed: int, categories: int, dim: int, each: int = 30) -> tuple[np.ndarray, np.ndarray]:
    """Clusters whose centres are at least ten of their sds apart, and which each datum is of."""
    rng = np.random.default_rng(seed)
    centres = 20 * np.eye(categories, dim) + 50 * np.arange(categories)[:, None]
    labels = np.repeat(np.arange(categories), each)
    return (centres[labels] + rng.normal(size=(len(labels), dim))).astype(np.float32), labels


@given(seed=st.integers(0, 1000), dim=st.integers(1, 6), data=st.data())
@settings(max_examples=40, deadline=None)
def test_coordinates_have_mean_zero_and_sd_one_and_keep_what_they_span(seed, dim, data) -> None:
    latent = data.draw(st.integers(1, dim))
    x = np.random.default_rng(seed).normal(size=(50, dim)) @ np.diag(1.0 + np.arange(dim)) + 7
    frame = coordinates(x, latent)
    w = frame.of(x)
    np.testing.assert_allclose(w.mean(0), 0, atol=1e-12)
    np.testing.assert_allclose(w.T @ w / len(w), np.eye(latent), atol=1e-10)
    if latent == dim:
        np.testing.assert_allclose(w * frame.sd @ frame.vectors.T + frame.mean, x, atol=1e-10)


@pytest.mark.parametrize(("categories", "dim", "latent"), [(2, 1, 1), (4, 3, 2), (5, 8, 5)])
def test_means_and_sds_are_those_of_the_clusters(categories: int, dim: int, latent: int) -> None:
    x, labels = blobs(0, categories, dim)
    found = anchor(x, latent, categories)
    w = found.coordinates.of(x)
    own = found.coordinates.nearest(x, found.means)
    for c in range(categories):
        of = own[labels == c]
        assert (of == of[0]).all()
        np.testing.assert_allclose(found.means[of[0]], w[labels == c].mean(0), atol=1e-12)
        sd = np.maximum(w[labels == c].std(0), LEAST_SD)
        np.testing.assert_allclose(found.scales[of[0]], sd, atol=1e-12)
    assert len(set(own)) == categories


def test_a_datum_belongs_to_the_mean_that_is_nearest_in_the_units_of_the_data() -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(200, 4)) @ np.diag([9.0, 3.0, 1.0, 0.1])
    found = anchor(x, 3, 6)
    frame = found.coordinates
    y, centres = frame.of(x) * frame.sd, found.means * frame.sd
    gaps = np.square(y[:, None] - centres[None]).sum(-1)
    np.testing.assert_array_equal(frame.nearest(x, found.means), gaps.argmin(1))


@pytest.mark.parametrize("graph", [False, True])
def test_every_datum_has_the_cluster_that_its_component_is_of(graph: bool) -> None:
    x, _ = blobs(5, 4, 3)
    found = anchor(x, 2, 4, graph=graph)
    own = clusters_of(x, x, found.means, graph=graph)
    w = found.coordinates.of(x)
    for c in range(4):
        np.testing.assert_allclose(found.means[c], w[own == c].mean(0), atol=1e-12)
    np.testing.assert_array_equal(clusters_of(x + 1e-4, x, found.means, graph=graph), own)


def test_clusters_of_the_graph_are_found_in_the_units_of_the_data() -> None:
    x = np.random.default_rng(3).normal(size=(200, 4)) @ np.diag([9.0, 3.0, 1.0, 0.1])
    found = anchor(x, 3, 4, graph=True)
    frame = found.coordinates
    labels = graph_clusters(frame.of(x) * frame.sd, 4)
    np.testing.assert_array_equal(clusters_of(x, x, found.means, graph=True), labels)


def test_the_same_data_give_the_same_components() -> None:
    x, _ = blobs(1, 4, 3)
    first, second = anchor(x, 2, 4), anchor(x, 2, 4)
    np.testing.assert_array_equal(first.means, second.means)
    np.testing.assert_array_equal(first.scales, second.scales)


X = blobs(2, 3, 3)[0]


@pytest.mark.parametrize(
    ("x", "latent", "categories", "words"),
    [
        (X[:5], 2, 6, "The 5 training data are 5 distinct ones, fewer than the 6 categories"),
        (np.repeat(X[:4], 5, 0), 2, 6, "The 20 training data are 4 distinct ones"),
        (np.ones((9, 3)), 1, 2, "are all the same"),
        (X[:, :1] * np.ones((1, 3)), 2, 2, "vary in 1 direction, fewer than the 2 latents"),
        (np.where(X > 40, np.nan, X), 2, 2, "not finite"),
        (
            np.array([[0.0], [0.0], [1e-12], [1.0], [1.0]]),
            1,
            3,
            "Two of the 3 clusters of the training data coincide",
        ),
    ],
)
def test_data_without_such_clusters_are_refused(x, latent, categories, words: str) -> None:
    with pytest.raises(DataError) as caught:
        anchor(np.asarray(x), latent, categories)
    assert words in str(caught.value)


def test_more_latents_than_dimensions_are_refused() -> None:
    with pytest.raises(ValueError, match="4 principal directions of data in 3 dimensions"):
        anchor(X, 4, 2)
