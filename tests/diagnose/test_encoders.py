"""What is exact of an encoder's distributions, and what draws tell of the others."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.distributions import (
    Distribution,
    Independent,
    Laplace,
    LowRankMultivariateNormal,
    MultivariateNormal,
    Normal,
)

from lidcli.diagnose import diagnose
from lidcli.diagnose.encoders import GivenPosterior
from lidcli.models.batch import DenseBatch

N, SD = 300, torch.tensor([0.6, 0.9])
FACTOR = torch.tensor([[0.6, 0.0], [0.3, 0.8]])


def data(n: int = N, seed: int = 0) -> Tensor:
    x = torch.randn(n, 2, generator=torch.Generator().manual_seed(seed))
    return (x - x.mean(0)) / x.std(0)


def low_rank(x: Tensor) -> Distribution:
    factor = torch.full((len(x), 2, 1), 0.5)
    return LowRankMultivariateNormal(0.3 * x, factor, torch.full_like(x, 0.25))


NORMALS: dict[str, tuple[Callable[[Tensor], object], Tensor]] = {
    "pair": (lambda x: (0.3 * x, (2 * SD.log()).expand_as(x)), SD),
    "normal": (lambda x: Independent(Normal(0.3 * x, SD.expand_as(x)), 1), SD),
    "full": (
        lambda x: MultivariateNormal(0.3 * x, scale_tril=FACTOR),
        (FACTOR @ FACTOR.T).diagonal().sqrt(),
    ),
    "low rank": (low_rank, torch.full((2,), 0.5**0.5)),
}


@pytest.mark.parametrize("name", NORMALS)
def test_units_of_normal_posteriors_are_exact(name: str) -> None:
    """The variance of the mean of two draws would be off by the sd's square over √N."""
    encode, sd = NORMALS[name]
    found = diagnose(data(), encode=encode, samples=2)
    for unit, scale in zip(found.units, sd.tolist(), strict=True):
        assert unit.variance == pytest.approx(0.09, rel=1e-4)
        kl = 0.5 * (0.09 * (N - 1) / N + scale**2 - 1) - math.log(scale)
        assert unit.kl == pytest.approx(kl, rel=1e-3)


@pytest.mark.parametrize("name", NORMALS)
@pytest.mark.parametrize("joint", [False, True])
def test_so_they_are_under_a_normal_prior_of_ones_own(name: str, joint: bool) -> None:
    encode, sd = NORMALS[name]
    mean, wide = torch.tensor([0.5, -1.0]), torch.tensor([2.0, 0.7])
    prior = MultivariateNormal(mean, wide.square().diag()) if joint else Normal(mean, wide)
    found = diagnose(data(), encode=encode, prior=prior, samples=2)
    for unit, s, m, w in zip(found.units, sd.tolist(), mean.tolist(), wide.tolist(), strict=True):
        kl = math.log(w / s) + (s**2 + 0.09 * (N - 1) / N + m**2) / (2 * w**2) - 0.5
        assert unit.kl == pytest.approx(kl, rel=1e-3)


def test_a_collapsed_normal_posterior_has_no_negative_variance() -> None:
    found = diagnose(data(), encode=lambda x: MultivariateNormal(0 * x, torch.eye(2)), samples=2)
    assert [unit.variance for unit in found.units] == [0.0, 0.0]
    assert "encode gives the same answer for all data: it ignores x." in found.advice


def test_of_other_posteriors_the_variance_is_unbiased_and_its_error_covers_it() -> None:
    """Half of the estimates of a unit that is still are below 0: the ± beside them says why."""
    still = []
    for seed in range(40):
        found = diagnose(
            data(seed=seed),
            encode=lambda x: Independent(Laplace(x * torch.tensor([1.0, 0.0]), 0.5), 1),
            samples=4,
            seed=seed,
        )
        assert found.units[1].variance_se is not None
        still.append((found.units[1].variance, found.units[1].variance_se))
        assert any("estimated by draws" in text for text in found.notes)
    values, errors = torch.tensor(still).T
    assert 8 < int((values < 0).sum()) < 32
    assert int((values.abs() > 1.96 * errors).sum()) <= 6
    assert abs(values.mean()) < 4 * values.std() / 40**0.5


@pytest.mark.parametrize(
    "rows", [slice(0, 7), slice(2, 9), slice(4, 8), slice(1, 12), slice(10, 12)]
)
def test_any_stretch_of_data_is_cut_and_not_encoded_again(rows: slice) -> None:
    calls = []

    def encode(x: Tensor) -> Distribution:
        calls.append(len(x))
        return Independent(Laplace(x, 0.5), 1)

    posterior = GivenPosterior(encode, torch.Size((2,)), torch.device("cpu"))
    x = data(12)
    first, *others = (posterior(DenseBatch(x[i : i + 4])) for i in range(0, 12, 4))
    cut = first.joined(*others).rows(rows)
    z = torch.randn(3, 2)
    assert torch.equal(cut.log_prob(z), posterior(DenseBatch(x[rows])).log_prob(z))
    drawn = cut.draw(5)
    assert drawn.latent.shape == (5, len(x[rows]), 2)
    assert drawn.log_q.shape == (5, len(x[rows]))
    again = cut.rows(slice(1, None)).log_prob(z)
    assert torch.equal(again, cut.log_prob(z)[:, 1:])
    assert calls == [4, 4, 4, len(x[rows])]


def test_wide_data_are_encoded_as_often_as_narrow_ones() -> None:
    """Parts of data and parts of the aggregate are not cut at the same places."""
    encoded = []

    def encode(x: Tensor) -> Distribution:
        encoded.append(len(x))
        return Independent(Laplace(x[:, :2], 0.5), 1)

    counts = []
    for width in (2, 900):
        encoded.clear()
        diagnose(torch.randn(700, width), encode=encode, samples=2, batch=300)
        counts.append(sum(encoded))
    assert counts[1] == counts[0]
