"""Definition 3: a standard normal latent behind a decoder."""

from __future__ import annotations

import torch
from torch import Tensor

from lidcli.models.base import Model, normal_log_prob

__all__ = ["Continuous"]


class Continuous(Model):
    """z ~ N(0, I_K), x ~ EF(f(z)) (paper, Definition 3 and Eq. 1).

    Example:
        >>> from lidcli.models.likelihoods import Gaussian
        >>> model = Continuous(torch.nn.Linear(2, 5), Gaussian(), latent=2)
        >>> model.sample(3).shape
        torch.Size([3, 5])
    """

    def log_prior(self, latent: Tensor) -> Tensor:
        """log N(z; 0, I) for z (..., K)."""
        zero = latent.new_zeros(())
        return normal_log_prob(latent, zero, zero)

    def sample_prior(self, n: int) -> Tensor:
        """n standard normal latents (n, K)."""
        p = next(self.parameters())
        return torch.randn(n, self.latent, device=p.device, dtype=p.dtype)
