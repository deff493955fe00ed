"""What every observation promises (lidcli.models.observations.Observation)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from contracts.cases import CASES, agrees, grid_over, latent_model, name_of
from torch import Tensor

from lidcli.config.sections import KINDS
from lidcli.models.batch import Batch, DenseBatch, TokenBatch
from lidcli.models.latent import LatentModel
from lidcli.models.observations import Observation

DRAWS = 20_000
Built = tuple[LatentModel, Batch]


def pairs() -> Iterator[Any]:
    """Every decoder before every likelihood of the same form of data."""
    for decoder in CASES["decoder"]:
        kind: Any = KINDS["decoder"][decoder.kind]
        if "text" in kind.forms:
            yield pytest.param(("decoder", decoder, "text"), id=name_of(decoder))
            continue
        for noise in CASES["likelihood"]:
            fits: Any = KINDS["likelihood"][noise.kind]
            form = next(form for form in fits.forms if form in kind.forms)
            likelihood = {"kind": noise.kind, **noise.settings}
            case = replace(decoder, beside={**decoder.beside, "likelihood": likelihood})
            yield pytest.param(("decoder", case, form), id=f"{name_of(decoder)}-{name_of(noise)}")


def families() -> Iterator[Any]:
    """The observation of every family."""
    for case in CASES["model"]:
        if case.latent:
            yield pytest.param(("model", case, None), id=name_of(case))


@pytest.fixture(params=[*pairs(), *families()])
def built(request: pytest.FixtureRequest) -> Built:
    """A model and some data."""
    section, case, form = request.param
    return latent_model(section, case, form)


@pytest.fixture
def observation(built: Built) -> Observation:
    return built[0].observation


@pytest.fixture
def x(built: Built) -> Batch:
    return built[1]


@pytest.fixture
def z(built: Built) -> Tensor:
    """One latent of each datum."""
    model, x = built
    return torch.randn(len(x), model.latent)


def all_data(observation: Observation, z: Tensor, x: Batch) -> tuple[Batch, float]:
    """Every datum, or a grid of them about what one latent z (M,) explains, and a cell's volume.

    Of documents: all beginnings of three tokens.
    """
    if isinstance(x, TokenBatch):
        ids = torch.cartesian_prod(*[torch.arange(5)] * 3)
        return TokenBatch(ids, torch.full((len(ids),), 3)), 1.0
    assert isinstance(x, DenseBatch)
    if ((x.x == 0) | (x.x == 1)).all():
        bits = torch.tensor(list(itertools.product([0.0, 1.0], repeat=x.x.shape[1])))
        return DenseBatch(bits), 1.0
    drawn = observation.sample(z.expand(500, -1))
    assert isinstance(drawn, DenseBatch)
    centre, spread = drawn.x.mean(0), 9 * drawn.x.std(0)
    points, cell = grid_over(centre - spread, centre + spread)
    return DenseBatch(points), cell


@torch.no_grad()
@pytest.mark.parametrize("leading", [(), (4,), (2, 3)])
def test_log_probabilities_have_the_leading_axes_of_the_latents(
    observation: Observation, x: Batch, z: Tensor, leading: tuple[int, ...]
) -> None:
    many = z + torch.randn(*leading, *z.shape)
    log_p = observation.log_prob(x, many)
    assert log_p.shape == (*leading, len(x))
    for n in range(len(x)):
        own = observation.log_prob(x.rows(slice(n, n + 1)), many[..., n : n + 1, :])
        assert torch.allclose(own[..., 0], log_p[..., n])


@torch.no_grad()
def test_the_order_of_the_axes_in_memory_makes_no_difference(
    observation: Observation, x: Batch, z: Tensor
) -> None:
    many = z + torch.randn(3, 4, *z.shape)
    wanted = observation.log_prob(x, many)
    exchanged = many.permute(2, 0, 1, 3).contiguous().permute(1, 2, 0, 3)
    assert not exchanged.is_contiguous()
    assert torch.allclose(observation.log_prob(x, exchanged), wanted)


@torch.no_grad()
def test_the_probabilities_of_all_data_sum_to_one(
    observation: Observation, x: Batch, z: Tensor
) -> None:
    if isinstance(x, DenseBatch) and x.x.shape[1] > 4:
        pytest.skip("no grid covers data of five dimensions")
    data, cell = all_data(observation, z[0], x)
    log_p = observation.log_prob(data, z[0].expand(len(data), -1))
    assert log_p.exp().sum().item() * cell == pytest.approx(1, abs=1e-5)


@torch.no_grad()
def test_draws_are_those_of_the_probabilities(
    observation: Observation, x: Batch, z: Tensor
) -> None:
    same = z[0].expand(DRAWS, -1)
    drawn = observation.sample(same)
    assert len(drawn) == DRAWS
    assert observation.log_prob(drawn.rows(slice(0, 9)), same[:9]).isfinite().all()
    if isinstance(drawn, TokenBatch):
        words = TokenBatch(torch.arange(5)[:, None], torch.ones(5, dtype=torch.long))
        first = observation.log_prob(words, z[0].expand(5, -1)).exp()
        assert agrees(torch.nn.functional.one_hot(drawn.ids[:, 0], 5).double(), first)
        assert agrees((drawn.lengths == 1).double(), first[0])
        return
    assert isinstance(x, DenseBatch)
    assert isinstance(drawn, DenseBatch)
    assert drawn.x.shape == (DRAWS, x.x.shape[1])
    if x.x.shape[1] > 4:
        return
    data, cell = all_data(observation, z[0], x)
    assert isinstance(data, DenseBatch)
    log_p = observation.log_prob(data, z[0].expand(len(data), -1))
    mass = log_p.exp() * cell
    assert agrees(drawn.x, mass @ data.x)
    assert agrees(drawn.x[:, 0] * drawn.x[:, 1], mass @ (data.x[:, 0] * data.x[:, 1]))
    entropy = (mass * torch.where(mass > 0, log_p, 0.0)).sum()
    assert agrees(observation.log_prob(drawn, same), entropy)


def test_the_gradient_is_the_one_of_finite_differences(
    observation: Observation, x: Batch, z: Tensor
) -> None:
    few = x.rows(slice(0, 3))
    at = z[:3].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda latent: observation.log_prob(few, latent), at)


def test_the_gradients_of_what_is_trained_are_finite(
    observation: Observation, x: Batch, z: Tensor
) -> None:
    trainable = [p for p in observation.parameters() if p.requires_grad]
    if not trainable:
        pytest.skip("nothing to train")
    found = torch.autograd.grad(observation.log_prob(x, z).sum(), trainable, allow_unused=True)
    smooth = [slope for slope in found if slope is not None]
    assert all(slope.isfinite().all() for slope in smooth)
    assert all((slope != 0).any() for slope in smooth)
    pieces = sum(name.endswith("scalar_bias") for name, _ in observation.named_parameters())
    assert len(found) - len(smooth) == pieces, "a bias inside the last leaky layer chooses a piece"


@torch.no_grad()
def test_a_grid_gives_what_its_points_give_one_by_one(
    observation: Observation, x: Batch, z: Tensor
) -> None:
    grid = torch.randn(7, z.shape[1])
    found = observation.on_grid(grid)(x)
    assert found.shape == (len(x), 7)
    for g in range(7):
        assert torch.allclose(found[:, g], observation.log_prob(x, grid[g].expand(len(x), -1)))


@torch.no_grad()
def test_some_of_the_data_have_some_of_the_probabilities(
    observation: Observation, x: Batch, z: Tensor
) -> None:
    whole = observation.log_prob(x, z)
    chosen = torch.tensor([4, 0, 4])
    assert torch.allclose(observation.log_prob(x.rows(chosen), z[chosen]), whole[chosen])
    few = slice(1, 4)
    assert torch.allclose(observation.log_prob(x.rows(few), z[few]), whole[few])


@torch.no_grad()
def test_the_latent_tells_of_the_data_through_the_map_alone(
    observation: Observation, x: Batch, z: Tensor
) -> None:
    decode = observation.map()
    if decode is None:
        assert not isinstance(x, DenseBatch)
        return
    assert isinstance(x, DenseBatch)
    assert decode(z).shape == x.x.shape


@torch.no_grad()
def test_a_certificate_is_below_every_slope(
    request: pytest.FixtureRequest, observation: Observation, z: Tensor
) -> None:
    section, case, _ = request.node.callspec.params["built"]
    certificate, decode = observation.certificate(), observation.map()
    if section == "decoder":
        kind: Any = KINDS["decoder"][case.kind]
        assert (certificate is not None) == kind.injective
    if certificate is not None:
        assert certificate.modulus > 0
    if certificate is not None and decode is not None:
        slopes = torch.pdist(decode(z)) / torch.pdist(z)
        assert (slopes >= certificate.modulus * (1 - 1e-9)).all()


def test_the_decoder_is_part_of_the_observation(observation: Observation) -> None:
    assert observation.decoder in list(observation.children())


@torch.no_grad()
def test_probabilities_have_the_precision_of_the_observation(
    observation: Observation, x: Batch, z: Tensor
) -> None:
    wanted = observation.log_prob(x, z)
    assert wanted.dtype == torch.float64
    single = observation.float()
    few = DenseBatch(x.x.float()) if isinstance(x, DenseBatch) else x
    found = single.log_prob(few, z.float())
    assert found.dtype == torch.float32
    assert torch.allclose(found.double(), wanted, rtol=1e-3, atol=1e-3)


@pytest.mark.cuda
@torch.no_grad()
def test_an_observation_works_where_it_is_moved_to(
    observation: Observation, x: Batch, z: Tensor, cuda: torch.device
) -> None:
    wanted = observation.log_prob(x, z)
    moved = observation.to(cuda)
    assert torch.allclose(moved.log_prob(x.to(cuda), z.to(cuda)).cpu(), wanted)
