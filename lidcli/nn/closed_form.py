"""The gradient of an input convex network as forward operations, derived in docs/BRENIER.md.

Shape suffixes: N batch, K active inputs, D inputs, H hidden width, L layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class Weights(NamedTuple):
    """The tensors of one network, positive weights already exponentiated.

    A: L-1 tensors (H, D); b: L-1 tensors (H,); W: L-2 tensors (H, H) >= 0; w: (H,) >= 0 and
    a: (D,), both times the gain; top: (H,), (D,) and () of the leaky scalar layer, or None where
    the scalar layer is linear and the activations are smooth.
    """

    A: Sequence[Tensor]
    b: Sequence[Tensor]
    W: Sequence[Tensor]
    w: Tensor
    a: Tensor
    top: tuple[Tensor, Tensor, Tensor] | None


class Ascent(NamedTuple):
    """The upward pass: pre-activations (N, H) of layers 0 … L-2, slope (N, 1) of the scalar's."""

    t: list[Tensor]
    sigma: Tensor | None


class Descent(NamedTuple):
    """The downward pass, for layers 0 … L-2: p, the slope above a layer, and δ, below it."""

    p: list[Tensor]
    delta: list[Tensor]


def smooth_leaky(t: Tensor, slope: float) -> Tensor:
    """Softplus with a leak: slope * t + (1 - slope) * softplus(t)."""
    bent = F.softplus(t, threshold=40.0)
    return torch.lerp(bent, t.to(bent.dtype), slope)


def smooth_slope(t: Tensor, slope: float) -> Tensor:
    """Derivative of `smooth_leaky`."""
    return torch.sigmoid(t) * (1 - slope) + slope


def leaky_times(p: Tensor, t: Tensor, slope: float) -> Tensor:
    """p times the slope of leaky ReLU at t, the slope a constant to autograd."""
    found: Tensor = torch.ops.aten.leaky_relu_backward(p, t, slope, False)
    return found


def ascend(u: Tensor, weights: Weights, slope: float) -> Ascent:
    """Pre-activations of every hidden layer at u (N, K)."""
    A, b, W, k = weights.A, weights.b, weights.W, u.shape[1]
    t = [F.linear(u, A[0][:, :k], b[0])]
    if weights.top is None:
        z = F.leaky_relu(t[0], slope).square()
        for Wl, Al, bl in zip(W, A[1:], b[1:], strict=True):
            if len(t) > 1:
                z = smooth_leaky(t[-1], slope)
            t.append(F.linear(z, Wl) + F.linear(u, Al[:, :k], bl))
        return Ascent(t, None)
    u, z = u.detach(), F.leaky_relu(t[0].detach(), slope).square()
    for Wl, Al, bl in zip(W, A[1:], b[1:], strict=True):
        t.append(F.linear(z, Wl.detach()) + F.linear(u, Al[:, :k].detach(), bl.detach()))
        z = F.leaky_relu(t[-1], slope)
    w, a, bias = (tensor.detach() for tensor in weights.top)
    scalar = (z @ w + u @ a[:k] + bias).unsqueeze(1)
    return Ascent(t, leaky_times(torch.ones_like(scalar), scalar, slope))


def descend(ascent: Ascent, weights: Weights, slope: float) -> Descent:
    """Slopes of the potential, top to bottom."""
    t, sigma = ascent
    p = top_slope(sigma, weights, t[0])
    ps, deltas = [p], []
    for tl, W in zip(t[:0:-1], reversed(weights.W), strict=True):
        if sigma is None:
            deltas.append(smooth_slope(tl, slope) * p)
        else:
            deltas.append(leaky_times(p, tl, slope))
        p = deltas[-1] @ W
        ps.append(p)
    deltas.append(first_slope(t[0], slope) * p)
    return Descent(ps[::-1], deltas[::-1])


def top_slope(sigma: Tensor | None, weights: Weights, like: Tensor) -> Tensor:
    """p of the last hidden layer (N, H)."""
    p = weights.w.to(like.dtype)
    return p.expand_as(like) if sigma is None else sigma * p


def first_slope(t: Tensor, slope: float) -> Tensor:
    """q, the derivative of leaky-ReLU squared: 2 s(t)² t."""
    return 2 * F.leaky_relu(t, slope**2)


def collect(weights: Weights, sigma: Tensor | None, delta: Sequence[Tensor]) -> Tensor:
    """a + Σ δ_l A_l, (N, D)."""
    out = weights.a if sigma is None else sigma * weights.a
    for deltal, Al in zip(delta, weights.A, strict=True):
        out = torch.addmm(out, deltal, Al)
    return out


def closed_form(u: Tensor, weights: Weights, slope: float) -> Tensor:
    """The gradient of the potential at u (N, K), zero-padded to D: (N, D)."""
    ascent = ascend(u, weights, slope)
    return collect(weights, ascent.sigma, descend(ascent, weights, slope).delta)
