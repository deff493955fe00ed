"""What every posterior and its conditionals promise (lidcli.models.latent)."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from contracts.cases import Case, agrees, cases, grid_over, latent_model
from torch import Tensor

from lidcli.config.sections import KINDS
from lidcli.metrics.likelihood import bounds
from lidcli.models.batch import Batch
from lidcli.models.latent import (
    CategoryDraws,
    Centred,
    Conditional,
    Draws,
    LatentModel,
    Posterior,
)

DRAWS = 20_000
GRID = 2e-3
"""Relative error of a density from quadrature."""
Built = tuple[LatentModel, Batch]


@pytest.fixture(params=[*cases("inference"), *cases("encoder")])
def built(request: pytest.FixtureRequest) -> Built:
    """A model with the posterior of a kind of inference, or of a kind of encoder."""
    case: Case = request.param
    if case.kind == "nuts":
        pytest.importorskip("numpyro")
    return latent_model("inference" if case.kind in KINDS["inference"] else "encoder", case)


@pytest.fixture
def model(built: Built) -> LatentModel:
    return built[0]


@pytest.fixture
def x(built: Built) -> Batch:
    return built[1]


@pytest.fixture
def conditional(model: LatentModel, x: Batch) -> Conditional:
    """q(latent | x), the encoder's weights away from where they start."""
    with torch.no_grad():
        if not model.exact:
            for parameter in model.posterior.parameters():
                parameter += 0.1 * torch.randn_like(parameter)
        return model.posterior(x)


def grid_of(conditional: Conditional, n: int) -> tuple[Tensor, Tensor]:
    """Points, and the mass that q(latent | x_n) has in the cell of each."""
    one = conditional.rows(slice(n, n + 1))
    drawn = one.draw(2000).marginal()[:, 0]
    centre, spread = drawn.mean(0), 9 * drawn.std(0)
    points, cell = grid_over(centre - spread, centre + spread)
    return points, one.log_prob(points)[:, 0].exp() * cell


def by_quadrature(
    model: LatentModel, x: Batch, log_density: Callable[[Tensor], Tensor | None]
) -> Tensor:
    """log ∫ p(x_n | z) p(z), (N, C), for densities (G, C) of latents (G, M).

    The grid covers the prior, or where the posterior is the model's own all that it reaches, which
    a steep decoder makes narrow.
    """
    found = []
    for n in range(len(x)):
        one = x.rows(slice(n, n + 1))
        low, high = model.prior.reach()
        if model.exact:
            drawn = model.posterior(one).draw(2000).latent.flatten(0, -2)
            half = (drawn.amax(0) - drawn.amin(0)) / 2
            low, high = drawn.amin(0) - half, drawn.amax(0) + half
        points, cell = grid_over(low, high)
        log_p = log_density(points)
        assert log_p is not None
        log_likelihood = model.observation.on_grid(points)(one)[0]
        found.append((log_likelihood[:, None] + log_p + math.log(cell)).logsumexp(0))
    return torch.stack(found)


def test_a_posterior_gives_conditionals(model: LatentModel, conditional: Conditional) -> None:
    assert isinstance(model.posterior, Posterior)
    assert isinstance(conditional, Conditional)
    assert conditional.decodings == model.posterior.decodings
    assert conditional.decodings in (1, model.prior.categories)


@torch.no_grad()
def test_draws_and_what_is_made_of_them_have_their_shapes(
    model: LatentModel, x: Batch, conditional: Conditional
) -> None:
    s, n, m, c = 5, len(x), model.latent, model.prior.categories
    drawn = conditional.draw(s)
    summed = conditional.decodings > 1
    assert isinstance(drawn, CategoryDraws if summed else Draws)
    assert drawn.latent.shape == ((s, c, n, m) if summed else (s, n, m))
    assert drawn.log_q.shape == drawn.latent.shape[:-1]
    assert all(part.shape == (s, n) for part in model.terms(x, drawn))
    assert drawn.mean().shape == drawn.marginal().shape == (s, n, m)
    q_c, ratios = drawn.categories(model.prior), drawn.log_ratios(x, model.prior, model.observation)
    assert (q_c is None) == (ratios is None) == (c is None)
    if q_c is not None and ratios is not None:
        assert q_c.shape == (n, c)
        assert torch.allclose(q_c.sum(1), torch.ones(n))
        assert ratios.shape == (s, n, c)
    assert conditional.log_prob(torch.randn(4, m)).shape == (4, n)


@torch.no_grad()
def test_a_mean_that_is_known_is_that_of_the_draws(conditional: Conditional) -> None:
    exact = conditional.expectation() if isinstance(conditional, Centred) else None
    if exact is not None:
        drawn = conditional.draw(1000).mean()
        assert exact.shape == drawn.shape[1:]
        assert agrees(drawn, exact)


@torch.no_grad()
def test_the_density_of_a_draw_is_the_one_it_was_drawn_with(conditional: Conditional) -> None:
    drawn = conditional.draw(3)
    if isinstance(drawn, CategoryDraws):
        for n in range(drawn.latent.shape[2]):
            own = conditional.rows(slice(n, n + 1))
            for c in range(drawn.latent.shape[1]):
                joint = drawn.log_q[:, c, n] + drawn.log_q_c[n, c]
                assert (own.log_prob(drawn.latent[:, c, n])[:, 0] >= joint - 1e-8).all()
        return
    for s in range(3):
        assert torch.allclose(conditional.log_prob(drawn.latent[s]).diagonal(), drawn.log_q[s])


@torch.no_grad()
def test_the_density_integrates_to_one(conditional: Conditional, x: Batch) -> None:
    for n in range(0, len(x), 2):
        _, mass = grid_of(conditional, n)
        assert mass.sum().item() == pytest.approx(1, abs=2e-3)


@torch.no_grad()
def test_draws_have_the_moments_of_the_density(conditional: Conditional, x: Batch) -> None:
    drawn = conditional.draw(DRAWS)
    marginal, mean = drawn.marginal(), drawn.mean()
    for n in range(0, len(x), 3):
        points, mass = grid_of(conditional, n)
        mass = mass / mass.sum()
        assert agrees(marginal[:, n], mass @ points)
        assert agrees(marginal[:, n].square(), mass @ points.square())
        assert agrees(marginal[:, n].prod(-1), mass @ points.prod(-1))
        assert agrees(mean[:, n], mass @ points)


@torch.no_grad()
def test_the_weights_average_to_the_density_of_the_data(model: LatentModel, x: Batch) -> None:
    """E_q [p(x, latent) / q(latent | x)] = p(x)."""
    log_p = by_quadrature(model, x, lambda points: model.prior.log_prob(points)[:, None])[:, 0]
    log_weights = model.log_weights(x, DRAWS)
    assert agrees((log_weights - log_p).exp(), torch.ones(len(x)), slack=GRID)


@torch.no_grad()
def test_the_ratios_average_to_the_density_with_the_category(model: LatentModel, x: Batch) -> None:
    """E_q [p(x, c, latent) / q] = p(x, c)."""
    ratios = model.posterior(x).draw(DRAWS).log_ratios(x, model.prior, model.observation)
    if ratios is None:
        assert model.prior.categories is None
        return
    log_p = by_quadrature(model, x, model.prior.log_joint)
    assert agrees((ratios - log_p).exp(), torch.ones_like(log_p), slack=GRID)


@torch.no_grad()
def test_the_bound_is_below_the_weights(
    model: LatentModel, x: Batch, conditional: Conditional
) -> None:
    terms = model.terms(x, conditional.draw(50))
    assert (terms.reconstruction - terms.kl <= terms.log_weights + 1e-8).all()


@torch.no_grad()
def test_the_kl_of_the_latent_and_of_the_category_make_up_the_joint(
    conditional: Conditional, model: LatentModel, x: Batch
) -> None:
    q_c = conditional.draw(64).categories(model.prior)
    joint = torch.rand(len(x)) + 3
    own = conditional.latent_kl(joint, q_c)
    if conditional.decodings == 1:
        assert torch.equal(own, joint)
        return
    assert q_c is not None
    of_category = math.log(q_c.shape[1]) + torch.xlogy(q_c, q_c).sum(1)
    assert torch.allclose(own + of_category, joint)


@torch.no_grad()
def test_the_category_is_exact_or_says_how_many_draws_it_takes(
    conditional: Conditional, model: LatentModel
) -> None:
    first, second = (conditional.draw(2).categories(model.prior) for _ in range(2))
    if first is None or second is None:
        return
    assert (conditional.category_draws == 0) == torch.equal(first, second)


@torch.no_grad()
@pytest.mark.parametrize("index", [slice(1, 4), torch.tensor([5, 0, 5])], ids=["slice", "index"])
def test_some_of_the_data_have_some_of_the_posteriors(
    conditional: Conditional, index: slice | Tensor
) -> None:
    few, latent = conditional.rows(index), torch.randn(4, conditional.draw(1).latent.shape[-1])
    assert torch.allclose(few.log_prob(latent), conditional.log_prob(latent)[:, index])
    assert few.draw(2).marginal().shape == (2, 3, latent.shape[1])
    for part, whole in zip(few.tensors(), conditional.tensors(), strict=True):
        assert torch.equal(part, whole[index])


@torch.no_grad()
def test_posteriors_that_are_joined_are_those_of_all_data(
    conditional: Conditional, x: Batch
) -> None:
    parts = [conditional.rows(slice(i, i + 2)) for i in range(0, len(x), 2)]
    whole = parts[0].joined(*parts[1:])
    latent = torch.randn(4, conditional.draw(1).latent.shape[-1])
    assert torch.allclose(whole.log_prob(latent), conditional.log_prob(latent))
    for part, wanted in zip(whole.tensors(), conditional.tensors(), strict=True):
        assert torch.equal(part, wanted)


@torch.no_grad()
def test_the_same_tensors_give_the_same_posterior(conditional: Conditional) -> None:
    tensors = conditional.tensors()
    again = conditional.replace(*(part.clone() for part in tensors))
    latent = torch.randn(4, conditional.draw(1).latent.shape[-1])
    assert torch.equal(again.log_prob(latent), conditional.log_prob(latent))
    drawn = []
    for q in (conditional, again):
        torch.manual_seed(3)
        drawn.append(q.draw(2))
    assert torch.equal(drawn[0].latent, drawn[1].latent)
    assert torch.equal(drawn[0].log_q, drawn[1].log_q)
    for k, part in enumerate(tensors):
        other = conditional.replace(*tensors[:k], part + torch.rand_like(part), *tensors[k + 1 :])
        assert not torch.allclose(other.log_prob(latent), conditional.log_prob(latent))


def test_the_bound_has_the_gradient_of_finite_differences_in_the_tensors(
    model: LatentModel, x: Batch, conditional: Conditional
) -> None:
    """What semi-amortisation climbs: draws are reparametrised."""
    if model.exact:
        pytest.skip("nothing refines an exact posterior")

    def bound(*tensors: Tensor) -> Tensor:
        torch.manual_seed(7)
        terms = model.terms(x, conditional.replace(*tensors).draw(2))
        return terms.reconstruction - terms.kl

    at = tuple(part.detach().requires_grad_() for part in conditional.tensors())
    assert torch.autograd.gradcheck(bound, at)


def test_every_number_of_the_posterior_is_trained(model: LatentModel, x: Batch) -> None:
    if model.exact:
        assert not [p for p in model.posterior.parameters() if p.requires_grad]
        return
    model.train()
    terms = model.terms(x, model.posterior(x).draw(2))
    (terms.reconstruction - terms.kl).sum().backward()
    idle = {name for name, p in model.posterior.named_parameters() if p.grad is None}
    idle = {name.rpartition(".")[2] for name in idle}
    assert idle <= {"embedding"}, "the couplings' own, where there are none"
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


@torch.no_grad()
def test_bounds_of_an_exact_posterior_are_exact(model: LatentModel, x: Batch) -> None:
    measured = bounds(model, x, 4)
    assert (measured.elbo <= measured.ll + 1e-8).all()
    if model.exact:
        assert torch.allclose(measured.elbo, measured.ll, atol=1e-6)


@pytest.mark.cuda
@torch.no_grad()
def test_a_posterior_works_where_it_is_moved_to(
    model: LatentModel, x: Batch, cuda: torch.device
) -> None:
    latent = torch.randn(3, model.latent)
    wanted = model.posterior(x).log_prob(latent)
    model.to(cuda)
    conditional = model.posterior(x.to(cuda))
    assert torch.allclose(conditional.log_prob(latent.to(cuda)).cpu(), wanted)
    assert conditional.draw(2).latent.device.type == cuda.type
