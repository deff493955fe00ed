"""The network of q(c | x)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lidcli.models.batch import Batch, DenseBatch

__all__ = ["CategoryNetwork"]


class CategoryNetwork(nn.Module):
    """Logits (N, C) of q(c | x): an encoder and its head, and a linear map of the data beside them.

    Args:
        encoder: from data to (N, features).
        head: from there to (N, C).
        path: from dense data (N, D) to (N, C), if there is one.

    Example:
        >>> class Rows(nn.Linear):
        ...     def forward(self, x):
        ...         return super().forward(x.x)
        >>> network = CategoryNetwork(Rows(2, 8), nn.Linear(8, 3), nn.Linear(2, 3))
        >>> network.start_at(torch.eye(3, 2), torch.tensor([0.0, 0.0, 5.0]))
        >>> network(DenseBatch(torch.tensor([[1.0, 2.0]]))).tolist()
        [[1.0, 2.0, 5.0]]
    """

    def __init__(self, encoder: nn.Module, head: nn.Linear, path: nn.Linear | None) -> None:
        super().__init__()
        self.encoder, self.head, self.path = encoder, head, path

    def forward(self, x: Batch) -> Tensor:
        """The logits of data x."""
        logits: Tensor = self.head(self.encoder(x))
        if self.path is not None:
            assert isinstance(x, DenseBatch)
            logits = logits + self.path(x.x)
        return logits

    @torch.no_grad()
    def start_at(self, weight: Tensor, bias: Tensor) -> None:
        """Start where the logits are x ↦ weight (C, D) x + bias (C,): the network adds nothing."""
        assert self.path is not None
        self.path.weight.copy_(weight)
        self.path.bias.copy_(bias)
        self.head.weight.zero_()
        self.head.bias.zero_()
