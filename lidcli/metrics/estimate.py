"""A number with its standard error, and the progress of what takes long to measure."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

__all__ = ["Estimate", "Tick", "mean", "silent"]

Tick = Callable[[float], None]
"""Told what share of a work has been done since the last time."""


def silent(share: float) -> None:
    """Tell nobody."""


class Estimate(NamedTuple):
    """A mean over data and the standard error of that mean."""

    value: float
    se: float


def mean(values: Tensor) -> Estimate:
    """Mean of values (N,) with its standard error sd / √N.

    Example:
        >>> import torch
        >>> mean(torch.tensor([1.0, 3.0]))
        Estimate(value=2.0, se=1.0)
    """
    values = values.double()
    n = values.numel()
    se = values.std().item() / math.sqrt(n) if n > 1 else math.inf
    return Estimate(values.mean().item(), se)
