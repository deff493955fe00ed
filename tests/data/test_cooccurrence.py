"""Columns from pairs of tokens: planted directions are found, and noise is worth nothing."""

from __future__ import annotations

import doctest
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lidcli.data import cooccurrence
from lidcli.data.cooccurrence import (
    Directions,
    cooccurrence_directions,
    distinct,
    fisher_gram,
    orthonormalise,
    over_dispersion,
    padding_directions,
    random_directions,
    unigram_distribution,
)

END, UNKNOWN, VOCABULARY, LENGTH = 0, 1, 60, 12
Array = NDArray[Any]


def sentences(strengths: list[float], count: int, seed: int = 0) -> tuple[Array, Array, Array]:
    """Tokens with log p(x | z) = log p + B diag(strengths) z + const, an end each; and B."""
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.full(VOCABULARY, 5.0))
    raw = rng.normal(size=(VOCABULARY, len(strengths)))
    raw[[END, UNKNOWN]] = 0
    planted = orthonormalise(raw, p)
    z = rng.normal(size=(count, len(strengths)))
    logits = np.log(p) + z * np.array(strengths) @ planted.T
    logits[:, END] = -np.inf
    chances = np.exp(logits - logits.max(axis=1, keepdims=True))
    below = np.cumsum(chances / chances.sum(axis=1, keepdims=True), axis=1)
    lengths = rng.integers(LENGTH - 4, LENGTH + 5, size=count)
    draws = [
        np.append(np.searchsorted(row, rng.random(length) * row[-1]), END)
        for row, length in zip(below, lengths, strict=True)
    ]
    offsets = np.concatenate([[0], np.cumsum(lengths + 1)])
    return np.concatenate(draws).astype(np.int32), offsets.astype(np.int64), planted


def found_in(strengths: list[float], count: int, latent: int, **options: Any) -> Directions:
    ids, offsets, _ = sentences(strengths, count)
    return cooccurrence_directions(
        ids, offsets, VOCABULARY, latent, excluded=[END, UNKNOWN], **options
    )


def test_planted_directions_are_found_in_their_order_and_worth_what_was_planted() -> None:
    strengths = [0.5, 0.35]
    _, _, planted = sentences(strengths, 1)
    found = found_in(strengths, 8000, 4)
    words = np.setdiff1d(np.arange(VOCABULARY), [END, UNKNOWN])
    p = found.unigram[words] / found.unigram[words].sum()
    known = orthonormalise(planted[words], p)
    mine = orthonormalise(found.columns[words], p)
    agreement = np.abs(known.T @ (p[:, None] * (mine - p @ mine)))
    assert agreement[0, 0] > 0.97
    assert agreement[1, 1] > 0.97
    ids, offsets, planted = sentences(strengths, 20_000)
    known = orthonormalise(planted, unigram_distribution(ids, VOCABULARY))
    worth = over_dispersion(known, ids, offsets, excluded=[END, UNKNOWN])
    np.testing.assert_allclose(found.dispersion[:2], worth, rtol=0.15)
    assert (0.6 * np.square(strengths) < worth).all()
    assert (worth < np.square(strengths)).all()
    assert found.dispersion[2:].max() < 0.5 * worth[1]


def test_the_columns_are_orthonormal_in_fishers_metric_and_leave_out_what_is_no_word() -> None:
    found = found_in([0.7, 0.45], 2000, 5)
    gram = fisher_gram(found.columns, found.unigram)
    assert np.abs(gram - np.eye(5)).max() < 1e-10
    assert (found.columns[[END, UNKNOWN]] == 0).all()
    assert (np.diff(found.dispersion) <= 0).all()


def test_only_the_commonest_words_have_rows_of_their_own() -> None:
    found = found_in([0.7], 2000, 2, words=10)
    moved = (found.columns != 0).any(axis=1)
    assert moved.sum() == 10
    assert found.unigram[moved].min() >= np.sort(found.unigram[2:])[-10] - 1e-12


def test_exchangeable_noise_is_worth_nothing_on_sentences_held_out() -> None:
    count, latent = 6000, 4
    found = found_in([0.0], count, latent)
    deviation = (2 / (0.2 * count * LENGTH * (LENGTH - 1))) ** 0.5
    assert found.dispersion.max() < 5 * deviation


def test_random_columns_are_worth_nothing_where_the_data_have_few_directions() -> None:
    ids, offsets, _ = sentences([0.7], 4000)
    p = unigram_distribution(ids, VOCABULARY)
    columns = random_directions(p, 3, excluded=[END, UNKNOWN], seed=1)
    assert np.abs(fisher_gram(columns, p) - np.eye(3)).max() < 1e-10
    worth = over_dispersion(columns, ids, offsets, excluded=[END, UNKNOWN])
    best = found_in([0.7], 4000, 1)
    known = over_dispersion(best.columns, ids, offsets, excluded=[END, UNKNOWN])
    assert worth.max() < 0.25 * known[0]


def test_over_dispersion_is_the_mean_over_pairs() -> None:
    ids, offsets, _ = sentences([0.7], 30)
    columns = np.random.default_rng(0).normal(size=(VOCABULARY, 2))
    rows = [row[row != END] for row in (ids[a:b] for a, b in pairwise(offsets))]
    centred = columns - np.concatenate([columns[row] for row in rows]).mean(axis=0)
    total = np.zeros(2)
    for row in rows:
        for i in range(len(row)):
            others = [j for j in range(len(row)) if j != i]
            total += centred[row[i]] * centred[row[others]].mean(axis=0)
    found = over_dispersion(columns, ids, offsets, excluded=[END])
    np.testing.assert_allclose(found, total / sum(map(len, rows)), rtol=1e-12)


def test_pairs_have_the_unigram_distribution_as_their_marginals() -> None:
    ids, offsets, _ = sentences([0.7], 40)
    counts = cooccurrence._counts(ids, offsets, VOCABULARY, [END])
    pairs = cooccurrence._pairs(counts, np.arange(VOCABULARY))
    p = np.asarray(counts.sum(axis=0)).ravel()
    np.testing.assert_allclose(pairs.sum(axis=1), p / p.sum(), atol=1e-15)


def test_the_same_seed_gives_the_same_columns_and_lengths_do_not_matter() -> None:
    first, second = found_in([0.7], 500, 2, seed=3), found_in([0.7], 500, 2, seed=3)
    np.testing.assert_array_equal(first.columns, second.columns)
    ids, offsets, _ = sentences([0.7], 500)
    longer = np.concatenate([offsets, offsets[-1:], offsets[-1:] + 1])
    cooccurrence_directions(np.append(ids, 5), longer, VOCABULARY, 2, excluded=[END])


def test_padding_moves_one_word_each() -> None:
    columns = padding_directions(6, 3, excluded=[5])
    assert columns.sum() == 3
    assert columns[[2, 3, 4], [0, 1, 2]].all()


def test_unseen_tokens_keep_a_probability() -> None:
    p = unigram_distribution(np.array([0, 0], dtype=np.int32), 3)
    assert p.sum() == pytest.approx(1)
    assert (p > 0).all()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"latent": 0}, "latent=0"),
        ({"latent": 9, "words": 8}, "latent=9, words=8"),
        ({"ridge": 0.0}, "ridge=0"),
        ({"held_out": 1.0}, "held_out=1"),
        ({"vocabulary": 3}, r"tokens must lie in \[0, 3\), found 0 to 5"),
        ({"offsets": np.array([0, 2])}, "rise from 0 to 12"),
        ({"offsets": np.array([0, 9, 4, 12])}, "rise from 0 to 12"),
        ({"ids": np.zeros((3, 4), int)}, "flat ids and offsets"),
        ({"latent": 7}, "7 directions need as many words, and 6 are there"),
        ({"offsets": np.array([0, 12])}, "two sentences of two words, not 1"),
        ({"offsets": np.arange(13)}, "two sentences of two words, not 0"),
    ],
)
def test_wrong_arguments_are_named(options: dict[str, Any], said: str) -> None:
    arguments: dict[str, Any] = {
        "ids": np.arange(12) % 6,
        "offsets": np.array([0, 6, 12]),
        "vocabulary": 8,
        "latent": 2,
    }
    with pytest.raises(ValueError, match=said):
        cooccurrence_directions(**arguments | options)


def test_dependent_columns_and_too_many_are_named() -> None:
    with pytest.raises(ValueError, match="depend on each other"):
        orthonormalise(np.ones((4, 1)), np.full(4, 0.25))
    with pytest.raises(ValueError, match="between 1 and 3 words, not 4"):
        padding_directions(4, 4, excluded=[0])


def test_the_examples_run() -> None:
    found = doctest.testmod(cooccurrence)
    assert found.attempted > 0
    assert found.failed == 0


@pytest.mark.parametrize("length", [1, 3, 8])
def test_distinct_tokens_are_each_sentences_own_once(length: int) -> None:
    rows = np.random.default_rng(length).integers(5, size=(20, length))
    ids, offsets = distinct(rows.ravel(), np.arange(21) * length, 5)
    found = np.split(ids, offsets[1:-1])
    assert [part.tolist() for part in found] == [sorted(set(row)) for row in rows.tolist()]


def test_without_repeats_a_document_of_one_word_makes_no_direction() -> None:
    ids, offsets, _ = sentences([0.6], 400)
    spam = np.append(np.full(100, 7), END).astype(np.int32)
    ids, offsets = np.concatenate([spam, ids]), np.append(0, offsets + len(spam))
    p = unigram_distribution(ids, VOCABULARY)
    told = [
        cooccurrence_directions(*counted, VOCABULARY, 2, excluded=[END, UNKNOWN], unigram=p)
        for counted in ((ids, offsets), distinct(ids, offsets, VOCABULARY))
    ]
    share = [np.square(found.columns[7]).max() * p[7] for found in told]
    assert share[0] > 0.5
    assert share[1] < 0.2
    assert np.abs(fisher_gram(told[1].columns, p) - np.eye(2)).max() < 1e-10
