"""Multilayer perceptrons: the classical decoder, one with skips, and every encoder."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lidcli.nn.certificate import Certificate, path_certificate
from lidcli.nn.checks import check_directions, check_finite, check_offset

LEAK = 0.2

Bend = Literal["leaky-relu", "gelu"]


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
        activation: Bend = "leaky-relu",
    ) -> None:
        super().__init__()
        _check(inputs, outputs, hidden, layers, activation)
        self.inputs, self.outputs = inputs, outputs
        sizes = [inputs, *[hidden] * (layers - 1), outputs]
        stages: list[nn.Module] = []
        for stage, (fan_in, fan_out) in enumerate(pairwise(sizes)):
            stages.append(affine(fan_in, fan_out, None if stage == layers - 1 else activation))
            if stage < layers - 1:
                stages.append(_bend(activation))
        self.stages = nn.Sequential(*stages)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., inputs) to (..., outputs)."""
        _check_input(x, self.inputs)
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
            stage for fan in pairwise(sizes) for stage in (affine(*fan, "gelu"), _bend("gelu"))
        ]
        self.stages = nn.Sequential(*stages)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., inputs) to (..., hidden)."""
        out: Tensor = self.stages(x)
        return out


class SkipNet(nn.Module):
    """A perceptron that is given its input at every affine stage, beside the layer below.

    Args:
        inputs: K, size of the input, >= 1.
        outputs: size of the output, >= 1.
        hidden: H, units of each hidden layer, >= 1.
        layers: affine stages, >= 1.
        activation: "leaky-relu" (slope 0.2) or "gelu".

    Raises:
        ValueError: when a size is out of range or the activation unknown.

    References:
        Dieng et al., "Avoiding latent variable collapse with generative skip models" (AISTATS
        2019).

    Example:
        >>> import torch
        >>> SkipNet(2, 5, hidden=16, layers=3)(torch.randn(7, 2)).shape
        torch.Size([7, 5])
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        hidden: int,
        layers: int,
        *,
        activation: Bend = "leaky-relu",
    ) -> None:
        super().__init__()
        _check(inputs, outputs, hidden, layers, activation)
        self.inputs, self.outputs = inputs, outputs
        fans = [inputs, *[hidden + inputs] * (layers - 1)]
        self.stages = nn.ModuleList(
            affine(fan_in, hidden if stage < layers - 1 else outputs,
                    activation if stage < layers - 1 else None)
            for stage, fan_in in enumerate(fans)
        )  # fmt: skip
        self.bend = _bend(activation)

    def forward(self, z: Tensor) -> Tensor:
        """Map (..., K) to (..., outputs)."""
        _check_input(z, self.inputs)
        first, *others = self.stages
        out: Tensor = first(z)
        for stage in others:
            out = stage(torch.cat([self.bend(out), z], dim=-1))
        return out


class SkipMLP(SkipNet):
    """A perceptron that meets its input at every stage and has a linear path to the output.

    f(z) = t + U (γ * z) + net(z), where every affine stage of net is given z beside the layer
    below. The directions U are fixed and γ is learned from 1 on: the linear path of an
    `InjectiveDecoder` with the same directions, without what makes that one injective for all
    weights. For almost all weights with H + K <= D it is injective too (`certificate`).

    Args:
        inputs: K, size of the input, >= 1.
        outputs: D >= K, size of the output.
        hidden: H, units of each hidden layer, >= 1.
        layers: affine stages of the net, >= 1.
        directions: U (D, K), orthonormal columns.
        offset: t (D,), zero by default.
        activation: "leaky-relu" (slope 0.2) or "gelu".

    Raises:
        ValueError: when a size is out of range, the activation unknown, or the columns of the
            directions are not orthonormal.

    References:
        Dieng et al., "Avoiding latent variable collapse with generative skip models" (AISTATS
        2019), for the input at every stage.

    Example:
        >>> f = SkipMLP(2, 5, hidden=16, layers=3, directions=torch.eye(5, 2))
        >>> f(torch.randn(7, 2)).shape
        torch.Size([7, 5])
    """

    directions: Tensor
    offset: Tensor | None

    def __init__(
        self,
        inputs: int,
        outputs: int,
        hidden: int,
        layers: int,
        *,
        directions: Tensor,
        offset: Tensor | None = None,
        activation: Bend = "leaky-relu",
    ) -> None:
        super().__init__(inputs, outputs, hidden, layers, activation=activation)
        check_directions(directions, outputs, inputs)
        check_offset(offset, outputs)
        self.gain = nn.Parameter(torch.ones(inputs))
        dtype = self.gain.dtype
        self.register_buffer("directions", directions.detach().to(dtype, copy=True))
        self.register_buffer(
            "offset", None if offset is None else offset.detach().to(dtype, copy=True)
        )

    def forward(self, z: Tensor) -> Tensor:
        """Map (..., K) to (..., D)."""
        out = super().forward(z) + F.linear(self.gain * z, self.directions)
        return out if self.offset is None else out + self.offset

    def certificate(self) -> Certificate | None:
        """The inverse-Lipschitz constant that the trained weights prove, None where they do not.

        The last stage is A a(z) + C z, a the layer below it: `path_certificate` of C + U diag(γ)
        and A, whatever a is (docs/BRENIER.md).
        """
        check_finite(self)
        last = self.stages[-1]
        assert isinstance(last, nn.Linear)
        weight, hidden = last.weight.double(), last.in_features - self.inputs
        path = weight[:, hidden:] + self.directions.double() * self.gain.double()
        return path_certificate(path, weight[:, :hidden])


def count_parameters(module: nn.Module) -> int:
    """How many trainable numbers a module has.

    Example:
        >>> count_parameters(nn.Linear(3, 2))
        8
    """
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def _check(inputs: int, outputs: int, hidden: int, layers: int, activation: str) -> None:
    """Raise ValueError for a size below 1 or an activation that does not exist."""
    if min(inputs, outputs, hidden, layers) < 1:
        raise ValueError(
            "an MLP needs sizes >= 1, not "
            f"inputs={inputs}, outputs={outputs}, hidden={hidden}, layers={layers}"
        )
    if activation not in ("leaky-relu", "gelu"):
        raise ValueError(f'activation must be "leaky-relu" or "gelu", not {activation!r}')


def _check_input(x: Tensor, inputs: int) -> None:
    """Raise ValueError unless x is (..., inputs)."""
    if x.ndim == 0 or x.shape[-1] != inputs:
        raise ValueError(f"expected an input (..., {inputs}), got {tuple(x.shape)}")


def affine(fan_in: int, fan_out: int, activation: Bend | None = None) -> nn.Linear:
    """An affine stage before the activation, or the last one, that keeps the signal's size."""
    linear = nn.Linear(fan_in, fan_out)
    leak = LEAK if activation == "leaky-relu" else 0.0
    gain = 1.0 if activation is None else math.sqrt(2 / (1 + leak**2))
    nn.init.normal_(linear.weight, std=gain / math.sqrt(fan_in))
    nn.init.zeros_(linear.bias)
    return linear


def _bend(activation: Bend) -> nn.Module:
    return nn.LeakyReLU(LEAK) if activation == "leaky-relu" else nn.GELU()
