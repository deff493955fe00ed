"""The backward pass of a Brenier map written out: fewer saved activations, the same numbers.

It keeps pre-activations (their signs alone where the activation is leaky) and the slopes p, and
recomputes what is elementwise. Where a graph of the gradient is wanted it starts again from the
inputs, so that it can be differentiated as often as the plain form.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from lidcli.nn.closed_form import (
    Weights,
    ascend,
    collect,
    descend,
    first_slope,
    leaky_slope,
    smooth_leaky,
    smooth_slope,
)


def by_hand(u: Tensor, weights: Weights, slope: float) -> Tensor:
    """`closed_form` of u (N, K) with a hand-written backward: (N, D)."""
    inputs = [u, weights.w, weights.a, *weights.A, *weights.b, *weights.W, *(weights.top or ())]
    if torch.is_autocast_enabled(u.device.type):
        dtype = torch.get_autocast_dtype(u.device.type)
        inputs = [tensor.to(dtype) for tensor in inputs]
    out: Tensor = _ByHand.apply(slope, len(weights.A), *inputs)[0]  # type: ignore[no-untyped-call]
    return out


class _ByHand(torch.autograd.Function):
    """Forward and backward on flat lists of tensors."""

    generate_vmap_rule = True

    @staticmethod
    def forward(slope: float, n: int, u: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        """The value (N, D), then what the backward pass keeps."""
        weights = _pack(n, tensors)
        kept, delta = _sweep(u, weights, slope)
        return (collect(weights, kept.sigma, delta), *kept.flat())

    @staticmethod
    def setup_context(
        ctx: FunctionCtx, inputs: tuple[Any, ...], output: tuple[Tensor, ...]
    ) -> None:
        """Save inputs and kept tensors, which nobody differentiates."""
        slope, n, *tensors = inputs
        ctx.slope, ctx.n, ctx.count = slope, n, len(tensors)  # type: ignore[attr-defined]
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors, *output[1:])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        """Gradients of every input, None where it is not wanted or zero."""
        count: int = ctx.count
        if grads[0] is None:
            return (None,) * (2 + count)
        saved = ctx.saved_tensors
        u, weights = saved[0], _pack(ctx.n, saved[1:count])
        if torch.is_grad_enabled():
            kept, _ = _sweep(u, weights, ctx.slope)
        else:
            kept = _Kept.unflatten(saved[count:], ctx.n, weights.top is not None)
        found = _gradients(u, weights, kept, ctx.slope, grads[0], ctx.needs_input_grad[2:])
        return None, None, *found


def _pack(n: int, tensors: tuple[Tensor, ...]) -> Weights:
    """Rebuild the weights of a network of n hidden layers from the flat list."""
    w, a, *rest = tensors
    top = rest[3 * n - 1 :]
    return Weights(
        A=rest[:n],
        b=rest[n : 2 * n],
        W=rest[2 * n : 3 * n - 1],
        w=w,
        a=a,
        top=(top[0], top[1], top[2]) if top else None,
    )


class _Kept(NamedTuple):
    """t_0, then t_l (or their signs) of layers 1 … L-2, the slopes p below the top, and σ."""

    t: Tensor
    above: Sequence[Tensor]
    p: Sequence[Tensor]
    sigma: Tensor | None

    def flat(self) -> list[Tensor]:
        """All tensors in one list."""
        return [self.t, *self.above, *self.p, *([] if self.sigma is None else [self.sigma])]

    @classmethod
    def unflatten(cls, flat: tuple[Tensor, ...], n: int, leaky: bool) -> _Kept:
        """The inverse of `flat`."""
        return cls(flat[0], flat[1:n], flat[n : 2 * n - 1], flat[-1] if leaky else None)

    def slopes(self, slope: float) -> list[Tensor]:
        """h' of layers 1 … L-2."""
        if self.sigma is None:
            return [smooth_slope(t, slope) for t in self.above]
        return [leaky_slope(sign, slope, self.t.dtype) for sign in self.above]


def _sweep(u: Tensor, weights: Weights, slope: float) -> tuple[_Kept, list[Tensor]]:
    """Both passes of the closed form: what is kept of them, and δ."""
    t, sigma = ascend(u, weights, slope)
    kept = _Kept(t[0], [tl > 0 for tl in t[1:]] if weights.top else t[1:], [], sigma)
    down = descend(first_slope(t[0], slope), kept.slopes(slope), sigma, weights)
    return kept._replace(p=down.p[:-1]), down.delta


def _gradients(
    u: Tensor,
    weights: Weights,
    kept: _Kept,
    slope: float,
    G: Tensor,
    needed: tuple[bool, ...],
) -> list[Tensor | None]:
    """Gradients of u, w, a, A, b, W and the leaky scalar layer, in that order."""
    n, k = len(weights.A), u.shape[1]
    need_u, need_w, need_a = needed[:3]
    need_A, need_b, need_W = needed[3 : 3 + n], needed[3 + n : 3 + 2 * n], needed[3 + 2 * n :]
    smooth = weights.top is None
    q = first_slope(kept.t, slope)
    h = [q, *kept.slopes(slope)]
    p = [*kept.p, weights.w if kept.sigma is None else kept.sigma * weights.w]
    gA: list[Tensor | None] = [None] * n
    gb: list[Tensor | None] = [None] * n
    gW: list[Tensor | None] = [None] * (n - 1)

    bend: list[Tensor] = []
    tau = q
    for layer in range(n):
        v = G @ weights.A[layer].T
        if layer:
            v = torch.addmm(v, tau, weights.W[layer - 1].T)
            delta = h[layer] * p[layer]
            if need_W[layer - 1]:
                gW[layer - 1] = delta.T @ tau
            if smooth:
                sigmoid = torch.sigmoid(kept.above[layer - 1])
                bend.append(v * p[layer] * (sigmoid * (1 - sigmoid) * (1 - slope)))
        else:
            delta = q * p[0]
            bend.append(2 * leaky_slope(kept.t > 0, slope**2, v.dtype) * v * p[0])
        if need_A[layer]:
            gA[layer] = delta.T @ G
        tau = h[layer] * v
    weigh = tau if kept.sigma is None else kept.sigma * tau
    gw = weigh.sum(0) if need_w else None
    ga = (G if kept.sigma is None else kept.sigma * G).sum(0) if need_a else None

    gu: Tensor | None = None
    x = bend[-1]
    for layer in range(len(bend) - 1, -1, -1):
        if need_b[layer]:
            gb[layer] = x.sum(0)
        gA[layer] = _add_columns(gA[layer], x, u)
        if need_u:
            A = weights.A[layer][:, :k]
            gu = x @ A if gu is None else torch.addmm(gu, x, A)
        if layer:
            z = smooth_leaky(kept.above[layer - 2], slope) if layer > 1 else kept.t * q / 2
            gW[layer - 1] = _add_product(gW[layer - 1], x, z)
            x = torch.addcmul(bend[layer - 1], h[layer - 1], x @ weights.W[layer - 1])
    return [gu, gw, ga, *gA, *gb, *gW, *[None] * (3 if weights.top else 0)]


def _add_product(gW: Tensor | None, x: Tensor, z: Tensor) -> Tensor | None:
    """Add xᵀ z (H, H) where the sum is wanted."""
    return None if gW is None else torch.addmm(gW, x.T, z)


def _add_columns(gA: Tensor | None, x: Tensor, u: Tensor) -> Tensor | None:
    """Add xᵀ u (H, K) to the first K columns of gA (H, D)."""
    if gA is None:
        return None
    k = u.shape[1]
    if k == gA.shape[1]:
        return torch.addmm(gA, x.T, u)
    gA[:, :k] += x.T @ u
    return gA
