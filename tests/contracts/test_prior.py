"""What every prior promises (lidcli.models.priors.Prior)."""

from __future__ import annotations

import math

import pytest
import torch
from contracts.cases import Case, agrees, cases, grid_over, latent_model
from torch import Tensor, nn

from lidcli.models.priors import Prior

DRAWS = 40_000


class Laplace(Prior):
    """A prior of a user, who writes the two methods that have to be there."""

    def log_prob(self, z: Tensor) -> Tensor:
        return -(z.abs() + math.log(2)).sum(-1)

    def sample(self, n: int) -> Tensor:
        sign = torch.rand(n, self.latent) - 0.5
        return -sign.sign() * torch.log1p(-2 * sign.abs())


@pytest.fixture(params=[*cases("model"), pytest.param(None, id="yours")])
def prior(request: pytest.FixtureRequest) -> Prior:
    """The prior of a model, its parameters away from where they start."""
    case: Case | None = request.param
    if case is None:
        return Laplace(2)
    model, _ = latent_model("model", case)
    with torch.no_grad():
        for parameter in model.prior.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    return model.prior


def grid_of(prior: Prior) -> tuple[Tensor, Tensor, float]:
    """Points, log p at each, and the volume of a cell."""
    with torch.no_grad():
        points, cell = grid_over(*prior.reach())
        return points, prior.log_prob(points), cell


@torch.no_grad()
@pytest.mark.parametrize("leading", [(), (4,), (2, 3), (2, 1, 3)])
def test_a_density_has_the_leading_axes_of_its_latents(
    prior: Prior, leading: tuple[int, ...]
) -> None:
    z = torch.randn(*leading, prior.latent)
    log_p = prior.log_prob(z)
    assert log_p.shape == leading
    flat = z.view(-1, prior.latent)
    one_by_one = torch.stack([prior.log_prob(row) for row in flat]).view(leading)
    assert torch.allclose(log_p, one_by_one)


def test_the_density_integrates_to_one(prior: Prior) -> None:
    _, log_p, cell = grid_of(prior)
    assert log_p.exp().sum().item() * cell == pytest.approx(1, abs=1e-3)


@torch.no_grad()
def test_draws_have_the_moments_of_the_density(prior: Prior) -> None:
    points, log_p, cell = grid_of(prior)
    mass = log_p.exp() * cell
    drawn = prior.sample(DRAWS)
    assert drawn.shape == (DRAWS, prior.latent)
    assert agrees(drawn, mass @ points)
    assert agrees(drawn.square(), mass @ points.square())
    assert agrees(prior.log_prob(drawn), (mass * log_p).sum())
    if prior.latent > 1:
        assert agrees(drawn.prod(-1), mass @ points.prod(-1))


@torch.no_grad()
def test_the_categories_sum_to_the_density(prior: Prior) -> None:
    z = torch.randn(2, 5, prior.latent)
    joint = prior.log_joint(z)
    if prior.categories is None:
        assert joint is None
        return
    assert joint is not None
    assert joint.shape == (2, 5, prior.categories)
    assert torch.allclose(joint.logsumexp(-1), prior.log_prob(z))


@torch.no_grad()
def test_a_latent_of_each_category_has_the_diagonal_of_the_joint(prior: Prior) -> None:
    if prior.categories is None:
        with pytest.raises(ValueError, match="no categories"):
            prior.log_component(torch.zeros(1, 1, 1, prior.latent))
        return
    z = torch.randn(3, prior.categories, 5, prior.latent)
    own = prior.log_component(z)
    assert own.shape == z.shape[:-1]
    joint = prior.log_joint(z)
    assert joint is not None
    assert torch.allclose(own, joint.diagonal(dim1=1, dim2=3).movedim(-1, 1))


@torch.no_grad()
def test_the_components_are_described_where_there_are_any(prior: Prior) -> None:
    means, log_scales = prior.component_means(), prior.component_log_scales()
    if prior.categories is None:
        assert means is None
        assert log_scales is None
        return
    assert means is not None
    assert log_scales is not None
    assert means.shape == log_scales.shape == (prior.categories, prior.latent)
    points, cell = grid_over(*prior.reach())
    joint = prior.log_joint(points)
    assert joint is not None
    mass = joint.exp() * cell
    assert torch.allclose(mass.sum(0), torch.tensor(1 / prior.categories), atol=1e-4)
    assert torch.allclose(prior.categories * mass.T @ points, means, atol=1e-3)


@torch.no_grad()
def test_a_unit_drawn_anew_given_the_others_leaves_the_prior_as_it_is(prior: Prior) -> None:
    points, log_p, cell = grid_of(prior)
    mass = log_p.exp() * cell
    drawn = prior.sample(DRAWS)
    for k in range(prior.latent):
        new = prior.redraw(drawn.view(2, -1, prior.latent), k)
        assert new.shape == (2, DRAWS // 2)
        moved = drawn.clone()
        moved[:, k] = new.flatten()
        assert not torch.equal(moved[:, k], drawn[:, k])
        assert agrees(moved, mass @ points)
        assert agrees(moved.square(), mass @ points.square())
        assert agrees(prior.log_prob(moved), (mass * log_p).sum())
        for j in range(prior.latent):
            crossed = moved[:, k].square() * moved[:, j]
            assert agrees(crossed, (mass * points[:, k].square() * points[:, j]).sum())


@torch.no_grad()
def test_the_density_of_a_unit_is_the_joint_with_the_others_integrated_out(prior: Prior) -> None:
    points, log_p, cell = grid_of(prior)
    alone = prior.unit_log_prob(points)
    if alone is None:
        return
    assert alone.shape == points.shape
    count = round(len(points) ** (1 / prior.latent))
    table = log_p.view([count] * prior.latent)
    for k in range(prior.latent):
        others = tuple(i for i in range(prior.latent) if i != k)
        width = (points[-1, k] - points[0, k]).item() / (count - 1)
        density = table.exp().sum(others) * cell / width if others else table.exp()
        wanted = alone[:, k].view([count] * prior.latent).movedim(k, 0).reshape(count, -1)[:, 0]
        assert torch.allclose(density, wanted.exp(), atol=1e-4)


@torch.no_grad()
def test_draws_and_densities_have_the_precision_of_the_prior(prior: Prior) -> None:
    if isinstance(prior, Laplace):
        pytest.skip("a prior without tensors draws in torch's default precision")
    assert prior.sample(2).dtype == torch.float64
    assert prior.log_prob(torch.randn(2, prior.latent)).dtype == torch.float64
    single = prior.float()
    assert single.sample(2).dtype == torch.float32
    assert single.log_prob(torch.randn(2, prior.latent).float()).dtype == torch.float32


@pytest.mark.cuda
@torch.no_grad()
def test_a_prior_works_where_it_is_moved_to(prior: Prior, cuda: torch.device) -> None:
    if isinstance(prior, Laplace):
        pytest.skip("a prior without tensors draws on the CPU")
    z = torch.randn(2, 3, prior.latent)
    wanted = prior.log_prob(z)
    moved: nn.Module = prior.to(cuda)
    assert moved is prior
    assert prior.sample(3).device.type == cuda.type
    assert torch.allclose(prior.log_prob(z.to(cuda)).cpu(), wanted)
    assert prior.redraw(z.to(cuda), 0).device.type == cuda.type
