"""The factored map is the gradient of its convex potential on the whole output space."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.func import functional_call, stack_module_state, vmap

from lidcli.nn import FactoredBrenierMap

DIM, ACTIVE = 30, 5


def some_map(
    layers: int = 4,
    dense: int = 2,
    activation: str = "smooth",
    backward: str = "plain",
    seed: int = 0,
) -> FactoredBrenierMap:
    """A float64 map away from its start."""
    torch.manual_seed(seed)
    g = FactoredBrenierMap(
        DIM,
        16,
        layers,
        width=12,
        active=ACTIVE,
        dense=dense,
        activation=activation,
        backward=backward,
    ).double()
    with torch.no_grad():
        for parameter in g.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return g


def padding(g: FactoredBrenierMap) -> Tensor:
    """β (D, K)."""
    return g.project(torch.eye(g.dim, dtype=torch.float64))


def reference(g: FactoredBrenierMap, u: Tensor) -> Tensor:
    """∇T at β u by double backpropagation, T written on all of R^D."""
    beta = padding(g)
    v = u @ beta.T
    potential = g.icnn(v @ g.embedding.T) + (v @ beta).square() @ g.strengths() / 2 + v @ g.tilt
    return torch.autograd.grad(potential.sum(), v, create_graph=True)[0]


@pytest.mark.parametrize("backward", ["plain", "by-hand"])
@pytest.mark.parametrize("activation", ["smooth", "leaky"])
@pytest.mark.parametrize("dense", [0, 2, 5])
@pytest.mark.parametrize("layers", range(2, 14))
def test_values_and_gradients_equal_double_backpropagation(
    layers: int, dense: int, activation: str, backward: str
) -> None:
    g = some_map(layers, dense, activation, backward)
    u = torch.randn(9, ACTIVE, dtype=torch.float64, requires_grad=True)
    out, expected = g(u), reference(g, u)
    weight = torch.randn_like(out)
    wanted = [u, *g.parameters()]
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-12 * expected.abs().max().item())
    mine = torch.autograd.grad((out * weight).sum(), wanted, allow_unused=True)
    theirs = torch.autograd.grad((expected * weight).sum(), wanted, allow_unused=True)
    scale = max(known.abs().max() for known in theirs if known is not None)
    for found, known in zip(mine, theirs, strict=True):
        if found is None:
            assert known is None or known.abs().max() == 0
        else:
            assert (found - known).abs().max() <= 1e-12 * scale


@pytest.mark.parametrize("backward", ["plain", "by-hand"])
def test_first_and_second_derivatives_pass_gradcheck(backward: str) -> None:
    g = some_map(3, backward=backward)
    u = torch.randn(2, ACTIVE, dtype=torch.float64, requires_grad=True)
    names = [name for name, _ in g.named_parameters()]
    values = [p.detach().clone().requires_grad_() for p in g.parameters()]

    def call(u: Tensor, *values: Tensor) -> Tensor:
        out: Tensor = functional_call(g, dict(zip(names, values, strict=True)), (u,))
        return out[:, ::7]

    assert torch.autograd.gradcheck(call, (u, *values), fast_mode=True)
    assert torch.autograd.gradgradcheck(call, (u, *values), fast_mode=True)


def test_stacked_maps_under_vmap_equal_a_loop() -> None:
    maps = [some_map(seed=seed) for seed in range(3)]
    parameters, buffers = stack_module_state(maps)
    u = torch.randn(9, ACTIVE, dtype=torch.float64)
    stacked = vmap(lambda p, b: functional_call(maps[0], (p, b), (u,)))(parameters, buffers)
    torch.testing.assert_close(stacked, torch.stack([g(u) for g in maps]), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dense", [0, 2, 5])
def test_its_potential_is_the_one_restricted_to_the_padded_subspace(dense: int) -> None:
    g = some_map(dense=dense)
    u = torch.randn(9, ACTIVE, dtype=torch.float64, requires_grad=True)
    found = torch.autograd.grad(g.potential(u).sum(), u)[0]
    torch.testing.assert_close(found, g(u) @ padding(g), rtol=1e-12, atol=1e-12)


def rounding_of_gram(g: FactoredBrenierMap, dtype: torch.dtype) -> float:
    """Bound on an entry of βᵀβ - I: D products, and in each entry of β a sum over the columns."""
    summed = (g.signs.double().abs() @ g.mixing(torch.float64).abs()).max().item()
    own = 2 * math.sqrt(len(g.signs)) * (g.dense + 2) * summed
    return (g.dim + own) * torch.finfo(dtype).eps


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_padding_is_an_isometry_at_the_precision_in_use(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    g = FactoredBrenierMap(500, 8, 2, width=16, active=12, dense=8).to(dtype)
    beta = g.project(torch.eye(500, dtype=dtype))
    error = (beta.T @ beta - torch.eye(12, dtype=dtype)).abs().max()
    assert error <= rounding_of_gram(g, dtype)


def test_dense_inputs_move_every_logit_and_padded_ones_a_single_logit() -> None:
    torch.manual_seed(0)
    g = FactoredBrenierMap(400, 8, 2, width=16, active=12, dense=8, inverse_lipschitz=0.5)
    with torch.no_grad():
        g.embedding.zero_()
        moved = g(torch.eye(12)) - g(torch.zeros(12, 12))
    assert (moved[:8, :396].abs().mean(1) - 0.5).abs().max() < 0.1
    assert ((moved[8:] != 0).sum(1) == 1).all()


def test_autocast_and_leading_shapes() -> None:
    g = some_map().float()
    u = torch.randn(2, 3, ACTIVE)
    with torch.autocast("cpu", torch.bfloat16):
        out = g(u)
    assert out.shape == (2, 3, DIM)
    assert (out - g(u)).norm() < 0.05 * g(u).norm()


def test_calibration_sets_the_standard_deviation_of_the_network_part() -> None:
    g = some_map()
    u = torch.randn(200, ACTIVE, dtype=torch.float64)
    out = g.calibrate(u)
    assert torch.equal(out, g(u))
    part = g.icnn.gradient(u @ g.project(g.embedding).T) @ g.embedding
    assert part.std().item() == pytest.approx(0.3, rel=1e-9)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"active": 31}, "active=31, dim=30"),
        ({"dense": 6}, "dense=6, active=5"),
        ({"inverse_lipschitz": 0.0, "width": 4}, "width H'=4 .*not injective"),
        ({"inverse_lipschitz": 0.0, "hidden": 4}, "hidden H=4 .*not injective"),
        (
            {"dense": 2, "dense_inverse_lipschitz": 0.0, "width": 4},
            "width H'=4 < .* dense_inverse_lipschitz=0 .* raise width or dense_inverse_lipschitz",
        ),
        (
            {"inverse_lipschitz": 0.0, "width": 4, "hidden": 3},
            "width H'=4 and hidden H=3 < active K=5 .* raise width and hidden or inverse_lipschitz",
        ),
        ({"inverse_lipschitz": -1.0}, "inverse_lipschitz must be >= 0"),
        ({"width": 0}, "width >= 1, not 0"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, object], said: str) -> None:
    values = {"dim": 30, "hidden": 16, "layers": 3, "width": 12, "active": 5} | arguments
    with pytest.raises(ValueError, match=said):
        FactoredBrenierMap(**values)


def test_without_dense_inputs_their_epsilon_is_of_no_account() -> None:
    FactoredBrenierMap(30, 16, 3, width=4, active=5, dense_inverse_lipschitz=0.0)
    g = FactoredBrenierMap(9, 8, 3, width=6).double()
    u = torch.randn(4, 9, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(g(u), reference(g, u))


@pytest.mark.parametrize("dense", [0, 2, 5])
@pytest.mark.parametrize("dim", [5, 30])
def test_batched_gradients_equal_one_at_a_time(dim: int, dense: int) -> None:
    torch.manual_seed(0)
    g = FactoredBrenierMap(dim, 16, 3, width=12, active=5, dense=dense, backward="by-hand").double()
    u = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    out, wanted = g(u), [u, *g.parameters()]
    rows = torch.randn(2, 3, dim, dtype=torch.float64)
    batched = torch.autograd.grad(out, wanted, rows, is_grads_batched=True, retain_graph=True)
    for i, row in enumerate(rows):
        alone = torch.autograd.grad(out, wanted, row, retain_graph=True)
        for one, many in zip(alone, batched, strict=True):
            torch.testing.assert_close(many[i], one)


def test_dense_columns_are_orthonormal_even_where_the_signs_are_nearly_dependent() -> None:
    for seed in range(8):
        torch.manual_seed(seed)
        g = FactoredBrenierMap(40, 8, 2, width=8, active=40, dense=40)
        beta = g.project(torch.eye(40))
        error = (beta.T @ beta - torch.eye(40)).abs().max()
        assert error <= rounding_of_gram(g, torch.float32)


@pytest.mark.parametrize("u", [torch.zeros(3, 4), torch.zeros(3, 5, dtype=torch.float64)])
def test_wrong_inputs_are_named(u: Tensor) -> None:
    g = FactoredBrenierMap(30, 16, 3, width=12, active=5)
    for call in (g, g.potential, g.calibrate):
        with pytest.raises(ValueError, match="expected an input"):
            call(u)
