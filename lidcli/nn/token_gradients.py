"""Gradients of token log-probabilities chunk by chunk, once and twice, written by hand.

With D = G (one-hot - p) the gradient in the logits under an upstream G, those of features, weight
and bias are D weight, Dᵀ features and Σ D.

Shape suffixes: N tokens, c tokens of a chunk, H features, R free logits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def wide(tensor: Tensor) -> torch.dtype:
    """The type sums and exponentials are computed in."""
    return torch.promote_types(tensor.dtype, torch.float32)


def parts(count: int, chunk: int) -> Iterator[slice]:
    """Slices of `chunk` that make up range(count)."""
    return (slice(start, min(start + chunk, count)) for start in range(0, count, chunk))


def chunk_logits(features: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """A chunk's logits (c, R), wide."""
    if bias is not None and bias.dtype == features.dtype:
        return torch.addmm(bias, features, weight.T)
    logits = (features @ weight.T).to(wide(features))
    return logits if bias is None else logits.add_(bias)


def pick(values: Tensor, index: Tensor, free: Tensor | None) -> Tensor:
    """values (c, R) at each target, 0 for the reference: (c,)."""
    picked = values.gather(1, index.unsqueeze(1)).squeeze(1)
    return picked if free is None else picked.mul_(free)


def residual(p: Tensor, index: Tensor, free: Tensor | None) -> Tensor:
    """One-hot minus probabilities, written over the latter (c, R)."""
    ones = p.new_ones(len(p), 1) if free is None else free.to(p.dtype).unsqueeze(1)
    return p.neg_().scatter_add_(1, index.unsqueeze(1), ones)


class Totals:
    """The gradients of weight and bias, added up over chunks in the wide type."""

    def __init__(self, weight: Tensor, bias: Tensor | None, wanted: Sequence[bool]) -> None:
        self.dtype = weight.dtype
        self.W = weight.new_zeros(weight.shape, dtype=wide(weight)) if wanted[0] else None
        self.b = torch.zeros_like(bias) if bias is not None and wanted[1] else None

    def add(self, D: Tensor, features: Tensor) -> None:
        """Add Dᵀ features to the weight's, for D (c, R) a gradient in the logits."""
        if self.W is None:
            return
        if self.W.dtype == features.dtype:
            self.W.addmm_(D.T, features)
        else:
            self.W.add_(D.to(features.dtype).T @ features)

    def add_bias(self, D: Tensor) -> None:
        """Add Σ D to the bias's."""
        if self.b is not None:
            self.b.add_(D.sum(0))

    def found(self) -> tuple[Tensor | None, Tensor | None]:
        """Both, the weight's in its own type."""
        return None if self.W is None else self.W.to(self.dtype), self.b


def gradients(
    G: Tensor,
    features: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    total: Tensor,
    index: Tensor,
    free: Tensor | None,
    chunk: int,
    wanted: Sequence[bool],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Gradients of features, weight and bias under the upstream G (N,), chunk by chunk."""
    totals = Totals(weight, bias, wanted[1:])
    grown = torch.empty_like(features) if wanted[0] else None
    for part in parts(len(features), chunk):
        logits = chunk_logits(features[part], weight, bias).sub_(total[part].unsqueeze(1))
        D = residual(logits.exp_(), index[part], None if free is None else free[part])
        D.mul_(G[part].unsqueeze(1))
        if grown is not None:
            grown[part] = D.to(features.dtype) @ weight
        totals.add(D, features[part])
        totals.add_bias(D)
    return grown, *totals.found()


class Gradient(torch.autograd.Function):
    """`gradients`, to be differentiated once more."""

    @staticmethod
    def forward(
        ctx: Any,
        G: Tensor,
        features: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        total: Tensor,
        index: Tensor,
        free: Tensor | None,
        chunk: int,
        wanted: Sequence[bool],
    ) -> tuple[Tensor | None, ...]:
        """Gradients of features, weight and bias."""
        ctx.chunk = chunk
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(G, features, weight, bias, total, index, free)
        return gradients(G, features, weight, bias, total, index, free, chunk, wanted)

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, towards_f: Tensor | None, towards_W: Tensor | None, towards_b: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        """Gradients of Σ <D, a>, a = W f' + W' f + b' with f', W' and b' the upstream ones."""
        G, features, weight, bias, total, index, free = ctx.saved_tensors
        needed = ctx.needs_input_grad
        totals = Totals(weight, bias, needed[2:4])
        toward_G = torch.empty_like(G)
        grown = torch.empty_like(features)
        for part in parts(len(features), ctx.chunk):
            f, known = features[part], None if free is None else free[part]
            p = chunk_logits(f, weight, bias).sub_(total[part].unsqueeze(1)).exp_()
            a = torch.zeros_like(p)
            if towards_f is not None:
                a += towards_f[part] @ weight.T
            if towards_W is not None:
                a += f @ towards_W.T
            if towards_b is not None:
                a += towards_b
            mean = (p * a).sum(1)
            toward_G[part] = pick(a, index[part], known) - mean
            slope = a.sub_(mean.unsqueeze(1)).mul_(p).mul_(-G[part].unsqueeze(1))
            grown[part] = slope.to(f.dtype) @ weight
            totals.add(slope, f)
            totals.add_bias(slope)
            D = residual(p, index[part], known).mul_(G[part].unsqueeze(1))
            if towards_W is not None:
                grown[part] += D.to(f.dtype) @ towards_W
            if towards_f is not None:
                totals.add(D, towards_f[part])
        return toward_G, grown, *totals.found(), None, None, None, None, None
