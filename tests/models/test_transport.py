"""Section 2.2: two parameters of one likelihood, one with a collapsed category."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from lidcli.inference.exact import ExactClusters
from lidcli.metrics.likelihood import bounds
from lidcli.models.batch import DenseBatch
from lidcli.models.latent import LatentModel
from lidcli.models.transport import TransportDecoder, two_cluster_gmvae

CENTRES, SCALE, SIGMA = (-2.0, 2.0), 0.5, 0.3


def maximiser(shared: bool, centres: tuple[float, ...] = CENTRES) -> LatentModel:
    model = two_cluster_gmvae(centres, SCALE, SIGMA, 2, shared=shared)
    model.posterior = ExactClusters(model, centres, SCALE, SIGMA, shared)
    return model


@pytest.fixture(scope="module")
def x() -> Tensor:
    torch.manual_seed(0)
    return maximiser(shared=False).sample(200).x


def log_density(x: Tensor, centres: tuple[float, ...]) -> Tensor:
    sd = math.hypot(SCALE, SIGMA)
    first = torch.distributions.Normal(torch.tensor(centres, dtype=torch.float64), sd)
    other = torch.distributions.Normal(torch.tensor(0.0, dtype=torch.float64), sd)
    mixed = first.log_prob(x[:, :1]).logsumexp(1) - math.log(len(centres))
    return mixed + other.log_prob(x[:, 1])


@pytest.mark.parametrize("shared", [False, True])
def test_both_maximisers_give_every_datum_the_same_density(x: Tensor, shared: bool) -> None:
    measured = bounds(maximiser(shared), DenseBatch(x), samples=4)
    assert torch.allclose(measured.ll, log_density(x, CENTRES), atol=1e-8)
    assert torch.allclose(measured.elbo, measured.ll, atol=1e-8)


def test_the_category_is_known_at_the_first_and_collapsed_at_the_second(x: Tensor) -> None:
    known = bounds(maximiser(False), DenseBatch(x), samples=2).q_c
    lost = bounds(maximiser(True), DenseBatch(x), samples=2).q_c
    assert known is not None
    assert lost is not None
    assert known.max(1).values.mean() > 0.99
    assert torch.equal(lost, torch.full_like(lost, 0.5))


def test_one_cluster_fitted_with_two_is_collapsed_at_its_maximiser() -> None:
    for shared in (False, True):
        model = maximiser(shared, (0.0,)) if shared else maximiser(True, (0.0,))
        x = torch.randn(50, 2, dtype=torch.float64)
        measured = bounds(model, DenseBatch(x), samples=2)
        assert measured.q_c is not None
        assert torch.allclose(measured.q_c, torch.full_like(measured.q_c, 0.5))
        assert torch.allclose(measured.ll, log_density(x, (0.0,)), atol=1e-8)


def test_the_transport_pushes_a_standard_normal_to_the_mixture() -> None:
    f = TransportDecoder(torch.tensor(CENTRES), SCALE)
    w = torch.linspace(-6, 6, 41, dtype=torch.float64)[:, None]
    y = f(w)
    standard = (y - torch.tensor(CENTRES, dtype=torch.float64)) / SCALE
    below = torch.special.ndtr(standard).mean(1)
    assert torch.allclose(below[:21], torch.special.ndtr(w[:21, 0]), rtol=1e-9)
    assert (y.diff(dim=0) > 0).all()
    assert torch.allclose(f.inverse(y), w, atol=1e-7)


def test_the_slope_of_the_transport_is_its_derivative() -> None:
    f = TransportDecoder(torch.tensor(CENTRES), SCALE)
    w = torch.tensor([[-1.5, 0.3], [0.1, -2.0], [2.0, 0.0]], dtype=torch.float64)
    h = torch.tensor([1e-6, 0.0], dtype=torch.float64)
    measured = (f(w + h) - f(w - h))[:, 0] / 2e-6
    wanted = f.log_slope(w, f(w)).exp() / SCALE
    assert torch.allclose(measured, wanted, rtol=1e-5)
    point = w[0].clone().requires_grad_()
    (slope,) = torch.autograd.grad(f(point)[0], point)
    assert slope[0].item() == pytest.approx(wanted[0].item(), rel=1e-8)


@pytest.mark.parametrize("shared", [False, True])
def test_the_posterior_s_density_is_that_of_its_draws(x: Tensor, shared: bool) -> None:
    model = maximiser(shared)
    w = model.prior.sample(20)
    one = DenseBatch(x[:1])
    joint = model.prior.log_prob(w) + model.observation.log_prob(one, w[:, None])[:, 0]
    posterior = model.posterior(one).log_prob(w)[:, 0]
    assert torch.allclose(joint - posterior, log_density(x[:1], CENTRES), atol=1e-6)


def test_three_clusters_are_refused() -> None:
    with pytest.raises(ValueError, match="one or two"):
        two_cluster_gmvae((0.0, 1.0, 2.0), 0.5, 0.3, 2, shared=True)
