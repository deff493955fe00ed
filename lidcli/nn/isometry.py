"""A fixed isometry that sends the first coordinates along given directions."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lidcli.nn.by_hand import transformed
from lidcli.nn.certificate import log_smallest_singular
from lidcli.nn.checks import check_directions, check_input, check_offset, mixed


class Isometry(nn.Module):
    """x -> t + Q x with Q orthogonal (D, D) and its first K columns given: no distance changes.

    Q = S diag(Rᵀ, I), with R orthogonal (K, K) and S the reflection that takes the first K unit
    vectors to the columns of U R. With P Σ Zᵀ the upper K rows of U, R = -Z Pᵀ puts the two as far
    apart as they can be: the formulas divide by 1 + Σ, never by a small number. Only U and two
    matrices (K, K) are stored, no matrix (D, D) is ever formed, and nothing is learned.

    Args:
        directions: U (D, K), orthonormal columns; its dtype is the module's.
        offset: t (D,), zero by default.

    Raises:
        ValueError: when the columns are not orthonormal or the shapes do not fit.

    References:
        Schreiber and Parlett, "Block reflectors: theory and computation" (SIAM J. Numer. Anal.
        1988).

    Example:
        >>> u = torch.tensor([[0.6], [0.8], [0.0]])
        >>> Isometry(u)(torch.tensor([2.0, 0.0, 0.0]))
        tensor([1.2000, 1.6000, 0.0000])
    """

    directions: Tensor
    offset: Tensor | None
    damping: Tensor
    mirror: Tensor

    def __init__(self, directions: Tensor, offset: Tensor | None = None) -> None:
        super().__init__()
        check_directions(directions)
        self.dim, self.active = directions.shape
        check_offset(offset, self.dim)
        left, cosines, right = torch.linalg.svd(directions.detach().double()[: self.active])
        damped = right.T / (1 + cosines)
        self.register_buffer("directions", directions.detach().clone())
        self.register_buffer("damping", (damped @ right).to(directions))
        self.register_buffer("mirror", (-left @ damped.T).to(directions))
        self.register_buffer(
            "offset", None if offset is None else offset.detach().to(directions, copy=True)
        )

    def extra_repr(self) -> str:
        """Sizes, for print."""
        return f"dim={self.dim}, active={self.active}, offset={self.offset is not None}"

    def forward(self, x: Tensor) -> Tensor:
        """Move (..., D) to (..., D)."""
        check_input(x, self.dim, self.directions.dtype)
        fixed = (self.directions, self.damping, self.mirror)
        if transformed() or mixed(x):
            out = _turn(x, *fixed)
            return out if self.offset is None else out + self.offset
        rows: Tensor = _InPlace.apply(x.reshape(-1, self.dim), *fixed, self.offset)  # type: ignore[no-untyped-call]
        return rows.view(x.shape)

    @torch.no_grad()
    def log_modulus(self) -> float:
        """log of the smallest singular value of Q as its buffers are rounded, at most 0."""
        u, damping, mirror = (b.double() for b in (self.directions, self.damping, self.mirror))
        unit = torch.eye(self.dim, self.active, dtype=u.dtype, device=u.device)
        moved = torch.linalg.qr(torch.cat([unit, u - unit @ u[: self.active]], dim=1)).Q
        return min(0.0, log_smallest_singular(_turn(moved.T, u, damping, mirror).T))


def _turn(x: Tensor, directions: Tensor, damping: Tensor, mirror: Tensor) -> Tensor:
    """Q x for the rows x (..., D).

    With x = (x_1, x_2), U = (U_1, U_2), s = U_2ᵀ x_2 and v = (1 + Σ)⁻¹ Zᵀ s, multiplying S out
    leaves Q x = (-P v, x_2) + U (x_1 - Z v).
    """
    dim, active = directions.shape
    first, rest = torch.split(x, [active, dim - active], dim=-1)
    inner = rest @ directions[active:]
    kept = torch.cat([F.linear(inner, mirror), rest], dim=-1)
    return kept + F.linear(first - F.linear(inner, damping), directions)


class _InPlace(torch.autograd.Function):
    """Q x + t of rows x (N, D), with one tensor of their size either way."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        directions: Tensor,
        damping: Tensor,
        mirror: Tensor,
        offset: Tensor | None,
    ) -> Tensor:
        """The rows moved (N, D)."""
        ctx.save_for_backward(directions, damping, mirror)
        active = directions.shape[1]
        rest = x[:, active:]
        inner = rest @ directions[active:]
        first = x[:, :active] - F.linear(inner, damping)
        out = F.linear(first, directions, offset)
        out[:, :active].addmm_(inner, mirror.T)
        out[:, active:].add_(rest)
        return out

    @staticmethod
    def backward(ctx: Any, G: Tensor) -> tuple[Tensor | None, ...]:
        """Qᵀ G, (N, D)."""
        found: Tensor = _Back.apply(G, *ctx.saved_tensors)  # type: ignore[no-untyped-call]
        return found, None, None, None, None


class _Back(torch.autograd.Function):
    """Qᵀ y of rows y (N, D)."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, directions: Tensor, damping: Tensor, mirror: Tensor) -> Tensor:
        """The rows moved back (N, D)."""
        ctx.save_for_backward(directions, damping, mirror)
        active = directions.shape[1]
        first = y @ directions
        inner = (y[:, :active] @ mirror).sub_(first @ damping)
        out = y.clone(memory_format=torch.contiguous_format)
        out[:, :active] = first
        out[:, active:].addmm_(inner, directions[active:].T)
        return out

    @staticmethod
    def backward(ctx: Any, G: Tensor) -> tuple[Tensor | None, ...]:
        """Q G, (N, D)."""
        found: Tensor = _InPlace.apply(G, *ctx.saved_tensors, None)  # type: ignore[no-untyped-call]
        return found, None, None, None
