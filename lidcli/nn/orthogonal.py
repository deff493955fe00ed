"""A learned rotation."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lidcli.nn.checks import check_input


class Rotation(nn.Module):
    """An orthogonal matrix with determinant 1, learned through Cayley's transform.

    Q = (I - S)⁻¹ (I + S) with S skew-symmetric: one K×K solve, smooth everywhere. It starts at
    the identity, where a decoder is the paper's; the Gaussian input weights of a Brenier map are
    already turned at random, so a random start would add nothing.

    Args:
        dim: K >= 1.

    Raises:
        ValueError: when dim < 1.

    Example:
        >>> turn = Rotation(4)
        >>> torch.equal(turn.matrix(), torch.eye(4))
        True
    """

    _index: Tensor
    _sign: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        if dim < 1:
            raise ValueError(f"a rotation needs dim >= 1, not {dim}")
        self.dim = dim
        row, column = torch.tril_indices(dim, dim, -1)
        index = torch.zeros(dim, dim, dtype=torch.long)
        index[row, column] = index[column, row] = torch.arange(len(row))
        sign = torch.ones(dim, dim).tril(-1) - torch.ones(dim, dim).triu(1)
        self.skew = nn.Parameter(torch.zeros(max(len(row), 1)))
        self.register_buffer("_index", index, persistent=False)
        self.register_buffer("_sign", sign, persistent=False)

    def matrix(self) -> Tensor:
        """The matrix (K, K)."""
        skew = self.skew[self._index] * self._sign
        exact = skew.to(torch.promote_types(skew.dtype, torch.float32))
        eye = torch.eye(self.dim, dtype=exact.dtype, device=exact.device)
        turned: Tensor = torch.linalg.solve(eye - exact, eye + exact)
        return turned.to(skew.dtype)

    def forward(self, u: Tensor) -> Tensor:
        """Turn the rows of u (..., K)."""
        check_input(u, self.dim, self.skew.dtype)
        return F.linear(u, self.matrix())
