"""An unconstrained network beside a linear path, injective whatever its weights: a shear."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lidcli.nn.certificate import Certificate, log_smallest_singular
from lidcli.nn.checks import check_directions, check_finite
from lidcli.nn.isometry import Isometry
from lidcli.nn.mlp import Bend, SkipNet

START = -3.0
"""Of what is learned above ε: softplus(-3) = 0.05."""


class ShearedMLP(nn.Module):
    """A perceptron off the directions of a linear path, which a bounded shear lets it move along.

    f(z) = t + Q (γ * z + M r(z), r(z)), with Q orthogonal, its first K columns the directions U,
    and r any network from R^K to R^(D-K). Whoever knows f(z) knows r(z), hence M r(z), hence z.
    With γ >= ε and a spectral norm of M below L by construction,

        |f(a) - f(b)| >= ε / √(1 + L²) |a - b|

    for all weights (docs/BRENIER.md). γ and M = L (I + B Bᵀ)^(-½) B, up to a rotation, are learned.

    Args:
        latent: K, size of the input, >= 1.
        out: D > K, size of the output.
        hidden: H, units of each hidden layer of r, >= 1.
        layers: affine stages of r, each of which is given z too, >= 1.
        directions: U (D, K), orthonormal columns.
        offset: t (D,), zero by default.
        inverse_lipschitz: ε > 0, the least slope of the linear path.
        shear: L >= 0; 0 leaves the span of U to the linear path alone.
        activation: "leaky-relu" (slope 0.2) or "gelu".

    Raises:
        ValueError: when a size or a constant is out of range, the activation unknown, or the
            columns of the directions are not orthonormal.

    References:
        Dinh, Krueger and Bengio, "NICE" (2015), for layers that are invertible whatever is added.

    Example:
        >>> f = ShearedMLP(2, 5, hidden=16, layers=3, directions=torch.eye(5, 2))
        >>> f(torch.randn(7, 2)).shape, f.certificate().modulus > 4 / 2**0.5
        (torch.Size([7, 5]), True)
    """

    def __init__(
        self,
        latent: int,
        out: int,
        hidden: int,
        layers: int,
        *,
        directions: Tensor,
        offset: Tensor | None = None,
        inverse_lipschitz: float = 4.0,
        shear: float = 1.0,
        activation: Bend = "leaky-relu",
    ) -> None:
        super().__init__()
        if not 1 <= latent < out:
            raise ValueError(
                "a sheared decoder needs more outputs than latents, 1 <= latent < out, not"
                f" latent={latent}, out={out}"
            )
        if not inverse_lipschitz > 0 or not shear >= 0:
            raise ValueError(
                "a sheared decoder needs inverse_lipschitz > 0 and shear >= 0, not"
                f" inverse_lipschitz={inverse_lipschitz}, shear={shear}"
            )
        check_directions(directions, out, latent)
        self.latent, self.out = latent, out
        self.inverse_lipschitz, self.shear = inverse_lipschitz, shear
        self.net = SkipNet(latent, out - latent, hidden, layers, activation=activation)
        self.above = nn.Parameter(torch.full((latent,), START))
        self.mixing = nn.Parameter(torch.randn(latent, out - latent) / math.sqrt(out - latent))
        self.isometry = Isometry(directions.to(torch.get_default_dtype()), offset)

    def gain(self) -> Tensor:
        """γ (K,), at least ε."""
        return self.inverse_lipschitz + F.softplus(self.above)

    def matrix(self) -> Tensor:
        """M (K, D - K), of a spectral norm below L."""
        unit = torch.eye(self.latent, dtype=self.mixing.dtype, device=self.mixing.device)
        root = torch.linalg.cholesky(unit + self.mixing @ self.mixing.mT)
        turned: Tensor = torch.linalg.solve_triangular(root, self.mixing, upper=False)
        return self.shear * turned

    def forward(self, z: Tensor) -> Tensor:
        """Decode latents (..., K) to (..., D)."""
        beside = self.net(z)
        along = self.gain() * z
        if self.shear:
            along = along + F.linear(beside, self.matrix())
        out: Tensor = self.isometry(torch.cat([along, beside], dim=-1))
        return out

    def certificate(self) -> Certificate:
        """The proven inverse-Lipschitz constant, from the weights.

        The least of |γ * d + M x|² + |x|² over x is dᵀ diag(γ) (I + M Mᵀ)⁻¹ diag(γ) d.
        """
        check_finite(self)
        gain, matrix = self.gain().detach().double(), self.matrix().detach().double()
        unit = torch.eye(self.latent, dtype=matrix.dtype, device=matrix.device)
        root = torch.linalg.cholesky(unit + matrix @ matrix.mT)
        slope = torch.linalg.solve_triangular(root, gain.diag(), upper=False)
        direction = torch.linalg.svd(slope).Vh[-1]
        log_modulus = log_smallest_singular(slope) + self.isometry.log_modulus()
        return Certificate(log_modulus, (), direction.cpu())
