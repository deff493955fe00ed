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
            linear = nn.Linear(fan_in, fan_out)
            gain = 1.0 if stage == layers - 1 else math.sqrt(2 / (1 + leak**2))
            nn.init.normal_(linear.weight, std=gain / math.sqrt(fan_in))
            nn.init.zeros_(linear.bias)
            stages.append(linear)
            if stage < layers - 1:
                stages.append(nn.LeakyReLU(LEAK) if activation == "leaky-relu" else nn.GELU())
        self.stages = nn.Sequential(*stages)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., inputs) to (..., outputs)."""
        if x.ndim == 0 or x.shape[-1] != self.inputs:
            raise ValueError(f"expected an input (..., {self.inputs}), got {tuple(x.shape)}")
        out: Tensor = self.stages(x)
        return out


def count_parameters(module: nn.Module) -> int:
    """How many trainable numbers a module has.

    Example:
        >>> count_parameters(nn.Linear(3, 2))
        8
    """
    return sum(p.numel() for p in module.parameters() if p.requires_grad)
