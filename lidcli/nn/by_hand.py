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
    Ascent,
    Weights,
    ascend,
    collect,
    descend,
    first_slope,
    leaky_times,
    smooth_leaky,
    top_slope,
)


def by_hand(u: Tensor, weights: Weights, slope: float) -> Tensor:
    """`closed_form` of u (N, K) with a hand-written backward: (N, D)."""
    A, b, W, w, a, top = weights
    inputs = [u, w, a, *A, *b, *W, *(top or ())]
    if torch.is_autocast_enabled(u.device.type):
        dtype = torch.get_autocast_dtype(u.device.type)
        inputs = [tensor.to(dtype) for tensor in inputs]
    out: Tensor = _ByHand.apply(slope, len(A), *inputs)[0]  # type: ignore[no-untyped-call]
    return out


class _ByHand(torch.autograd.Function):
    """Forward and backward on flat lists of tensors."""

    generate_vmap_rule = True

    @staticmethod
    def forward(slope: float, n: int, u: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        """The value (N, D), then what the backward pass keeps."""
        weights = _pack(n, tensors)
        ascent = ascend(u, weights, slope)
        down = descend(ascent, weights, slope)
        out = collect(weights, ascent.sigma, down.delta)
        return (out, *_keep(ascent, down.p).flat())

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
        u, *rest = ctx.saved_tensors
        weights = _pack(ctx.n, rest[: count - 1])
        if torch.is_grad_enabled():
            ascent = ascend(u, weights, ctx.slope)
            kept = _keep(ascent, descend(ascent, weights, ctx.slope).p)
        else:
            kept = _Kept.unflatten(rest[count - 1 :], ctx.n, weights.top is not None)
        found = _gradients(u, weights, kept, ctx.slope, grads[0], ctx.needs_input_grad[2:])
        return None, None, *found


def _pack(n: int, tensors: Sequence[Tensor]) -> Weights:
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
    def unflatten(cls, flat: Sequence[Tensor], n: int, leaky: bool) -> _Kept:
        """The inverse of `flat`."""
        return cls(flat[0], flat[1:n], flat[n : 2 * n - 1], flat[-1] if leaky else None)


def _keep(ascent: Ascent, p: list[Tensor]) -> _Kept:
    """Reduce both passes of the closed form to what the backward pass needs."""
    above = ascent.t[1:] if ascent.sigma is None else [t > 0 for t in ascent.t[1:]]
    return _Kept(ascent.t[0], above, p[:-1], ascent.sigma)


def _gradients(
    u: Tensor,
    weights: Weights,
    kept: _Kept,
    slope: float,
    G: Tensor,
    needed: tuple[bool, ...],
) -> list[Tensor | None]:
    """Gradients of u, w, a, A, b, W and the leaky scalar layer, in that order."""
    n, k, sigma = len(weights.A), u.shape[1], kept.sigma
    need_u, need_w, need_a = needed[:3]
    need_A, need_b, need_W = needed[3 : 3 + n], needed[3 + n : 3 + 2 * n], needed[3 + 2 * n :]
    gA: list[Tensor | None] = [None] * n
    gb: list[Tensor | None] = [None] * n
    gW: list[Tensor | None] = [None] * (n - 1)
    p = [*kept.p, top_slope(sigma, weights, kept.t)]

    h = [first_slope(kept.t, slope)]
    v = G @ weights.A[0].T
    bend = [2 * leaky_times(v * p[0], kept.t, slope**2)]
    tau = h[0] * v
    if need_A[0]:
        gA[0] = (h[0] * p[0]).T @ G
    for layer in range(1, n):
        above = kept.above[layer - 1]
        rising = torch.sigmoid(above) if sigma is None else above.to(v.dtype)
        h.append(rising * (1 - slope) + slope)
        v = torch.addmm(G @ weights.A[layer].T, tau, weights.W[layer - 1].T)
        if sigma is None:
            bend.append(torch.ops.aten.sigmoid_backward(v * p[layer], rising))
        delta = h[layer] * p[layer]
        if need_W[layer - 1]:
            gW[layer - 1] = delta.T @ tau
        if need_A[layer]:
            gA[layer] = delta.T @ G
        tau = h[layer] * v
    gw = _sum(tau, sigma) if need_w else None
    ga = _sum(G, sigma) if need_a else None

    gu: Tensor | None = None
    down: Tensor | None = None
    for layer in range(len(bend) - 1, -1, -1):
        x = bend[layer] * (1 - slope) if layer else bend[0]
        if down is not None:
            x = torch.addcmul(x, h[layer], down)
        if need_b[layer]:
            gb[layer] = x.sum(0)
        gA[layer] = _add_columns(gA[layer], x, u)
        if need_u:
            A = weights.A[layer][:, :k]
            gu = x @ A if gu is None else torch.addmm(gu, x, A)
        if layer:
            z = smooth_leaky(kept.above[layer - 2], slope) if layer > 1 else kept.t * h[0] / 2
            gW[layer - 1] = _add_product(gW[layer - 1], x, z)
            down = x @ weights.W[layer - 1]
    return [gu, gw, ga, *gA, *gb, *gW, *[None] * (3 if weights.top else 0)]


def _sum(rows: Tensor, sigma: Tensor | None) -> Tensor:
    """Σ over rows (N, M), each times σ where there is one."""
    return rows.sum(0) if sigma is None else (sigma * rows).sum(0)


def _add_product(found: Tensor | None, x: Tensor, y: Tensor) -> Tensor | None:
    """Add xᵀ y where the sum is wanted."""
    return None if found is None else torch.addmm(found, x.T, y)


def _add_columns(gA: Tensor | None, x: Tensor, u: Tensor) -> Tensor | None:
    """Add xᵀ u (H, K) to the first K columns of gA (H, D)."""
    if gA is None:
        return None
    k = u.shape[1]
    if k == gA.shape[1]:
        return torch.addmm(gA, x.T, u)
    gA[:, :k] += x.T @ u
    return gA
