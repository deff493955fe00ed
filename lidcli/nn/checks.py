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
    mixed = torch.is_autocast_enabled(u.device.type) and u.is_floating_point()
    if u.dtype != dtype and (not mixed or torch.float64 in (u.dtype, dtype)):
        raise ValueError(f"expected an input of {dtype}, got {u.dtype} {tuple(u.shape)}")


def check_finite(module: nn.Module) -> None:
    """Raise ValueError, naming the tensor, unless all parameters and buffers are finite."""
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        if not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"no certificate: {name} {tuple(tensor.shape)} is not finite")
