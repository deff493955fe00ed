"""The log-likelihood of sentences of a `Language`, its latent integrated out."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lidcli.data.documents import Ceiling
from lidcli.data.language import Language

__all__ = ["Marginal", "ceiling", "marginal"]

Floats = NDArray[np.float64]

STEPS = 10
DAMPING = 0.7
INFLATION = 1.5
"""Of the variance of the normal proposal, for tails that reach beyond the posterior's."""
PRIOR_SHARE = 0.1
"""Of the draws from the prior, so that no weight is large where the proposal is wrong."""


@dataclass(frozen=True)
class Marginal:
    """Of N sentences, in nats: log p(x), log p(x | z) at the latents that generated them, and
    the effective share of the draws."""

    log_prob: Floats
    log_conditional: Floats
    effective: Floats


def marginal(
    language: Language, words: NDArray[np.int64], z: Floats, samples: int, seed: int = 0
) -> Marginal:
    """Estimate log p(x) by importance sampling around each sentence's posterior mode.

    The proposal is a mixture of a normal (mode by Fisher scoring from the true latent, inverse
    information as covariance, inflated) and the prior, in fixed proportions.

    Args:
        language: the generator.
        words: (N, T) sentences.
        z: (N, K) the latents that generated them.
        samples: S, draws per sentence.
        seed: of the draws.

    Returns:
        The estimates, (N,) each; log p(x) is low by about (1 / effective - 1) / 2S.

    References:
        Owen and Zhou, Safe and effective importance sampling, JASA 2000.

    Example:
        >>> language = Language(vocabulary=20, hidden=8, length=3)
        >>> words, z = language.draw(2, np.random.default_rng(0))
        >>> marginal(language, words, z, samples=50).log_prob.shape
        (2,)
    """
    random = np.random.Generator(np.random.PCG64(seed))
    states = language.states(words)
    rows = []
    for x, h, true in zip(words, states, z, strict=True):
        weights = _log_weights(language, x, h, true, samples, random)
        top = weights.max()
        relative = np.exp(weights - top)
        rows.append(
            (
                top + math.log(relative.mean()),
                language.log_prob(x, h, true[None])[0],
                relative.sum() ** 2 / (relative**2).sum() / samples,
            )
        )
    columns = np.array(rows).reshape(-1, 3)
    return Marginal(columns[:, 0], columns[:, 1], columns[:, 2])


def _log_weights(
    language: Language,
    x: NDArray[np.int64],
    h: Floats,
    start: Floats,
    samples: int,
    random: np.random.Generator,
) -> Floats:
    """log p(x, z) - log q(z) of the draws."""
    size = len(start)
    mode = start
    for _ in range(STEPS):
        gradient, information = language.score(x, h, mode)
        mode = mode + DAMPING * np.linalg.solve(information + np.eye(size), gradient - mode)
    _, information = language.score(x, h, mode)
    root = np.linalg.cholesky((information + np.eye(size)) / INFLATION)
    noise = random.standard_normal((samples, size))
    plain = round(PRIOR_SHARE * samples)
    z = np.concatenate([noise[:plain], mode + np.linalg.solve(root.T, noise[plain:].T).T])
    prior = -0.5 * (z**2).sum(axis=1)
    normal = -0.5 * (((z - mode) @ root) ** 2).sum(axis=1) + np.log(np.diag(root)).sum()
    share = plain / samples
    mixture = np.logaddexp(
        prior + (math.log(share) if plain else -math.inf), normal + math.log1p(-share)
    )
    weights: Floats = language.log_prob(x, h, z) + prior - mixture
    return weights


def ceiling(estimates: Marginal) -> Ceiling:
    """Entropy and information with standard errors over the sentences.

    Example:
        >>> one = np.array([-3.0, -5.0])
        >>> ceiling(Marginal(one, one + 1, one)).information
        1.0
    """
    root = math.sqrt(len(estimates.log_prob))
    told = estimates.log_conditional - estimates.log_prob
    return Ceiling(
        entropy=-float(estimates.log_prob.mean()),
        entropy_se=float(estimates.log_prob.std(ddof=1)) / root,
        information=float(told.mean()),
        information_se=float(told.std(ddof=1)) / root,
    )
