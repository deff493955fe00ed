"""Decoder and likelihood together: log p(x | latent)."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn
from torch.func import jacfwd, vmap

from lidcli.models.batch import Batch, DenseBatch
from lidcli.models.likelihoods import Likelihood
from lidcli.nn.certificate import Certificate, Certified
from lidcli.nn.injective import InjectiveDecoder

__all__ = ["DenseObservation", "Observation", "in_memory_order"]

FISHER_CHUNK = 8
"""Jacobians held at once."""


class Observation(nn.Module, ABC):
    """p(x | z), which may look at x, as teacher forcing does."""

    decoder: nn.Module
    """Whose parameters may have a learning rate of their own."""
    informed = False
    """Whether `fisher` is known."""

    @abstractmethod
    def log_prob(self, x: Batch, z: Tensor) -> Tensor:
        """log p(x_n | z_n) in nats, (*L, N), for latents (*L, N, M)."""

    @abstractmethod
    def sample(self, z: Tensor) -> Batch:
        """A datum for each latent (N, M)."""

    def fisher(self, z: Tensor) -> Tensor:
        """Fisher information (N, M, M) of the likelihood in latents (N, M), on data drawn there."""
        raise ValueError(f"{type(self).__name__} does not know its Fisher information")

    def certificate(self) -> Certificate | None:
        """What is proven of the map from latents to the likelihood's parameters."""
        return None

    def calibrates(self) -> bool:
        """Whether `calibrate` does anything."""
        return False

    def calibrate(self, z: Tensor, x: Batch) -> None:
        """Set what depends on the size of the output, on prior draws (N, M) and as many data."""

    def refining(self) -> AbstractContextManager[None]:
        """A context in which gradients in z are differentiated again."""
        return contextlib.nullcontext()

    def on_grid(self, grid: Tensor) -> Callable[[Batch], Tensor]:
        """log p(x_n | z_g), (N, G), as a function of the data, for latents z (G, M)."""
        return lambda x: self.log_prob(x, grid[:, None].expand(-1, len(x), -1)).T

    def map(self) -> Callable[[Tensor], Tensor] | None:
        """From latents (..., M) to the likelihood's parameters; None where x has a part in it."""
        return None


class DenseObservation(Observation):
    """A decoder from the latent alone, and a likelihood of rows.

    Args:
        decoder: maps latents (..., M) to the likelihood's parameters (..., D).
        likelihood: log p(x | parameters).

    Example:
        >>> import torch
        >>> from lidcli.models.likelihoods import Gaussian
        >>> observation = DenseObservation(nn.Linear(2, 5), Gaussian())
        >>> observation.log_prob(DenseBatch(torch.zeros(7, 5)), torch.zeros(3, 7, 2)).shape
        torch.Size([3, 7])
    """

    def __init__(self, decoder: nn.Module, likelihood: Likelihood) -> None:
        super().__init__()
        self.decoder, self.likelihood = decoder, likelihood

    def decode(self, z: Tensor) -> Tensor:
        """The likelihood's parameters (..., D) at latents (..., M)."""
        return in_memory_order(self.decoder, z)

    def log_prob(self, x: Batch, z: Tensor) -> Tensor:
        """log p(x_n | z_n) in nats, (*L, N), for latents (*L, N, M)."""
        assert isinstance(x, DenseBatch)
        return self.likelihood.log_prob(x.x, self.decode(z))

    def mean(self, z: Tensor) -> Tensor:
        """Expected data (..., D) at latents (..., M)."""
        return self.likelihood.mean(self.decode(z))

    def sample(self, z: Tensor) -> DenseBatch:
        """A datum for each latent (N, M)."""
        return DenseBatch(self.likelihood.sample(self.decode(z)))

    @property
    def informed(self) -> bool:  # type: ignore[override]
        """Whether the likelihood knows its weights."""
        return self.likelihood.weighted

    def fisher(self, z: Tensor) -> Tensor:
        """Jᵀ G J (N, M, M), J the decoder's Jacobian and G the likelihood's information."""
        jacobian = vmap(jacfwd(self.decoder), chunk_size=FISHER_CHUNK)(z)
        weights = self.likelihood.weights(self.decode(z))
        return torch.einsum("ndi,nd,ndj->nij", jacobian, weights, jacobian)

    def certificate(self) -> Certificate | None:
        """The decoder's, if it has any."""
        decoder = self.decoder
        return decoder.certificate() if isinstance(decoder, Certified) else None

    def calibrates(self) -> bool:
        """An injective decoder has gains to be set."""
        return isinstance(self.decoder, InjectiveDecoder)

    def calibrate(self, z: Tensor, x: Batch) -> None:
        """Set the output gain of an injective decoder's maps."""
        if isinstance(self.decoder, InjectiveDecoder):
            self.decoder.calibrate(z)

    def on_grid(self, grid: Tensor) -> Callable[[Batch], Tensor]:
        """log p(x_n | z_g), (N, G), the grid decoded once."""
        parameters = self.decode(grid)

        def evaluate(x: Batch) -> Tensor:
            assert isinstance(x, DenseBatch)
            return self.likelihood.log_prob(x.x[:, None], parameters)

        return evaluate

    def map(self) -> Callable[[Tensor], Tensor]:
        """The decoder."""
        return self.decoder


def in_memory_order(function: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
    """A row-wise function of (..., M), evaluated in the order in which the rows lie in memory.

    A view with its axes exchanged is neither copied, nor are the results.

    Args:
        function: from (..., M) to (..., D).
        z: (..., M).

    Example:
        >>> import torch
        >>> in_memory_order(torch.exp, torch.zeros(3, 2, 4).movedim(1, 0)).shape
        torch.Size([2, 3, 4])
    """
    leading = z.ndim - 1
    strides = z.stride()
    order = sorted(range(leading), key=lambda axis: -strides[axis])
    if order == list(range(leading)):
        return function(z)
    back = sorted(range(leading), key=order.__getitem__)
    return function(z.permute(*order, leading)).permute(*back, leading)
