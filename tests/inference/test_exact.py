"""Exact posteriors: every bound is exact, the weight's quadrature matches an adaptive one."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.special import polygamma
from scipy.stats import beta

from lidcli.inference.exact import ExactClusters, ExactGaussian
from lidcli.inference.weight import beta_log_prior, weight_log_likelihood, weight_posterior
from lidcli.metrics.classical import evaluate_gmm
from lidcli.metrics.likelihood import bounds
from lidcli.models.gmm import GMM
from lidcli.models.ppca import PPCA
from lidcli.models.transport import two_cluster_gmvae


@pytest.fixture
def ppca() -> PPCA:
    generator = torch.Generator().manual_seed(0)
    w = torch.randn(5, 3, generator=generator, dtype=torch.float64)
    model = PPCA(w, torch.ones(5), sigma=0.4)
    model.posterior = ExactGaussian(model)
    return model


@pytest.fixture
def gmm() -> GMM:
    return GMM(torch.tensor([0.2, 0.8]), torch.tensor([[-1.0], [1.0]]), torch.ones(2, 1, 1))


def test_every_importance_weight_of_a_ppca_is_the_marginal(ppca: PPCA) -> None:
    torch.manual_seed(0)
    x = ppca.sample(30)
    marginal = ppca.log_marginal(x.x)
    weights = ppca.log_weights(x, 4)
    assert torch.allclose(weights, marginal.expand(4, 30), atol=1e-8)
    terms = ppca.terms(x, ppca.posterior(x).draw(4))
    assert torch.allclose(terms.reconstruction - terms.kl, weights, atol=1e-8)
    measured = bounds(ppca, x, samples=4)
    assert torch.allclose(measured.ll, marginal, atol=1e-8)
    assert torch.allclose(measured.elbo, measured.ll, atol=1e-8)


@pytest.mark.parametrize("shared", [False, True])
def test_every_importance_weight_of_two_clusters_is_the_marginal(shared: bool) -> None:
    model = two_cluster_gmvae((-1.0, 1.0), 0.5, 0.4, 2, shared=shared)
    model.posterior = ExactClusters(model, (-1.0, 1.0), 0.5, 0.4, shared)
    torch.manual_seed(0)
    x = model.sample(30)
    weights = model.log_weights(x, 4)
    assert torch.allclose(weights, weights[0].expand(4, 30), atol=1e-8)
    terms = model.terms(x, model.posterior(x).draw(4))
    assert torch.allclose(terms.reconstruction - terms.kl, weights, atol=1e-8)


def test_the_bound_of_a_mixture_from_its_formulas_is_the_marginal(gmm: GMM) -> None:
    torch.manual_seed(0)
    x = gmm.sample(30)
    found = evaluate_gmm(gmm, x, None).scalars
    marginal = gmm.log_marginal(x).mean().item()
    assert found["ll"] == pytest.approx(marginal, abs=1e-8)
    assert found["elbo"] == pytest.approx(marginal, abs=1e-8)
    assert found["reconstruction"] - found["kl/joint"] == pytest.approx(marginal, abs=1e-8)


def test_draws_of_a_ppca_have_the_posterior_s_moments(ppca: PPCA) -> None:
    torch.manual_seed(0)
    x = ppca.sample(1)
    latent = ppca.posterior(x).draw(200_000).latent[:, 0]
    assert torch.allclose(latent.mean(0), ppca.posterior_mean(x.x)[0], atol=0.01)
    assert torch.allclose(torch.cov(latent.T), ppca.posterior_covariance(), atol=0.01)


def test_the_density_of_a_draw_is_the_one_it_was_drawn_with(ppca: PPCA) -> None:
    torch.manual_seed(0)
    x = ppca.sample(4)
    conditional = ppca.posterior(x)
    drawn = conditional.draw(1)
    log_q = conditional.log_prob(drawn.latent[0])
    assert torch.allclose(log_q.diagonal(), drawn.log_q[0], atol=1e-8)


def test_the_category_s_posterior_is_the_responsibility(gmm: GMM) -> None:
    x = torch.linspace(-3, 3, 7, dtype=torch.float64)[:, None]
    pi = gmm.weights
    first = torch.sigmoid(torch.log(pi[0] / pi[1]) - 2 * x[:, 0])
    q = torch.stack([first, 1 - first], dim=1)
    assert torch.allclose(gmm.responsibilities(x), q)
    found = evaluate_gmm(gmm, x, None).scalars
    kl = (q * (q / pi).log()).sum(1)
    assert found["kl/c"] == pytest.approx(kl.mean().item(), abs=1e-8)


def log_densities(half_distance: float, n: int) -> np.ndarray:
    """log p_1 and log p_2 of n data of 0.15 N(-d, 1) + 0.85 N(d, 1)."""
    rng = np.random.default_rng(0)
    x = np.where(rng.random(n) < 0.15, -half_distance, half_distance) + rng.normal(size=n)
    return -0.5 * np.stack([(x + half_distance) ** 2, (x - half_distance) ** 2], axis=1)


@pytest.mark.parametrize("half_distance", [0.5, 10.0, 0.05])
def test_the_weight_s_posterior_matches_adaptive_quadrature(half_distance: float) -> None:
    densities = log_densities(half_distance, 2000)
    found = weight_posterior(densities)

    def density(a: float) -> float:
        at = np.array([a])
        log_joint = weight_log_likelihood(at, densities) + beta_log_prior(at)
        return math.exp(log_joint[0] - found.log_evidence)

    reach = 12 * found.sd
    low, high = max(0.0, found.mean - reach), min(1.0, found.mean + reach)

    def expectation(power: int, centre: float) -> float:
        value, _ = quad(
            lambda a: (a - centre) ** power * density(a),
            low,
            high,
            epsabs=0,
            epsrel=1e-11,
            limit=300,
        )
        return float(value)

    mass = expectation(0, 0.0)
    mean = expectation(1, 0.0) / mass
    assert mass == pytest.approx(1.0, abs=1e-9)
    assert found.mean == pytest.approx(mean, abs=1e-8)
    assert found.sd == pytest.approx(math.sqrt(expectation(2, mean) / mass), abs=1e-8)


def test_equal_components_leave_exactly_the_prior() -> None:
    same = np.random.default_rng(0).normal(size=(10_000, 1)).repeat(2, axis=1)
    found = weight_posterior(same)
    assert found.mean == pytest.approx(0.5, abs=1e-12)
    assert found.sd == pytest.approx(beta(5, 5).std(), abs=1e-12)
    assert found.density == pytest.approx(beta(5, 5).pdf(found.alpha), abs=1e-9)
    assert found.kl == pytest.approx(0.0, abs=1e-9)
    assert found.variation == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize(("n", "sd"), [(10_000, 0.0098), (100_000, 0.0031)])
def test_overlapping_clusters_at_their_true_parameters_fix_the_weight(n: int, sd: float) -> None:
    found = weight_posterior(log_densities(0.5, n))
    assert found.sd == pytest.approx(sd, abs=2e-4)
    assert abs(found.mean - 0.15) < 4 * sd


def test_perfectly_separated_clusters_give_the_conjugate_beta() -> None:
    densities = np.where(np.arange(60)[:, None] < 20, [[0.0, -800.0]], [[-800.0, 0.0]])
    found = weight_posterior(densities)
    exact = beta(5 + 20, 5 + 40)
    assert (found.mean, found.sd) == pytest.approx((exact.mean(), exact.std()), abs=1e-10)
    trigamma = [float(polygamma(1, v)) for v in (5, 10)]
    variance = (20**2 + 40**2) * trigamma[0] - 60**2 * trigamma[1]
    assert found.variation == pytest.approx(variance, rel=1e-6)


def test_densities_of_another_shape_or_not_finite_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(N, 2\)"):
        weight_posterior(np.zeros((3, 3)))
    with pytest.raises(ValueError, match="finite"):
        weight_posterior(np.full((3, 2), -np.inf))
