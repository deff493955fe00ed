"""The injective decoder of the latent-identifiable VAE: Brenier maps composed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lidcli.nn.brenier import BrenierMap
from lidcli.nn.certificate import Certificate
from lidcli.nn.checks import check_directions, check_finite
from lidcli.nn.factored import FactoredBrenierMap
from lidcli.nn.icnn import Activation, Backward
from lidcli.nn.isometry import Isometry
from lidcli.nn.orthogonal import Rotation

ROTATION_LIMIT = 256

Stage = BrenierMap | FactoredBrenierMap | Rotation | Isometry


def brenier_depth(layers: int, maps: int = 2) -> int:
    """Hidden layers n of each of `maps` ICNNs in a decoder of `layers` = maps (n + 2) - 1 stages.

    Raises:
        ValueError: when no n >= 1 fits; the message names the neighbouring depths that do.

    Example:
        >>> brenier_depth(9)
        3
    """
    if maps < 1:
        raise ValueError(f"a Brenier decoder needs maps >= 1, not {maps}")
    n, rest = divmod(layers + 1, maps)
    if rest == 0 and n >= 3:
        return n - 2
    below = max(n, 3) * maps - 1
    raise ValueError(
        f"a Brenier decoder of {maps} maps has no layers={layers}: "
        f"the nearest it can have are {below} and {below + maps}"
    )


class InjectiveDecoder(nn.Module):
    """Brenier maps in a row, the last one zero-padded: injective, with a proven modulus.

    f = g_m ∘ βᵀ ∘ Q_m ∘ g_{m-1} ∘ … ∘ g_1 ∘ Q_1, where g_1 … g_{m-1} act on the latent space, βᵀ
    pads with zeros and the Q are learned rotations (one more follows g_m where D = K). Given
    directions, an isometry follows g_m that turns the padded coordinates along them.

    Args:
        latent: K, size of the input.
        out: D >= K, size of the output.
        hidden: H, units of each hidden layer.
        layers: affine stages, maps × (n + 2) - 1 where each ICNN has n >= 1 hidden layers.
        maps: how many Brenier maps, >= 1.
        activation: "smooth" (default) or "leaky", the paper's.
        inverse_lipschitz: ε >= 0 of every map, or one for each.
        rotations: whether the Q are learned; None means where K <= 256; False is the paper's.
        slope: smallest slope α of the activations.
        sharpness: k > 0 of the smooth activation softplus(k t) / k.
        gain: standard deviation `calibrate` sets on each map's network.
        factor: H', width of the embedding the last map goes through (`FactoredBrenierMap`), for
            very large D; None for an ordinary last map.
        dense: how many leading latents the factored map gives dense columns.
        backward: "by-hand" or "plain".
        directions: (D, K), orthonormal columns along which the latents reach the output, such as
            the principal directions of the data; None for the first K outputs.
        offset: (D,), added to the output, such as the natural parameter at the data's mean; only
            with directions.

    Raises:
        ValueError: for sizes that give no injective map, for a depth no n gives, and for
            directions that are not orthonormal or meet a factored last map.

    References:
        Wang, Blei and Cunningham (NeurIPS 2021), definitions 3 and 4.

    Example:
        >>> f = InjectiveDecoder(2, 5, hidden=32, layers=9)
        >>> f(torch.randn(7, 2)).shape
        torch.Size([7, 5])
        >>> f.certificate().modulus > 0.25
        True
    """

    def __init__(
        self,
        latent: int,
        out: int,
        hidden: int,
        layers: int,
        *,
        maps: int = 2,
        activation: Activation = "smooth",
        inverse_lipschitz: float | Sequence[float] = 0.5,
        rotations: bool | None = None,
        slope: float = 0.2,
        sharpness: float = 1.0,
        gain: float = 0.3,
        factor: int | None = None,
        dense: int = 0,
        backward: Backward = "by-hand",
        directions: Tensor | None = None,
        offset: Tensor | None = None,
    ) -> None:
        super().__init__()
        if not 1 <= latent <= out:
            raise ValueError(
                f"an injective decoder needs 1 <= latent <= out, not latent={latent}, out={out}"
            )
        depth = brenier_depth(layers, maps)
        if not isinstance(inverse_lipschitz, Sequence):
            inverse_lipschitz = [float(inverse_lipschitz)] * maps
        if len(inverse_lipschitz) != maps:
            raise ValueError(f"{len(inverse_lipschitz)} values of inverse_lipschitz, {maps} maps")
        rotations = latent <= ROTATION_LIMIT if rotations is None else rotations
        self.latent, self.out = latent, out
        if dense and factor is None:
            raise ValueError(f"dense={dense} columns need a factored last map: set factor")

        def brenier(index: int) -> BrenierMap | FactoredBrenierMap:
            dim = out if index == maps - 1 else latent
            epsilon = inverse_lipschitz[index]
            if index == maps - 1 and factor is not None:
                return FactoredBrenierMap(
                    dim,
                    hidden,
                    depth + 1,
                    width=factor,
                    active=latent,
                    dense=dense,
                    activation=activation,
                    inverse_lipschitz=epsilon,
                    slope=slope,
                    sharpness=sharpness,
                    gain=gain,
                    backward=backward,
                )
            return BrenierMap(
                dim,
                hidden,
                depth + 1,
                active=latent,
                activation=activation,
                inverse_lipschitz=epsilon,
                slope=slope,
                sharpness=sharpness,
                gain=gain,
                backward=backward,
            )

        self.maps = nn.ModuleList(brenier(index) for index in range(maps))
        turns = 0 if not rotations or latent == 1 else maps + (out == latent)
        self.rotations = nn.ModuleList(Rotation(latent) for _ in range(turns))
        self.isometry = _isometry(latent, out, directions, offset, factor)

    def forward(self, u: Tensor) -> Tensor:
        """Decode latents (..., K) to (..., D)."""
        for stage in self.stages():
            u = stage(u)
        return u

    def brenier_maps(self) -> list[BrenierMap | FactoredBrenierMap]:
        """g_1 … g_m."""
        return [g for g in self.maps if isinstance(g, (BrenierMap, FactoredBrenierMap))]

    def stages(self) -> list[Stage]:
        """Rotations, maps and the isometry in the order in which they act."""
        turns = [turn for turn in self.rotations if isinstance(turn, Rotation)]
        order: list[Stage] = []
        for i, g in enumerate(self.brenier_maps()):
            order += [*turns[i : i + 1], g]
        last = [] if self.isometry is None else [self.isometry]
        return [*order, *turns[len(self.maps) :], *last]

    @torch.no_grad()
    def calibrate(self, u: Tensor) -> Tensor:
        """Set every map's gain on one batch of latents (N, K); return the decoder's output."""
        for stage in self.stages():
            u = stage(u) if isinstance(stage, Rotation | Isometry) else stage.calibrate(u)
        return u

    def certificate(self) -> Certificate:
        """The proven inverse-Lipschitz constant, from the weights: those of the maps multiply."""
        check_finite(self)
        maps = tuple(g.certificate() for g in self.brenier_maps())
        direction, first = maps[0].direction, self.stages()[0]
        if isinstance(first, Rotation):
            direction = direction @ first.matrix().detach().to(direction)
        log_modulus = sum(part.log_modulus for part in maps)
        if self.isometry is not None:
            log_modulus += self.isometry.log_modulus()
        return Certificate(log_modulus, maps, direction)


def _isometry(
    latent: int, out: int, directions: Tensor | None, offset: Tensor | None, factor: int | None
) -> Isometry | None:
    """What turns the padded coordinates along the directions, None without directions."""
    if directions is None:
        if offset is not None:
            raise ValueError("an offset needs directions")
        return None
    if factor is not None:
        raise ValueError(f"directions need an unfactored last map, not factor={factor}")
    check_directions(directions, out, latent)
    return Isometry(directions.to(torch.get_default_dtype()), offset)
