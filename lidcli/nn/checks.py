"""What every network refuses."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def check_input(u: Tensor, active: int, dtype: torch.dtype) -> None:
    """Raise ValueError unless u is (..., active) of the parameters' dtype.

    Under autocast any other floating-point dtype will do that is not double, nor parameters in
    double: it casts neither.
    """
    if u.ndim == 0 or u.shape[-1] != active:
        raise ValueError(f"expected an input (..., {active}), got {tuple(u.shape)}")
    cast = mixed(u) and u.is_floating_point() and torch.float64 not in (u.dtype, dtype)
    if u.dtype != dtype and not cast:
        raise ValueError(f"expected an input of {dtype}, got {u.dtype} {tuple(u.shape)}")


def mixed(u: Tensor) -> bool:
    """Whether autocast chooses the precision where u is."""
    return not u.is_meta and torch.is_autocast_enabled(u.device.type)


def check_finite(module: nn.Module) -> None:
    """Raise ValueError, naming the tensor, unless all parameters and buffers are finite."""
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        if not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"no certificate: {name} {tuple(tensor.shape)} is not finite")


def check_directions(directions: Tensor, out: int | None = None, latent: int | None = None) -> None:
    """Raise ValueError unless directions are K <= D orthonormal columns (D, K) of these sizes."""
    shape = tuple(directions.shape)
    if directions.ndim != 2 or not 1 <= shape[1] <= shape[0]:
        raise ValueError(f"directions must be (D, K) with 1 <= K <= D, got {shape}")
    wanted = (out or shape[0], latent or shape[1])
    if shape != wanted:
        raise ValueError(f"directions must be {wanted}, got {shape}")
    if not directions.is_floating_point():
        raise ValueError(f"directions must be real numbers, got {directions.dtype}")
    if directions.is_meta:
        return
    exact = directions.detach().double()
    far = exact.T @ exact - torch.eye(shape[1], dtype=exact.dtype, device=exact.device)
    if not bool((far.abs() <= 10 * shape[0] * torch.finfo(directions.dtype).eps).all()):
        raise ValueError(f"the columns of the directions {shape} are not orthonormal")


def check_offset(offset: Tensor | None, out: int) -> None:
    """Raise ValueError unless an offset is (out,) and finite."""
    if offset is None:
        return
    if tuple(offset.shape) != (out,):
        raise ValueError(f"the offset must be ({out},), got {tuple(offset.shape)}")
    if not offset.is_meta and not bool(torch.isfinite(offset).all()):
        raise ValueError(f"the offset {tuple(offset.shape)} is not finite")
