"""Logits as a Brenier map of the latent and the history together.

Shape suffixes: N sentences, T tokens, R = V - 1 free logits, M latent, J history, H width, L
leading axes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lidcli.nn.brenier import BrenierMap
from lidcli.nn.certificate import Certificate
from lidcli.nn.checks import check_finite
from lidcli.nn.conditional import CALIBRATION_ROWS
from lidcli.nn.factored import FactoredBrenierMap
from lidcli.nn.icnn import Backward
from lidcli.nn.orthogonal import Rotation
from lidcli.nn.token_output import TokenOutput, beside, check_latent


class JointOutput(TokenOutput):
    """logits = g₂(βᵀ g₁([Q z, h])), the paper's Example 2, g₂ through one embedding.

    β is zero-padded: latent and history each move one logit of their own, apart from what g₂'s
    network does; `dense` gives the latent's inputs random signs over all other logits instead. Q
    rotates the latent alone. The reference token's logit is 0.

    Args:
        vocabulary: V >= latent + history + 1.
        latent: M >= 1.
        history: J, size of h.
        reference: token whose logit is 0.
        width: H, size of g₂'s embedding.
        hidden: units of each hidden layer of both maps.
        layers: L >= 2 of both.
        dense: whether the latent's columns are dense.
        inverse_lipschitz: ε > 0 of g₁ and of g₂'s padded inputs.
        dense_inverse_lipschitz: ε of the dense inputs; as in `FactoredBrenierMap` by default.
        rotations: whether Q is learned.
        dropout: of ∇φ₂ in training, in [0, 1).
        slope: smallest slope of the activations.
        sharpness: k > 0 of the smooth activation.
        gain: standard deviation that `calibrate` sets.
        backward: "by-hand" or "plain".

    Raises:
        ValueError: when a size is out of range.

    References:
        Wang, Blei and Cunningham (NeurIPS 2021), Example 2.

    Example:
        >>> out = JointOutput(20, 2, 4, reference=0, width=8, hidden=8)
        >>> features = out.features(torch.randn(7, 3, 2), torch.randn(3, 5, 4))
        >>> features.shape, out.logits(features).shape
        (torch.Size([7, 3, 5, 14]), torch.Size([7, 3, 5, 20]))
    """

    def __init__(
        self,
        vocabulary: int,
        latent: int,
        history: int,
        *,
        reference: int,
        width: int,
        hidden: int = 64,
        layers: int = 2,
        dense: bool = False,
        inverse_lipschitz: float = 0.5,
        dense_inverse_lipschitz: float | None = None,
        rotations: bool = True,
        dropout: float = 0.0,
        slope: float = 0.2,
        sharpness: float = 1.0,
        gain: float = 0.3,
        backward: Backward = "by-hand",
    ) -> None:
        super().__init__(vocabulary, latent, reference)
        if latent < 1 or latent + history >= vocabulary:
            raise ValueError(
                "a joint output needs 1 <= latent and latent + history < vocabulary, "
                f"not latent={latent}, history={history}, vocabulary={vocabulary}"
            )
        active = latent + history
        self.inner = BrenierMap(
            active,
            hidden,
            layers,
            inverse_lipschitz=inverse_lipschitz,
            slope=slope,
            sharpness=sharpness,
            gain=gain,
            backward=backward,
        )
        self.outer = FactoredBrenierMap(
            self.free,
            hidden,
            layers,
            width=width,
            active=active,
            dense=latent if dense else 0,
            inverse_lipschitz=inverse_lipschitz,
            dense_inverse_lipschitz=dense_inverse_lipschitz,
            slope=slope,
            sharpness=sharpness,
            gain=gain,
            backward=backward,
        )
        self.rotation = Rotation(latent) if rotations and latent > 1 else None
        self.dropout = dropout

    def features(self, z: Tensor | None, h: Tensor) -> Tensor:
        """[∇φ₂(E β u), ε u] with u = g₁([Q z, h]): (*L, N, T, H + M + J)."""
        u = self.inner(self._inputs(z, h))
        slopes = self.outer.icnn.gradient(u @ self.outer.project(self.outer.embedding).T)
        slopes = nn.functional.dropout(slopes, self.dropout, self.training)
        return torch.cat([slopes, u * self.outer.strengths().to(u)], dim=-1)

    def weight(self) -> Tensor:
        """[Eᵀ, β] (R, H + M + J)."""
        outer = self.outer
        padded = outer.active - outer.dense
        reached = self.free - padded
        dense = nn.functional.pad(outer.signs @ outer.mixing(), (0, 0, 0, padded))
        unit = torch.eye(padded, dtype=outer.tilt.dtype, device=outer.tilt.device)
        padding = nn.functional.pad(unit, (0, 0, reached, 0))
        return torch.cat([outer.embedding.T, dense, padding], dim=1)

    def bias(self) -> Tensor:
        """t (R,)."""
        return self.outer.tilt

    def _inputs(self, z: Tensor | None, h: Tensor) -> Tensor:
        """[Q z, h] (*L, N, T, M + J)."""
        z = check_latent(z, self.latent)
        return beside(h, z if self.rotation is None else self.rotation(z)).roll(self.latent, -1)

    @torch.no_grad()
    def calibrate(self, z: Tensor, h: Tensor) -> None:
        """Set both gains on the first rows of latents (N, M) and histories (N, T, J)."""
        rows = self._inputs(z, h).flatten(0, -2)[:CALIBRATION_ROWS]
        self.outer.calibrate(self.inner.calibrate(rows))

    def certificate(self) -> Certificate:
        """‖Δ logits‖ >= modulus ‖Δz‖ in Euclid's norm, for every history: the maps' multiply."""
        check_finite(self)
        maps = self.inner.certificate(), self.outer.certificate()
        direction = maps[0].direction[: self.latent]
        if self.rotation is not None:
            direction = direction @ self.rotation.matrix().detach().to(direction)
        return Certificate(sum(part.log_modulus for part in maps), maps, direction)
