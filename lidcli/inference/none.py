"""The posterior of a model without latents."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lidcli.models.batch import Batch
from lidcli.models.latent import Draws, Posterior

__all__ = ["NoPosterior"]


@dataclass(frozen=True)
class _Nothing:
    """N empty latents."""

    empty: Tensor
    decodings = 1
    category_draws = 0

    def draw(self, samples: int) -> Draws:
        """(S, N, 0)."""
        shape = samples, len(self.empty)
        return Draws(self.empty.new_zeros(*shape, 0), self.empty.new_zeros(shape))

    def log_prob(self, latent: Tensor) -> Tensor:
        """0, (B, N)."""
        return self.empty.new_zeros(len(latent), len(self.empty))

    def latent_kl(self, joint: Tensor, q_c: Tensor | None) -> Tensor:
        """The joint KL, 0."""
        return joint

    def rows(self, index: slice | Tensor) -> _Nothing:
        """Some of them."""
        return _Nothing(self.empty[index])

    def joined(self, *others: _Nothing) -> _Nothing:
        """These and others."""
        return _Nothing(torch.cat([self.empty, *(other.empty for other in others)]))

    def tensors(self) -> tuple[Tensor, ...]:
        """The empty latents."""
        return (self.empty,)

    def replace(self, *tensors: Tensor) -> _Nothing:
        """The same."""
        (empty,) = tensors
        return _Nothing(empty)


class NoPosterior(Posterior):
    """q of a latent that is not there.

    Example:
        >>> from lidcli.models.batch import DenseBatch
        >>> NoPosterior()(DenseBatch(torch.zeros(4, 2))).draw(3).latent.shape
        torch.Size([3, 4, 0])
    """

    decodings = 1
    enough = 2
    device_of: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("device_of", torch.zeros(()), persistent=False)

    def forward(self, x: Batch) -> _Nothing:
        """Nothing for each datum."""
        return _Nothing(self.device_of.new_zeros(len(x), 0))
