"""Input convex neural networks, their value and their gradient in closed form.

Shape suffixes: N batch, K active inputs, D inputs, H hidden width, L layers.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lidcli.nn.by_hand import by_hand, transformed
from lidcli.nn.checks import check_input
from lidcli.nn.closed_form import Weights, closed_form, smooth_leaky

Activation = Literal["smooth", "leaky"]
Backward = Literal["plain", "by-hand"]


def lognormal_moments(fan_in: int, slope: float, correlation: float = 0.5) -> tuple[float, float]:
    """Mean and variance of non-negative weights that keep activations in range at any depth.

    Hoedt and Klambauer, "Principled weight initialisation for input-convex neural networks"
    (NeurIPS 2023), with `correlation` the target correlation between units.
    """
    rho = correlation
    kernel = math.sqrt(1 - rho**2) + rho * math.acos(-rho)
    spread = fan_in * (math.pi - fan_in + (fan_in - 1) * kernel) / (2 * math.pi)
    return math.sqrt(rho / spread), 2 * (1 - rho) / ((1 + slope**2) * fan_in)


class ICNN(nn.Module):
    """A convex function of its input, with a gradient that needs no gradient call.

    Layer 0 is leaky-ReLU squared, the layers above it non-decreasing and convex, their weights
    exp(V); the potential is multiplied by a learned gain.

    Args:
        dim: D, size of the space the function lives on.
        hidden: H, units of each of the L - 1 hidden layers.
        layers: L >= 2, hidden layers and the scalar one.
        active: K <= D, how many leading coordinates are ever non-zero; D by default.
        activation: "smooth" (smooth leaky ReLU, linear scalar layer) or "leaky" (leaky ReLU,
            leaky scalar layer: the paper's).
        slope: smallest slope of the activations, in (0, 1].
        sharpness: k > 0 of the smooth activation softplus(k t) / k; the leaky one has no scale.
        backward: "by-hand" (faster, fewer saved activations) or "plain" (autograd of the closed
            form); the latter under a compiler and function transforms in any case.

    Raises:
        ValueError: when a size is out of range.

    References:
        Amos, Xu and Kolter, "Input convex neural networks" (ICML 2017).

    Example:
        >>> phi = ICNN(3, 16, 4)
        >>> u = torch.randn(5, 3)
        >>> phi(u).shape, phi.gradient(u).shape
        (torch.Size([5]), torch.Size([5, 3]))
    """

    def __init__(
        self,
        dim: int,
        hidden: int,
        layers: int,
        *,
        active: int | None = None,
        activation: Activation = "smooth",
        slope: float = 0.2,
        sharpness: float = 1.0,
        backward: Backward = "by-hand",
    ) -> None:
        super().__init__()
        active = dim if active is None else active
        _check_sizes(dim, hidden, layers, active)
        if not 0 < slope <= 1:
            raise ValueError(f"slope must lie in (0, 1], not {slope}")
        if not 0 < sharpness < math.inf:
            raise ValueError(f"sharpness must be > 0 and finite, not {sharpness}")
        if activation not in ("smooth", "leaky"):
            raise ValueError(f'activation must be "smooth" or "leaky", not {activation!r}')
        if backward not in ("plain", "by-hand"):
            raise ValueError(f'backward must be "plain" or "by-hand", not {backward!r}')
        self.dim, self.hidden, self.layers, self.active = dim, hidden, layers, active
        self.activation, self.slope, self.backward = activation, slope, backward
        self.sharpness = sharpness

        mean, variance = lognormal_moments(hidden, slope)
        sigma2 = math.log1p(variance / mean**2)
        location = math.log(mean) - sigma2 / 2
        shift = -hidden * mean / math.sqrt(2 * math.pi)

        def normal(*shape: int, sd: float, mean: float = 0.0) -> nn.Parameter:
            return nn.Parameter(torch.randn(*shape) * sd + mean)

        self.input_weights = nn.ParameterList(
            normal(hidden, dim, sd=active**-0.5) for _ in range(layers - 1)
        )
        self.log_weights = nn.ParameterList(
            normal(hidden, hidden, sd=math.sqrt(sigma2), mean=location) for _ in range(layers - 2)
        )
        self.biases = nn.ParameterList(
            nn.Parameter(torch.full((hidden,), shift if layer else 0.0))
            for layer in range(layers - 1)
        )
        self.log_scalar = normal(hidden, sd=math.sqrt(sigma2), mean=location)
        self.scalar_input = nn.Parameter(torch.zeros(dim))
        self.scalar_bias = nn.Parameter(torch.tensor(shift)) if activation == "leaky" else None
        self.log_gain = nn.Parameter(torch.tensor(0.0))

    def extra_repr(self) -> str:
        """Sizes and setting, for print."""
        return (
            f"dim={self.dim}, hidden={self.hidden}, layers={self.layers}, active={self.active}, "
            f"activation={self.activation}, backward={self.backward}"
        )

    def weights(self, W: list[Tensor] | None = None) -> Weights:
        """The tensors the formulas of docs/BRENIER.md are written in, with W unless it is given.

        A sharper activation h(k t) / k is h itself between pre-activations k times as large: layer
        0, which squares, takes √k, the layers above take k, and the scalar layer gives it back.
        """
        top, k = None, self.sharpness
        if self.scalar_bias is not None:
            top = (self.log_scalar.exp() / k, self.scalar_input, self.scalar_bias)
        scales = [math.sqrt(k), *[k] * (self.layers - 2)]
        return Weights(
            A=_scaled(self.input_weights, scales),
            b=_scaled(self.biases, scales),
            W=[v.exp() for v in self.log_weights] if W is None else W,
            w=(self.log_scalar + self.log_gain).exp() / k,
            a=self.scalar_input * self.log_gain.exp(),
            top=top,
        )

    def forward(self, u: Tensor) -> Tensor:
        """The potential itself, (..., K) -> (...), gain included."""
        check_input(u, self.active, self.log_gain.dtype)
        k, alpha = self.active, self.slope
        weights = self.weights()
        z = F.leaky_relu(F.linear(u, weights.A[0][:, :k], weights.b[0]), alpha).square()
        for W, A, b in zip(weights.W, weights.A[1:], weights.b[1:], strict=True):
            t = F.linear(z, W) + F.linear(u, A[:, :k], b)
            z = F.leaky_relu(t, alpha) if self.activation == "leaky" else smooth_leaky(t, alpha)
        if weights.top is None:
            return z @ weights.w + u @ weights.a[:k]
        w, a, bias = weights.top
        return F.leaky_relu(z @ w + u @ a[:k] + bias, alpha) * self.log_gain.exp()

    def gradient(self, u: Tensor, quadratic: float = 0.0) -> Tensor:
        """The gradient of the potential plus quadratic ‖u‖² / 2, (..., K) -> (..., D)."""
        check_input(u, self.active, self.log_gain.dtype)
        rows = u.reshape(-1, self.active)
        written = self.backward == "by-hand" and not transformed()
        mixed = torch.is_autocast_enabled(u.device.type)
        if written:
            weights = self.weights(list(self.log_weights))
            out = by_hand(rows, weights, self.slope, 0.0 if mixed else quadratic)
        else:
            out = closed_form(rows, self.weights(), self.slope)
        if quadratic and (mixed or not written):
            out = torch.add(out, F.pad(rows, (0, self.dim - self.active)), alpha=quadratic)
        return out.reshape(*u.shape[:-1], self.dim)


def _check_sizes(dim: int, hidden: int, layers: int, active: int) -> None:
    if dim < 1 or hidden < 1 or layers < 2:
        raise ValueError(
            "an ICNN needs dim >= 1, hidden >= 1 and layers >= 2, "
            f"not dim={dim}, hidden={hidden}, layers={layers}"
        )
    if not 1 <= active <= dim:
        raise ValueError(f"active (K={active}) must be between 1 and dim (D={dim})")


def _scaled(tensors: nn.ParameterList, scales: list[float]) -> list[Tensor]:
    return [t if s == 1 else t * s for t, s in zip(tensors, scales, strict=True)]
