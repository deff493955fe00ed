"""Directions in which sentences differ more than the draw of their tokens: columns for a latent.

A column b assigns each token a number. In the metric of the unigram distribution's Fisher
information, F = diag p - p pᵀ, two columns' product is their covariance under p.

Shape suffixes: N sentences, V vocabulary, K columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, sparse

__all__ = [
    "Directions",
    "cooccurrence_directions",
    "distinct",
    "fisher_gram",
    "orthonormalise",
    "over_dispersion",
    "padding_directions",
    "random_directions",
    "unigram_distribution",
]

Floats = NDArray[np.float64]
Integers = NDArray[Any]


@dataclass(frozen=True)
class Directions:
    """Columns and what they are worth.

    Attributes:
        columns: B (V, K) with Bᵀ F B = I, the most over-dispersed first.
        dispersion: λ (K,) >= 0 on held-out sentences, falling.
        unigram: p (V,) > 0.
    """

    columns: Floats
    dispersion: Floats
    unigram: Floats


def cooccurrence_directions(
    ids: Integers,
    offsets: Integers,
    vocabulary: int,
    latent: int,
    *,
    excluded: Sequence[int] = (),
    words: int = 1500,
    ridge: float = 3e-4,
    held_out: float = 0.2,
    seed: int = 0,
    unigram: Floats | None = None,
) -> Directions:
    """Latent semantic analysis of pairs of tokens, in the metric of what a softmax can see.

    G is the distribution of a token and another one of its sentence, whose marginals are p. The
    leading eigenvectors of D^(-1/2) (G - p pᵀ) D^(-1/2), D = diag(p + ridge), over the commonest
    words, times D^(-1/2), are orthonormalised in F; each is worth its over-dispersion on sentences
    that were held out.

    Args:
        ids: (total,) tokens in [0, V), sentence after sentence.
        offsets: (N + 1,) where each sentence begins, and the end.
        vocabulary: V.
        latent: K, how many columns.
        excluded: tokens that count as no word (unknown ones, the end of a sentence); their rows
            of B are 0.
        words: how many of the commonest words get rows that are not 0, >= K.
        ridge: added to p, > 0.
        held_out: share of the sentences that λ is measured on, in (0, 1).
        seed: of the choice of those.
        unigram: p (V,) > 0 of F; the tokens' own by default.

    Returns:
        B, λ and p.

    Raises:
        ValueError: when arrays do not fit, or there are too few words or sentences.

    References:
        Deerwester et al., "Indexing by latent semantic analysis" (JASIS, 1990).

    Example:
        >>> rng = np.random.default_rng(0)
        >>> topics = rng.integers(2, size=300)
        >>> ids = (rng.integers(5, size=(300, 8)) + 5 * topics[:, None]).ravel()
        >>> found = cooccurrence_directions(ids, np.arange(301) * 8, 10, 1)
        >>> found.columns.shape, bool(found.dispersion[0] > 0.9)
        ((10, 1), True)
    """
    _check(ids, offsets, vocabulary)
    if latent < 1 or words < latent or not ridge > 0 or not 0 < held_out < 1:
        raise ValueError(
            "directions need 1 <= latent <= words, ridge > 0 and 0 < held_out < 1, not "
            f"latent={latent}, words={words}, ridge={ridge}, held_out={held_out}"
        )
    if unigram is None:
        unigram = unigram_distribution(ids, vocabulary)
    counts = _counts(ids, offsets, vocabulary, excluded)
    order = np.random.default_rng(seed).permutation(counts.shape[0])
    held = max(1, round(held_out * len(order)))
    kept, rest = counts[np.sort(order[held:])], counts[np.sort(order[:held])]
    if kept.shape[0] < 1 or rest.shape[0] < 1:
        raise ValueError(f"directions need two sentences of two words, not {counts.shape[0]}")
    seen = np.asarray(kept.sum(axis=0)).ravel()
    p = seen / seen.sum()
    common = np.argsort(-seen, kind="stable")[:words]
    common = np.sort(common[seen[common] > 0])
    if len(common) < latent:
        raise ValueError(f"{latent} directions need as many words, and {len(common)} are there")
    scale = 1 / np.sqrt(p[common] + ridge)
    excess = (_pairs(kept, common) - np.outer(p[common], p[common])) * np.outer(scale, scale)
    leading = (len(common) - latent, len(common) - 1)
    vectors = linalg.eigh(excess, subset_by_index=leading, driver="evr")[1][:, ::-1]
    raw = np.zeros((vocabulary, latent))
    raw[common] = scale[:, None] * vectors
    columns = orthonormalise(raw, unigram)
    dispersion = np.maximum(_dispersion(rest, columns - p @ columns), 0)
    rank = np.argsort(-dispersion, kind="stable")
    return Directions(columns[:, rank], dispersion[rank], unigram)


def distinct(ids: Integers, offsets: Integers, vocabulary: int) -> tuple[Integers, Integers]:
    """The same sentences with every token once, in the vocabulary's order, and their offsets.

    What a document says a hundred times makes no direction of its own then.

    Args:
        ids: (total,) tokens in [0, V).
        offsets: (N + 1,).
        vocabulary: V.

    Example:
        >>> distinct(np.array([4, 2, 4, 4, 0]), np.array([0, 3, 5]), 5)
        (array([2, 4, 0, 4]), array([0, 2, 4]))
    """
    _check(ids, offsets, vocabulary)
    count = len(offsets) - 1
    sentence = np.repeat(np.arange(count), np.diff(offsets))
    pairs = np.unique(sentence * vocabulary + np.asarray(ids))
    lengths = np.bincount(pairs // vocabulary, minlength=count)
    return pairs % vocabulary, np.concatenate([[0], np.cumsum(lengths)])


def unigram_distribution(ids: Integers, vocabulary: int, pseudocount: float = 0.5) -> Floats:
    """p (V,) > 0 of tokens (total,), `pseudocount` added to each count.

    Example:
        >>> unigram_distribution(np.array([0, 0, 1]), 3)
        array([0.55555556, 0.33333333, 0.11111111])
    """
    counts = np.bincount(np.asarray(ids), minlength=vocabulary) + pseudocount
    return np.asarray(counts / counts.sum(), dtype=np.float64)


def over_dispersion(
    columns: Floats,
    ids: Integers,
    offsets: Integers,
    *,
    unigram: Floats | None = None,
    excluded: Sequence[int] = (),
) -> Floats:
    """λ_k, the mean of b_k(s) b_k(t) over a token s and another one t of its sentence, b centred.

    0 where tokens are drawn alike in every sentence, up to 1 where a sentence's tokens agree (for
    columns of variance 1).

    Args:
        columns: (V, K).
        ids: (total,) tokens.
        offsets: (N + 1,).
        unigram: (V,) what to centre by, without excluded tokens; the tokens' own by default.
        excluded: tokens left out.

    Returns:
        (K,).

    Example:
        >>> columns = np.array([[1.0], [-1.0]])
        >>> over_dispersion(columns, np.array([0, 0, 1, 1]), np.array([0, 2, 4]))
        array([1.])
    """
    _check(ids, offsets, len(columns))
    counts = _counts(ids, offsets, len(columns), excluded)
    if counts.shape[0] < 1:
        raise ValueError("over-dispersion needs a sentence of two words")
    p = np.asarray(counts.sum(axis=0), dtype=np.float64).ravel() if unigram is None else unigram
    p = p.copy()
    p[list(excluded)] = 0
    return _dispersion(counts, columns - (p / p.sum()) @ columns)


def orthonormalise(columns: Floats, unigram: Floats) -> Floats:
    """Columns (V, K) of the same span, in order, with Bᵀ F B = I at p (V,); rows of 0 stay 0.

    Example:
        >>> B = orthonormalise(np.array([[1.0], [0.0]]), np.array([0.5, 0.5]))
        >>> B
        array([[2.],
               [0.]])
    """
    columns = columns / np.abs(columns).max(axis=0)
    for _ in range(2):
        try:
            root = np.linalg.cholesky(fisher_gram(columns, unigram))
        except np.linalg.LinAlgError:
            raise ValueError("columns that depend on each other have no orthonormal form") from None
        columns = linalg.solve_triangular(root, columns.T, lower=True).T
    return np.ascontiguousarray(columns)


def fisher_gram(columns: Floats, unigram: Floats) -> Floats:
    """Bᵀ F B (K, K) of B (V, K) and p (V,).

    Example:
        >>> fisher_gram(np.array([[1.0], [0.0]]), np.array([0.5, 0.5]))
        array([[0.25]])
    """
    centred = columns - unigram @ columns
    gram: Floats = centred.T @ (unigram[:, None] * centred)
    return gram


def random_directions(
    unigram: Floats, latent: int, *, excluded: Sequence[int] = (), seed: int = 0
) -> Floats:
    """Random signs (V, K), orthonormalised in F: every word moves, no direction is preferred.

    Example:
        >>> B = random_directions(np.full(8, 1 / 8), 2)
        >>> np.allclose(fisher_gram(B, np.full(8, 1 / 8)), np.eye(2))
        True
    """
    rng = np.random.default_rng(seed)
    words = _words(len(unigram), latent, excluded)
    signs: Floats = np.zeros((len(unigram), latent))
    signs[words] = rng.integers(2, size=(len(words), latent)) * 2.0 - 1.0
    return orthonormalise(signs, unigram)


def padding_directions(vocabulary: int, latent: int, *, excluded: Sequence[int] = ()) -> Floats:
    """Zero padding (V, K): column k is 1 at one word, the last words in order, and 0 elsewhere.

    It is not scaled to Bᵀ F B = I: a column's length is √(p (1 - p)), the little a softmax sees.

    Example:
        >>> padding_directions(4, 2, excluded=[3])
        array([[0., 0.],
               [1., 0.],
               [0., 1.],
               [0., 0.]])
    """
    columns = np.zeros((vocabulary, latent))
    columns[_words(vocabulary, latent, excluded)[-latent:], np.arange(latent)] = 1
    return columns


def _words(vocabulary: int, latent: int, excluded: Sequence[int]) -> NDArray[np.int64]:
    """The tokens that are not excluded, at least K of them."""
    words = np.setdiff1d(np.arange(vocabulary), np.asarray(excluded, dtype=np.int64))
    if not 1 <= latent <= len(words):
        raise ValueError(f"latent must lie between 1 and {len(words)} words, not {latent}")
    return words


def _counts(ids: Integers, offsets: Integers, vocabulary: int, excluded: Sequence[int]) -> Any:
    """Counts (N', V), sparse, of the sentences that keep two words without the excluded tokens."""
    sentence = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    kept = ~np.isin(ids, np.asarray(excluded, dtype=np.int64))
    ones = np.ones(int(kept.sum()))
    shape = (len(offsets) - 1, vocabulary)
    counts = sparse.csr_matrix((ones, (sentence[kept], np.asarray(ids)[kept])), shape=shape)
    long_enough = np.asarray(counts.sum(axis=1)).ravel() >= 2
    return counts[np.flatnonzero(long_enough)]


def _pairs(counts: Any, words: NDArray[np.int64]) -> Floats:
    """G on some words: a token, then another one of its sentence."""
    lengths = np.asarray(counts.sum(axis=1)).ravel()
    some = counts[:, words]
    weighted = sparse.diags_array(1 / (lengths - 1)) @ some
    pairs = np.asarray((some.T @ weighted).toarray(), dtype=np.float64)
    pairs[np.diag_indices(len(words))] -= np.asarray(weighted.sum(axis=0)).ravel()
    return np.asarray((pairs + pairs.T) / (2 * lengths.sum()))


def _dispersion(counts: Any, centred: Floats) -> Floats:
    """λ (K,) of centred columns, unclipped."""
    lengths = np.asarray(counts.sum(axis=1)).ravel()
    sums = np.square(counts @ centred) - counts @ np.square(centred)
    return np.asarray((sums / (lengths - 1)[:, None]).sum(axis=0) / lengths.sum())


def _check(ids: Integers, offsets: Integers, vocabulary: int) -> None:
    """Raise ValueError unless offsets cut ids (total,), tokens in [0, V), into sentences."""
    if ids.ndim != 1 or offsets.ndim != 1 or len(offsets) < 1:
        raise ValueError(f"expected flat ids and offsets, got {ids.shape} and {offsets.shape}")
    if offsets[0] != 0 or offsets[-1] != len(ids) or (np.diff(offsets) < 0).any():
        raise ValueError(f"offsets must rise from 0 to {len(ids)}, the number of tokens")
    if len(ids) and not 0 <= ids.min() <= ids.max() < vocabulary:
        raise ValueError(f"tokens must lie in [0, {vocabulary}), found {ids.min()} to {ids.max()}")
