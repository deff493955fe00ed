"""Hessian-vector products: exact ones, and differences with the error they promise."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lidcli.nn.hessian import hvp


class Exponential:
    """f(x, y) = Σ exp(A x) w + Σ sin(y) x: every derivative known."""

    def __init__(self, dtype: torch.dtype = torch.float64) -> None:
        generator = torch.Generator().manual_seed(0)
        self.A = (torch.randn(7, 4, generator=generator, dtype=dtype) / 2).requires_grad_()
        self.w = torch.rand(7, generator=generator, dtype=dtype).requires_grad_()
        self.x, self.y, self.v, self.u = (
            torch.randn(4, generator=generator, dtype=dtype) for _ in range(4)
        )

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        return (torch.exp(self.A @ x) * self.w).sum() + (torch.sin(y) * x).sum()

    def products(self) -> list[Tensor]:
        """(∂²f) (v, u) in x and y, and the mixed products in A and w."""
        A, w = self.A.detach(), self.w.detach()
        e, s = torch.exp(A @ self.x), A @ self.v
        in_A = (w * e * s)[:, None] * self.x + (w * e)[:, None] * self.v
        return [
            A.T @ (w * e * s) + torch.cos(self.y) * self.u,
            torch.cos(self.y) * self.v - torch.sin(self.y) * self.x * self.u,
            in_A,
            e * s,
        ]


def test_exact_products_are_those_of_the_formula() -> None:
    f = Exponential()
    found = hvp(f, [f.x, f.y], [f.v, f.u], [f.A, f.w])
    for mine, known in zip(found, f.products(), strict=True):
        torch.testing.assert_close(mine, known, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("step", [1e-1, 1e-2, 1e-3, 1e-4, None])
def test_the_error_of_differences_is_bounded_by_the_fourth_derivative_and_by_rounding(
    step: float | None,
) -> None:
    f = Exponential()
    x, v, eps = torch.cat([f.x, f.y]), torch.cat([f.v, f.u]), 2.0**-52
    r = float((eps ** (1 / 3) if step is None else step) * (1 + x.norm()) / v.norm())
    A, w, s = f.A.detach(), f.w.detach(), f.A.detach() @ f.v
    along = torch.exp(A @ f.x) * (r * s.abs()).exp()
    in_x = A.abs().T @ (w * along * s.abs() ** 3) + f.u.abs() ** 3
    size = 10 * (A.abs().T @ (w * along)).norm() + 10
    found = hvp(f, [f.x, f.y], [f.v, f.u], hessian="finite", step=step)
    error = (found[0] - f.products()[0]).abs()
    assert (error <= r**2 / 6 * in_x + eps * size / r).all()


def test_differences_reach_the_parameters() -> None:
    f = Exponential()
    found = hvp(f, [f.x, f.y], [f.v, f.u], [f.A, f.w], hessian="finite")
    for mine, known in zip(found, f.products(), strict=True):
        torch.testing.assert_close(mine, known, rtol=1e-7, atol=1e-7)


def test_in_single_precision_the_default_step_keeps_three_digits() -> None:
    f = Exponential(torch.float32)
    for mine, known in zip(
        hvp(f, [f.x, f.y], [f.v, f.u], [f.A, f.w], hessian="finite"), f.products(), strict=True
    ):
        assert (mine - known).norm() < 1e-3 * known.norm()


@pytest.mark.parametrize("hessian", ["exact", "finite"])
def test_linear_functions_zero_directions_and_unused_parameters_give_zeros(hessian: str) -> None:
    x, other = torch.ones(3, dtype=torch.float64), torch.ones(2, requires_grad=True)
    linear = hvp(lambda x: x.sum(), [x], [x], [other], hessian=hessian)
    assert [t.abs().max().item() for t in linear] == pytest.approx([0, 0], abs=1e-9)
    still = hvp(lambda x: x.exp().sum(), [x], [0 * x], [other], hessian=hessian)
    assert [t.abs().max().item() for t in still] == [0, 0]


def test_wrong_arguments_are_named() -> None:
    x = torch.ones(3)
    with pytest.raises(ValueError, match="the same shapes"):
        hvp(torch.sum, [x], [x[:2]])
    with pytest.raises(ValueError, match="scalar, not"):
        hvp(torch.exp, [x], [x])
    with pytest.raises(ValueError, match="hessian must be"):
        hvp(torch.sum, [x], [x], hessian="both")
    with pytest.raises(ValueError, match="step must be > 0"):
        hvp(torch.sum, [x], [x], step=0.0)
