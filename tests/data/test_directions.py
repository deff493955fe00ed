"""Principal directions: orthonormal, in order, of one sign, and refused where there are none."""

from __future__ import annotations

import doctest
import importlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lidcli.data.directions import natural_mean, principal_directions
from lidcli.errors import DataError


def drawn(count: int, dim: int, seed: int) -> np.ndarray:
    """Data whose standard deviations along oblique directions fall by 1.5 each."""
    rng = np.random.default_rng(seed)
    oblique = np.linalg.qr(rng.normal(size=(dim, dim)))[0]
    return 5 + rng.normal(size=(count, dim)) * 1.5 ** -np.arange(dim) @ oblique


@given(count=st.integers(2, 40), dim=st.integers(1, 12), seed=st.integers(0, 1000), data=st.data())
@settings(max_examples=80, deadline=None)
def test_they_are_the_leading_singular_vectors_of_the_centred_data(
    count: int, dim: int, seed: int, data: st.DataObject
) -> None:
    k = data.draw(st.integers(1, min(count - 1, dim)))
    x = drawn(count, dim, seed)
    found = principal_directions(x, k)
    singular = np.linalg.svd(x - x.mean(0), full_matrices=False)[1]
    largest = singular[0] ** 2 / count
    np.testing.assert_allclose(found.mean, x.mean(0), rtol=1e-13)
    np.testing.assert_allclose(found.variances, singular[:k] ** 2 / count, atol=1e-12 * largest)
    np.testing.assert_allclose(found.vectors.T @ found.vectors, np.eye(k), atol=1e-13)
    along = (x - x.mean(0)) @ found.vectors
    np.testing.assert_allclose(
        along.T @ along / count, np.diag(found.variances), atol=1e-12 * largest
    )


@given(count=st.integers(3, 40), dim=st.integers(2, 12), seed=st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_the_largest_entry_is_positive_whatever_the_datas_order(
    count: int, dim: int, seed: int
) -> None:
    x = drawn(count, dim, seed).astype(np.float32)
    k = min(count - 1, dim, 2)
    found, turned = principal_directions(x, k), principal_directions(x[::-1], k)
    peaks = np.abs(found.vectors).argmax(0)
    assert (found.vectors[peaks, range(k)] > 0).all()
    gap = np.diff(np.linalg.svd(x - x.mean(0), full_matrices=False)[1][: k + 1] ** 2 / count)
    if gap.size == 0 or np.abs(gap).min() > 1e-2 * found.variances[0]:
        np.testing.assert_allclose(found.vectors, turned.vectors, atol=1e-10)


def test_entries_that_rounding_cannot_tell_apart_decide_no_sign() -> None:
    along = np.array([[1.0, -1.0, 0.0]])
    for tilt in (1e-12, -1e-12):
        x = np.linspace(-1, 1, 9)[:, None] * (along + np.array([[tilt, tilt, 0.0]]))
        np.testing.assert_allclose(
            principal_directions(x, 1).vectors[:, 0] * np.sqrt(2), [1, -1, 0], atol=1e-9
        )


def test_data_fewer_than_their_dimensions_have_orthonormal_directions_too() -> None:
    x = np.random.default_rng(0).normal(size=(20, 500)) * np.logspace(0, -5, 20)[:, None]
    found = principal_directions(x, 19)
    np.testing.assert_allclose(found.vectors.T @ found.vectors, np.eye(19), atol=1e-13)
    assert (np.diff(found.variances) <= 0).all()
    assert (found.variances > 0).all()


def test_more_data_than_one_chunk_are_all_used() -> None:
    x = drawn(10_000, 3, 0)
    singular = np.linalg.svd(x - x.mean(0), full_matrices=False)[1]
    np.testing.assert_allclose(principal_directions(x, 3).variances, singular**2 / 10_000)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_values_that_never_vary_are_means_exactly_and_no_direction(dtype: type) -> None:
    x = np.full((1000, 4), 0.1, dtype=dtype)
    x[:, 2] = np.linspace(0, 1, 1000)
    found = principal_directions(x, 1)
    assert found.vectors[:, 0].tolist() == [0, 0, 1, 0]
    assert found.mean[0] == np.float64(x[0, 0])
    with pytest.raises(DataError, match="1000 training data vary in 1 direction, fewer than the 2"):
        principal_directions(x, 2)


@pytest.mark.parametrize("shape", [(1, 3), (7, 3), (1000, 3)])
def test_constant_data_have_no_direction(shape: tuple[int, int]) -> None:
    with pytest.raises(DataError, match=f"{shape[0]} training data are all the same"):
        principal_directions(np.full(shape, 0.3, dtype=np.float32), 1)


def test_fewer_data_than_latents_are_refused() -> None:
    x = np.random.default_rng(0).normal(size=(5, 20))
    assert principal_directions(x, 4).vectors.shape == (20, 4)
    with pytest.raises(DataError, match="5 training data vary in 4 directions, fewer than the 5"):
        principal_directions(x, 5)


def test_dependent_columns_are_no_directions() -> None:
    x = np.random.default_rng(0).normal(size=(50, 2)) @ np.ones((2, 6)) + 1e3
    with pytest.raises(DataError, match="vary in 1 direction,"):
        principal_directions(x, 2)


def test_data_that_are_not_finite_are_refused() -> None:
    with pytest.raises(DataError, match="not finite"):
        principal_directions(np.array([[0.0, 1.0], [np.nan, 2.0]]), 1)


@pytest.mark.parametrize(
    ("shape", "k", "said"),
    [((5, 3), 0, "0 principal"), ((5, 3), 4, "1 to 3 exist"), ((5,), 1, r"\(5,\)"),
     ((0, 3), 1, r"\(0, 3\)")],
)  # fmt: skip
def test_what_cannot_be_asked_is_named(shape: tuple[int, ...], k: int, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        principal_directions(np.zeros(shape), k)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=9), st.integers(1, 10**6))
def test_the_natural_mean_of_bits_is_the_logit_of_the_ridged_mean(
    mean: list[float], count: int
) -> None:
    found = natural_mean(np.array(mean), count, "bernoulli")
    assert np.isfinite(found).all()
    expected = (count * np.array(mean) + 0.5) / (count + 1)
    np.testing.assert_allclose(1 / (1 + np.exp(-found)), expected, rtol=1e-12, atol=1e-15)


def test_the_natural_mean_of_real_values_is_the_mean() -> None:
    assert natural_mean(np.array([-3.0, 2.0]), 5, "gaussian").tolist() == [-3.0, 2.0]


@pytest.mark.parametrize(
    ("mean", "count", "likelihood", "said"),
    [(0.5, 0, "bernoulli", "count"), (1.5, 5, "bernoulli", r"\[0, 1\]"),
     (np.nan, 5, "bernoulli", r"\[0, 1\]"), (0.5, 5, "categorical", "'categorical'")],
)  # fmt: skip
def test_means_of_no_likelihood_are_refused(
    mean: float, count: int, likelihood: str, said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        natural_mean(np.array([mean]), count, likelihood)


def test_the_examples_run() -> None:
    found = doctest.testmod(importlib.import_module("lidcli.data.directions"))
    assert found.attempted > 0
    assert found.failed == 0
