"""KL, mutual information and active units."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lidcli.metrics.estimate import Estimate, Tick, mean, silent
from lidcli.metrics.quantity import ACTIVE
from lidcli.models.batch import Batch
from lidcli.models.latent import Centred, Conditional, LatentModel

__all__ = [
    "active_dimensions_of_halves",
    "active_units",
    "active_units_of_halves",
    "categorical_kl",
    "categorical_mi",
    "continuous_mi",
    "covariance_of_halves",
    "encode",
    "marginal_draws",
    "mi_between",
    "perplexity",
    "posterior_means",
]

DRAWS = 64
"""Of a posterior whose mean only draws tell."""


def categorical_kl(q_c: Tensor) -> Estimate:
    """KL(q(c|x) ‖ uniform) = log C - H(q(c|x)), averaged over data.

    Args:
        q_c: probabilities (N, C), rows summing to 1.

    Example:
        >>> categorical_kl(torch.full((3, 4), 0.25)).value
        0.0
    """
    q_c = q_c.double()
    return mean(math.log(q_c.shape[1]) + torch.xlogy(q_c, q_c).sum(1))


def categorical_mi(q_c: Tensor) -> Estimate:
    """I(x; c) = E_x KL(q(c|x) ‖ q(c)) = H(mean q) - mean H(q), q(c) over the whole set.

    Args:
        q_c: probabilities (N, C), rows summing to 1.

    Returns:
        Nats, between 0 and the KL to the prior; the standard error is that of the mean of
        KL(q(c|x) ‖ q(c)) over data.

    Example:
        >>> round(categorical_mi(torch.eye(4)).value / math.log(4), 6)
        1.0
    """
    q_c = q_c.double()
    q = q_c.mean(0)
    return mean((torch.xlogy(q_c, q_c) - torch.xlogy(q_c, q)).sum(1))


def perplexity(q_c: Tensor) -> float:
    """exp H(mean of q(c|x)): how many categories are in use, 1 to C."""
    q = q_c.double().mean(0)
    return math.exp(-torch.xlogy(q, q).sum().item())


def active_units(means: Tensor, threshold: float = ACTIVE) -> float:
    """Fraction of units whose variance over data of the posterior mean is at least `threshold`.

    Args:
        means: posterior means (N, U), N >= 2.
        threshold: a variance, not a standard deviation.

    References:
        Burda et al. (2016); paper, section 4.1.

    Example:
        >>> active_units(torch.tensor([[0.0, 1.0], [0.0, -1.0]]))
        0.5
    """
    return (means.double().var(dim=0) >= threshold).double().mean().item()


def active_units_of_halves(halves: Tensor, threshold: float = ACTIVE) -> float:
    """Active units from two independent Monte-Carlo estimates of the posterior means.

    The covariance of the two halves is an unbiased estimate of the variance of the exact mean,
    where the variance of one estimate would count the noise of the draws as activity.

    Args:
        halves: (2, N, U), N >= 2.
        threshold: a variance.
    """
    variances = covariance_of_halves(halves).diagonal()
    return (variances >= threshold).double().mean().item()


def covariance_of_halves(halves: Tensor) -> Tensor:
    """Unbiased covariance over data of the exact posterior means, from two estimates of each.

    Args:
        halves: independent Monte-Carlo estimates (2, N, U) of the posterior means, N >= 2.

    Returns:
        (U, U) in float64, symmetric; without noise it is the sample covariance, and with noise
        an eigenvalue may be negative.

    Example:
        >>> means = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
        >>> covariance_of_halves(torch.stack([means, means])).tolist()
        [[2.0, 0.0], [0.0, 0.0]]
    """
    centred = halves.double() - halves.double().mean(dim=1, keepdim=True)
    covariance: Tensor = centred[0].T @ centred[1] / (halves.shape[1] - 1)
    return (covariance + covariance.T) / 2


def active_dimensions_of_halves(halves: Tensor, threshold: float = ACTIVE) -> float:
    """Fraction of eigenvalues of the covariance of posterior means that reach `threshold`.

    Active units change when the latent is rotated; these do not.

    Args:
        halves: independent Monte-Carlo estimates (2, N, U) of the posterior means, N >= 2.
        threshold: a variance.

    Returns:
        0 to 1; NaN where the means are not finite, or of one datum.

    Example:
        >>> means = torch.tensor([[1.0, 1.0], [-1.0, -1.0]])
        >>> active_dimensions_of_halves(torch.stack([means, means])), active_units(means)
        (0.5, 1.0)
    """
    covariance = covariance_of_halves(halves)
    if not bool(covariance.isfinite().all()):
        return math.nan
    values: Tensor = torch.linalg.eigvalsh(covariance)
    return (values >= threshold).double().mean().item()


def continuous_mi(
    model: LatentModel, x: Batch, outer: int = 500, batch: int = 10_000, draws: int = 1
) -> Estimate:
    """I(x; w) = E_x KL(q(w|x) ‖ q(w)), the aggregate q(w) over all of x: see `mi_between`."""
    return mi_between(model, x, outer, batch, draws)[0]


@torch.no_grad()
def mi_between(
    model: LatentModel,
    x: Batch,
    outer: int = 500,
    batch: int = 10_000,
    draws: int = 1,
    tick: Tick = silent,
) -> tuple[Estimate, Estimate]:
    """I(x; w) with the aggregate q(w) of all of x, and of all but the datum itself.

    The first is the MI of docs/DESIGN.md; of the whole population's it is too low, and the second
    too high, in the mean over data sets. Where they lie apart, N data tell it no closer.

    Args:
        model: with its posterior attached; a category is summed out of q(w|x).
        x: N data, all of which make up q(w).
        outer: data in the outer mean, drawn without replacement; all of them if N is smaller.
        batch: evaluations of log q(w | x_n, c) held at a time.
        draws: draws of w for each datum of the outer mean.
        tick: told what share of the work has been done since the last time.

    Returns:
        Nats. The first saturates at log N, since each datum is part of the aggregate; the second,
        infinite for a single datum, may exceed the KL.

    References:
        Hoffman and Johnson, "ELBO surgery" (2016); Poole et al., "On variational bounds of mutual
        information" (2019), section 2.4, for the pair.
    """
    n, conditional = len(x), encode(model, x, batch)
    device = conditional.tensors()[0].device
    chosen = torch.randperm(n, device=device)[: min(outer, n)]
    latent = marginal_draws(conditional.rows(chosen), draws)
    columns = max(1, min(n, batch // conditional.decodings))
    rows = max(1, batch // (conditional.decodings * columns))
    values, without = latent.new_empty(2, len(latent), dtype=torch.float64)
    for first in range(0, len(latent), rows):
        here = slice(first, first + rows)
        part = latent[here]
        log_q = torch.cat(
            [conditional.rows(slice(i, i + columns)).log_prob(part) for i in range(0, n, columns)],
            dim=1,
        ).double()
        self_index = chosen.repeat_interleave(draws)[here]
        mine = log_q.gather(1, self_index[:, None])
        values[here] = mine[:, 0] - (log_q.logsumexp(1) - math.log(n))
        others = log_q.scatter(1, self_index[:, None], -math.inf).logsumexp(1)
        without[here] = mine[:, 0] - (others - math.log(max(1, n - 1)))
        tick(len(part) / len(latent))
    low, high = (mean(part.view(-1, draws).mean(1)) for part in (values, without))
    return low, high


def encode(model: LatentModel, x: Batch, batch: int = 10_000) -> Conditional:
    """The posteriors of all data, encoded in parts that memory holds.

    Args:
        model: with its posterior attached.
        x: N data.
        batch: decodings at a time, were each of the data decoded.
    """
    parts = x.parts(batch // model.posterior.decodings)
    first, *others = (model.posterior(part) for part in parts)
    conditional: Conditional = first.joined(*others) if others else first
    return conditional


def posterior_means(conditional: Conditional) -> Tensor:
    """E[latent | x] (N, M) of N data, by draws only where the posterior does not know it.

    Args:
        conditional: q(latent | x).

    Example:
        >>> from lidcli.inference.exact import ExactGaussian
        >>> from lidcli.models.batch import DenseBatch
        >>> from lidcli.models.ppca import PPCA
        >>> exact = ExactGaussian(PPCA(torch.eye(3, 2), torch.zeros(3), 1.0))
        >>> posterior_means(exact(DenseBatch(torch.ones(1, 3, dtype=torch.float64))))
        tensor([[0.5000, 0.5000]], dtype=torch.float64)
    """
    exact = conditional.expectation() if isinstance(conditional, Centred) else None
    return conditional.draw(DRAWS).mean().mean(0) if exact is None else exact


def marginal_draws(conditional: Conditional, draws: int) -> Tensor:
    """Draws (N * draws, M) from q(latent | x) of N data, the category drawn too."""
    return conditional.draw(draws).marginal().transpose(0, 1).flatten(0, 1)
