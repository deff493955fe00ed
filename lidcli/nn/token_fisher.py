"""The Fisher information that tokens' distributions hold about a latent.

Shape suffixes: N tokens, M latent, H features, R free logits.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd import forward_ad

BLOCK = 2048


def directional_derivatives(f: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
    """∂f/∂z_k for every k by forward-mode differentiation, f acting on each row of z alone.

    Args:
        f: maps z (..., M) to any shape; no derivative crosses rows.
        z: (..., M).

    Returns:
        (M, ...), the derivatives stacked.

    Example:
        >>> directional_derivatives(lambda z: z**2, torch.tensor([[1.0, 3.0]]))
        tensor([[[2., 0.]],
        <BLANKLINE>
                [[0., 6.]]])
    """
    found, z = [], z.contiguous()
    for k in range(z.shape[-1]):
        tangent = torch.zeros_like(z)
        tangent[..., k] = 1
        with forward_ad.dual_level():
            dual = f(forward_ad.make_dual(z, tangent))  # type: ignore[no-untyped-call]
            value, slope = forward_ad.unpack_dual(dual)  # type: ignore[no-untyped-call]
            found.append(torch.zeros_like(value) if slope is None else slope.detach())
    return torch.stack(found)


@torch.enable_grad()
def reversed_derivatives(f: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
    """The same by two reverse passes, for an f without a forward mode, as an LSTM on a GPU is.

    Jᵀu is linear in u, and its derivative there, pulled back from v, is J v.

    Args:
        f: as of `directional_derivatives`; it depends on z and can be differentiated twice.
        z: (..., M).

    Example:
        >>> reversed_derivatives(lambda z: z**2, torch.tensor([[1.0, 3.0]]))
        tensor([[[2., 0.]],
        <BLANKLINE>
                [[0., 6.]]])
    """
    z = z.detach().requires_grad_()
    value = f(z)
    u = torch.zeros_like(value, requires_grad=True)
    (pulled,) = torch.autograd.grad(value, z, u, create_graph=True)
    found: list[Tensor] = []
    for k in range(z.shape[-1]):
        tangent = torch.zeros_like(z)
        tangent[..., k] = 1
        found += torch.autograd.grad(pulled, u, tangent, retain_graph=True)
    return torch.stack(found)


@torch.no_grad()
def token_fisher(
    features: Tensor,
    slopes: Tensor,
    weight: Tensor,
    *,
    bias: Tensor | None = None,
    reference: int | None = None,
    chunk: int = 32,
    block: int = BLOCK,
) -> Tensor:
    """J_nᵀ (diag p_n - p_n p_nᵀ) J_n for each token, J_n = weight · ∂features_n/∂z (R, M).

    Neither the R × R matrix nor any token's J is formed: at most chunk × R probabilities and
    chunk × M × block of its entries are.

    Args:
        features: (N, H).
        slopes: (N, M, H), the features' derivatives.
        weight: (R, H) of the logits features weightᵀ + bias.
        bias: (R,), or None.
        reference: token whose logit is 0, or None; which one is of no account.
        chunk: tokens at once, >= 1.
        block: vocabulary rows at once, >= 1.

    Returns:
        (N, M, M), symmetric, positive semi-definite to rounding.

    Raises:
        ValueError: when shapes do not fit.

    Example:
        >>> features, slopes = torch.zeros(1, 2), torch.eye(2).unsqueeze(0)
        >>> token_fisher(features, slopes, torch.eye(2))
        tensor([[[ 0.2500, -0.2500],
                 [-0.2500,  0.2500]]])
    """
    if features.ndim != 2 or slopes.ndim != 3 or slopes.shape[::2] != features.shape:
        raise ValueError(
            "expected features (N, H) and slopes (N, M, H), "
            f"got {tuple(features.shape)} and {tuple(slopes.shape)}"
        )
    if chunk < 1 or block < 1:
        raise ValueError(f"chunk and block must be >= 1, not {chunk} and {block}")
    latent = slopes.shape[1]
    out = features.new_zeros(len(features), latent, latent)
    for start in range(0, len(features), chunk):
        part = slice(start, start + chunk)
        logits = features[part] @ weight.T
        logits = logits if bias is None else logits.add_(bias)
        total = torch.logsumexp(logits, dim=1)
        if reference is not None:
            total = torch.logaddexp(total, torch.zeros_like(total))
        p = logits.sub_(total.unsqueeze(1)).exp_()
        mean = (slopes[part] @ (p @ weight).unsqueeze(2)).squeeze(2)
        if reference is not None:
            out[part] += (-total).exp().view(-1, 1, 1) * mean.unsqueeze(2) * mean.unsqueeze(1)
        for row in range(0, len(weight), block):
            rows = slice(row, row + block)
            moved = slopes[part] @ weight[rows].T - mean.unsqueeze(2)
            moved *= p[:, rows].sqrt().unsqueeze(1)
            out[part] += moved @ moved.transpose(1, 2)
    return out
