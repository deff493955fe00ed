"""Where a run computes."""

from __future__ import annotations

import itertools

import torch
from torch import nn

from lidcli.errors import ConfigError

__all__ = ["device_of", "pick_device"]


def pick_device(name: str) -> torch.device:
    """The device that `auto`, `cpu`, `cuda` or `cuda:1` names.

    Raises:
        ConfigError: no such device here.

    Example:
        >>> pick_device("cpu")
        device(type='cpu')
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"--device {name!r} is none of auto, cpu, cuda, cuda:0, ...") from None
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            raise ConfigError(
                f"--device {name}: this machine has {count or 'no'} usable GPU"
                f"{'s' if count > 1 else ''}; use --device cpu or auto."
            )
    elif device.type != "cpu":
        raise ConfigError(f"--device {name!r} is none of auto, cpu, cuda, cuda:0, ...")
    return device


def device_of(model: nn.Module) -> torch.device:
    """Where a model's numbers are."""
    return next(itertools.chain(model.parameters(), model.buffers())).device
