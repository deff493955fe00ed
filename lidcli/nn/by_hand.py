"""The backward pass of a Brenier map written out, in place: faster and leaner, the same numbers.

It keeps one or two tensors (N, H) a layer and recomputes what is elementwise. It serves plain eager
execution; a compiler and the function transforms (vmap, grad, jvp) differentiate the closed form
themselves, and so does a backward pass that is to be differentiated again.

Shape suffixes: N batch, K active inputs, D inputs, H hidden width, L layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import functional as F

from lidcli.nn.closed_form import Weights, closed_form, first_slope, leaky_times


def transformed() -> bool:
    """Whether a compiler or a function transform is looking at the operations."""
    return (
        torch.compiler.is_compiling()
        or torch._C._functorch.peek_interpreter_stack() is not None
        or forward_ad._current_level >= 0
    )


def by_hand(u: Tensor, weights: Weights, slope: float, quadratic: float) -> Tensor:
    """`closed_form` of u (N, K), with log W in place of W, plus quadratic * u: (N, D)."""
    A, b, V, w, a, top = weights
    inputs = [u, w, a, *A, *b, *(top or ())]
    if torch.is_autocast_enabled(u.device.type) and u.dtype != torch.float64:
        dtype = torch.get_autocast_dtype(u.device.type)
        inputs = [tensor.to(dtype) for tensor in inputs]
    out: Tensor = _ByHand.apply(slope, quadratic, len(A), *V, *inputs)  # type: ignore[no-untyped-call]
    return out


class _ByHand(torch.autograd.Function):
    """Forward and backward on a flat list of tensors."""

    @staticmethod
    def forward(ctx: Any, slope: float, quadratic: float, n: int, *tensors: Tensor) -> Tensor:
        """The value (N, D)."""
        u, weights = _unpack(n, tensors)
        W = [Vl.exp().to(u.dtype) for Vl in weights.W]
        out, kept = _value(u, weights._replace(W=W), slope)
        if quadratic:
            out[:, : u.shape[1]].add_(u, alpha=quadratic)
        ctx.slope, ctx.quadratic, ctx.n, ctx.count = slope, quadratic, n, len(tensors)
        ctx.save_for_backward(*tensors, *W, *kept.flat())
        return out

    @staticmethod
    def backward(ctx: Any, G: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of every input, None where it is not wanted or zero."""
        n, slope, quadratic = ctx.n, ctx.slope, ctx.quadratic
        saved = ctx.saved_tensors
        tensors, rest = saved[: ctx.count], saved[ctx.count :]
        needed = ctx.needs_input_grad[3:]
        if torch.is_grad_enabled():
            return None, None, None, *_again(tensors, n, slope, quadratic, G, needed)
        u, weights = _unpack(n, tensors)
        weights = weights._replace(W=rest[: n - 1])
        kept = _Kept.unflatten(rest[n - 1 :], weights.top is not None, n)
        return None, None, None, *_gradients(u, weights, kept, slope, quadratic, G, needed)


def _unpack(n: int, tensors: Sequence[Tensor]) -> tuple[Tensor, Weights]:
    """The input and the weights (log W for W) from the flat list."""
    V, (u, w, a), rest = tensors[: n - 1], tensors[n - 1 : n + 2], tensors[n + 2 :]
    top = (rest[2 * n], rest[2 * n + 1], rest[2 * n + 2]) if len(rest) > 2 * n else None
    return u, Weights(rest[:n], rest[n : 2 * n], V, w, a, top)


class _Kept(NamedTuple):
    """What the backward pass starts from.

    t: pre-activations (N, H), layer 0's alone where the activation is leaky.
    p: slopes above layers 0 … L-3, or above all of them and signed by t where it is leaky.
    sigma: slope (N, 1) of the leaky scalar layer.
    """

    t: Sequence[Tensor]
    p: Sequence[Tensor]
    sigma: Tensor | None

    def flat(self) -> list[Tensor]:
        """All tensors in one list."""
        return [*self.t, *self.p, *([] if self.sigma is None else [self.sigma])]

    @classmethod
    def unflatten(cls, flat: Sequence[Tensor], leaky: bool, n: int) -> _Kept:
        """The inverse of `flat`."""
        return cls(flat[:1], flat[1:-1], flat[-1]) if leaky else cls(flat[:n], flat[n:], None)


def _bend(t: Tensor, slope: float) -> tuple[Tensor, Tensor, Tensor]:
    """Smooth leaky ReLU at t (softplus as max(t, 0) - log σ(|t|)), its derivative, and σ(t)."""
    s = torch.sigmoid(t)
    z = torch.rsub(s, 1)
    z = t.clamp(min=0).sub_(torch.maximum(z, s, out=z).log_())
    return z.lerp_(t, slope), torch.mul(s, 1 - slope).add_(slope), s


def _value(u: Tensor, weights: Weights, slope: float) -> tuple[Tensor, _Kept]:
    """The gradient of the potential (N, D), both sweeps in place."""
    A, b, W, w, a, top = weights
    k, t, h = u.shape[1], [torch.addmm(b[0], u, A[0][:, : u.shape[1]].T)], []
    z = F.leaky_relu(t[0], slope).square_()
    for Wl, Al, bl in zip(W, A[1:], b[1:], strict=True):
        t.append(torch.addmm(bl, u, Al[:, :k].T).addmm_(z, Wl.T))
        if top is None:
            z, rising, _ = _bend(t[-1], slope)
            h.append(rising)
        else:
            z = F.leaky_relu(t[-1], slope)
    if top is None:
        p, out, sigma = w, a, None
    else:
        scalar = (z @ top[0] + u @ top[1][:k] + top[2]).unsqueeze(1)
        sigma = leaky_times(torch.ones_like(scalar), scalar, slope)
        p, out = sigma * w, sigma * a
    kept: list[Tensor] = []
    for layer in range(len(W), 0, -1):
        if top is None:
            delta = h[layer - 1].mul_(p)
        else:
            delta = leaky_times(p, t[layer], slope)
            kept.append(_signed(p, t[layer]))
        out = _grow(out, delta, A[layer])
        p = delta @ W[layer - 1]
        if top is None or layer == 1:
            kept.append(p)
    out = _grow(out, first_slope(t[0], slope).mul_(p), A[0])
    return out, _Kept(t if top is None else t[:1], kept[::-1], sigma)


def _signed(p: Tensor, t: Tensor) -> Tensor:
    """p where t > 0, else -p, written over t in one operation."""
    signed: Tensor = torch.ops.aten.leaky_relu_backward.grad_input(p, t, -1.0, False, grad_input=t)
    return signed


def _grow(total: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Total + x y, in place unless total is a row (D,) that all share."""
    return torch.addmm(total, x, y) if total.ndim == 1 else total.addmm_(x, y)


def _again(
    tensors: Sequence[Tensor],
    n: int,
    slope: float,
    quadratic: float,
    G: Tensor,
    needed: Sequence[bool],
) -> list[Tensor | None]:
    """The same gradients with a graph, from the inputs, cut off from each other."""
    aliases = [tensor.view_as(tensor) for tensor in tensors]
    u, weights = _unpack(n, aliases)
    out = closed_form(u, weights._replace(W=[V.exp().to(u.dtype) for V in weights.W]), slope)
    out = out + quadratic * F.pad(u, (0, out.shape[1] - u.shape[1]))
    wanted = [alias for alias, need in zip(aliases, needed, strict=True) if need]
    found = iter(torch.autograd.grad(out, wanted, G, create_graph=True, allow_unused=True))
    return [next(found) if need else None for need in needed]


def _gradients(
    u: Tensor,
    weights: Weights,
    kept: _Kept,
    slope: float,
    quadratic: float,
    G: Tensor,
    needed: Sequence[bool],
) -> list[Tensor | None]:
    """Gradients of log W, u, w, a, A, b and the leaky scalar layer, in that order."""
    n, k, sigma, G = len(weights.A), u.shape[1], kept.sigma, G.contiguous()
    need_V, need_u, need_A = needed[: n - 1], needed[n - 1], needed[n + 2 : 2 * n + 2]
    up = _upwards(weights, kept, slope, G, need_V, need_A)
    gw, ga = _sum(up.tau, sigma), _sum(G, sigma)
    gu = quadratic * leading(G, k) if need_u else None
    gb = _downwards(u, weights, up, slope, gu)
    gV = [None if g is None else g.mul_(Wl) for g, Wl in zip(up.gV, weights.W, strict=True)]
    return [*gV, gu, gw, ga, *up.gA, *gb, *[None] * (3 if weights.top else 0)]


class _Up(NamedTuple):
    """What the sweep upwards leaves to the one downwards.

    gV, gA: parts of the gradients of W and A, None where they are not wanted.
    h: slopes (N, H) of the activations. x: gradients (N, H) of the pre-activations, so far.
    z: activations (N, H), none where the activation is leaky. tau: (N, H), of the last layer.
    """

    gV: list[Tensor | None]
    gA: list[Tensor | None]
    h: list[Tensor]
    x: list[Tensor]
    z: list[Tensor]
    tau: Tensor


def _upwards(
    weights: Weights,
    kept: _Kept,
    slope: float,
    G: Tensor,
    need_V: Sequence[bool],
    need_A: Sequence[bool],
) -> _Up:
    """Back through the sweep that ran downwards."""
    A, _, W, w, _, _ = weights
    n, sigma = len(A), kept.sigma
    gV: list[Tensor | None] = [None] * (n - 1)
    gA: list[Tensor | None] = [None] * n
    h: list[Tensor] = []
    x: list[Tensor] = []
    z: list[Tensor] = []
    t = kept.t[0]
    p = kept.p[0] if W else _times(w, sigma)
    h.append(first_slope(t, slope))
    v = G @ A[0].T
    x.append(leaky_times(v * p, t, slope**2).mul_(2))
    if need_A[0]:
        gA[0] = (h[0] * p).T @ G
    if W and sigma is None:
        z.append(F.leaky_relu(t, slope).square_())
    tau = v.mul_(h[0])
    for layer in range(1, n):
        v = (G @ A[layer].T).addmm_(tau, W[layer - 1].T)
        if sigma is None:
            p = kept.p[layer] if layer < n - 1 else w
            bent, rising, s = _bend(kept.t[layer], slope)
            z.append(bent)
            h.append(rising)
            x.append(torch.ops.aten.sigmoid_backward(v * p, s))
            delta = rising * p
        else:
            delta = F.leaky_relu(kept.p[layer], slope).abs_()
        if need_V[layer - 1]:
            gV[layer - 1] = delta.T @ tau
        if need_A[layer]:
            gA[layer] = delta.T @ G
        tau = v.mul_(h[layer]) if sigma is None else leaky_times(v, kept.p[layer], slope)
    return _Up(gV, gA, h, x, z, tau)


def _downwards(
    u: Tensor, weights: Weights, up: _Up, slope: float, gu: Tensor | None
) -> list[Tensor | None]:
    """Back through the sweep that ran upwards: adds to gV, gA and gu, gives those of b."""
    k = u.shape[1]
    gb: list[Tensor | None] = [None] * len(weights.A)
    down: Tensor | None = None
    for layer in range(len(up.x) - 1, -1, -1):
        scale = 1 - slope if layer else 1.0
        if down is None:
            xl = up.x[layer].mul_(scale)
        else:
            xl = down.mul_(up.h[layer]).add_(up.x[layer], alpha=scale)
        gb[layer] = xl.sum(0)
        if (found := up.gA[layer]) is not None:
            leading(found, k).addmm_(xl.T, u)
        if gu is not None:
            gu.addmm_(xl, weights.A[layer][:, :k])
        if layer:
            if (found := up.gV[layer - 1]) is not None:
                found.addmm_(xl.T, up.z[layer - 1])
            down = xl @ weights.W[layer - 1]
    return gb


def leading(x: Tensor, columns: int) -> Tensor:
    """The leading columns of x (N, M); all of them are x itself, which a batched gradient needs."""
    return x if columns == x.shape[1] else x[:, :columns]


def _times(w: Tensor, sigma: Tensor | None) -> Tensor:
    """w, row by row times σ where there is one."""
    return w if sigma is None else sigma * w


def _sum(rows: Tensor, sigma: Tensor | None) -> Tensor:
    """Σ over rows (N, M), each times σ where there is one."""
    return rows.sum(0) if sigma is None else (sigma.T @ rows).squeeze(0)
