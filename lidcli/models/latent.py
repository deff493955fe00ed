"""The one shape of every model: a prior, an observation and, attached, a posterior."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import NamedTuple, Protocol, Self, runtime_checkable

import torch
from torch import Tensor, nn

from lidcli.models.batch import Batch
from lidcli.models.facts import Facts
from lidcli.models.observations import Observation
from lidcli.models.priors import Prior

__all__ = [
    "CATEGORY_DRAWS",
    "CategoryDraws",
    "Centred",
    "Conditional",
    "Draws",
    "LatentModel",
    "Posterior",
    "SampledDraws",
    "Terms",
    "log_of_rest",
    "without_negligible",
]


CATEGORY_DRAWS = 64
"""Draws that a q(c | x) which is not explicit is averaged over, at least."""
NEGLIGIBLE = 1e-5
"""Share of the likeliest category's probability below which q(latent | x) goes without one."""


class Terms(NamedTuple):
    """The parts of the bound, each (S, N) in nats."""

    reconstruction: Tensor
    """log p(x | latent), averaged over q(c | x)."""
    kl: Tensor
    """log q(latent | x) - log p(latent), averaged over q(c | x)."""
    log_weights: Tensor
    """Importance weights, the category summed; their log-mean-exp bounds log p(x)."""


class Draws:
    """Reparametrised draws from a posterior.

    Args:
        latent: (S, N, M).
        log_q: log q of each draw, (S, N).
    """

    def __init__(self, latent: Tensor, log_q: Tensor) -> None:
        self.latent, self.log_q = latent, log_q

    def terms(self, x: Batch, prior: Prior, observation: Observation) -> Terms:
        """The parts of the bound of data x."""
        reconstruction = observation.log_prob(x, self.latent)
        kl = self.log_q - prior.log_prob(self.latent)
        return Terms(reconstruction, kl, reconstruction - kl)

    def mean(self) -> Tensor:
        """The draws, the category averaged out, (S, N, M)."""
        return self.latent

    def marginal(self) -> Tensor:
        """Draws (S, N, M) from q(latent | x), a category drawn too where there is one."""
        return self.latent

    def categories(self, prior: Prior) -> Tensor | None:
        """q(c | x) = E_q p(c | latent), (N, C), over the draws; None without a category."""
        joint = prior.log_joint(self.latent)
        return None if joint is None else torch.softmax(joint, dim=-1).mean(0)

    def log_ratios(self, x: Batch, prior: Prior, observation: Observation) -> Tensor | None:
        """log p(x, w, c) / q(w | x), (S, N, C), whose mean is p(x, c); None without c."""
        joint = prior.log_joint(self.latent)
        if joint is None:
            return None
        return (observation.log_prob(x, self.latent) - self.log_q)[..., None] + joint


class CategoryDraws(Draws):
    """Draws of a latent for each category, which is summed exactly.

    Args:
        latent: (S, C, N, M).
        log_q: log q(latent | x, c) of each draw, (S, C, N).
        log_q_c: log q(c | x), (N, C).
    """

    def __init__(self, latent: Tensor, log_q: Tensor, log_q_c: Tensor) -> None:
        super().__init__(latent, log_q)
        self.log_q_c = log_q_c

    def terms(self, x: Batch, prior: Prior, observation: Observation) -> Terms:
        """The parts of the bound, the category summed."""
        log_q_c = self.log_q_c.T
        q_c = log_q_c.exp()
        likelihood = observation.log_prob(x, self.latent)
        ratio = self.log_q - prior.log_component(self.latent)
        reconstruction = (q_c * likelihood).sum(1)
        kl = (q_c * (log_q_c + ratio)).sum(1)
        return Terms(reconstruction, kl, torch.logsumexp(likelihood - ratio, dim=1))

    def mean(self) -> Tensor:
        """The draws, averaged over q(c | x)."""
        return (self.log_q_c.exp()[..., None] * self.latent.movedim(1, 2)).sum(-2)

    def marginal(self) -> Tensor:
        """Draws from q(latent | x), the category drawn too, but none that is negligible."""
        latent = self.latent.movedim(1, 2)
        q_c = without_negligible(self.log_q_c).exp()
        c = torch.multinomial(q_c, len(latent), replacement=True).T
        index = c[..., None, None].expand(*c.shape, 1, latent.shape[-1])
        return latent.gather(2, index)[:, :, 0]

    def categories(self, prior: Prior) -> Tensor:
        """q(c | x), exact."""
        return self.log_q_c.exp()

    def log_ratios(self, x: Batch, prior: Prior, observation: Observation) -> Tensor:
        """log p(x, c, w_c) / q(w_c | x, c), (S, N, C)."""
        likelihood = observation.log_prob(x, self.latent)
        ratio = likelihood + prior.log_component(self.latent) - self.log_q
        return ratio.movedim(1, 2)


class SampledDraws(CategoryDraws):
    """Draws of a latent for the likeliest categories and for a random one of the rest.

    With T the likeliest and r of probability π_r = q_r / (1 - Σ_T q_c) among the rest,
    Σ_T q_c f_c + (q_r / π_r) f_r averages to Σ_c q_c f_c, and so does its gradient with π held
    constant. What f is on average over T is taken off it first and put back: only the variance
    of the gradient depends on that. The entropy of q(c | x) is exact.

    Args:
        latent: (S, K + 1, N, M).
        log_q: log q(latent | x, c) of each draw, (S, K + 1, N).
        log_q_c: log q(c | x) of all categories, (N, C).
        chosen: the K likeliest categories and r, (N, K + 1).

    References:
        Liu, Regier, Tripuraneni, Jordan and McAuliffe, "Rao-Blackwellized stochastic gradients
        for discrete distributions" (ICML 2019).
    """

    def __init__(self, latent: Tensor, log_q: Tensor, log_q_c: Tensor, chosen: Tensor) -> None:
        picked = log_q_c.gather(1, chosen)
        rest = log_of_rest(log_q_c.detach(), chosen[:, :-1]).gather(1, chosen[:, -1:])
        self.log_share = torch.cat([torch.zeros_like(picked[:, :-1]), rest], dim=1)
        super().__init__(latent, log_q, picked - self.log_share)
        self.all_log_q_c, self.chosen = log_q_c, chosen

    def _average(self, values: Tensor) -> Tensor:
        """The estimate (S, N) of Σ_c q_c f_c for values f (S, K + 1, N)."""
        weight = self.log_q_c.T.exp()
        known = weight[:-1].detach()
        base = ((known * values[:, :-1].detach()).sum(1) / known.sum(0))[:, None]
        return (weight * (values - base)).sum(1) + base[:, 0]

    def _log_prior(self, prior: Prior) -> Tensor:
        """log p(c, w_c), (S, K + 1, N)."""
        joint = prior.log_joint(self.latent)
        assert joint is not None
        index = self.chosen.T[..., None].expand(*self.latent.shape[:-1], 1)
        return joint.gather(-1, index)[..., 0]

    def terms(self, x: Batch, prior: Prior, observation: Observation) -> Terms:
        """The parts of the bound, each right on average over the random category."""
        likelihood = observation.log_prob(x, self.latent)
        ratio = self.log_q - self._log_prior(prior)
        entropy = -(self.all_log_q_c.exp() * self.all_log_q_c).sum(1)
        weights = torch.logsumexp(likelihood - ratio - self.log_share.T, dim=1)
        return Terms(self._average(likelihood), self._average(ratio) - entropy, weights)

    def categories(self, prior: Prior) -> Tensor:
        """q(c | x), exact."""
        return self.all_log_q_c.exp()

    def log_ratios(self, x: Batch, prior: Prior, observation: Observation) -> Tensor:
        """log p(x, c, w_c) / q(w_c | x, c), (S, N, C), 0 in place of the ratios not drawn."""
        likelihood = observation.log_prob(x, self.latent)
        ratio = likelihood + self._log_prior(prior) - self.log_q - self.log_share.T
        samples, _, n = ratio.shape
        none = ratio.new_full((samples, n, self.all_log_q_c.shape[1]), -torch.inf)
        index = self.chosen.expand(samples, *self.chosen.shape)
        return none.scatter(2, index, ratio.movedim(1, 2))


def log_of_rest(log_q_c: Tensor, known: Tensor) -> Tensor:
    """log of q(c | x) given that c is none of K categories, (N, C), -inf for these.

    Args:
        log_q_c: (N, C).
        known: (N, K), K < C.

    Example:
        >>> log_of_rest(torch.tensor([[0.5, 0.1, 0.4]]).log(), torch.tensor([[0]])).exp()
        tensor([[0.0000, 0.2000, 0.8000]])
    """
    return torch.log_softmax(log_q_c.scatter(1, known, -torch.inf), dim=1)


def without_negligible(log_q_c: Tensor) -> Tensor:
    """log q(c | x) (N, C) given that c is not next to impossible, -inf where it is.

    Changes the distribution by at most `NEGLIGIBLE` (C - 1) in total variation.

    Args:
        log_q_c: (N, C).

    Example:
        >>> without_negligible(torch.tensor([[0.5, 0.5, 1e-9]]).log()).exp()
        tensor([[0.5000, 0.5000, 0.0000]])
    """
    least = log_q_c.amax(1, keepdim=True) + math.log(NEGLIGIBLE)
    return torch.log_softmax(log_q_c.masked_fill(log_q_c < least, -torch.inf), dim=1)


@runtime_checkable
class Conditional(Protocol):
    """q(latent | x) of N data."""

    @property
    def decodings(self) -> int:
        """Decodings of one draw of one datum: C where the category is summed, else 1."""
        ...

    @property
    def category_draws(self) -> int:
        """Draws that q(c | x) has to be averaged over at least; 0 where it is exact."""
        ...

    def draw(self, samples: int) -> Draws:
        """`samples` reparametrised draws a datum."""
        ...

    def log_prob(self, latent: Tensor) -> Tensor:
        """log q(latent_b | x_n), the category summed, (B, N) for latents (B, M)."""
        ...

    def latent_kl(self, joint: Tensor, q_c: Tensor | None) -> Tensor:
        """The continuous latent's part, (N,), of the joint KL (N,)."""
        ...

    def rows(self, index: slice | Tensor) -> Self:
        """The posteriors of some of the data."""
        ...

    def joined(self, *others: Self) -> Self:
        """These posteriors and those of further data."""
        ...

    def tensors(self) -> tuple[Tensor, ...]:
        """The variational parameters that semi-amortisation refines."""
        ...

    def replace(self, *tensors: Tensor) -> Self:
        """The same family at other parameters."""
        ...


@runtime_checkable
class Centred(Protocol):
    """A conditional that may know its mean, which no draws need estimate then."""

    def expectation(self) -> Tensor | None:
        """E[latent | x], (N, M); None where only draws tell."""
        ...


class Posterior(nn.Module, ABC):
    """An encoder and a family of conditionals: what inference attaches to a model."""

    decodings: int
    """Of every conditional that it gives."""
    enough = 1 << 62
    """Draws beyond which nothing more is learned."""
    random = False
    """Whether two calls with the same data differ, as where parameters are refined by draws."""

    def category_network(self) -> nn.Module | None:
        """From data to the logits (N, C) of q(c | x), where it is a network of its own."""
        return None

    @abstractmethod
    def forward(self, x: Batch) -> Conditional:
        """q(latent | x) of data x."""


class LatentModel(nn.Module):
    """A prior and an observation, with a posterior q attached as `posterior`.

    Args:
        prior: p(latent).
        observation: p(x | latent).

    Shapes: S draws, N data, C categories, M latent, D data dimensions.

    Example:
        >>> from lidcli.models.likelihoods import Gaussian
        >>> from lidcli.models.observations import DenseObservation
        >>> from lidcli.models.priors import StandardNormal
        >>> model = LatentModel(StandardNormal(2), DenseObservation(nn.Linear(2, 5), Gaussian()))
        >>> model.sample(3).x.shape
        torch.Size([3, 5])
    """

    posterior: Posterior
    exact = False
    """Whether the posterior is the model's own."""

    def __init__(self, prior: Prior, observation: Observation) -> None:
        super().__init__()
        self.prior, self.observation = prior, observation

    @property
    def latent(self) -> int:
        """M."""
        return self.prior.latent

    def facts(self) -> Facts:
        """What the figures of this model are of."""
        symbol, categories = self.prior.symbol, self.prior.categories
        units = {symbol: self.latent}
        if categories is None:
            return Facts(symbol, symbol, units, None, self.exact)
        return Facts(symbol, "c", {"c": categories, **units}, categories, self.exact)

    def terms(self, x: Batch, draws: Draws) -> Terms:
        """The parts of the bound of data x at given draws."""
        return draws.terms(x, self.prior, self.observation)

    @torch.no_grad()
    def sample(self, n: int) -> Batch:
        """n data from the model."""
        return self.observation.sample(self.prior.sample(n))

    def log_weights(self, x: Batch, samples: int) -> Tensor:
        """(S, N) log importance weights in nats; their log-mean-exp over S bounds log p(x)."""
        return self.terms(x, self.posterior(x).draw(samples)).log_weights
