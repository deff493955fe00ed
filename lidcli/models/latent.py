"""The one shape of every model: a prior, an observation and, attached, a posterior."""

from __future__ import annotations

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
    "Conditional",
    "Draws",
    "LatentModel",
    "Posterior",
    "Terms",
]


CATEGORY_DRAWS = 64
"""Draws that a q(c | x) which is not explicit is averaged over, at least."""


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
        """log p(x, w | c) / q(w | x), (S, N, C), whose mean is p(x | c); None without c."""
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
        """Draws from q(latent | x), the category drawn too."""
        latent = self.latent.movedim(1, 2)
        c = torch.multinomial(self.log_q_c.exp(), len(latent), replacement=True).T
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
