"""Active units and dimensions with their standard errors."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from lidcli.metrics.estimate import Estimate
from lidcli.metrics.information import (
    active_dimensions_of_halves,
    active_units_of_halves,
    covariance_of_halves,
)
from lidcli.metrics.quantity import ACTIVE

__all__ = ["Activity", "activity", "exact_activity"]

REPLICATES = 1000
"""Data sets that might have been, over which the spread of a count is taken."""
ROWS = 10_000


class Activity(NamedTuple):
    """What the data move of a latent of U units."""

    units: Estimate
    """Fraction of units whose posterior mean varies."""
    dimensions: Estimate
    """The same of the covariance's eigenvalues."""
    variances: Tensor
    """Of the units' posterior means, over data, (U,); may be negative where draws estimate it."""
    errors: Tensor
    """Standard errors (U,) of the variances."""


def exact_activity(means: Tensor, threshold: float = ACTIVE) -> Activity:
    """The activity of exact posterior means (N, U): see `activity`."""
    return activity(torch.stack([means, means]), threshold)


def activity(halves: Tensor, threshold: float = ACTIVE, rows: int = ROWS) -> Activity:
    """Active units and dimensions, with what another data set of N might have given.

    A count has no derivative, so its error is a spread over replicates: those are normal, with the
    covariance that the variances (or eigenvalues) have by their influence functions, noise of the
    draws included. Far from the threshold it is 0.

    Args:
        halves: independent Monte-Carlo estimates (2, N, U) of the posterior means, or twice the
            exact ones.
        threshold: a variance.
        rows: data at a time.

    Returns:
        The fractions of `active_units_of_halves` and `active_dimensions_of_halves`, which are the
        same each time; errors are infinite for a single datum and NaN for means not finite.

    References:
        Efron, "The jackknife, the bootstrap and other resampling plans" (1982), chapter 6, for the
        infinitesimal jackknife; Magnus, "On differentiating eigenvalues and eigenvectors" (1985).

    Example:
        >>> means = torch.randn(100, 2) * torch.tensor([1.0, 0.1])
        >>> found = exact_activity(means)
        >>> found.errors.shape, found.units.se > 0
        (torch.Size([2]), True)
    """
    covariance = covariance_of_halves(halves).cpu()
    variances = covariance.diagonal()
    units = active_units_of_halves(halves, threshold)
    dimensions = active_dimensions_of_halves(halves, threshold)
    if halves.shape[1] < 2 or not bool(covariance.isfinite().all()):
        unknown = math.inf if halves.shape[1] < 2 else math.nan
        errors = torch.full_like(variances, unknown)
        return Activity(Estimate(units, unknown), Estimate(dimensions, unknown), variances, errors)
    values, axes = torch.linalg.eigh(covariance)
    by_axis = _covariance(halves, torch.eye(len(axes), dtype=axes.dtype), variances, rows)
    by_dimension = _covariance(halves, axes, values, rows)
    return Activity(
        Estimate(units, _spread(variances, by_axis, threshold)),
        Estimate(dimensions, _spread(values, by_dimension, threshold)),
        variances,
        by_axis.diagonal().sqrt(),
    )


def _covariance(halves: Tensor, axes: Tensor, values: Tensor, rows: int) -> Tensor:
    """Sampling covariance (U, U) of the variances along axes (U, U), from their influences."""
    n = halves.shape[1]
    centre = halves.double().mean(1, keepdim=True)
    axes, values = axes.to(halves.device), values.to(halves.device)
    total = torch.zeros_like(axes)
    for part in torch.split(halves, rows, dim=1):
        one, other = (part.double() - centre) @ axes
        influence = one * other - values
        total += influence.T @ influence
    return (total / (n * (n - 1))).cpu()


def _spread(values: Tensor, covariance: Tensor, threshold: float) -> float:
    """Sd, over normal replicates of values (U,), of the fraction that reaches a threshold."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(REPLICATES, len(values), generator=generator, dtype=values.dtype)
    variances, axes = torch.linalg.eigh(covariance)
    moved = values + noise * variances.clamp(min=0).sqrt() @ axes.T
    active: float = (moved >= threshold).sum(1).double().std().item()
    return active / len(values)
