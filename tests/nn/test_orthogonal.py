"""A rotation is orthogonal whatever its parameters, and reaches any rotation nearby."""

from __future__ import annotations

import math

import pytest
import torch
from torch.func import functional_call, vmap

from lidcli.nn import Rotation


@pytest.mark.parametrize("dim", [1, 2, 5, 64])
@pytest.mark.parametrize("spread", [0.0, 1.0, 100.0])
def test_it_is_orthogonal_with_determinant_one(dim: int, spread: float) -> None:
    torch.manual_seed(dim)
    turn = Rotation(dim).double()
    with torch.no_grad():
        turn.skew.normal_().mul_(spread)
    q = turn.matrix()
    condition = 1 + math.sqrt(2) * turn.skew.norm().item()  # at least that of I - S, by ‖S‖_F
    rounding = 4 * dim * torch.finfo(torch.float64).eps * condition
    torch.testing.assert_close(q @ q.T, torch.eye(dim).double(), rtol=0, atol=rounding)
    assert torch.linalg.det(q).item() == pytest.approx(1.0)


def test_it_starts_at_the_identity() -> None:
    u = torch.randn(3, 4)
    assert torch.equal(Rotation(4)(u), u)


def test_gradient_descent_finds_a_given_rotation() -> None:
    torch.manual_seed(0)
    target = torch.linalg.qr(torch.randn(4, 4)).Q
    target[:, 0] *= torch.linalg.det(target)
    turn = Rotation(4)
    optimiser = torch.optim.Adam(turn.parameters(), lr=0.05)
    for _ in range(300):
        loss = (turn.matrix() - target).square().sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < 1e-4


def test_it_works_under_vmap_and_second_derivatives() -> None:
    turn = Rotation(3).double()
    skews = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    u = torch.randn(2, 3, dtype=torch.float64)

    def call(skew: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = functional_call(turn, {"skew": skew}, (u,))
        return out

    stacked = vmap(call)(skews)
    torch.testing.assert_close(stacked, torch.stack([call(skew) for skew in skews]))
    assert torch.autograd.gradgradcheck(call, (skews[0].detach().requires_grad_(),))


def test_a_rotation_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="dim >= 1, not 0"):
        Rotation(0)
