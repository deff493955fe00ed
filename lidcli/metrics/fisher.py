"""How far the likelihood can see the latent: Fisher information, and what it allows."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from lidcli.metrics.information import encode, marginal_draws
from lidcli.metrics.quantity import ACTIVE
from lidcli.models.batch import Batch
from lidcli.models.latent import LatentModel
from lidcli.models.moments import Moments
from lidcli.models.priors import Prior

__all__ = ["DRAWS", "Allowance", "allowance", "fisher_figures", "mean_information", "told"]

DRAWS = 64
"""Latents from the prior over which Fisher information is averaged."""
PRIOR_DRAWS = 4000
ENDS = 8.0
"""Standard errors within which an exact identity has to hold."""


class Allowance:
    """What data from the model can tell of its latent under the exact posterior, at most.

    Args:
        information: F̄ (K, K), the mean Fisher information of the likelihood under the prior.
        prior: the prior's own information, its variances and its entropy.

    References:
        van Trees (1968) for the variance; the entropy power inequality in its determinant form,
        with Jensen, for the information.

    Example:
        >>> prior = Moments.gaussian(torch.eye(2))
        >>> found = Allowance(torch.diag(torch.tensor([3.0, 0.0])).double(), prior)
        >>> found.variances.tolist(), round(found.mi / math.log(2), 3)
        ([0.75, 0.0], 1.0)
    """

    def __init__(self, information: Tensor, prior: Moments) -> None:
        self.total = information + prior.information
        self.prior = prior

    @property
    def variances(self) -> Tensor:
        """(K,) variance over x of each unit's posterior mean."""
        left: Tensor = torch.linalg.inv(self.total).diagonal()
        return self.prior.variances - left

    @property
    def active(self) -> float:
        """Fraction of units that can be active."""
        return (self.variances >= ACTIVE).double().mean().item()

    @property
    def mi(self) -> float:
        """Nats of mutual information between data and latent."""
        size = len(self.total)
        own = self.prior.entropy - size / 2 * math.log(2 * math.pi * math.e)
        return own + 0.5 * torch.logdet(self.total).item()


def allowance(model: LatentModel, information: Tensor) -> Allowance | None:
    """The allowance of a model whose mean Fisher information is known.

    None where the prior's density does not vanish smoothly at the ends of its support, as a
    uniform one's: then nothing follows from the information.
    """
    prior = model.prior.moments() or _drawn(model.prior)
    return None if prior is None else Allowance(information.double().cpu(), prior)


def _drawn(prior: Prior) -> Moments | None:
    """Moments by draws; None where integration by parts, E z_k ∂_k log p = -1, fails."""
    with torch.enable_grad():
        z = prior.sample(PRIOR_DRAWS).detach().requires_grad_()
        density = prior.log_prob(z)
        flat = not density.requires_grad
        slopes = torch.zeros_like(z) if flat else torch.autograd.grad(density.sum(), z)[0]
    entropy = -density.double().mean().item()
    z, slopes = z.detach().double().cpu(), slopes.double().cpu()
    product = (z - z.mean(0)) * slopes + 1
    if bool((product.mean(0).abs() > ENDS * product.std(0) / math.sqrt(len(z)) + 1e-6).any()):
        return None
    return Moments(slopes.T @ slopes / len(slopes), z.var(0), entropy)


@torch.no_grad()
def mean_information(model: LatentModel, draws: int = DRAWS) -> tuple[Tensor, Tensor]:
    """F̄ (K, K), the mean over the prior of the likelihood's Fisher information, and all F.

    Args:
        model: in evaluation mode; its posterior is not looked at.
        draws: of the latent, and of a datum for each.

    Returns:
        In float64 on the CPU, F̄ and F (draws, K, K).
    """
    z = model.prior.sample(draws)
    found = model.observation.fisher(z).double().cpu()
    return found.mean(0), found


def fisher_figures(
    model: LatentModel, x: Batch, draws: int = DRAWS
) -> tuple[dict[str, float], Tensor | None]:
    """Information and allowance under the names of the run store, and F̄ (K, K).

    Args:
        model: in evaluation mode, with its posterior attached.
        x: data, of which `draws` are encoded, evenly spaced: those of texts are sorted by length.
        draws: of the latent, from the prior and from the posterior.

    Returns:
        `fisher_posterior_min`, the smallest eigenvalue of F over draws from the posterior, and the
        figures of `told`; empty, and None, where the Fisher information is not known.
    """
    if not model.latent or not model.observation.informed:
        return {}, None
    mean, every = mean_information(model, draws)
    found = told(model, mean, every)
    spread = torch.linspace(0, len(x) - 1, min(draws, len(x))).long()
    z = marginal_draws(encode(model, x.rows(spread)), 1)
    there = model.observation.fisher(z.detach()).double().cpu()
    found["fisher_posterior_min"] = torch.linalg.eigvalsh(there).min().item()
    return found, mean


def told(model: LatentModel, mean: Tensor, every: Tensor) -> dict[str, float]:
    """The figures of what `mean_information` returned.

    Returns:
        `fisher/<k>`, the diagonal of F̄ (from 1); `fisher_min`, the smallest eigenvalue of F over
        the draws; `fisher_trace`, the trace of F̄; `allowed/mi`, `allowed/au` and
        `allowed/variance/<k>`, the variance of a unit's posterior mean: what the exact posterior
        could have at most on data from the model; `allowed/mi_se`, a jackknife's over the draws.
    """
    symbol = model.prior.symbol
    out = {f"fisher/{symbol}/{k + 1}": v for k, v in enumerate(mean.diagonal().tolist())}
    out["fisher_min"] = torch.linalg.eigvalsh(every).min().item()
    out["fisher_trace"] = mean.trace().item()
    found = allowance(model, mean)
    if found is None:
        return out
    variances = found.variances.tolist()
    out |= {f"allowed/variance/{symbol}/{k + 1}": v for k, v in enumerate(variances)}
    if len(every) > 1:
        rest = ((every.sum(0) - own) / (len(every) - 1) for own in every)
        out["allowed/mi_se"] = _jackknife([Allowance(f, found.prior).mi for f in rest])
    return out | {"allowed/au": found.active, "allowed/mi": found.mi}


def _jackknife(values: Sequence[float]) -> float:
    """The standard error of a figure from its values without each of n >= 2 draws."""
    n, middle = len(values), math.fsum(values) / len(values)
    return math.sqrt((n - 1) / n * math.fsum((value - middle) ** 2 for value in values))
