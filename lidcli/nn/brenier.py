"""Brenier maps: gradients of convex functions, written without a gradient call."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lidcli.nn.certificate import MapCertificate, certify
from lidcli.nn.icnn import ICNN, Activation, Backward


class BrenierMap(nn.Module):
    """The gradient of a convex function: monotone, and injective with a known modulus.

    g(u) = ∇φ(u) + ε u, with φ an ICNN. The input lives on the first K of D coordinates (zero
    padding, never materialised).

    Args:
        dim: D, size of the output.
        hidden: H, units of each of the L - 1 hidden layers.
        layers: L >= 2, layers of the ICNN, the scalar one included.
        active: K <= D, size of the input; D by default.
        activation: "smooth" (default) or "leaky", the paper's.
        inverse_lipschitz: ε >= 0; no two inputs come closer than by this factor.
        slope: smallest slope α of the activations, in (0, 1].
        sharpness: k > 0 of the smooth activation softplus(k t) / k.
        gain: standard deviation of ∇φ that `calibrate` sets, > 0.
        backward: "by-hand" or "plain".

    Raises:
        ValueError: when a size is out of range, ε < 0, or ε = 0 with H < K (not injective).

    References:
        Wang, Blei and Cunningham, "Posterior collapse and latent variable non-identifiability"
        (NeurIPS 2021), section 3; Kinoshita et al., "Controlling posterior collapse by an inverse
        Lipschitz constraint on the decoder network" (ICML 2023), for ε.

    Example:
        >>> g = BrenierMap(5, 32, 3, active=2)
        >>> g(torch.randn(7, 2)).shape
        torch.Size([7, 5])
    """

    def __init__(
        self,
        dim: int,
        hidden: int,
        layers: int,
        *,
        active: int | None = None,
        activation: Activation = "smooth",
        inverse_lipschitz: float = 0.5,
        slope: float = 0.2,
        sharpness: float = 1.0,
        gain: float = 0.3,
        backward: Backward = "by-hand",
    ) -> None:
        super().__init__()
        self.icnn = ICNN(
            dim,
            hidden,
            layers,
            active=active,
            activation=activation,
            slope=slope,
            sharpness=sharpness,
            backward=backward,
        )
        check_epsilon(inverse_lipschitz, gain)
        if inverse_lipschitz == 0 and hidden < self.icnn.active:
            raise ValueError(
                f"with hidden H={hidden} < active K={self.icnn.active} and inverse_lipschitz=0 the "
                "map is not injective: raise hidden or inverse_lipschitz"
            )
        self.inverse_lipschitz, self.gain = float(inverse_lipschitz), gain

    @property
    def active(self) -> int:
        """K, size of the input."""
        return self.icnn.active

    @property
    def dim(self) -> int:
        """D, size of the output."""
        return self.icnn.dim

    def forward(self, u: Tensor) -> Tensor:
        """Map (..., K) to (..., D)."""
        return self.icnn.gradient(u, self.inverse_lipschitz)

    def potential(self, u: Tensor) -> Tensor:
        """The convex function (...,) whose gradient at (..., K), padded, is the map."""
        phi: Tensor = self.icnn(u)
        return phi + self.inverse_lipschitz / 2 * u.square().sum(-1)

    @torch.no_grad()
    def calibrate(self, u: Tensor) -> Tensor:
        """Scale ∇φ to the standard deviation `gain` on a batch (N, K); return the map's output."""
        calibrate_gain(self.icnn, self.icnn.gradient(u), self.gain)
        out: Tensor = self(u)
        return out

    def certificate(self) -> MapCertificate:
        """The proven modulus of monotonicity, from the weights (docs/BRENIER.md)."""
        epsilon = torch.full((self.active,), self.inverse_lipschitz, dtype=torch.float64)
        return certify(self.icnn, epsilon)


def check_epsilon(inverse_lipschitz: float, gain: float) -> None:
    """Raise ValueError unless both can be used."""
    if not 0 <= inverse_lipschitz < float("inf"):
        raise ValueError(f"inverse_lipschitz must be >= 0 and finite, not {inverse_lipschitz}")
    if not 0 < gain < float("inf"):
        raise ValueError(f"gain must be > 0 and finite, not {gain}")


def calibrate_gain(phi: ICNN, gradient: Tensor, gain: float) -> None:
    """Shift phi's log gain so that `gradient`, computed with it, gets standard deviation `gain`."""
    if gradient.numel() < 2:
        raise ValueError(f"calibration needs at least two values, got {tuple(gradient.shape)}")
    spread = gradient.double().std()
    if not bool(torch.isfinite(spread)) or spread == 0:
        raise ValueError(f"calibration needs a varying finite batch, got {tuple(gradient.shape)}")
    phi.log_gain.add_(torch.log(gain / spread))
