"""Exponential-family likelihoods of a datum given the decoder's output."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["Bernoulli", "Gaussian", "Likelihood"]

LOG_2PI = math.log(2 * math.pi)


class Likelihood(nn.Module, ABC):
    """log p(x | parameters), summed over the D dimensions of a datum, and draws from it."""

    @abstractmethod
    def log_prob(self, x: Tensor, parameters: Tensor) -> Tensor:
        """Log-density in nats of x (N, D) under parameters (..., D) that broadcast with it."""

    weighted = False
    """Whether `weights` is known."""

    def weights(self, parameters: Tensor) -> Tensor:
        """Fisher information (..., D) in each parameter, of dimensions that are independent."""
        raise ValueError(f"{type(self).__name__} does not know its Fisher information")

    @abstractmethod
    def mean(self, parameters: Tensor) -> Tensor:
        """Expected datum (..., D)."""

    @abstractmethod
    def sample(self, parameters: Tensor) -> Tensor:
        """One datum for each row of parameters (..., D)."""


class Gaussian(Likelihood):
    """Normal with the decoder's output as mean and one noise sd σ for all dimensions.

    Args:
        sigma: fixed σ > 0, or None to learn it.
        start: where a learned σ starts, > 0.

    Example:
        >>> Gaussian(sigma=1.0).log_prob(torch.zeros(1, 2), torch.zeros(3, 1, 2)).shape
        torch.Size([3, 1])
    """

    def __init__(self, sigma: float | None = None, start: float = 0.3) -> None:
        super().__init__()
        value = torch.tensor(math.log(start if sigma is None else sigma))
        if sigma is None:
            self.log_sigma = nn.Parameter(value)
        else:
            self.register_buffer("log_sigma", value)

    def log_prob(self, x: Tensor, parameters: Tensor) -> Tensor:
        """Log-density in nats of x (N, D) under means (..., D) that broadcast with it."""
        squared = (x - parameters).square().sum(-1)
        constant = x.shape[-1] * (self.log_sigma + 0.5 * LOG_2PI)
        return -0.5 * squared * torch.exp(-2 * self.log_sigma) - constant

    weighted = True

    def weights(self, parameters: Tensor) -> Tensor:
        """1 / σ²."""
        return torch.exp(-2 * self.log_sigma).expand(parameters.shape)

    def mean(self, parameters: Tensor) -> Tensor:
        """The decoder's output itself."""
        return parameters

    def sample(self, parameters: Tensor) -> Tensor:
        """Output plus noise of sd σ."""
        return parameters + self.log_sigma.exp() * torch.randn_like(parameters)


class Bernoulli(Likelihood):
    """Independent bits with the decoder's output as logits.

    Example:
        >>> round(Bernoulli().log_prob(torch.ones(1, 4), torch.zeros(1, 4)).item() / math.log(2), 6)
        -4.0
    """

    def log_prob(self, x: Tensor, parameters: Tensor) -> Tensor:
        """Log-probability in nats of bits x (N, D) under logits (..., D) that broadcast."""
        return (x * parameters - F.softplus(parameters)).sum(-1)

    weighted = True

    def weights(self, parameters: Tensor) -> Tensor:
        """p (1 - p)."""
        return torch.sigmoid(parameters) * torch.sigmoid(-parameters)

    def mean(self, parameters: Tensor) -> Tensor:
        """Probability of a one."""
        return torch.sigmoid(parameters)

    def sample(self, parameters: Tensor) -> Tensor:
        """Bits."""
        return torch.bernoulli(torch.sigmoid(parameters))
