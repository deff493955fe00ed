"""The isometry sends the first coordinates where it is told and changes no distance."""

from __future__ import annotations

import math

import pytest
import torch
from flops import counter
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.func import functional_call, stack_module_state, vmap

from lidcli.nn import Isometry

EPS = torch.finfo(torch.float64).eps


def orthonormal(dim: int, active: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    columns = torch.randn(dim, active, generator=generator, dtype=torch.float64)
    return torch.linalg.qr(columns).Q


def matrix(turn: Isometry) -> torch.Tensor:
    unit = torch.eye(turn.dim, dtype=turn.directions.dtype)
    return (turn(unit) - turn(torch.zeros_like(unit))).T


def assert_orthogonal_with(turn: Isometry, directions: torch.Tensor) -> None:
    q, unit = matrix(turn), torch.eye(turn.dim, dtype=torch.float64)
    tolerance = 20 * turn.dim * EPS
    torch.testing.assert_close(q.T @ q, unit, rtol=0, atol=tolerance)
    torch.testing.assert_close(q[:, : turn.active], directions, rtol=0, atol=tolerance)
    assert turn.log_modulus() == pytest.approx(0, abs=tolerance)


@st.composite
def sizes(draw: st.DrawFn) -> tuple[int, int]:
    dim = draw(st.integers(1, 30))
    return dim, draw(st.integers(1, dim))


@given(size=sizes(), seed=st.integers(0, 1000), data=st.data())
@settings(max_examples=60, deadline=None)
def test_it_is_orthogonal_and_starts_with_the_directions_whatever_their_signs(
    size: tuple[int, int], seed: int, data: st.DataObject
) -> None:
    signs = data.draw(st.lists(st.sampled_from([-1.0, 1.0]), min_size=size[1], max_size=size[1]))
    directions = orthonormal(*size, seed) * torch.tensor(signs, dtype=torch.float64)
    assert_orthogonal_with(Isometry(directions), directions)


@given(size=sizes(), seed=st.integers(0, 1000), exponent=st.integers(-18, -1), sign=st.booleans())
@settings(max_examples=60, deadline=None)
def test_directions_near_the_unit_vectors_cost_no_precision(
    size: tuple[int, int], seed: int, exponent: int, sign: bool
) -> None:
    dim, active = size
    near = torch.eye(dim, active, dtype=torch.float64)
    near = near + 10.0**exponent * orthonormal(dim, active, seed)
    left, _, right = torch.linalg.svd(near, full_matrices=False)
    directions = (1.0 if sign else -1.0) * left @ right
    assert_orthogonal_with(Isometry(directions), directions)


@pytest.mark.parametrize("columns", [[0, 1, 2], [2, 0, 1], [5, 3, 1], [4, 5, 3], [5, 0, 3]])
def test_any_unit_vectors_will_do(columns: list[int]) -> None:
    directions = torch.eye(6, dtype=torch.float64)[:, columns]
    assert_orthogonal_with(Isometry(directions), directions)
    assert_orthogonal_with(Isometry(-directions), -directions)


def test_a_square_one_is_the_matrix_of_directions() -> None:
    directions = orthonormal(5, 5)
    x = torch.randn(4, 5, dtype=torch.float64)
    torch.testing.assert_close(Isometry(directions)(x), x @ directions.T)


def test_the_offset_is_added() -> None:
    directions, offset = orthonormal(7, 3), torch.arange(7.0, dtype=torch.float64)
    x = torch.randn(4, 7, dtype=torch.float64)
    moved, plain = Isometry(directions, offset)(x), Isometry(directions)(x)
    torch.testing.assert_close(moved, plain + offset)


def test_leading_axes_broadcast() -> None:
    turn = Isometry(orthonormal(7, 3))
    x = torch.randn(2, 3, 4, 7, dtype=torch.float64)
    torch.testing.assert_close(turn(x), x @ matrix(turn).T, rtol=0, atol=1e-13)
    torch.testing.assert_close(turn(x[0, 0, 0]), turn(x)[0, 0, 0], rtol=0, atol=1e-13)
    assert turn(x[:0]).shape == (0, 3, 4, 7)


def test_nothing_is_learned_and_a_state_dict_restores_everything() -> None:
    offset = torch.ones(7, dtype=torch.float64)
    turn, other = Isometry(orthonormal(7, 3), offset), Isometry(orthonormal(7, 3, 1), 2 * offset)
    assert not list(turn.parameters())
    other.load_state_dict(turn.state_dict())
    x = torch.randn(4, 7, dtype=torch.float64)
    assert torch.equal(turn(x), other(x))


def test_it_keeps_its_directions_when_the_callers_change() -> None:
    directions, offset = orthonormal(7, 3), torch.ones(7, dtype=torch.float64)
    turn, x = Isometry(directions, offset), torch.randn(4, 7, dtype=torch.float64)
    before = turn(x)
    directions.zero_()
    offset.zero_()
    assert torch.equal(turn(x), before)


@pytest.mark.parametrize("active", [1, 3, 7])
def test_stacked_under_vmap_equals_a_loop(active: int) -> None:
    turns = [Isometry(orthonormal(7, active, seed), orthonormal(7, 1).squeeze()) for seed in (0, 1)]
    parameters, buffers = stack_module_state(turns)
    x = torch.randn(4, 7, dtype=torch.float64)
    stacked = vmap(lambda p, b: functional_call(turns[0], (p, b), (x,)))(parameters, buffers)
    looped = torch.stack([turn(x) for turn in turns])
    torch.testing.assert_close(stacked, looped, rtol=0, atol=1e-13)


@pytest.mark.parametrize("active", [1, 3, 7])
def test_it_can_be_differentiated_twice(active: int) -> None:
    turn = Isometry(orthonormal(7, active))
    x = torch.randn(2, 7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(turn, (x,))
    assert torch.autograd.gradgradcheck(lambda x: turn(x).square(), (x,))


def test_shapes_alone_are_enough() -> None:
    x = torch.empty(2, 5, 7, device="meta")
    built = Isometry(torch.empty(7, 3, device="meta"), torch.empty(7, device="meta"))
    moved = Isometry(orthonormal(7, 3).float()).to("meta")
    assert built(x).shape == moved(x).shape == (2, 5, 7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_autocast_takes_either_precision(dtype: torch.dtype) -> None:
    turn = Isometry(orthonormal(7, 3).float(), torch.ones(7))
    x = torch.randn(4, 7)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = turn(x.to(dtype))
    torch.testing.assert_close(out.float(), turn(x), rtol=0, atol=0.1)


def test_no_product_has_the_square_of_the_outputs_size() -> None:
    n, dim, active = 10, 784, 64
    turn, x = Isometry(orthonormal(dim, active).float()), torch.randn(n, dim, requires_grad=True)
    with counter() as forward:
        out = turn(x)
    with counter() as backward:
        out.sum().backward()
    thin = 2 * n * active * (2 * dim + active)
    assert forward.get_total_flops() == thin
    assert backward.get_total_flops() == thin


@pytest.mark.parametrize("wrong", [0.5, 1e-3])
def test_its_modulus_is_that_of_its_buffers(wrong: float) -> None:
    turn = Isometry(orthonormal(9, 3))
    turn.directions.mul_(1 - wrong)
    smallest = torch.linalg.svdvals(matrix(turn))[-1].item()
    assert turn.log_modulus() == pytest.approx(math.log(smallest), abs=1e-12)


def test_single_precision_rounds_its_modulus() -> None:
    assert -1e-6 < Isometry(orthonormal(50, 20).float()).log_modulus() < 0


@pytest.mark.parametrize(
    ("directions", "offset", "said"),
    [
        (torch.eye(3, 4), None, r"1 <= K <= D, got \(3, 4\)"),
        (torch.eye(3, 0), None, r"1 <= K <= D, got \(3, 0\)"),
        (torch.ones(3), None, r"got \(3,\)"),
        (torch.eye(3, 2).long(), None, r"real numbers, got torch.int64"),
        (2 * torch.eye(3, 2), None, r"\(3, 2\) are not orthonormal"),
        (torch.eye(3, 2) * torch.nan, None, r"\(3, 2\) are not orthonormal"),
        (torch.eye(3, 2), torch.zeros(2), r"offset must be \(3,\), got \(2,\)"),
        (torch.eye(3, 2), torch.full((3,), torch.inf), r"offset \(3,\) is not finite"),
    ],
)
def test_wrong_directions_are_named(
    directions: torch.Tensor, offset: torch.Tensor | None, said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        Isometry(directions, offset)


@pytest.mark.parametrize("x", [torch.zeros(5, 4), torch.tensor(1.0), torch.zeros(5, 3).double()])
def test_wrong_inputs_are_named(x: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"expected an input .*, got"):
        Isometry(torch.eye(3, 2))(x)
