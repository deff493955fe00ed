"""Every figure of a diagnosis against its closed form, on 20 random linear-Gaussian models."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from lidcli.diagnose import Diagnosis, diagnose

MODELS, REPEATS, DATA = 20, 4, 400
SIGMA, WIDTH = 0.8, 5
FIGURES = ("ll", "elbo", "reconstruction", "kl/z", "mi/z")


@pytest.fixture(autouse=True)
def double_precision() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@dataclass(frozen=True)
class Linear:
    """x = W z + σ noise, and q(z | x) = N(B x, S), the exact posterior or one beside it."""

    weight: Tensor
    gain: Tensor
    spread: Tensor
    exact: bool

    @staticmethod
    def drawn(seed: int) -> Linear:
        generator = torch.Generator().manual_seed(seed)
        latent, exact = 1 + seed % 3, seed % 2 == 0
        weight = torch.randn(WIDTH, latent, generator=generator) / 2
        spread = torch.linalg.inv(torch.eye(latent) + weight.T @ weight / SIGMA**2)
        gain = spread @ weight.T / SIGMA**2
        if not exact:
            gain, spread = 0.8 * gain, 1.2 * spread
        return Linear(weight, gain, spread, exact)

    @property
    def covariance(self) -> Tensor:
        return self.weight @ self.weight.T + SIGMA**2 * torch.eye(WIDTH)

    @property
    def moved(self) -> Tensor:
        """Covariance of the posterior means."""
        return self.gain @ self.covariance @ self.gain.T

    def truth(self) -> dict[str, float]:
        """Expectations over data from the model."""
        k = len(self.gain)
        half = 0.5 * torch.logdet(self.spread)
        kl = 0.5 * (self.spread.trace() + self.moved.trace() - k) - half
        left = torch.eye(WIDTH) - self.weight @ self.gain
        squared = (left @ self.covariance @ left.T).trace()
        squared = squared + (self.weight @ self.spread @ self.weight.T).trace()
        fit = -0.5 * (WIDTH * math.log(2 * math.pi * SIGMA**2) + squared / SIGMA**2)
        found = {
            "kl/z": kl,
            "mi/z": 0.5 * torch.logdet(self.moved + self.spread) - half,
            "reconstruction": fit,
            "elbo": fit - kl,
        }
        if self.exact:
            entropy = WIDTH / 2 * math.log(2 * math.pi * math.e)
            found["ll"] = -entropy - 0.5 * torch.logdet(self.covariance)
        return {name: float(value) for name, value in found.items()}

    def measured(self, seed: int) -> Diagnosis:
        generator = torch.Generator().manual_seed(1000 + seed)
        z = torch.randn(DATA, len(self.gain), generator=generator)
        x = z @ self.weight.T + SIGMA * torch.randn(DATA, WIDTH, generator=generator)
        return diagnose(
            x,
            encode=lambda x: MultivariateNormal(x @ self.gain.T, self.spread),
            decode=lambda z: z @ self.weight.T,
            likelihood="gaussian",
            sigma=SIGMA,
            samples=4,
            seed=seed,
        )


@pytest.fixture(scope="module")
def scores() -> Tensor:
    """Errors of every figure of every repeat, in its own standard errors."""
    torch.set_default_dtype(torch.float64)
    found = []
    for m in range(MODELS):
        model = Linear.drawn(m)
        truth = model.truth()
        for r in range(REPEATS):
            s = model.measured(100 * m + r).scalars
            found += [(s[name] - value) / s[f"{name}_se"] for name, value in truth.items()]
    return torch.tensor(found)


@pytest.mark.slow
def test_every_figure_is_within_three_standard_errors_of_its_closed_form(scores: Tensor) -> None:
    """Of 360 errors one is expected beyond three; more than five are once in 1,700."""
    assert len(scores) == REPEATS * (MODELS // 2) * (2 * len(FIGURES) - 1)
    assert int((scores.abs() > 3).sum()) <= 5


@pytest.mark.slow
def test_the_stated_errors_cover_95_per_cent(scores: Tensor) -> None:
    covered = (scores.abs() < 1.96).double().mean().item()
    assert 0.90 < covered < 0.99


@pytest.mark.slow
def test_the_errors_have_no_common_sign(scores: Tensor) -> None:
    """A bias of a tenth of a standard error, which the aggregate of 400 data may leave, passes."""
    assert abs(scores.mean().item()) < 0.1 + 4 * 2 / math.sqrt(len(scores))


@pytest.mark.parametrize("seed", range(MODELS))
def test_active_units_and_dimensions_are_those_of_the_closed_form(seed: int) -> None:
    model = Linear.drawn(seed)
    found = model.measured(seed)
    variances, values = model.moved.diagonal(), torch.linalg.eigvalsh(model.moved)
    if values.min() > 0.03:
        assert found.au == found.active == 1.0
    sd = model.moved.diagonal() * math.sqrt(2 / DATA) + 0.02
    measured = torch.tensor([unit.variance for unit in found.units])
    assert ((measured - variances).abs() < 4 * sd).all()


def test_an_active_dimension_is_none_of_an_axis() -> None:
    """Two units that say the same: both are active, one dimension is."""
    gain = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    found = diagnose(torch.randn(500, 2), encode=lambda x: (x @ gain.T, torch.full_like(x, -4)))
    assert (found.au, found.active) == (1.0, 0.5)
    assert any("after a rotation" in text for text in found.advice)
