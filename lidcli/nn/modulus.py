"""How far apart a map keeps points, measured: the counterpart of its certificate."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import grad, jacfwd, vmap

from lidcli.nn.certificate import Certified

NUMBERS = 1 << 22
"""Numbers that Jacobians take on their way, where more than one is held at once."""


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


def descended_modulus(
    decoder: Callable[[Tensor], Tensor],
    latents: Tensor,
    *,
    starts: int = 8,
    steps: int = 60,
    rate: float = 0.1,
    chunk: int = 32,
) -> float:
    """Search for the smallest singular value of a map's Jacobian, from points downhill.

    Among a few hundred draws the smallest one found is several times too high. From the lowest of
    them the logarithm of the singular value is descended by Adam, and, since that of a map with
    kinks has no slope, by steps at random that are kept where they lead down; both in the ball
    that holds the points, outside of which no datum was seen.

    Args:
        decoder: a map (..., K) -> (..., D) that torch.func can transform, K <= D.
        latents: (N, K), where to begin; those of the smallest singular values are taken.
        starts: how many, >= 1.
        steps: of the descent, >= 0.
        rate: of the descent, in units of the latent.
        chunk: points whose Jacobian is held at once, >= 1.

    Returns:
        The smallest singular value met, the starts' own among them; 0 where K > D. It is an upper
        bound of the smallest there is, and no lower one.

    Example:
        >>> bend = lambda u: u + 0.45 * torch.sin(2 * u)
        >>> round(descended_modulus(bend, torch.linspace(0, 2, 9)[:, None]), 2)
        0.1
    """
    values = torch.cat([_smallest(decoder, part)[0] for part in torch.split(latents, chunk)])
    order = values.argsort()[:starts]
    lowest, found = values[order], values.min().item()
    moved = torch.nn.Parameter(latents[order.to(latents.device)].detach().clone())
    walked = moved.detach().clone()
    radius, number = latents.norm(dim=1).max(), len(moved)
    optimiser, generator = torch.optim.Adam([moved], rate), torch.Generator().manual_seed(0)
    for step in range(steps):
        noise = torch.randn(walked.shape, generator=generator).to(walked)
        tried = _within(walked + 5 * rate * (1 - step / steps) * noise, radius)
        values, left, right = _smallest(decoder, torch.cat([moved.detach(), tried]))
        found = min(found, values.min().item())
        if not found > 0:
            break
        lower = values[number:] < lowest
        lowest = torch.where(lower, values[number:], lowest)
        walked = torch.where(lower.to(walked.device)[:, None], tried, walked)
        slope = _slope(decoder, moved.detach(), left[:number], right[:number])
        moved.grad = slope / values[:number].to(moved)[:, None]
        optimiser.step()
        with torch.no_grad():
            moved.copy_(_within(moved, radius))
    return found


def _within(points: Tensor, radius: Tensor) -> Tensor:
    """Points, brought back to the ball of a radius where they are outside."""
    inside: Tensor = points * (radius / points.norm(dim=1, keepdim=True).clamp(min=1e-12)).clamp(
        max=1
    )
    return inside


def _outputs(decoder: Callable[[Tensor], Tensor], latents: Tensor) -> int:
    """D."""
    with torch.no_grad():
        return decoder(latents[:1]).shape[-1]


def _jacobians(decoder: Callable[[Tensor], Tensor], latents: Tensor) -> Iterator[Tensor]:
    """Those of points (N, K) in float64, (n, D, K) at a time, as many as fit into `NUMBERS`."""
    each = _outputs(decoder, latents) * latents.shape[1]
    for part in torch.split(latents.detach(), max(1, NUMBERS // each)):
        yield vmap(jacfwd(decoder))(part).detach().double()


def _smallest(
    decoder: Callable[[Tensor], Tensor], latents: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Smallest singular values (N,) in float64, and their left (N, D) and right (N, K) vectors."""
    zeros = latents.new_zeros(len(latents), _outputs(decoder, latents), dtype=torch.float64)
    if zeros.shape[1] < latents.shape[1]:
        return zeros[:, 0], zeros, torch.zeros_like(latents, dtype=torch.float64)
    found = []
    for jacobians in _jacobians(decoder, latents):
        left, values, right = torch.linalg.svd(jacobians, full_matrices=False)
        found.append((values[:, -1], left[:, :, -1], right[:, -1]))
    values, left, right = (torch.cat(each) for each in zip(*found, strict=True))
    return values, left, right


def _slope(decoder: Callable[[Tensor], Tensor], z: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """∇ of leftᵀ J(z) right in z, (N, K): that of a simple singular value."""

    def stretch(point: Tensor, a: Tensor, b: Tensor) -> Tensor:
        pulled: Tensor = grad(lambda u: (decoder(u) * a).sum())(point)
        return (pulled * b).sum()

    with torch.enable_grad():
        slopes: Tensor = vmap(grad(stretch))(z, left.to(z), right.to(z))
    return slopes.detach()


def _singular_value(decoder: Callable[[Tensor], Tensor], latents: Tensor) -> float:
    """Smallest singular value of the Jacobian over points."""
    if _outputs(decoder, latents) < latents.shape[1]:
        return 0.0
    return min(
        float(torch.linalg.svdvals(jacobians)[:, -1].min())
        for jacobians in _jacobians(decoder, latents)
    )


def _secants(a: Tensor, b: Tensor, image_a: Tensor, image_b: Tensor) -> Tensor:
    """‖f(a) - f(b)‖ / ‖a - b‖ for rows that differ."""
    distance = (a - b).double().norm(dim=1)
    kept = distance > 0
    slopes: Tensor = (image_a - image_b).double().norm(dim=1)[kept] / distance[kept]
    return slopes


def _own_directions(decoder: Callable[[Tensor], Tensor], latents: Tensor) -> Tensor:
    """The minimising direction of a decoder's certificate, none where nothing is proven."""
    proven = decoder.certificate() if isinstance(decoder, Certified) else None
    if proven is None:
        return latents.new_empty(0, latents.shape[1])
    direction = proven.direction
    if latents.shape[1] != len(direction):
        raise ValueError(f"latents must be (N, {len(direction)}), got {tuple(latents.shape)}")
    return direction.unsqueeze(0)
