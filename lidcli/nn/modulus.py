"""How far apart a map keeps points, measured: the counterpart of its certificate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import jacrev, vmap


@dataclass(frozen=True)
class Modulus:
    """Smallest singular value of the Jacobian over points, and smallest secant slope over pairs."""

    singular_value: float
    secant: float


def measured_modulus(
    decoder: Callable[[Tensor], Tensor],
    latents: Tensor,
    *,
    directions: Tensor | None = None,
    chunk: int = 32,
) -> Modulus:
    """Measure how close a map brings points.

    Args:
        decoder: a map (..., K) -> (..., D) that torch.func can transform.
        latents: (N, K), N >= 2, the points to measure at.
        directions: (R, K), unit vectors along which further pairs are laid, at distances 1e-2, 1
            and 10 from every point; a decoder's own certificate gives one by default.
        chunk: points whose Jacobian is held at once, >= 1.

    Raises:
        ValueError: when latents is not (N, K) with N >= 2 points, not all the same, directions is
            not (R, K), chunk < 1, or the decoder is not finite at the latents.

    Example:
        >>> round(measured_modulus(lambda u: 3 * u, torch.randn(8, 2)).secant, 3)
        3.0
    """
    if latents.ndim != 2 or len(latents) < 2:
        raise ValueError(f"latents must be (N, K) with N >= 2, got {tuple(latents.shape)}")
    if chunk < 1:
        raise ValueError(f"chunk must be >= 1, not {chunk}")
    if directions is None:
        directions = _own_directions(decoder, latents)
    if directions.ndim != 2 or directions.shape[1] != latents.shape[1]:
        raise ValueError(
            f"directions must be (R, {latents.shape[1]}), got {tuple(directions.shape)}"
        )
    with torch.no_grad():
        image = decoder(latents)
    if not bool(torch.isfinite(image).all()):
        raise ValueError(f"the decoder is not finite at the latents {tuple(latents.shape)}")
    smallest = min(_singular_value(decoder, part) for part in torch.split(latents, chunk))
    with torch.no_grad():
        half = len(latents) // 2
        slopes = [_secants(latents[:half], latents[-half:], image[:half], image[-half:])]
        for direction in directions.to(latents):
            for step in (1e-2, 1.0, 10.0):
                moved = latents + step * direction
                slopes.append(_secants(latents, moved, image, decoder(moved)))
    pairs = torch.cat(slopes)
    if not len(pairs):
        raise ValueError(f"the latents {tuple(latents.shape)} hold no pair of different points")
    return Modulus(smallest, pairs.min().item())


def _singular_value(decoder: Callable[[Tensor], Tensor], latents: Tensor) -> float:
    """Smallest singular value of the Jacobian over points."""
    jacobians = vmap(jacrev(decoder))(latents).double()
    wide = jacobians.shape[1] < jacobians.shape[2]
    return 0.0 if wide else torch.linalg.svdvals(jacobians)[:, -1].min().item()


def _secants(a: Tensor, b: Tensor, image_a: Tensor, image_b: Tensor) -> Tensor:
    """‖f(a) - f(b)‖ / ‖a - b‖ for rows that differ."""
    distance = (a - b).double().norm(dim=1)
    kept = distance > 0
    slopes: Tensor = (image_a - image_b).double().norm(dim=1)[kept] / distance[kept]
    return slopes


def _own_directions(decoder: Callable[[Tensor], Tensor], latents: Tensor) -> Tensor:
    """The minimising direction of a decoder's certificate, none where it has no certificate."""
    certificate = getattr(decoder, "certificate", None)
    if certificate is None:
        return latents.new_empty(0, latents.shape[1])
    direction: Tensor = certificate().direction
    if latents.shape[1] != len(direction):
        raise ValueError(f"latents must be (N, {len(direction)}), got {tuple(latents.shape)}")
    return direction.unsqueeze(0)
