"""Synthetic sentences: the same everywhere, and their ceilings against quadrature and sums."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.special import logsumexp

from lidcli.data.documents import Ceiling
from lidcli.data.language import Language
from lidcli.data.marginal import Marginal, ceiling, marginal
from lidcli.data.synthetic import (
    LANGUAGE,
    SYNTHETIC_CEILING,
    SYNTHETIC_SHA256,
    sentences,
    synthetic,
)

TINY = Language(seed=3, latent=1, hidden=6, vocabulary=4, length=3, latent_gain=2.0)


def every_sentence() -> np.ndarray:
    return np.array(list(itertools.product(range(4), repeat=3)))


def by_quadrature(words: np.ndarray) -> np.ndarray:
    """log p(x) by the trapezoidal rule over the one latent, exact to rounding on this grid."""
    grid = np.linspace(-12, 12, 2001)
    log_weights = -0.5 * grid**2 - 0.5 * np.log(2 * np.pi) + np.log(grid[1] - grid[0])
    states = TINY.states(words)
    log_p = [TINY.log_prob(x, h, grid[:, None]) for x, h in zip(words, states, strict=True)]
    return np.asarray(logsumexp(np.array(log_p) + log_weights, axis=1))


def test_the_probabilities_of_all_sentences_given_the_latent_sum_to_one() -> None:
    words = every_sentence()
    for z in (-1.5, 0.0, 2.0):
        log_p = [
            TINY.log_prob(x, h, np.array([[z]]))[0]
            for x, h in zip(words, TINY.states(words), strict=True)
        ]
        np.testing.assert_allclose(logsumexp(log_p), 0, atol=1e-12)


def test_the_marginal_probabilities_sum_to_one() -> None:
    np.testing.assert_allclose(logsumexp(by_quadrature(every_sentence())), 0, atol=1e-12)


def test_words_are_drawn_with_their_probabilities() -> None:
    words, _ = TINY.draw(40_000, np.random.default_rng(0))
    found = np.bincount(words @ [16, 4, 1], minlength=64)
    expected = 40_000 * np.exp(by_quadrature(every_sentence()))
    chi_squared = ((found - expected) ** 2 / expected).sum()
    assert chi_squared < 63 + 5 * np.sqrt(2 * 63)


def test_importance_sampling_agrees_with_quadrature_within_its_error() -> None:
    words, z = TINY.draw(60, np.random.default_rng(1))
    estimates = marginal(TINY, words, z, samples=4000)
    error = np.sqrt((1 / estimates.effective - 1) / 4000)
    assert (np.abs(estimates.log_prob - by_quadrature(words)) < 5 * error + 1e-9).all()
    assert estimates.effective.min() > 0.05


def test_the_score_is_the_gradient_and_the_information_its_variance() -> None:
    language = Language(seed=1, latent=3, hidden=7, vocabulary=5, length=1)
    words, states = np.arange(5)[:, None], language.states(np.arange(5)[:, None])
    z, step = np.array([0.3, -0.8, 1.1]), 1e-5
    total, second = np.zeros(3), np.zeros((3, 3))
    for x, h in zip(words, states, strict=True):
        gradient, information = language.score(x, h, z)
        shifted = z + step * np.concatenate([np.eye(3), -np.eye(3)])
        up, down = np.split(language.log_prob(x, h, shifted), 2)
        np.testing.assert_allclose(gradient, (up - down) / (2 * step), atol=1e-8)
        p = np.exp(language.log_prob(x, h, z[None])[0])
        total += p * gradient
        second += p * np.outer(gradient, gradient)
    np.testing.assert_allclose(total, 0, atol=1e-12)
    np.testing.assert_allclose(second, information, atol=1e-12)


def test_a_smaller_part_is_the_beginning_of_a_larger() -> None:
    few, z = sentences("test", 5)
    more, more_z = sentences("test", 1003)
    np.testing.assert_array_equal(few, more[:5])
    np.testing.assert_array_equal(z, more_z[:5])
    assert not (sentences("valid", 5)[0] == few).all()
    assert sentences("train", 0)[0].shape == (0, 10)


def test_the_data_set_is_that_of_the_ceiling_and_is_kept(tmp_path) -> None:
    data = synthetic(tmp_path)
    assert (len(data.train), len(data.valid), len(data.test)) == (16_000, 2_000, 2_000)
    assert data.sha256 == SYNTHETIC_SHA256
    assert data.notes == ()
    assert data.ceiling == SYNTHETIC_CEILING
    assert data.entropy == SYNTHETIC_CEILING.entropy
    assert set(data.train.lengths) == {11}
    assert len(data.vocabulary) == data.train.ids.max() + 1 == 1002
    assert not (data.train.ids == 1).any()
    np.testing.assert_array_equal(data.test[0][:-1], sentences("test", 1)[0][0] + 2)
    (kept,) = (tmp_path / ".cache").iterdir()
    before = kept.stat().st_mtime_ns
    assert synthetic(tmp_path).sha256 == data.sha256
    assert kept.stat().st_mtime_ns == before


def test_fewer_sentences_have_the_same_ceiling(tmp_path) -> None:
    data = synthetic(tmp_path, train=20, valid=5, test=6)
    assert (len(data.train), len(data.valid), len(data.test)) == (20, 5, 6)
    assert data.ceiling == SYNTHETIC_CEILING
    assert data.notes == ()


def test_other_sentences_than_those_of_the_ceiling_are_noted(tmp_path, monkeypatch) -> None:
    sizes = {"train": 20, "valid": 5, "test": 6}
    monkeypatch.setattr("lidcli.data.synthetic.PARTS", sizes)
    assert "gave other sentences than the ceiling's" in synthetic(tmp_path).notes[0]


def test_the_latent_matters_by_two_nats_and_the_words_are_many() -> None:
    assert SYNTHETIC_CEILING.information - 5 * SYNTHETIC_CEILING.information_se > 2
    words, _ = sentences("train", 2000)
    assert len(np.unique(words)) > 900


def test_the_stored_ceilings_are_those_of_a_fresh_estimate() -> None:
    words, z = sentences("test", 40)
    fresh = ceiling(marginal(LANGUAGE, words, z, samples=100))
    for name in ("entropy", "information"):
        stored, found = getattr(SYNTHETIC_CEILING, name), getattr(fresh, name)
        error = np.hypot(getattr(fresh, f"{name}_se"), getattr(SYNTHETIC_CEILING, f"{name}_se"))
        assert abs(stored - found) < 5 * error + 0.01, name


def test_a_ceiling_is_a_mean_with_its_standard_error() -> None:
    log_prob = np.array([-3.0, -5.0, -4.0])
    told = np.array([1.0, 2.0, 3.0])
    found = ceiling(Marginal(log_prob, log_prob + told, told))
    assert found == Ceiling(
        pytest.approx(4.0), pytest.approx(3**-0.5), pytest.approx(2.0), pytest.approx(3**-0.5)
    )
