"""Log-probabilities of tokens over a vocabulary, never with more than a chunk of logits in memory.

logits = features weightᵀ + bias over R tokens: the whole vocabulary (R = V), or all but a reference
token whose logit is 0 (R = V - 1), so that logits and distributions are one to one.

Shape suffixes: N tokens, H features, R free logits, V vocabulary.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from lidcli.nn.by_hand import transformed
from lidcli.nn.token_gradients import (
    Gradient,
    Totals,
    chunk_logits,
    gradients,
    parts,
    pick,
    residual,
    wide,
)

CHUNK = 128
_REST = (None,) * 5


def log_prob(
    features: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    bias: Tensor | None = None,
    reference: int | None = None,
    chunk: int = CHUNK,
    anticipated: Tensor | None = None,
    features_only: bool = False,
) -> Tensor:
    """The log-probability of each target, in nats.

    The logits are computed again in the backward pass, a chunk of tokens at a time, whatever the
    upstream gradient is; first and second derivatives hold one or a few chunks of logits. Where
    the upstream gradient is known beforehand up to a factor (a sum over tokens, a weighted one),
    `anticipated` names it and the gradient is computed in the forward pass, a third faster; any
    other upstream gradient is noticed and still handled exactly.

    Args:
        features: (N, H), floating.
        weight: (R, H), a row for each free logit in the order of the tokens.
        targets: (N,) int64 tokens in [0, V).
        bias: (R,), or None.
        reference: token whose logit is 0, or None where every token has a free logit.
        chunk: tokens whose logits are held at once, >= 1.
        anticipated: (N,) what the upstream gradient is proportional to, or None.
        features_only: give the first gradient to the features alone, which is what a step that
            refines a latent needs; weight and bias still have theirs when it is trained through.

    Returns:
        (N,) log-probabilities <= 0, in float32 under autocast.

    Raises:
        ValueError: when shapes do not fit or a token is out of range.

    References:
        Wijmans et al., "Cut your losses in large-vocabulary language models" (ICLR 2025), for
        cross-entropy without the batch's logits.

    Example:
        >>> features, weight = torch.randn(7, 4), torch.randn(9, 4)
        >>> log_prob(features, weight, torch.arange(7), reference=3).shape
        torch.Size([7])
    """
    _check_shapes(features, weight, targets, bias, anticipated)
    if chunk < 1:
        raise ValueError(f"chunk must be >= 1, not {chunk}")
    _check_tokens(targets, len(weight) + (reference is not None), reference)
    if torch.is_autocast_enabled(features.device.type) and features.dtype != torch.float64:
        dtype = torch.get_autocast_dtype(features.device.type)
        features, weight = features.to(dtype), weight.to(dtype)
    bias = None if bias is None else bias.to(wide(features))
    rows = _rows(targets, reference)
    if transformed():
        return _plain(features, weight, bias, rows)
    if anticipated is not None:
        wanted = any(t is not None and t.requires_grad for t in (features, weight, bias))
        useful = wanted and torch.is_grad_enabled()
        anticipated = anticipated.detach().to(wide(features)) if useful else None
    out: Tensor = _LogProb.apply(  # type: ignore[no-untyped-call]
        features, weight, bias, rows.row, rows.free, chunk, anticipated, features_only
    )
    return out


class _Rows(NamedTuple):
    """Each target's row of the weight (N,), and whether it has one (N,) or None where all have."""

    row: Tensor
    free: Tensor | None


def _rows(targets: Tensor, reference: int | None) -> _Rows:
    if reference is None:
        return _Rows(targets, None)
    free = targets != reference
    return _Rows(torch.where(free, targets - (targets > reference).long(), 0), free)


def _plain(features: Tensor, weight: Tensor, bias: Tensor | None, rows: _Rows) -> Tensor:
    """All logits at once, for compilers and function transforms."""
    logits = torch.nn.functional.linear(features, weight).to(wide(features))
    logits = logits if bias is None else logits + bias
    picked = logits.gather(1, rows.row.unsqueeze(1)).squeeze(1)
    total = torch.logsumexp(logits, dim=1)
    if rows.free is not None:
        picked = torch.where(rows.free, picked, 0.0)
        total = torch.logaddexp(total, torch.zeros_like(total))
    return picked - total


class _LogProb(torch.autograd.Function):
    """Log-probabilities with the logits recomputed, or their gradient kept."""

    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        index: Tensor,
        free: Tensor | None,
        chunk: int,
        anticipated: Tensor | None,
        features_only: bool,
    ) -> Tensor:
        """(N,), wide."""
        out = features.new_empty(len(features), dtype=wide(features))
        total = torch.empty_like(out)
        first, *others = ctx.needs_input_grad[:3]
        ctx.wanted = [first, *(need and not features_only for need in others)]
        eager = anticipated is not None
        totals = Totals(weight, bias, [eager and need for need in ctx.wanted[1:]])
        unit = torch.empty_like(features) if eager and first else None
        for part in parts(len(features), chunk):
            logits = chunk_logits(features[part], weight, bias)
            known = None if free is None else free[part]
            out[part] = pick(logits, index[part], known)
            top, mass = _exponentials(logits, free is not None)
            total[part] = mass.log().add_(top)
            if anticipated is not None:
                D = residual(logits.div_(mass.unsqueeze(1)), index[part], known)
                if unit is not None:
                    unit[part] = D.to(features.dtype) @ weight
                D.mul_(anticipated[part].unsqueeze(1))
                totals.add(D, features[part])
                totals.add_bias(D)
        ctx.chunk = chunk
        ctx.save_for_backward(
            features, weight, bias, index, free, total, anticipated, unit, *totals.found()
        )
        return out.sub_(total)

    @staticmethod
    def backward(ctx: Any, G: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of features, weight and bias."""
        features, weight, bias, index, free, total, anticipated, unit, W, b = ctx.saved_tensors
        wanted = ctx.wanted
        if torch.is_grad_enabled():
            found = Gradient.apply(  # type: ignore[no-untyped-call]
                G, features, weight, bias, total, index, free, ctx.chunk, wanted
            )
            return *found, *_REST
        if anticipated is None:
            rest = (index, free, ctx.chunk, wanted)
            return *gradients(G, features, weight, bias, total, *rest), *_REST
        known = unit * G.unsqueeze(1).to(unit.dtype) if wanted[0] else None
        factor = _proportion(G, anticipated)
        if factor is not None:
            factors = [t if t is None else t * factor.to(t.dtype) for t in (W, b)]
            return known, *factors, *_REST
        rest = (index, free, ctx.chunk, [False, *wanted[1:]])
        _, W, b = gradients(G, features, weight, bias, total, *rest)
        return known, W, b, *_REST


def _exponentials(logits: Tensor, reference: bool) -> tuple[Tensor, Tensor]:
    """Turn logits (N, R), in place, into exp(logits - top): top and their sums, each (N,).

    With a reference token its logit of 0 counts in both.
    """
    top = logits.amax(1).clamp_min_(0.0) if reference else logits.amax(1)
    mass = logits.sub_(top.unsqueeze(1)).exp_().sum(1)
    return top, mass.add_((-top).exp()) if reference else mass


def _proportion(G: Tensor, expected: Tensor) -> Tensor | None:
    """The factor by which G (N,) is `expected` to rounding, or None where it is not."""
    if not len(G):
        return G.new_ones(())
    factor = (G @ expected) / (expected @ expected)
    near = (G - factor * expected).abs() <= 16 * torch.finfo(G.dtype).eps * G.abs()
    return factor if bool(near.all()) else None


def _check_shapes(
    features: Tensor,
    weight: Tensor,
    targets: Tensor,
    bias: Tensor | None,
    anticipated: Tensor | None,
) -> None:
    if features.ndim != 2 or weight.ndim != 2 or features.shape[1] != weight.shape[1]:
        raise ValueError(
            "expected features (N, H) and a weight (R, H), "
            f"got {tuple(features.shape)} and {tuple(weight.shape)}"
        )
    per_token = [targets] if anticipated is None else [targets, anticipated]
    if any(t.shape != features.shape[:1] for t in per_token):
        shapes = ", ".join(str(tuple(t.shape)) for t in per_token)
        raise ValueError(f"expected one target and weight for {len(features)} tokens, got {shapes}")
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"expected a bias ({len(weight)},), got {tuple(bias.shape)}")


def _check_tokens(targets: Tensor, vocabulary: int, reference: int | None) -> None:
    """Every token is in the vocabulary; targets elsewhere than on the CPU are not looked at."""
    if reference is not None and not 0 <= reference < vocabulary:
        raise ValueError(f"the reference token must lie in [0, {vocabulary}), not {reference}")
    if targets.device.type == "cpu" and len(targets) and not transformed():
        low, high = int(targets.min()), int(targets.max())
        if low < 0 or high >= vocabulary:
            raise ValueError(f"tokens must lie in [0, {vocabulary}), found {low} to {high}")
