"""Answers that are no posterior's: recognised under any prior, and no honest one refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Laplace, Normal

from lidcli.diagnose import diagnose

SAID = "looks like variances .* none of its values is negative"


def data(n: int = 300) -> Tensor:
    return torch.randn(n, 3, generator=torch.Generator().manual_seed(0))


def normal(sd: float) -> Distribution:
    return Normal(torch.zeros(2), sd)


PRIORS = {
    "none": None,
    "standard": normal(1.0),
    "wide": normal(2.0),
    "wider": normal(5.0),
    "narrow": Independent(normal(0.5), 1),
    "laplace": Laplace(torch.zeros(2), 0.5),
}
VARIANCES: dict[str, Callable[[Tensor], Tensor]] = {
    "constant": lambda x: torch.full_like(x[:, :2], 0.3),
    "of a datum": lambda x: 0.05 + 0.4 * torch.sigmoid(x[:, :2]),
    "some are 0": lambda x: torch.relu(x[:, :2]),
    "sds": lambda x: torch.full_like(x[:, :2], 0.6),
}


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("kind", VARIANCES)
def test_variances_are_recognised_under_any_prior(prior: str, kind: str) -> None:
    given = {"encode": lambda x: (0.9 * x[:, :2], VARIANCES[kind](x)), "prior": PRIORS[prior]}
    with pytest.raises(ValueError, match=SAID):
        diagnose(data(), samples=2, **given)


@pytest.mark.parametrize("sd", [0.7, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.8])
def test_posteriors_whose_aggregate_is_the_prior_are_none(sd: float, share: float) -> None:
    """Means have a share of the prior's variance, posteriors the rest."""
    variance = (1 - share) * sd**2

    def encode(x: Tensor) -> Any:
        noise = 0.05 * torch.tanh(x[:, :2])
        return share**0.5 * sd * x[:, :2], math.log(variance) + noise

    found = diagnose(data(), encode=encode, prior=normal(sd), samples=2)
    assert found.kl.value < 2


@pytest.mark.parametrize("prior", ["none", "standard"])
def test_collapsed_posteriors_are_none(prior: str) -> None:
    for value in (0.0, 0.02, 0.1):
        given = {"encode": lambda x, v=value: (0.01 * x[:, :2], v + 0 * x[:, :2])}
        assert diagnose(data(), **given, prior=PRIORS[prior], samples=2).label == "collapsed"


def test_a_posterior_of_unit_variance_everywhere_is_none() -> None:
    diagnose(data(), encode=lambda x: (3 * x[:, :2], 0 * x[:, :2]), samples=2)


def test_data_beyond_the_first_are_looked_at() -> None:
    """Data in an order: the first are those whose log variances are above zero."""
    x = data(2000).sort(0, descending=True).values
    diagnose(x, encode=lambda x: (x[:, :1], x[:, :1] - 0.5), samples=2)


ABSURD: dict[str, tuple[Callable[[Tensor], Any], str]] = {
    "narrow": (
        lambda x: (x[:, :2], -200 + 0 * x[:, :2]),
        "unit 1 of encode's posteriors has a log variance of -200 on average",
    ),
    "one unit": (
        lambda x: (x[:, :2], torch.tensor([-1.0, -120.0]).expand(len(x), 2)),
        "unit 2 of .* -120 on average",
    ),
    "narrow Normal": (lambda x: Normal(x[:, :2], 1e-30), "unit 1 of .* -138 on average"),
    "far": (
        lambda x: (1e8 * x[:, :2], -1 + 0 * x[:, :2]),
        "unit 1 of encode's posteriors has a KL of .*e[+]15 nats .* means of -.*e[+]08 to",
    ),
    "far Laplace": (lambda x: Laplace(1e9 * x[:, :2], 1.0), "KL .* nats"),
    "one datum": (
        lambda x: (x[:, :2], torch.where(x[:, :2] == x.max(), -400.0, -1.0)),
        "MI is nan",
    ),
}


@pytest.mark.parametrize("name", ABSURD)
def test_figures_that_no_trained_encoder_has_are_refused(name: str) -> None:
    encode, told = ABSURD[name]
    with pytest.raises(ValueError, match=told):
        diagnose(data(), encode=encode, samples=2)


@pytest.mark.parametrize(("far", "log_variance"), [(1.0, -25.0), (30.0, -12.0), (300.0, -6.0)])
def test_autoencoders_of_no_weight_on_the_kl_are_measured(far: float, log_variance: float) -> None:
    encode = {"encode": lambda x: (far * x[:, :2], log_variance + x[:, :2])}
    assert diagnose(data(), **encode, samples=2).kl.value > 10
