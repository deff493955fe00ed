"""The mixture family: bounds, prior and separation."""

from __future__ import annotations

import math

import pytest
import torch
from lidcli.inference.amortized import FlowPosterior
from lidcli.models.base import Draws, Parameters
from lidcli.models.mixture import Mixture, separated_means
from torch import nn

from lidcli.models.likelihoods import Bernoulli, Gaussian
from lidcli.nn import MLP, InjectiveDecoder


@pytest.fixture(autouse=True)
def double_precision():
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(torch.float32)


def mixture(categories: int = 3, latent: int = 2, **settings: object) -> Mixture:
    return Mixture(MLP(latent, 4, 8, 2), Gaussian(0.5), latent, categories, **settings)


@pytest.mark.parametrize(("categories", "latent"), [(5, 2), (10, 3), (10, 64), (4, 1), (50, 5)])
def test_fixed_means_are_distinct_and_of_the_norm_asked_for(categories: int, latent: int) -> None:
    means = separated_means(categories, latent, 2.0)
    assert means.shape == (categories, latent)
    assert torch.pdist(means).min() > 0.3
    if latent > 1:
        assert torch.allclose(means.norm(dim=1), torch.tensor(2.0))


def test_the_marginal_prior_is_the_mean_of_the_components() -> None:
    model = mixture()
    w = torch.randn(7, 2)
    components = torch.stack(
        [torch.distributions.Normal(model.means[c], 0.3).log_prob(w).sum(-1) for c in range(3)]
    )
    assert torch.allclose(model.log_prior(w), components.logsumexp(0) - math.log(3))


def test_prior_draws_have_the_component_means_and_scales() -> None:
    model = mixture(separation=20.0)
    w = model.sample_prior(30_000)
    nearest = torch.cdist(w, model.means).argmin(1)
    for c in range(3):
        own = w[nearest == c]
        assert torch.allclose(own.mean(0), model.means[c], atol=0.02)
        assert torch.allclose(own.std(0), torch.tensor(0.3), atol=0.02)


def test_a_learned_scale_stays_below_its_bound() -> None:
    model = mixture(learn_scale=True, max_scale=0.5)
    assert torch.allclose(model.log_scale().exp(), torch.tensor(0.3))
    with torch.no_grad():
        model.raw_scale += 50.0
    assert (model.log_scale().exp() <= 0.5).all()
    with pytest.raises(ValueError, match="max_scale"):
        mixture(learn_scale=True, scale=0.6, max_scale=0.5)


def test_a_full_covariance_is_the_one_its_draws_and_density_have() -> None:
    model = mixture(separation=30.0, learn_scale=True, max_scale=2.0, full_covariance=True)
    with torch.no_grad():
        model.raw_turn += torch.randn_like(model.raw_turn)
        model.raw_scale += torch.randn_like(model.raw_scale)
    turns, scales = model.turns(), model.log_scale().exp()
    covariances = turns @ torch.diag_embed(scales**2) @ turns.mT
    assert (torch.linalg.eigvalsh(covariances) <= 4).all()
    w = torch.randn(6, 2)
    exact = torch.stack(
        [
            torch.distributions.MultivariateNormal(m, s).log_prob(w)
            for m, s in zip(model.means, covariances, strict=True)
        ],
        -1,
    )
    assert torch.allclose(model.log_joint_prior(w[:, None]) + math.log(3), exact)
    drawn = model.sample_prior(60_000)
    nearest = torch.cdist(drawn, model.means).argmin(1)
    for c in range(3):
        assert torch.allclose(drawn[nearest == c].T.cov(), covariances[c], atol=0.08)


def exhaustive(model: Mixture, posterior: FlowPosterior, x: torch.Tensor, draws: Draws):
    """ELBO terms and weights by an explicit loop over categories."""
    elbo, weights = 0, []
    for c in range(model.categories):
        w = draws.latent[:, :, c]
        prior = torch.distributions.Normal(model.means[c], model.log_scale().exp()[c])
        log_p = model.log_likelihood(x, w) + prior.log_prob(w).sum(-1) - math.log(model.categories)
        log_w = log_p - draws.log_q[:, :, c]
        weights.append(log_w)
        elbo = elbo + draws.log_q_c.exp()[:, c] * (log_w - draws.log_q_c[:, c])
    return elbo, torch.stack(weights).logsumexp(0)


@pytest.mark.parametrize("likelihood", [Gaussian(0.5), Bernoulli()])
def test_explicit_terms_are_the_sum_over_categories(likelihood: nn.Module) -> None:
    model = mixture()
    model.likelihood = likelihood
    q = FlowPosterior(4, 2, 3, hidden=8, layers=1, transforms=2)
    x = torch.rand(5, 4).round()
    draws = q.draw(q.encode(x), 6)
    terms = model.terms(x, draws)
    elbo, weights = exhaustive(model, q, x, draws)
    assert torch.allclose(terms.reconstruction - terms.kl, elbo)
    assert torch.allclose(terms.log_weights, weights)
    assert (elbo <= weights + 1e-12).all()


def test_the_collapsed_bound_is_sample_by_sample_the_tighter_one_at_the_same_q() -> None:
    """With q(w|x,c) = q(w|x) and shared draws (DESIGN section 6)."""
    model = mixture()
    x, samples, n = torch.randn(6, 4), 9, 6
    shared = torch.randn(samples, n, 2)
    log_q = torch.randn(samples, n)
    log_q_c = torch.log_softmax(torch.randn(n, 3), -1)
    explicit = Draws(
        shared[:, :, None].expand(-1, -1, 3, -1), log_q[..., None].expand(-1, -1, 3), log_q_c
    )
    tight = model.terms(x, Draws(shared, log_q, None))
    loose = model.terms(x, explicit)
    assert (tight.reconstruction - tight.kl >= loose.reconstruction - loose.kl - 1e-12).all()
    assert torch.allclose(tight.log_weights, loose.log_weights)


def test_collapsed_categories_are_the_average_of_the_exact_conditional() -> None:
    model = mixture()
    w = torch.randn(50, 4, 2)
    q = model.category_probabilities(Draws(w, torch.zeros(50, 4), None))
    joint = torch.stack(
        [torch.distributions.Normal(m, 0.3).log_prob(w).sum(-1) for m in model.means], -1
    )
    assert torch.allclose(q, joint.softmax(-1).mean(0))


@pytest.mark.parametrize("categories", [None, 3])
def test_the_posterior_density_of_its_own_draws_is_the_one_it_reports(
    categories: int | None,
) -> None:
    q = FlowPosterior(4, 2, categories, hidden=8, layers=1, transforms=3)
    for p in q.parameters():
        nn.init.normal_(p, std=0.3)
    parameters: Parameters = q.encode(torch.randn(5, 4))
    draws = q.draw(parameters, 1)
    if categories is None:
        again = q.log_prob(draws.latent[0], parameters).diagonal()
        assert torch.allclose(again, draws.log_q[0])
        return
    by_hand = torch.stack(
        [
            q.log_prob(
                draws.latent[0, :, 0], Parameters(*(part[:, c : c + 1] for part in parameters))
            ).diagonal()
            + torch.log_softmax(parameters.logits, -1)[:, c]
            for c in range(3)
        ]
    ).logsumexp(0)
    assert torch.allclose(q.log_prob(draws.latent[0, :, 0], parameters).diagonal(), by_hand)


def test_the_posterior_density_integrates_to_one() -> None:
    q = FlowPosterior(4, 2, 3, hidden=8, layers=1, transforms=2)
    for p in q.parameters():
        nn.init.normal_(p, std=0.2)
    axis = torch.linspace(-12, 12, 301)
    grid = torch.cartesian_prod(axis, axis)
    density = q.log_prob(grid, q.encode(torch.randn(1, 4))).exp()
    assert density.sum().item() * (axis[1] - axis[0]).item() ** 2 == pytest.approx(1, abs=1e-3)


def test_bases_start_at_the_prior_components() -> None:
    model = mixture(categories=5)
    q = FlowPosterior(4, 2, 5, hidden=8, layers=1, transforms=2)
    with torch.no_grad():
        for p in q.base.stages[-1].parameters():
            p.zero_()
    q.start_at(model.means, model.log_scale())
    parameters = q.encode(torch.randn(3, 4))
    assert torch.allclose(parameters.loc, model.means.expand(3, 5, 2))
    assert torch.allclose(parameters.log_scale, model.log_scale().expand(3, 5, 2))


def test_an_injective_decoder_behind_a_mixture_samples_data() -> None:
    model = Mixture(InjectiveDecoder(2, 4, 8, 5), Gaussian(), 2, 3)
    assert model.sample(11).shape == (11, 4)
