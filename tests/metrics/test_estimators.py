"""Every estimator against a closed form, on a linear-Gaussian model with its exact posterior."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from lidcli.inference.flow import CategoryPosterior, FlowPosterior
from lidcli.metrics import clustering, information
from lidcli.metrics.estimate import mean
from lidcli.metrics.evaluation import evaluate
from lidcli.metrics.invariants import broken_invariants
from lidcli.metrics.likelihood import bounds
from lidcli.metrics.verdict import verdict
from lidcli.models.batch import Batch, DenseBatch
from lidcli.models.latent import Draws, LatentModel, Posterior
from lidcli.models.likelihoods import Gaussian
from lidcli.models.observations import DenseObservation
from lidcli.models.priors import GaussianMixture, StandardNormal, normal_log_prob, separated_means
from lidcli.nn import MLP, InjectiveDecoder
from lidcli.training.build import RowsEncoder

SIGMA = 0.7
SCALES = torch.tensor([2.0, 0.5, 1e-3], dtype=torch.float64)


@pytest.fixture(autouse=True)
def double_precision():
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(torch.float32)


@dataclass(frozen=True)
class Normals:
    """q(z | x) of N data with one diagonal covariance."""

    loc: Tensor
    log_scale: Tensor
    decodings = 1
    category_draws = 0

    def draw(self, samples: int) -> Draws:
        z = self.loc + self.log_scale.exp() * torch.randn(samples, *self.loc.shape)
        return Draws(z, normal_log_prob(z, self.loc, self.log_scale))

    def log_prob(self, latent: Tensor) -> Tensor:
        return normal_log_prob(latent[:, None], self.loc, self.log_scale)

    def latent_kl(self, joint: Tensor, q_c: Tensor | None) -> Tensor:
        return joint

    def rows(self, index: slice | Tensor) -> Normals:
        return Normals(self.loc[index], self.log_scale)

    def tensors(self) -> tuple[Tensor, ...]:
        return (self.loc,)

    def replace(self, *tensors: Tensor) -> Normals:
        return Normals(*tensors, self.log_scale)


class LinearPosterior(Posterior):
    """p(z | x) = N(M⁻¹ Wᵀ x / σ², M⁻¹) for W with orthogonal columns, where M is diagonal.

    `widen` multiplies its sd, for tests that need an inexact posterior.
    """

    decodings = 1

    def __init__(self, weight: Tensor, widen: float = 1.0) -> None:
        super().__init__()
        precision = 1 + weight.square().sum(0) / SIGMA**2
        self.gain = weight / SIGMA**2 / precision
        self.log_scale = -0.5 * precision.log() + math.log(widen)

    def forward(self, x: Batch) -> Normals:
        assert isinstance(x, DenseBatch)
        return Normals(x.x @ self.gain, self.log_scale)


def continuous(decoder: nn.Module, latent: int) -> LatentModel:
    return LatentModel(StandardNormal(latent), DenseObservation(decoder, Gaussian(SIGMA).double()))


def mixture(decoder: nn.Module) -> LatentModel:
    prior = GaussianMixture(separated_means(4, 2, 2.0), 0.3)
    return LatentModel(prior, DenseObservation(decoder, Gaussian(0.5)))


def encoder() -> nn.Module:
    return RowsEncoder(nn.Sequential(nn.Linear(3, 8), nn.GELU()))


def channel(variance: float) -> tuple[LatentModel, DenseBatch]:
    """Eight dimensions of z + noise whose posterior has this variance in each; q(z) is N(0, I)."""
    sigma = math.sqrt(variance / (1 - variance))
    z = torch.randn(2000, 8)
    decoder = nn.Linear(8, 8, bias=False)
    nn.init.eye_(decoder.weight)
    model = LatentModel(StandardNormal(8), DenseObservation(decoder, Gaussian(sigma).double()))
    model.posterior = LinearPosterior(torch.eye(8) * SIGMA / sigma)
    return model, DenseBatch((z + sigma * torch.randn(2000, 8)) * SIGMA / sigma)


def linear_model(n: int = 4000, widen: float = 1.0) -> tuple[LatentModel, DenseBatch, Tensor]:
    """x = W z + σ noise with W = Q diag(2, 0.5, 0.001), and data drawn from it."""
    q, _ = torch.linalg.qr(torch.randn(5, 3))
    weight = q * SCALES
    decoder = nn.Linear(3, 5, bias=False)
    with torch.no_grad():
        decoder.weight.copy_(weight)
    model = continuous(decoder, latent=3)
    model.posterior = LinearPosterior(weight, widen)
    x = model.sample(n)
    assert isinstance(x, DenseBatch)
    return model, x, weight


def exact_ll(x: DenseBatch, weight: Tensor) -> Tensor:
    covariance = weight @ weight.T + SIGMA**2 * torch.eye(5)
    return torch.distributions.MultivariateNormal(torch.zeros(5), covariance).log_prob(x.x)


def test_iwae_with_the_exact_posterior_is_the_exact_ll_at_any_number_of_draws() -> None:
    model, x, weight = linear_model(200)
    for samples in (2, 7, 50):
        assert torch.allclose(bounds(model, x, samples).ll, exact_ll(x, weight), atol=1e-6)


def test_the_elbo_with_the_exact_posterior_is_the_exact_ll() -> None:
    model, x, weight = linear_model(200)
    assert torch.allclose(bounds(model, x, 5).elbo, exact_ll(x, weight), atol=1e-6)


def test_iwae_with_an_inexact_posterior_rises_to_the_exact_ll() -> None:
    model, x, weight = linear_model(300, widen=1.5)
    measured = bounds(model, x, 2000)
    exact = exact_ll(x, weight)
    assert (measured.elbo < exact - 0.05).all()
    gap = mean(exact - measured.ll)
    assert abs(gap.value) < 0.01


def test_elbo_is_below_ll_and_ll_rises_with_the_draws_over_blocks_of_the_same_weights() -> None:
    """ELBO <= LL(S) <= LL(S') for S dividing S', per datum, to rounding."""
    model, x, _ = linear_model(50, widen=2.0)
    weights = model.log_weights(x, 60)
    previous = weights.mean(0)
    for size in (1, 2, 6, 30, 60):
        blocks = weights.view(60 // size, size, -1).logsumexp(1) - math.log(size)
        assert (blocks.mean(0) >= previous - 1e-12).all()
        previous = blocks.mean(0)


def test_the_chunks_of_a_pass_do_not_change_what_it_measures() -> None:
    model, x, weight = linear_model(100)
    small = bounds(model, x, 12, batch=7)
    assert torch.allclose(small.ll, exact_ll(x, weight), atol=1e-6)
    assert small.mean.shape == (2, 100, 3)


def test_kl_matches_its_closed_form_within_three_standard_errors() -> None:
    model, x, _ = linear_model()
    conditional = model.posterior(x)
    loc, log_scale = conditional.loc, conditional.log_scale
    exact = 0.5 * (loc.square() + (2 * log_scale).exp() - 1 - 2 * log_scale).sum(1)
    measured = bounds(model, x, 50).kl
    difference = mean(measured - exact)
    assert abs(difference.value) < 3 * difference.se


def test_mi_matches_its_closed_form_within_three_standard_errors() -> None:
    """I(x; z) = ½ log det(I + WᵀW / σ²) under the model; finite N biases by less than 1%."""
    model, x, weight = linear_model()
    exact = 0.5 * (1 + weight.square().sum(0) / SIGMA**2).log().sum().item()
    measured = information.continuous_mi(model, x, outer=2000)
    assert abs(measured.value - exact) < 3 * measured.se + 0.01


def test_mi_saturates_at_log_n() -> None:
    model, _, _ = linear_model()
    with torch.no_grad():
        model.observation.decoder.weight *= 1e4
    model.posterior = LinearPosterior(model.observation.decoder.weight.detach())
    x = model.sample(50)
    measured = information.continuous_mi(model, x)
    assert measured.value == pytest.approx(math.log(50), abs=1e-6)


@pytest.mark.parametrize("variance", [0.7, 0.5, 0.2, 0.1])
def test_the_population_s_mi_lies_between_the_two_estimates(variance: float) -> None:
    """The MI is K/2 log 1/v nats, which N data tell the less the nearer it is to log N = 7.6."""
    model, x = channel(variance)
    exact = 4 * math.log(1 / variance)
    low, high = information.mi_between(model, x, outer=2000)
    assert low.value < exact + 3 * low.se
    assert high.value > exact - 3 * high.se
    assert (high.value - low.value < 0.25) is (exact < 3)


def test_an_mi_that_n_data_do_not_settle_is_said_to_lie_between_two_values() -> None:
    unsettled = evaluate(*channel(0.1), samples=4, outer=2000)
    assert "MI of z is a lower bound: 2000 data tell no more than" in unsettled.notes[0]
    assert unsettled.verdict is not None
    assert not unsettled.verdict.unused_prior
    assert evaluate(*channel(0.7), samples=4, outer=2000).notes == []


def test_active_units_are_those_with_posterior_mean_variance_of_a_hundredth() -> None:
    """Exact: the variance of E[z_k | x] is s_k² / (s_k² + σ²): 0.89, 0.34, 2e-6."""
    model, x, _ = linear_model()
    assert information.active_units(model.posterior(x).loc) == pytest.approx(2 / 3)
    assert information.active_units_of_halves(bounds(model, x, 2).mean) == pytest.approx(2 / 3)


def test_few_draws_do_not_count_their_own_noise_as_activity() -> None:
    model, x, _ = linear_model()
    halves = bounds(model, x, 2).mean
    assert information.active_units(halves[0]) == 1.0
    assert information.active_units_of_halves(halves) < 1.0


def test_an_evaluation_of_the_exact_model_breaks_no_invariant_and_reports_the_truth() -> None:
    model, x, weight = linear_model(1500)
    result = evaluate(model, x, samples=20, outer=300)
    assert result.checks == []
    assert result.scalars["ll"] == pytest.approx(exact_ll(x, weight).mean().item(), abs=1e-6)
    assert result.scalars["min_singular_value"] == pytest.approx(1e-3, rel=1e-6)
    assert result.verdict is not None
    assert result.verdict.label == "partly collapsed"
    assert "kl/c" not in result.scalars


def test_categorical_information_at_its_extremes() -> None:
    certain, uniform = torch.eye(4).repeat(5, 1), torch.full((20, 4), 0.25)
    one = torch.zeros(20, 4)
    one[:, 2] = 1
    assert information.categorical_kl(certain).value == pytest.approx(math.log(4))
    assert information.categorical_mi(certain).value == pytest.approx(math.log(4))
    assert information.categorical_mi(uniform).value == pytest.approx(0)
    assert information.categorical_kl(one).value == pytest.approx(math.log(4))
    assert information.categorical_mi(one).value == pytest.approx(0)
    assert information.perplexity(certain) == pytest.approx(4)
    assert information.perplexity(one) == pytest.approx(1)
    assert information.active_units(certain) == 1.0
    assert information.active_units(one) == 0.0


@given(st.integers(0, 2**31), st.integers(2, 8), st.floats(0.01, 20))
def test_mi_of_the_category_is_between_zero_and_its_kl_and_that_below_log_c(
    seed: int, categories: int, sharpness: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    q = torch.softmax(sharpness * torch.randn(30, categories, generator=generator), -1)
    mi, kl = information.categorical_mi(q).value, information.categorical_kl(q).value
    assert -1e-12 <= mi <= kl + 1e-12 <= math.log(categories) + 2e-12


def test_the_mixture_reports_the_category_and_the_kl_of_w_given_it() -> None:
    model = mixture(InjectiveDecoder(2, 3, 8, 5))
    model.posterior = CategoryPosterior(4, encoder, 8, latent=2, hidden=8, transforms=2)
    x = DenseBatch(torch.randn(40, 3))
    labels = np.arange(40) % 4
    result = evaluate(model, x, labels, samples=10, outer=20)
    s = result.scalars
    assert s["kl/joint"] == pytest.approx(s["kl/c"] + s["kl/w"])
    assert {"mi/c", "mi/w", "au/c", "au/w", "accuracy", "purity", "nmi"} <= set(s)
    assert {"certificate", "min_singular_value", "min_secant"} <= set(s)
    assert s["min_secant"] >= s["certificate"]
    assert result.checks == []
    assert all(f"{name}_se" in s for name in ("elbo", "ll", "kl/c", "mi/c", "mi/w", "accuracy"))


def test_the_collapsed_mixture_averages_its_category_over_64_draws_at_least() -> None:
    model = mixture(MLP(2, 3, 8, 2))
    model.posterior = FlowPosterior(encoder, 8, latent=2, hidden=8, transforms=2)
    q_c = bounds(model, DenseBatch(torch.randn(9, 3)), 2).q_c
    assert q_c is not None
    assert torch.allclose(q_c.sum(1), torch.ones(9))
    few = torch.stack([bounds(model, DenseBatch(torch.zeros(1, 3)), 2).q_c for _ in range(20)])
    assert few.std(0).max() < 2 * 0.5 / math.sqrt(64)


def test_broken_invariants_are_named() -> None:
    good = {
        "elbo": -2.0,
        "ll": -1.0,
        "ll_half": -1.5,
        "kl/joint": 1.0,
        "kl/joint_se": 0.01,
        "mi/c": 0.5,
        "kl/c": 0.6,
        "mi/w": 0.7,
        "mi/w_se": 0.01,
        "au/c": 1.0,
    }
    assert broken_invariants(good, 2) == []
    for name, value, told in (
        ("elbo", 0.0, "ELBO exceeds LL"),
        ("ll_half", -0.5, "LL falls"),
        ("mi/c", 0.65, "MI of c exceeds its KL"),
        ("kl/c", 0.8, "log C"),
        ("mi/w", 2.0, "MI of w exceeds the joint KL"),
        ("mi/w", -1.0, "MI of w is negative"),
        ("au/c", 1.5, "fraction"),
    ):
        assert any(told in text for text in broken_invariants(good | {name: value}, 2)), told


def test_the_verdict_follows_au_mi_and_kl() -> None:
    assert verdict(0.05, 1.0, 1.0).label == "collapsed"
    assert verdict(1.0, 0.01, 1.6).label == "collapsed"
    assert verdict(1.0, 0.01, 1.6).unused_prior
    assert "MI 0.000 <" in verdict(1.0, -1e-5, 1e-4).reason
    assert verdict(1.0, 1.5, 1.6).label == "informative"
    assert not verdict(1.0, 1.5, 1.6).unused_prior
    assert verdict(0.5, 1.5, 1.6).label == "partly collapsed"
    assert verdict(1.0, 0.5, 1.6).label == "partly collapsed"


def test_a_saturated_estimate_of_mi_is_no_sign_of_collapse() -> None:
    most = math.log(2000)
    assert verdict(1.0, most, 27.0).label == "partly collapsed"
    saturated = verdict(1.0, most, 27.0, most=most)
    assert saturated.label == "informative"
    assert not saturated.unused_prior
    assert "log N / 2" in saturated.reason
    assert verdict(1.0, 0.3 * most, 27.0, most=most).label == "partly collapsed"


def test_clustering_scores_know_no_names_of_categories() -> None:
    labels = np.array([0, 0, 0, 1, 1, 2, 2, 2])
    renamed = np.array([2, 2, 2, 0, 0, 1, 1, 1])
    assert clustering.accuracy(labels, renamed).value == 1.0
    assert clustering.purity(labels, renamed).value == 1.0
    split = np.array([0, 0, 3, 1, 1, 2, 2, 2])
    assert clustering.accuracy(labels, split).value == 7 / 8
    assert clustering.purity(labels, split).value == 1.0
    assert clustering.accuracy(labels, np.zeros(8, dtype=int)).value == 3 / 8
