"""The weight of a two-component mixture as a latent: its posterior by quadrature."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import betaln, roots_jacobi, roots_legendre

__all__ = [
    "PRIOR",
    "WeightPosterior",
    "beta_log_prior",
    "weight_log_likelihood",
    "weight_posterior",
]

Array = npt.NDArray[np.float64]
PRIOR = (5.0, 5.0)
"""Beta prior of the mixture weight α (paper, appendix A.2)."""
DEPTH = 80.0
"""Nats below the mode beyond which the density of α is left out: e^-80 of its height."""
PANELS, NODES = 40, 20
"""Gauss-Legendre panels over the rest, and nodes of each."""
JACOBI = 400
"""Nodes of the Gauss-Jacobi rule for expectations under the prior."""


def beta_log_prior(alpha: Array) -> Array:
    """log Beta(α; 5, 5) for α in (0, 1)."""
    a, b = PRIOR
    value: Array = (a - 1) * np.log(alpha) + (b - 1) * np.log1p(-alpha) - betaln(a, b)
    return value


def weight_log_likelihood(alpha: Array, log_densities: Array) -> Array:
    """Σ_n log(α p_1(x_n) + (1 - α) p_2(x_n)) in nats, for every α.

    Args:
        alpha: weights of the first component (A,), in (0, 1).
        log_densities: log p_1 and log p_2 of N data, (N, 2).

    Example:
        >>> weight_log_likelihood(np.array([0.3]), np.zeros((7, 2))).tolist()
        [0.0]
    """
    first, second = log_densities[:, 0], log_densities[:, 1]
    total: float = second.sum()
    gap = first - second
    out = np.empty_like(alpha)
    for i, a in enumerate(alpha):
        out[i] = np.logaddexp(np.log(a) + gap, np.log1p(-a)).sum()
    return out + total


@dataclass(frozen=True)
class WeightPosterior:
    """p(α | x) at fixed components, by quadrature.

    `kl` is KL(p(α|x) ‖ p(α)) in nats of the whole data set, `variation` the variance under the
    prior of log p(x | α) in squared nats, and `log_evidence` log ∫ p(x | α) p(α) dα.
    """

    mean: float
    sd: float
    kl: float
    variation: float
    log_evidence: float
    alpha: Array
    """Nodes (A,), ascending."""
    density: Array
    """Posterior density at the nodes."""


def weight_posterior(log_densities: Array) -> WeightPosterior:
    """The posterior of the weight α of two components under Beta(5, 5), components fixed.

    log p(x | α) is concave in α, so the posterior has one mode; Gauss-Legendre panels cover
    everything down to e^-80 of it, in log space.

    Args:
        log_densities: log p_1 and log p_2 of N data, (N, 2), finite.

    Raises:
        ValueError: another shape, or values that are not finite.

    References:
        Paper, appendix A.2.

    Example:
        >>> same = weight_posterior(np.zeros((100, 2)))
        >>> round(same.mean, 12), round(same.sd, 12) == round(1 / 44**0.5, 12)
        (0.5, True)
    """
    if log_densities.ndim != 2 or log_densities.shape[1] != 2 or not len(log_densities):
        raise ValueError(f"log densities must be (N, 2), not {log_densities.shape}")
    if not np.isfinite(log_densities).all():
        raise ValueError("log densities must be finite")

    def log_joint(alpha: Array) -> Array:
        return weight_log_likelihood(alpha, log_densities) + beta_log_prior(alpha)

    low, high, top = _support(log_joint)
    nodes, weights = roots_legendre(NODES)
    edges = np.linspace(low, high, PANELS + 1)
    half = np.diff(edges)[:, None] / 2
    alpha = (edges[:-1, None] + half * (nodes + 1)).ravel()
    measure = (half * weights).ravel()
    likelihood = weight_log_likelihood(alpha, log_densities)
    mass = np.exp(likelihood + beta_log_prior(alpha) - top) * measure
    log_evidence = float(np.log(mass.sum()) + top)
    share = mass / mass.sum()
    mean = float(share @ alpha)
    return WeightPosterior(
        mean=mean,
        sd=float(np.sqrt(share @ (alpha - mean) ** 2)),
        kl=float(share @ (likelihood - log_evidence)),
        variation=_prior_variance(log_densities),
        log_evidence=log_evidence,
        alpha=alpha,
        density=share / measure,
    )


def _support(log_joint: Callable[[Array], Array]) -> tuple[float, float, float]:
    """Where a log-concave density on (0, 1) is above e^-DEPTH of its mode, and its height."""

    def at(t: float) -> float:
        return float(log_joint(np.array([t]))[0])

    a, b = 1e-12, 1 - 1e-12
    ratio = (np.sqrt(5) - 1) / 2
    c, d = b - ratio * (b - a), a + ratio * (b - a)
    at_c, at_d = at(c), at(d)
    while b - a > 1e-10:
        if at_c > at_d:
            b, d, at_d = d, c, at_c
            c = b - ratio * (b - a)
            at_c = at(c)
        else:
            a, c, at_c = c, d, at_d
            d = a + ratio * (b - a)
            at_d = at(d)
    mode = (a + b) / 2
    top = at(mode)
    ends = []
    for end in (0.0, 1.0):
        inside, outside = mode, end
        for _ in range(50):
            middle = (inside + outside) / 2
            if middle in (inside, outside):
                break
            inside, outside = (middle, outside) if at(middle) > top - DEPTH else (inside, middle)
        ends.append(outside)
    return ends[0], ends[1], top


def _prior_variance(log_densities: Array) -> float:
    """Variance of log p(x | α) under the prior, in squared nats."""
    a, b = PRIOR
    nodes, weights = roots_jacobi(JACOBI, b - 1, a - 1)
    share = weights / weights.sum()
    value = weight_log_likelihood((nodes + 1) / 2, log_densities)
    centred = value - share @ value
    return float(share @ centred**2)
