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
    aten,
    collect,
    descend,
    first_slope,
    leaky_times,
    smooth_leaky,
    smooth_times,
    top_slope,
)


def by_hand(u: Tensor, weights: Weights, slope: float) -> tuple[Tensor, Tensor | None]:
    """`closed_form` of u (N, K) with a hand-written backward."""
    A, B, b, W, w, a, top = weights
    inputs = [u, w, a, *A, *b, *W, *B, *(top or ())]
    if torch.is_autocast_enabled(u.device.type):
        dtype = torch.get_autocast_dtype(u.device.type)
        inputs = [tensor.to(dtype) for tensor in inputs]
    out: tuple[Tensor, ...] = _ByHand.apply(slope, len(A), bool(B), *inputs)  # type: ignore[no-untyped-call]
    return out[0], out[1] if B else None


class _ByHand(torch.autograd.Function):
    """Forward and backward on flat lists of tensors."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        slope: float, n: int, padded: bool, u: Tensor, *tensors: Tensor
    ) -> tuple[Tensor, ...]:
        """The value in its one or two parts, then what the backward pass keeps."""
        weights = _pack(n, padded, tensors)
        ascent = ascend(u, weights, slope)
        down = descend(ascent, weights, slope)
        head, tail = collect(weights, ascent.sigma, down.delta)
        kept = _keep(ascent, down.p)
        return (head, *(() if tail is None else (tail,)), *kept.flat())

    @staticmethod
    def setup_context(
        ctx: FunctionCtx, inputs: tuple[Any, ...], output: tuple[Tensor, ...]
    ) -> None:
        """Save inputs and kept tensors, which nobody differentiates."""
        slope, n, padded, *tensors = inputs
        ctx.slope, ctx.n, ctx.padded, ctx.count = slope, n, padded, len(tensors)  # type: ignore[attr-defined]
        kept = output[1 + padded :]
        ctx.mark_non_differentiable(*kept)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors, *kept)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        """Gradients of every input, None where it is not wanted or zero."""
        count: int = ctx.count
        u, *rest = ctx.saved_tensors
        weights = _pack(ctx.n, ctx.padded, rest[: count - 1])
        k = u.shape[1]
        columns = [k, weights.a.shape[0] - k]
        values = zip(grads[: 1 + ctx.padded], columns, strict=False)
        G = [u.new_zeros(len(u), m) if grad is None else grad for grad, m in values]
        if torch.is_grad_enabled():
            ascent = ascend(u, weights, ctx.slope)
            kept = _keep(ascent, descend(ascent, weights, ctx.slope).p)
        else:
            kept = _Kept.unflatten(rest[count - 1 :], ctx.n, weights.top is not None)
        found = _gradients(u, weights, kept, ctx.slope, G, ctx.needs_input_grad[3:])
        return None, None, None, *found


def _pack(n: int, padded: bool, tensors: Sequence[Tensor]) -> Weights:
    """Rebuild the weights of a network of n hidden layers from the flat list."""
    w, a, *rest = tensors
    end = (4 if padded else 3) * n - 1
    top = rest[end:]
    return Weights(
        A=rest[:n],
        B=rest[3 * n - 1 : end],
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

    def times(self, layer: int, p: Tensor, slope: float) -> Tensor:
        """p times h' of a layer in 1 … L-2."""
        if self.sigma is None:
            return smooth_times(p, self.above[layer - 1], slope)
        return leaky_times(p, self.above[layer - 1].to(p.dtype), slope)


def _keep(ascent: Ascent, p: list[Tensor]) -> _Kept:
    """Reduce both passes of the closed form to what the backward pass needs."""
    above = ascent.t[1:] if ascent.sigma is None else [t > 0 for t in ascent.t[1:]]
    return _Kept(ascent.t[0], above, p[:-1], ascent.sigma)


def _gradients(
    u: Tensor,
    weights: Weights,
    kept: _Kept,
    slope: float,
    G: Sequence[Tensor],
    needed: tuple[bool, ...],
) -> list[Tensor | None]:
    """Gradients of u, w, a, A, b, W, B and the leaky scalar layer, in that order."""
    n = len(weights.A)
    need_u, need_w, need_a = needed[:3]
    need_A, need_b, need_W = needed[3 : 3 + n], needed[3 + n : 3 + 2 * n], needed[3 + 2 * n :]
    gA: list[Tensor | None] = [None] * n
    gB: list[Tensor | None] = [None] * len(weights.B)
    gb: list[Tensor | None] = [None] * n
    gW: list[Tensor | None] = [None] * (n - 1)
    p = [*kept.p, top_slope(kept.sigma, weights, kept.t)]
    q = first_slope(kept.t, slope)

    bend: list[Tensor] = []
    tau = q
    for layer in range(n):
        v = G[0] @ weights.A[layer].T
        if weights.B:
            v = torch.addmm(v, G[1], weights.B[layer].T)
        if layer == 0:
            delta = q * p[0]
            bend.append(2 * leaky_times(v * p[0], kept.t, slope**2))
            tau = q * v
        else:
            v = torch.addmm(v, tau, weights.W[layer - 1].T)
            delta = kept.times(layer, p[layer], slope)
            if need_W[layer - 1]:
                gW[layer - 1] = delta.T @ tau
            if weights.top is None:
                bend.append(_curve(v * p[layer], kept.above[layer - 1], slope))
            tau = kept.times(layer, v, slope)
        if need_A[layer]:
            gA[layer] = delta.T @ G[0]
            if weights.B:
                gB[layer] = delta.T @ G[1]
    sigma = kept.sigma
    gw = _sum(tau, sigma) if need_w else None
    ga = torch.cat([_sum(part, sigma) for part in G]) if need_a else None

    gu: Tensor | None = None
    x = bend[-1]
    for layer in range(len(bend) - 1, -1, -1):
        if need_b[layer]:
            gb[layer] = x.sum(0)
        gA[layer] = _add_product(gA[layer], x, u)
        if need_u:
            gu = x @ weights.A[layer] if gu is None else torch.addmm(gu, x, weights.A[layer])
        if layer:
            z = smooth_leaky(kept.above[layer - 2], slope) if layer > 1 else kept.t * q / 2
            gW[layer - 1] = _add_product(gW[layer - 1], x, z)
            down = x @ weights.W[layer - 1]
            x = bend[layer - 1] + (kept.times(layer - 1, down, slope) if layer > 1 else q * down)
    return [gu, gw, ga, *gA, *gb, *gW, *gB, *[None] * (3 if weights.top else 0)]


def _curve(v: Tensor, t: Tensor, slope: float) -> Tensor:
    """v times the second derivative of `smooth_leaky` at t."""
    sigmoid = torch.sigmoid(t)
    found: Tensor = aten.sigmoid_backward(v * (1 - slope), sigmoid)
    return found


def _sum(rows: Tensor, sigma: Tensor | None) -> Tensor:
    """Σ over rows (N, M), each times σ where there is one."""
    return rows.sum(0) if sigma is None else (sigma * rows).sum(0)


def _add_product(found: Tensor | None, x: Tensor, y: Tensor) -> Tensor | None:
    """Add xᵀ y where the sum is wanted."""
    return None if found is None else torch.addmm(found, x.T, y)
