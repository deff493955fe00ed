"""Gaussian mixtures: densities, responsibilities, EM's maximum, the collapsed stationary point."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from lidcli.models.gmm import GMM, _step, fit_gmm, shared_gmm


def model_in_two_dimensions() -> GMM:
    spread = torch.tensor([[[2.0, 0.5], [0.5, 1.0]], [[1.0, -0.3], [-0.3, 0.5]]])
    return GMM(torch.tensor([0.3, 0.7]), torch.tensor([[0.0, 1.0], [2.0, -1.0]]), spread)


@pytest.fixture(scope="module")
def separated() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    left = torch.rand(4000, 1, generator=generator) < 0.15
    return torch.where(left, -10.0, 10.0) + torch.randn(4000, 1, generator=generator)


def test_densities_and_responsibilities_are_bayes_rule() -> None:
    model = model_in_two_dimensions()
    x = torch.randn(50, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    log_p = torch.stack(
        [
            MultivariateNormal(m, s).log_prob(x)
            for m, s in zip(model.means, model.covariances, strict=True)
        ],
        dim=1,
    )
    assert torch.allclose(model.component_log_density(x), log_p, atol=1e-10)
    joint = log_p + model.weights.log()
    assert torch.allclose(model.log_marginal(x), joint.logsumexp(1), atol=1e-10)
    assert torch.allclose(model.responsibilities(x), joint.softmax(1), atol=1e-10)


def test_samples_follow_the_mixture() -> None:
    torch.manual_seed(0)
    model = model_in_two_dimensions()
    x = model.sample(100_000)
    wanted = torch.tensor([1.4, -0.4], dtype=torch.float64)
    assert torch.allclose(x.mean(0), wanted, atol=0.02)
    within = (model.weights[:, None, None] * model.covariances).sum(0)
    centred = model.means - wanted
    between = (model.weights[:, None] * centred).T @ centred
    assert torch.allclose(torch.cov(x.T), within + between, atol=0.05)
    assert torch.allclose(model.responsibilities(x).mean(0), model.weights, atol=0.01)


def test_what_its_figures_are_of_is_the_component() -> None:
    facts = model_in_two_dimensions().facts()
    assert (facts.judged, facts.categories, facts.units, facts.exact) == ("c", 2, {"c": 2}, True)


def test_em_finds_separated_clusters(separated: Tensor) -> None:
    model = fit_gmm(separated, 2)
    fewer = 0.15 * len(separated)
    assert model.means.flatten().tolist() == pytest.approx([-10, 10], abs=5 / math.sqrt(fewer))
    se = math.sqrt(0.15 * 0.85 / len(separated))
    assert model.weights.tolist() == pytest.approx([0.15, 0.85], abs=5 * se)
    assert model.covariances.flatten().tolist() == pytest.approx(
        [1, 1], abs=5 * math.sqrt(2 / fewer)
    )


def test_no_step_of_em_lowers_the_likelihood(separated: Tensor) -> None:
    x = separated.double()
    model: GMM | None = GMM(
        torch.tensor([0.5, 0.5]), torch.tensor([[0.0], [1.0]]), torch.full((2, 1, 1), 50.0)
    )
    values = []
    for _ in range(30):
        assert model is not None
        model, value = _step(model, x)
        values.append(value)
    assert all(b >= a - 1e-12 for a, b in pairwise(values))


def test_the_maximum_is_stationary_for_em_and_above_its_neighbours(separated: Tensor) -> None:
    x = separated.double()
    model = fit_gmm(x, 2)
    again, value = _step(model, x)
    assert again is not None
    assert torch.allclose(again.means, model.means, atol=1e-4)
    assert again.log_marginal(x).mean().item() - value < 1e-9


def test_equal_components_are_stationary_but_not_the_maximum_on_a_single_gaussian() -> None:
    x = torch.randn(3000, 1, generator=torch.Generator().manual_seed(1)).double() - 1
    shared = shared_gmm(x, 2)
    stepped, value = _step(shared, x)
    assert stepped is not None
    assert torch.allclose(stepped.means, shared.means, atol=1e-10)
    assert torch.allclose(stepped.covariances, shared.covariances, atol=1e-10)
    assert torch.equal(shared.responsibilities(x), torch.full((3000, 2), 0.5, dtype=torch.float64))
    gain = fit_gmm(x, 2).log_marginal(x).sum().item() - 3000 * value
    assert 0 < gain < 20


def test_components_come_in_the_order_of_their_means(separated: Tensor) -> None:
    for seed in range(3):
        assert fit_gmm(separated[:500], 2, starts=2, seed=seed).means[:, 0].diff().item() > 0


def test_three_components_in_two_dimensions() -> None:
    generator = torch.Generator().manual_seed(0)
    centres = torch.tensor([[0.0, 0.0], [6.0, 0.0], [0.0, 6.0]])
    x = centres.repeat(200, 1) + torch.randn(600, 2, generator=generator)
    found = fit_gmm(x, 3).means
    distance = torch.cdist(found, centres.double()).min(1).values
    assert distance.max() < 5 * math.sqrt(2 / 200)


def test_a_singular_covariance_and_misfitting_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="positive definite"):
        shared_gmm(torch.zeros(10, 1), 2)
    with pytest.raises(ValueError, match="do not fit"):
        GMM(torch.ones(2) / 2, torch.zeros(2, 1), torch.ones(2, 2, 2))
