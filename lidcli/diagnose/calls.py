"""Calls of a user's functions, whose failures become one sentence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

__all__ = ["called", "each", "finite", "span"]

TOLD = 160


def called(name: str, function: Callable[..., Any], *arguments: Tensor) -> Any:
    """What a function returns.

    Args:
        name: the user's name for it.
        function: takes the arguments.
        arguments: tensors.

    Raises:
        ValueError: it fails; the sentence tells with what it was called, and why it failed.
    """
    try:
        return function(*arguments)
    except (RuntimeError, ValueError, TypeError, IndexError, AttributeError) as error:
        kinds = " and ".join(
            f"{tuple(a.shape)} {str(a.dtype).removeprefix('torch.')} on {a.device}"
            for a in arguments
        )
        reason = " ".join(str(error).split())[:TOLD]
        raise ValueError(
            f"{name} cannot be called with {kinds}: {type(error).__name__}: {reason}"
        ) from error


def finite(name: str, values: Tensor, data: str = "data") -> Tensor:
    """The same values.

    Raises:
        ValueError: one of them is NaN or infinite; the sentence names the first row.
    """
    if bool(values.isfinite().all()):
        return values
    bad = ~values.isfinite().flatten(1).all(1)
    what = "NaN" if bool(values.isnan().any()) else "infinite values"
    raise ValueError(
        f"{name} has {what} for {int(bad.sum())} of {len(values)} {data}, the first of them number"
        f" {int(bad.int().argmax())} (from 0), where finite numbers are expected"
    )


def each(distribution: Distribution, values: Tensor, axes: int = 1) -> Tensor:
    """log-density summed over all dimensions but the first `axes`."""
    found: Tensor = distribution.log_prob(values)
    return found.flatten(axes).sum(-1) if found.ndim > axes else found


def span(values: Tensor) -> str:
    """The smallest and the largest of them, in words."""
    low, high = torch.aminmax(values)
    return f"{low.item():.3g} to {high.item():.3g}"
