"""The mixture family: bounds, prior and separation."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from lidcli.inference.flow import CategoryPosterior, Flow, FlowPosterior
from lidcli.models.batch import DenseBatch
from lidcli.models.latent import CategoryDraws, Draws, LatentModel
from lidcli.models.likelihoods import Bernoulli, Gaussian, Likelihood
from lidcli.models.observations import DenseObservation
from lidcli.models.priors import GaussianMixture, separated_means
from lidcli.nn import MLP, InjectiveDecoder
from lidcli.training.build import RowsEncoder


@pytest.fixture(autouse=True)
def double_precision():
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(torch.float32)


def prior_of(
    categories: int = 3, latent: int = 2, separation: float = 2.0, scale: float = 0.3, **settings
) -> GaussianMixture:
    means = separated_means(categories, latent, separation)
    return GaussianMixture(means, scale, **settings)


def mixture(prior: GaussianMixture, likelihood: Likelihood | None = None) -> LatentModel:
    decoder = MLP(prior.latent, 4, 8, 2)
    return LatentModel(prior, DenseObservation(decoder, likelihood or Gaussian(0.5)))


def encoder() -> nn.Module:
    return RowsEncoder(nn.Sequential(nn.Linear(4, 8), nn.GELU()))


def explicit(transforms: int, categories: int = 3) -> CategoryPosterior:
    return CategoryPosterior(categories, encoder, 8, latent=2, hidden=8, transforms=transforms)


@pytest.mark.parametrize(("categories", "latent"), [(5, 2), (10, 3), (10, 64), (4, 1), (50, 5)])
def test_fixed_means_are_distinct_and_of_the_norm_asked_for(categories: int, latent: int) -> None:
    means = separated_means(categories, latent, 2.0)
    assert means.shape == (categories, latent)
    assert torch.pdist(means).min() > 0.3
    if latent > 1:
        assert torch.allclose(means.norm(dim=1), torch.tensor(2.0))


def test_the_marginal_prior_is_the_mean_of_the_components() -> None:
    prior = prior_of()
    w = torch.randn(7, 2)
    components = torch.stack(
        [torch.distributions.Normal(prior.means[c], 0.3).log_prob(w).sum(-1) for c in range(3)]
    )
    assert torch.allclose(prior.log_prob(w), components.logsumexp(0) - math.log(3))


def test_prior_draws_have_the_component_means_and_scales() -> None:
    prior = prior_of(separation=20.0)
    w = prior.sample(30_000)
    nearest = torch.cdist(w, prior.means).argmin(1)
    for c in range(3):
        own = w[nearest == c]
        assert torch.allclose(own.mean(0), prior.means[c], atol=0.02)
        assert torch.allclose(own.std(0), torch.tensor(0.3), atol=0.02)


def test_a_learned_scale_stays_below_its_bound() -> None:
    prior = prior_of(learn_scale=True, max_scale=0.5)
    assert torch.allclose(prior.component_log_scales().exp(), torch.tensor(0.3))
    with torch.no_grad():
        prior.raw_scale += 50.0
    assert (prior.component_log_scales().exp() <= 0.5).all()
    with pytest.raises(ValueError, match="max_scale"):
        prior_of(learn_scale=True, scale=0.6, max_scale=0.5)


def test_a_full_covariance_is_the_one_its_draws_and_density_have() -> None:
    prior = prior_of(separation=30.0, learn_scale=True, max_scale=2.0, full_covariance=True)
    with torch.no_grad():
        prior.raw_turn += torch.randn_like(prior.raw_turn)
        prior.raw_scale += torch.randn_like(prior.raw_scale)
    turns, scales = prior.turns(), prior.component_log_scales().exp()
    covariances = turns @ torch.diag_embed(scales**2) @ turns.mT
    assert torch.allclose(prior.covariances(), covariances)
    assert (torch.linalg.eigvalsh(covariances) <= 4).all()
    w = torch.randn(6, 2)
    exact = torch.stack(
        [
            torch.distributions.MultivariateNormal(m, s).log_prob(w)
            for m, s in zip(prior.means, covariances, strict=True)
        ],
        -1,
    )
    assert torch.allclose(prior.log_joint(w) + math.log(3), exact)
    drawn = prior.sample(60_000)
    nearest = torch.cdist(drawn, prior.means).argmin(1)
    for c in range(3):
        assert torch.allclose(drawn[nearest == c].T.cov(), covariances[c], atol=0.08)


def exhaustive(model: LatentModel, x: DenseBatch, draws: CategoryDraws):
    """ELBO terms and weights by an explicit loop over categories."""
    elbo, weights = 0, []
    means, scales = model.prior.component_means(), model.prior.component_log_scales().exp()
    for c in range(model.prior.categories):
        w = draws.latent[:, c]
        log_p_w = torch.distributions.Normal(means[c], scales[c]).log_prob(w).sum(-1)
        log_p = model.observation.log_prob(x, w) + log_p_w - math.log(model.prior.categories)
        log_w = log_p - draws.log_q[:, c]
        weights.append(log_w)
        elbo = elbo + draws.log_q_c.exp()[:, c] * (log_w - draws.log_q_c[:, c])
    return elbo, torch.stack(weights).logsumexp(0)


@pytest.mark.parametrize("likelihood", [Gaussian(0.5), Bernoulli()])
def test_explicit_terms_are_the_sum_over_categories(likelihood: Likelihood) -> None:
    model = mixture(prior_of(), likelihood.double())
    x = DenseBatch(torch.rand(5, 4).round())
    draws = explicit(transforms=2)(x).draw(6)
    terms = model.terms(x, draws)
    elbo, weights = exhaustive(model, x, draws)
    assert torch.allclose(terms.reconstruction - terms.kl, elbo)
    assert torch.allclose(terms.log_weights, weights)
    assert (elbo <= weights + 1e-12).all()


def test_the_collapsed_bound_is_sample_by_sample_the_tighter_one_at_the_same_q() -> None:
    """With q(w|x,c) = q(w|x) and shared draws (DESIGN section 6)."""
    model = mixture(prior_of())
    x, samples, n = DenseBatch(torch.randn(6, 4)), 9, 6
    shared = torch.randn(samples, n, 2)
    log_q = torch.randn(samples, n)
    log_q_c = torch.log_softmax(torch.randn(n, 3), -1)
    every = CategoryDraws(
        shared[:, None].expand(-1, 3, -1, -1), log_q[:, None].expand(-1, 3, -1), log_q_c
    )
    tight = model.terms(x, Draws(shared, log_q))
    loose = model.terms(x, every)
    assert (tight.reconstruction - tight.kl >= loose.reconstruction - loose.kl - 1e-12).all()
    assert torch.allclose(tight.log_weights, loose.log_weights)


def test_collapsed_categories_are_the_average_of_the_exact_conditional() -> None:
    prior = prior_of()
    w = torch.randn(50, 4, 2)
    q = Draws(w, torch.zeros(50, 4)).categories(prior)
    joint = torch.stack(
        [torch.distributions.Normal(m, 0.3).log_prob(w).sum(-1) for m in prior.means], -1
    )
    assert torch.allclose(q, joint.softmax(-1).mean(0))


def test_the_posterior_density_of_its_own_draws_is_the_one_it_reports() -> None:
    q = FlowPosterior(encoder, 8, latent=2, hidden=8, transforms=3)
    for p in q.parameters():
        nn.init.normal_(p, std=0.3)
    conditional = q(DenseBatch(torch.randn(5, 4)))
    draws = conditional.draw(1)
    again = conditional.log_prob(draws.latent[0]).diagonal()
    assert torch.allclose(again, draws.log_q[0])


def test_the_density_with_a_category_is_the_sum_of_those_of_the_categories() -> None:
    q = explicit(transforms=3)
    for p in q.parameters():
        nn.init.normal_(p, std=0.3)
    conditional = q(DenseBatch(torch.randn(5, 4)))
    draws = conditional.draw(1)
    assert (conditional.decodings, draws.latent.shape) == (3, (1, 3, 5, 2))
    loc, log_scale, context = conditional.loc, conditional.log_scale, conditional.context
    alone = [Flow(loc[:, c], log_scale[:, c], context[:, c], q.flow) for c in range(3)]
    for c in range(3):
        again = alone[c].log_prob(draws.latent[0, c]).diagonal()
        assert torch.allclose(again, draws.log_q[0, c])
    w = draws.latent[0, 0]
    log_q_c = torch.log_softmax(conditional.logits, -1)
    by_hand = torch.stack(
        [alone[c].log_prob(w).diagonal() + log_q_c[:, c] for c in range(3)]
    ).logsumexp(0)
    assert torch.allclose(conditional.log_prob(w).diagonal(), by_hand)


def test_the_posterior_density_integrates_to_one() -> None:
    q = explicit(transforms=2)
    for p in q.parameters():
        nn.init.normal_(p, std=0.2)
    axis = torch.linspace(-12, 12, 301)
    grid = torch.cartesian_prod(axis, axis)
    density = q(DenseBatch(torch.randn(1, 4))).log_prob(grid).exp()
    assert density.sum().item() * (axis[1] - axis[0]).item() ** 2 == pytest.approx(1, abs=1e-3)


def test_bases_start_at_the_prior_components() -> None:
    prior = prior_of(categories=5)
    q = explicit(transforms=2, categories=5)
    with torch.no_grad():
        for p in q.base_head.parameters():
            p.zero_()
    q.start_at(prior.component_means(), prior.component_log_scales())
    conditional = q(DenseBatch(torch.randn(3, 4)))
    assert torch.allclose(conditional.loc, prior.means.expand(3, 5, 2))
    assert torch.allclose(conditional.log_scale, prior.component_log_scales().expand(3, 5, 2))


def test_an_injective_decoder_behind_a_mixture_samples_data() -> None:
    observation = DenseObservation(InjectiveDecoder(2, 4, 8, 5), Gaussian())
    model = LatentModel(prior_of(), observation)
    assert model.sample(11).x.shape == (11, 4)
    certificate = observation.certificate()
    assert certificate is not None
    assert certificate.modulus == observation.decoder.certificate().modulus > 0
