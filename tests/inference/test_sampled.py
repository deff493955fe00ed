"""Some of many categories: right on average over the random one, value and gradient."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lidcli.inference.flow import CategoryFlow, CategoryPosterior
from lidcli.models.batch import DenseBatch
from lidcli.models.latent import CategoryDraws, LatentModel, SampledDraws, Terms, log_of_rest
from lidcli.models.likelihoods import Bernoulli
from lidcli.models.observations import DenseObservation
from lidcli.models.priors import GaussianMixture, separated_means
from lidcli.nn import MLP
from lidcli.training.build import RowsEncoder

C, N, M, S = 6, 4, 2, 3


@pytest.fixture(autouse=True)
def double_precision():
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(torch.float32)


def encoder() -> nn.Module:
    return RowsEncoder(nn.Sequential(nn.Linear(5, 8), nn.GELU()))


def model_of(likeliest: int | None) -> LatentModel:
    prior = GaussianMixture(separated_means(C, M, 2.0), 0.4)
    model = LatentModel(prior, DenseObservation(MLP(M, 5, 8, 2), Bernoulli()))
    model.posterior = CategoryPosterior(
        C, encoder, 8, latent=M, hidden=8, transforms=2, likeliest=likeliest
    )
    for p in model.posterior.parameters():
        nn.init.normal_(p, std=0.4)
    return model


X = DenseBatch(torch.linspace(0, 1, N * 5, dtype=torch.float64).view(N, 5).round())


def parts(model: LatentModel) -> tuple[Tensor, Tensor, Tensor]:
    """Draws of every category as leaves: latent (S, C, N, M), log q (S, C, N), logits (N, C)."""
    with torch.no_grad():
        conditional = model.posterior.eval()(X)
        draws = conditional.draw(S)
    latent, log_q = draws.latent.clone(), draws.log_q.clone()
    logits = 2 * conditional.logits
    return latent.requires_grad_(), log_q.requires_grad_(), logits.clone().requires_grad_()


def expectation(
    model: LatentModel, likeliest: int, leaves: tuple[Tensor, Tensor, Tensor], value: Any
) -> Tensor:
    """Of a function of terms, summed over every random category with its probability."""
    latent, log_q, logits = leaves
    log_q_c = torch.log_softmax(logits, dim=1)
    known = log_q_c.detach().topk(likeliest, dim=1).indices
    chance = log_of_rest(log_q_c.detach(), known).exp()
    others = torch.arange(C).expand(N, C)
    total = torch.zeros(())
    for rank in range(likeliest, C):
        order = log_q_c.detach().argsort(dim=1, descending=True)
        other = order[:, rank : rank + 1]
        chosen = torch.cat([known, other], dim=1)
        assert others.gather(1, other).equal(other)
        index = chosen.T[None, :, :].expand(S, -1, -1)
        w = latent.gather(1, index[..., None].expand(*index.shape, M))
        draws = SampledDraws(w, log_q.gather(1, index), log_q_c, chosen)
        terms = model.terms(X, draws)
        total = total + (chance.gather(1, other)[:, 0] * value(terms)).sum()
    return total


VALUES = {
    "reconstruction": lambda terms: terms.reconstruction,
    "KL": lambda terms: terms.kl,
    "weights": lambda terms: terms.log_weights.exp(),
}


@pytest.mark.parametrize("likeliest", [1, 3, 4, 5])
@pytest.mark.parametrize("name", VALUES)
def test_value_and_gradient_average_to_those_of_the_exact_sum(likeliest: int, name: str) -> None:
    model, value = model_of(None), VALUES[name]
    leaves = parts(model)
    wanted = [*leaves, *model.observation.parameters()]
    latent, log_q, logits = leaves
    exact_terms: Terms = model.terms(X, CategoryDraws(latent, log_q, logits.log_softmax(1)))
    exact = value(exact_terms).sum()
    sampled = expectation(model, likeliest, leaves, value)
    torch.testing.assert_close(sampled, exact, rtol=1e-12, atol=0)
    options = {"allow_unused": True, "materialize_grads": True}
    if name == "weights":
        wanted = wanted[:2] + wanted[3:]
    for one, other in zip(
        torch.autograd.grad(sampled, wanted, **options),
        torch.autograd.grad(exact, wanted, **options),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_an_average_over_draws_is_the_exact_bound() -> None:
    """Of the posterior itself: other noise and another random category each time."""
    model = model_of(2)
    samples = 400
    with torch.no_grad():
        exact = model.terms(X, model.posterior.eval()(X).draw(4000))
        model.posterior.train()
        elbos = torch.stack(
            [
                (terms.reconstruction - terms.kl).mean(0)
                for terms in (model.terms(X, model.posterior(X).draw(8)) for _ in range(samples))
            ]
        )
    bound = (exact.reconstruction - exact.kl).mean(0)
    own = (exact.reconstruction - exact.kl).std(0) / 4000**0.5
    error = elbos.std(0) / samples**0.5 + own
    assert ((elbos.mean(0) - bound).abs() < 5 * error).all()


def test_only_a_few_categories_are_decoded_and_only_in_training() -> None:
    model = model_of(2)
    training = model.posterior.train()(X)
    draws = training.draw(S)
    assert isinstance(draws, SampledDraws)
    assert draws.latent.shape == (S, 3, N, M)
    assert (draws.chosen.sort(1).values.diff(dim=1) > 0).all()
    torch.testing.assert_close(draws.log_q_c.exp().sum(1), torch.ones(N))
    torch.testing.assert_close(draws.categories(model.prior), training.logits.softmax(1))
    evaluated = model.posterior.eval()(X).draw(S)
    assert type(evaluated) is CategoryDraws
    assert evaluated.latent.shape == (S, C, N, M)


def test_each_draw_has_the_density_of_its_own_category() -> None:
    model = model_of(2)
    conditional: CategoryFlow = model.posterior.train()(X)
    draws = conditional.draw(1)
    assert isinstance(draws, SampledDraws)
    for k in range(3):
        for n in range(N):
            every = conditional._log_base(draws.latent[0, k, n : n + 1])
            torch.testing.assert_close(every[0, n, draws.chosen[n, k]], draws.log_q[0, k, n])


@pytest.mark.parametrize("likeliest", [5, 6, 50])
def test_all_are_drawn_where_a_random_one_would_leave_none(likeliest: int) -> None:
    model = model_of(likeliest)
    assert type(model.posterior.train()(X).draw(S)) is CategoryDraws


def test_a_certain_category_leaves_a_finite_bound_and_gradient() -> None:
    model = model_of(None)
    latent, log_q, logits = parts(model)
    logits = (1000 * logits).detach().requires_grad_()
    log_q_c = logits.log_softmax(1)
    chosen = log_q_c.detach().topk(3, dim=1).indices
    index = chosen.T[None].expand(S, -1, -1)
    w = latent.gather(1, index[..., None].expand(*index.shape, M))
    terms = model.terms(X, SampledDraws(w, log_q.gather(1, index), log_q_c, chosen))
    (terms.reconstruction - terms.kl).sum().backward()
    assert torch.isfinite(terms.reconstruction - terms.kl).all()
    assert torch.isfinite(logits.grad).all()


def test_the_likelihood_of_a_category_is_that_of_the_exact_draws_on_average() -> None:
    model = model_of(None)
    with torch.no_grad():
        latent, log_q, logits = parts(model)
        log_q_c = logits.log_softmax(1)
        exact = CategoryDraws(latent, log_q, log_q_c).log_ratios(X, model.prior, model.observation)
        order = log_q_c.argsort(dim=1, descending=True)
        chance = log_of_rest(log_q_c, order[:, :2]).exp()
        total = torch.zeros_like(exact)
        for rank in range(2, C):
            chosen = order[:, [0, 1, rank]]
            index = chosen.T[None].expand(S, -1, -1)
            w = latent.gather(1, index[..., None].expand(*index.shape, M))
            draws = SampledDraws(w, log_q.gather(1, index), log_q_c, chosen)
            ratios = draws.log_ratios(X, model.prior, model.observation)
            total += chance.gather(1, order[:, rank : rank + 1]) * ratios.exp()
    torch.testing.assert_close(total, exact.exp(), rtol=1e-10, atol=0)
