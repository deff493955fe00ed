"""Multilayer perceptrons: the classical decoder and every encoder."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Literal

from torch import Tensor, nn

LEAK = 0.2


class MLP(nn.Module):
    """A perceptron of `layers` affine stages, `layers - 1` of them hidden, started after He.

    Args:
        inputs: size of the input, >= 1.
        outputs: size of the output, >= 1.
        hidden: H, units of each hidden layer, >= 1.
        layers: affine stages, >= 1; 1 is a linear map.
        activation: "leaky-relu" (slope 0.2) or "gelu".

    Raises:
        ValueError: when a size is out of range or the activation unknown.

    References:
        He et al., "Delving deep into rectifiers" (ICCV 2015), for the start.

    Example:
        >>> import torch
        >>> MLP(2, 5, hidden=16, layers=3)(torch.randn(7, 2)).shape
        torch.Size([7, 5])
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        hidden: int,
        layers: int,
        *,
        activation: Literal["leaky-relu", "gelu"] = "leaky-relu",
    ) -> None:
        super().__init__()
        if min(inputs, outputs, hidden, layers) < 1:
            raise ValueError(
                "an MLP needs sizes >= 1, not "
                f"inputs={inputs}, outputs={outputs}, hidden={hidden}, layers={layers}"
            )
        if activation not in ("leaky-relu", "gelu"):
            raise ValueError(f'activation must be "leaky-relu" or "gelu", not {activation!r}')
        self.inputs, self.outputs = inputs, outputs
        leak = LEAK if activation == "leaky-relu" else 0.0
        sizes = [inputs, *[hidden] * (layers - 1), outputs]
        stages: list[nn.Module] = []
        for stage, (fan_in, fan_out) in enumerate(pairwise(sizes)):
            last = stage == layers - 1
            stages.append(affine(fan_in, fan_out, 1.0 if last else _gain(leak)))
            if not last:
                stages.append(nn.LeakyReLU(LEAK) if activation == "leaky-relu" else nn.GELU())
        self.stages = nn.Sequential(*stages)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., inputs) to (..., outputs)."""
        if x.ndim == 0 or x.shape[-1] != self.inputs:
            raise ValueError(f"expected an input (..., {self.inputs}), got {tuple(x.shape)}")
        out: Tensor = self.stages(x)
        return out


class Trunk(nn.Module):
    """Hidden layers without a head: the features that an encoder's heads read.

    Args:
        inputs: size of the input, >= 1.
        hidden: H, units of each layer, >= 1.
        layers: hidden layers, >= 1, each followed by a GELU.

    Example:
        >>> import torch
        >>> Trunk(5, hidden=16, layers=2)(torch.randn(7, 5)).shape
        torch.Size([7, 16])
    """

    def __init__(self, inputs: int, hidden: int, layers: int) -> None:
        super().__init__()
        sizes = [inputs, *[hidden] * layers]
        stages = [
            stage for fan in pairwise(sizes) for stage in (affine(*fan, _gain(0.0)), nn.GELU())
        ]
        self.stages = nn.Sequential(*stages)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., inputs) to (..., hidden)."""
        out: Tensor = self.stages(x)
        return out


def _gain(leak: float) -> float:
    return math.sqrt(2 / (1 + leak**2))


def affine(inputs: int, outputs: int, gain: float = 1.0) -> nn.Linear:
    """A linear layer with weights of sd gain / √inputs and no bias at the start (He et al. 2015).

    Example:
        >>> affine(3, 2).bias.tolist()
        [0.0, 0.0]
    """
    linear = nn.Linear(inputs, outputs)
    nn.init.normal_(linear.weight, std=gain / math.sqrt(inputs))
    nn.init.zeros_(linear.bias)
    return linear


def count_parameters(module: nn.Module) -> int:
    """How many trainable numbers a module has.

    Example:
        >>> count_parameters(nn.Linear(3, 2))
        8
    """
    return sum(p.numel() for p in module.parameters() if p.requires_grad)
