"""What every model offers, so that inference, metrics and reports never ask for the family."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from lidcli.models.likelihoods import LOG_2PI, Likelihood

__all__ = ["Draws", "Model", "Parameters", "Posterior", "Terms", "normal_log_prob"]


def normal_log_prob(x: Tensor, loc: Tensor, log_scale: Tensor) -> Tensor:
    """Log-density of a diagonal normal, summed over the last dimension."""
    standard = (x - loc) * torch.exp(-log_scale)
    return (-0.5 * standard.square() - log_scale - 0.5 * LOG_2PI).sum(-1)


class Parameters(NamedTuple):
    """A posterior's variational parameters for N data; C is 1 where there is no category axis."""

    logits: Tensor
    """log q(c | x), unnormalised, (N, C)."""
    loc: Tensor
    """Mean of the Gaussian base, (N, C, M)."""
    log_scale: Tensor
    """Log sd of the Gaussian base, (N, C, M)."""
    context: Tensor
    """What the flow is conditioned on, (N, C, context)."""

    def rows(self, index: slice) -> Parameters:
        """The parameters of some of the data."""
        return Parameters(*(part[index] for part in self))


class Draws(NamedTuple):
    """Reparametrised draws from a posterior."""

    latent: Tensor
    """(S, N, M), or (S, N, C, M) where the category is summed exactly."""
    log_q: Tensor
    """log q of each draw, (S, N) or (S, N, C)."""
    log_q_c: Tensor | None
    """log q(c | x), (N, C), where the category is summed exactly."""


class Terms(NamedTuple):
    """The parts of the bound, each (S, N) in nats."""

    reconstruction: Tensor
    """log p(x | latent), averaged over q(c | x)."""
    kl: Tensor
    """log q(latent | x) - log p(latent), averaged over q(c | x)."""
    log_weights: Tensor
    """Importance weights, the category summed; their log-mean-exp bounds log p(x)."""


@runtime_checkable
class Posterior(Protocol):
    """What inference attaches to a model: q(latent | x)."""

    explicit: bool

    def encode(self, x: Tensor) -> Parameters:
        """Variational parameters of data x (N, D)."""
        ...

    def draw(self, parameters: Parameters, samples: int) -> Draws:
        """`samples` reparametrised draws a datum."""
        ...

    def log_prob(self, latent: Tensor, parameters: Parameters) -> Tensor:
        """log q(latent_b | x_n), the category summed, (B, N) for latents (B, M)."""
        ...


class Model(nn.Module, ABC):
    """A prior, a decoder and a likelihood, with a posterior q attached as `posterior`.

    Args:
        decoder: maps latents (..., M) to the likelihood's parameters (..., D).
        likelihood: log p(x | parameters).
        latent: M, the size of the continuous latent.

    Shapes: S draws, N data, C categories, M latent, D data dimensions.
    """

    symbol = "z"
    """The continuous latent's name in the paper: z, or w in the mixture."""
    categories: int | None = None
    """C, where the model has a categorical latent."""

    def __init__(self, decoder: nn.Module, likelihood: Likelihood, latent: int) -> None:
        super().__init__()
        self.decoder, self.likelihood, self.latent = decoder, likelihood, latent

    posterior: Posterior

    @abstractmethod
    def log_prior(self, latent: Tensor) -> Tensor:
        """log p(latent) in nats for latents (..., M)."""

    @abstractmethod
    def sample_prior(self, n: int) -> Tensor:
        """n latents (n, M) from the prior."""

    def prior_means(self) -> Tensor | None:
        """Means (C, M) of the prior's components; None without a category."""
        return None

    def decode(self, latent: Tensor) -> Tensor:
        """The likelihood's parameters (..., D) at latents (..., M)."""
        parameters: Tensor = self.decoder(latent)
        return parameters

    def log_likelihood(self, x: Tensor, latent: Tensor) -> Tensor:
        """log p(x | latent) in nats, for data and latents that broadcast before their last axis."""
        return self.likelihood.log_prob(x, self.decode(latent))

    @torch.no_grad()
    def sample(self, n: int) -> Tensor:
        """n data (n, D) from the model."""
        return self.likelihood.sample(self.decode(self.sample_prior(n)))

    def terms(self, x: Tensor, draws: Draws) -> Terms:
        """The parts of the bound at given draws.

        Args:
            x: data (N, D).
            draws: from the posterior of those data.
        """
        reconstruction = self.log_likelihood(x, draws.latent)
        kl = draws.log_q - self.log_prior(draws.latent)
        return Terms(reconstruction, kl, reconstruction - kl)

    def elbo_terms(self, x: Tensor, samples: int) -> Tensor:
        """(S, N) terms in nats whose mean is the ELBO of data x (N, D)."""
        terms = self.terms(x, self.posterior.draw(self.posterior.encode(x), samples))
        return terms.reconstruction - terms.kl

    def log_weights(self, x: Tensor, samples: int) -> Tensor:
        """(S, N) log importance weights in nats; their log-mean-exp over S bounds log p(x)."""
        return self.terms(x, self.posterior.draw(self.posterior.encode(x), samples)).log_weights

    def category_probabilities(self, draws: Draws) -> Tensor | None:
        """q(c | x), (N, C), from draws of the posterior; None without a category."""
        return None
