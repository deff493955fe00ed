"""AU and active dimensions, and the errors that are stated of them."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from lidcli.metrics.activity import Activity, activity
from lidcli.metrics.information import (
    active_dimensions_of_halves,
    active_units_of_halves,
)
from lidcli.metrics.quantity import ACTIVE

DATA, SETS = 400, 300


def means(*variances: float, seed: int = 0, noise: float = 0.0, n: int = DATA) -> Tensor:
    """Two estimates (2, N, U) of normal posterior means with these variances over data."""
    generator = torch.Generator().manual_seed(seed)
    sd = torch.tensor(variances, dtype=torch.float64).sqrt()
    exact = sd * torch.randn(n, len(variances), generator=generator, dtype=torch.float64)
    extra = torch.randn(2, *exact.shape, generator=generator, dtype=torch.float64)
    return exact + noise * extra


def many(*variances: float, noise: float = 0.0) -> list[Activity]:
    return [activity(means(*variances, seed=seed, noise=noise)) for seed in range(SETS)]


def test_the_values_are_those_without_an_error() -> None:
    halves = means(0.5, 0.0101, 0.0099, 1e-4, noise=0.02)
    found = activity(halves)
    assert found.units.value == active_units_of_halves(halves)
    assert found.dimensions.value == active_dimensions_of_halves(halves)


def test_far_from_the_threshold_nothing_is_uncertain() -> None:
    found = activity(means(1.0, 0.3, 0.001, 0.0))
    assert found.units == found.dimensions == (0.5, 0.0)


@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_near_it_the_error_is_the_spread_over_data_sets(noise: float) -> None:
    """Within a factor of 1.5: an estimate on the threshold's other side knows no better."""
    for offset in (-1.0, 0.0, 1.0):
        near = ACTIVE * (1 + offset * math.sqrt(2 / DATA))
        found = many(0.5, near, noise=noise)
        for name in ("units", "dimensions"):
            values = torch.tensor([getattr(one, name).value for one in found])
            errors = torch.tensor([getattr(one, name).se for one in found])
            stated = errors.square().mean().sqrt()
            assert errors.max() <= 0.25 + 1e-3
            assert values.std() / 1.5 < stated < 1.5 * values.std()


@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_the_errors_of_variances_cover_95_per_cent(noise: float) -> None:
    truth = torch.tensor([0.5, 0.01, 0.0], dtype=torch.float64)
    found = many(*truth.tolist(), noise=noise)
    variances = torch.stack([one.variances for one in found])
    errors = torch.stack([one.errors for one in found])
    inside = ((variances - truth).abs() <= 1.96 * errors).double().mean(0)
    assert (inside > 0.9).all()


def test_units_that_say_the_same_are_uncertain_together() -> None:
    """Both cross the threshold at once: twice the error of one of two."""
    one = means(ACTIVE, seed=4)
    alone = activity(torch.cat([one, 0 * one], dim=2)).units.se
    together = activity(torch.cat([one, one], dim=2)).units.se
    assert together == pytest.approx(2 * alone, rel=0.1)
    assert alone > 0.05


def test_the_error_is_the_same_each_time_and_draws_from_no_generator() -> None:
    before = torch.get_rng_state()
    first, again = (activity(means(0.5, 0.01)) for _ in range(2))
    assert first.units == again.units
    assert torch.equal(before, torch.get_rng_state())


def test_parts_do_not_change_it() -> None:
    halves = means(0.5, 0.01, 0.001, noise=0.1, n=999)
    one, other = activity(halves), activity(halves, rows=10)
    assert one.units.se == pytest.approx(other.units.se)
    assert torch.allclose(one.errors, other.errors)


def test_of_one_datum_nothing_is_known() -> None:
    found = activity(means(1.0, 1.0, n=1))
    assert found.units == (0.0, math.inf)
    assert math.isnan(found.dimensions.value)


def test_means_that_are_no_numbers_are_told_as_such() -> None:
    found = activity(torch.full((2, 9, 3), math.nan))
    assert math.isnan(found.dimensions.value)
    assert math.isnan(found.units.se)
