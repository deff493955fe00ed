"""Gradients to be differentiated again, and products of a Hessian with a vector."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

Hessian = Literal["exact", "finite"]


def slope(
    f: Callable[..., Tensor], x: Sequence[Tensor], others: Sequence[Tensor]
) -> tuple[Tensor, ...]:
    """∇_x f, whose own gradient is found by finite differences, as the products of `hvp` are.

    Args:
        f: a scalar function of the tensors x; what it draws at random is drawn once.
        x: where to differentiate.
        others: further tensors f depends on; those that require a gradient get one.

    Returns:
        A tensor for each x.

    References:
        Kim et al., "Semi-amortized variational autoencoders" (ICML 2018), section 3.2.

    Example:
        >>> x = torch.tensor([1.0, 2.0], dtype=torch.float64, requires_grad=True)
        >>> (found,) = slope(lambda x: (x**3).sum(), [x], [])
        >>> torch.autograd.grad(found[1], x)[0].round(decimals=4)
        tensor([ 0., 12.], dtype=torch.float64)
    """
    wanted = [t for t in others if t.requires_grad]
    found: tuple[Tensor, ...] = _Slope.apply(_replayed(f, x[0].device), len(x), *x, *wanted)  # type: ignore[no-untyped-call]
    return found


class _Slope(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, f: Callable[..., Tensor], count: int, *tensors: Tensor) -> Any:
        ctx.f, ctx.others = f, tensors[count:]
        ctx.save_for_backward(*tensors[:count])
        return _gradient(f, tensors[:count], (), twice=False)[1]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *v: Tensor) -> Any:
        return None, None, *_finite(ctx.f, ctx.saved_tensors, v, ctx.others, None)


def _replayed(f: Callable[..., Tensor], device: torch.device) -> Callable[..., Tensor]:
    """f, with the random draws of its first call in every later one."""
    gpu = [device] if device.type == "cuda" else []
    first: list[tuple[Tensor, list[Tensor]]] = []

    def again(*x: Tensor) -> Tensor:
        if not first:
            first.append((torch.get_rng_state(), [torch.cuda.get_rng_state(d) for d in gpu]))
            return f(*x)
        with torch.random.fork_rng(gpu):
            cpu, states = first[0]
            torch.set_rng_state(cpu)
            for place, state in zip(gpu, states, strict=True):
                torch.cuda.set_rng_state(state, place)
            return f(*x)

    return again


def hvp(
    f: Callable[..., Tensor],
    x: Sequence[Tensor],
    v: Sequence[Tensor],
    parameters: Sequence[Tensor] = (),
    *,
    hessian: Hessian = "exact",
    step: float | None = None,
) -> tuple[Tensor, ...]:
    """The gradient of <∇_x f, v> in x and in what else f depends on.

    "exact" differentiates the gradient. "finite" takes the central difference of two gradients at
    x ± r v, r = step (1 + ‖x‖) / ‖v‖: it needs no second derivative from f's parts, and its error
    is r² / 6 times the fourth derivative of f, thrice along v, plus a rounding error of
    eps ‖∇f‖ / r. Both evaluations must see the same function: random draws inside f (dropout,
    noise) have to be fixed by the caller.

    Args:
        f: a scalar function of the tensors x.
        x: where to differentiate.
        v: a tensor of the shape of each x, constants.
        parameters: further tensors f depends on, leaves that require a gradient.
        hessian: "exact" or "finite".
        step: relative step > 0 of "finite"; the cube root of the machine epsilon by default.

    Returns:
        A tensor for each x, (∂²f/∂x²) v, then one for each parameter, (∂²f/∂parameter ∂x) v.

    Raises:
        ValueError: when x and v do not fit, the step is not positive, or f is not scalar.

    References:
        Kim et al., "Semi-amortized variational autoencoders" (ICML 2018), for finite differences.

    Example:
        >>> x, v = torch.tensor([1.0, 2.0]), torch.tensor([1.0, 0.0])
        >>> hvp(lambda x: (x**3).sum(), [x], [v])
        (tensor([6., 0.]),)
    """
    if len(x) != len(v) or any(a.shape != b.shape for a, b in zip(x, v, strict=True)):
        shapes = [[tuple(t.shape) for t in group] for group in (x, v)]
        raise ValueError(f"x and v need the same shapes, not {shapes[0]} and {shapes[1]}")
    if hessian not in ("exact", "finite"):
        raise ValueError(f'hessian must be "exact" or "finite", not {hessian!r}')
    if step is not None and not 0 < step < float("inf"):
        raise ValueError(f"step must be > 0 and finite, not {step}")
    v = [t.detach() for t in v]
    if hessian == "exact":
        return _exact(f, x, v, parameters)
    return _finite(f, x, v, parameters, step)


def _gradient(
    f: Callable[..., Tensor], x: Sequence[Tensor], others: Sequence[Tensor], twice: bool
) -> tuple[list[Tensor], tuple[Tensor, ...]]:
    """x as leaves, and the gradient of f in them and in the others."""
    with torch.enable_grad():
        leaves = [t.detach().clone().requires_grad_() for t in x]
        value = f(*leaves)
        if value.ndim:
            raise ValueError(f"f must return a scalar, not {tuple(value.shape)}")
        wanted = [*leaves, *others]
        found = torch.autograd.grad(value, wanted, create_graph=twice, materialize_grads=True)
    return leaves, found


def _exact(
    f: Callable[..., Tensor], x: Sequence[Tensor], v: Sequence[Tensor], others: Sequence[Tensor]
) -> tuple[Tensor, ...]:
    leaves, slopes = _gradient(f, x, (), twice=True)
    wanted = [*leaves, *others]
    with torch.enable_grad():
        along = sum((a * b).sum() for a, b in zip(slopes, v, strict=True))
    if not isinstance(along, Tensor) or not along.requires_grad:
        return tuple(torch.zeros_like(t) for t in wanted)
    return torch.autograd.grad(along, wanted, materialize_grads=True)


def _finite(
    f: Callable[..., Tensor],
    x: Sequence[Tensor],
    v: Sequence[Tensor],
    others: Sequence[Tensor],
    step: float | None,
) -> tuple[Tensor, ...]:
    length = _norm(v)
    if float(length) == 0:
        return tuple(torch.zeros_like(t) for t in [*x, *others])
    step = float(torch.finfo(x[0].dtype).eps) ** (1 / 3) if step is None else step
    r = step * (1 + _norm(x)) / length
    sides = []
    for sign in (1, -1):
        moved = [a + sign * r * b for a, b in zip(x, v, strict=True)]
        sides.append(_gradient(f, moved, others, twice=False)[1])
    return tuple((up - down) / (2 * r) for up, down in zip(*sides, strict=True))


def _norm(tensors: Sequence[Tensor]) -> Tensor:
    found: Tensor = torch.stack([t.detach().norm() for t in tensors]).norm()
    return found
