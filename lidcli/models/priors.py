"""Priors of the continuous latent, with or without a category above it."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from lidcli.models.likelihoods import LOG_2PI
from lidcli.models.moments import Moments

__all__ = [
    "GaussianMixture",
    "Prior",
    "StandardNormal",
    "normal_log_prob",
    "separated_means",
]

REACH = 7.0
"""Prior sds that a grid covers on either side."""


def normal_log_prob(x: Tensor, loc: Tensor, log_scale: Tensor) -> Tensor:
    """Log-density of a diagonal normal, summed over the last dimension."""
    standard = (x - loc) * torch.exp(-log_scale)
    return (-0.5 * standard.square() - log_scale - 0.5 * LOG_2PI).sum(-1)


class Prior(nn.Module, ABC):
    """p(latent); one of your own needs `log_prob` and `sample`, the rest if its units depend."""

    symbol = "z"
    """The continuous latent's name in the paper: z, or w below a category."""
    categories: int | None = None
    """C, where there is a category."""

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.latent = latent

    @abstractmethod
    def log_prob(self, z: Tensor) -> Tensor:
        """log p(z) in nats, (...), for latents (..., M)."""

    @abstractmethod
    def sample(self, n: int) -> Tensor:
        """n latents (n, M)."""

    def log_joint(self, z: Tensor) -> Tensor | None:
        """log p(c, z), (..., C), for latents (..., M); None without a category."""
        return None

    def log_component(self, z: Tensor) -> Tensor:
        """log p(c, z_c), (S, C, N), for a latent of each category (S, C, N, M)."""
        raise ValueError(f"{type(self).__name__} has no categories")

    def component_means(self) -> Tensor | None:
        """Means (C, M) of the components; None without a category."""
        return None

    def component_log_scales(self) -> Tensor | None:
        """Log sds (C, M) of the components; None without a category."""
        return None

    def redraw(self, z: Tensor, k: int) -> Tensor:
        """A new value (...) of unit k of latents (..., M), from the prior given the other units.

        This one takes the units for independent; a prior of others has its own.
        """
        drawn = self.sample(z[..., 0].numel())[:, k]
        return drawn.view(z.shape[:-1])

    def unit_log_prob(self, z: Tensor) -> Tensor | None:
        """log p(z_k) of each unit alone, (..., M); None where it is not known."""
        return None

    def moments(self) -> Moments | None:
        """What is known of it exactly; None where only draws tell."""
        return None

    def reach(self) -> tuple[Tensor, Tensor]:
        """Corners (M,) of a box that holds all but nothing of the prior's mass."""
        drawn = self.sample(10_000)
        spread = drawn.std(0) * REACH
        return drawn.mean(0) - spread, drawn.mean(0) + spread


class StandardNormal(Prior):
    """z ~ N(0, I_K) (paper, Definition 3).

    Args:
        latent: K.
        dtype: of its draws; None: torch's default.

    Example:
        >>> StandardNormal(2).log_prob(torch.zeros(7, 2)).shape
        torch.Size([7])
    """

    def __init__(self, latent: int, dtype: torch.dtype | None = None) -> None:
        super().__init__(latent)
        self.register_buffer("zero", torch.zeros((), dtype=dtype), persistent=False)

    zero: Tensor

    def log_prob(self, z: Tensor) -> Tensor:
        """log N(z; 0, I) for z (..., K)."""
        zero = z.new_zeros(())
        return normal_log_prob(z, zero, zero)

    def moments(self) -> Moments:
        """Those of N(0, I)."""
        return Moments.gaussian(torch.eye(self.latent, dtype=torch.float64))

    def sample(self, n: int) -> Tensor:
        """n standard normal latents (n, K)."""
        return torch.randn(n, self.latent, device=self.zero.device, dtype=self.zero.dtype)

    def redraw(self, z: Tensor, k: int) -> Tensor:
        """Standard normal values, whatever the other units."""
        return torch.randn_like(z[..., k])

    def unit_log_prob(self, z: Tensor) -> Tensor:
        """log N(z_k; 0, 1)."""
        return -(z.square() + LOG_2PI) / 2

    def reach(self) -> tuple[Tensor, Tensor]:
        """Seven sds."""
        one = self.zero.new_ones(self.latent)
        return -REACH * one, REACH * one


def separated_means(categories: int, latent: int, separation: float) -> Tensor:
    """C distinct points of norm `separation` in R^M, as far apart as is simple to make them.

    The scaled unit vectors when M >= C (the paper's β₁), equally spaced on a circle for M = 2
    and on a segment for M = 1, else C points on the sphere pushed apart from a seeded start.

    Args:
        categories: C, at least 1.
        latent: M, at least 1.
        separation: norm of every point, > 0.

    Returns:
        Means (C, M).

    Example:
        >>> separated_means(3, 3, 2.0).tolist()
        [[2.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 2.0]]
    """
    if latent >= categories:
        return separation * torch.eye(categories, latent)
    if latent == 1:
        return torch.linspace(-separation, separation, categories)[:, None]
    if latent == 2:
        angle = 2 * math.pi * torch.arange(categories) / categories
        return separation * torch.stack([angle.cos(), angle.sin()], dim=1)
    points = torch.randn(categories, latent, generator=torch.Generator().manual_seed(0))
    points = points / points.norm(dim=1, keepdim=True)
    for step in range(500):
        difference = points[:, None] - points[None]
        squared = difference.square().sum(-1) + torch.eye(categories)
        force = (difference / squared[..., None].pow(1.5)).sum(1)
        points = points + 0.1 / (1 + step / 50) * force / force.norm(dim=1, keepdim=True)
        points = points / points.norm(dim=1, keepdim=True)
    scaled: Tensor = separation * points
    return scaled


def _raw_scales(scale: float | Tensor, bound: float | None, means: Tensor) -> Tensor:
    """Unconstrained values (C, M) of sds below a bound, or their logarithms without one."""
    if isinstance(scale, Tensor):
        if scale.shape != means.shape or not (scale > 0).all():
            raise ValueError(f"scales must be positive and {tuple(means.shape)}")
        largest = float(scale.max())
    else:
        largest = scale
    if bound is not None and largest >= bound:
        whose = "the clusters' largest sd," if isinstance(scale, Tensor) else "model.scale ="
        raise ValueError(f"model.max_scale = {bound} must exceed {whose} {largest:g}")
    if isinstance(scale, Tensor):
        scales = scale.to(means.dtype)
        return scales.log() if bound is None else (scales / (bound - scales)).log()
    start = math.log(scale) if bound is None else math.log(scale / (bound - scale))
    return torch.full_like(means, start)


class GaussianMixture(Prior):
    """c ~ Cat(1/C), w | c ~ N(m_c, S_c) (paper, Example 1).

    Args:
        means: m (C, M), the start where they are free.
        scale: sd of w given c, > 0, one or (C, M) (the start, where it is learned).
        free_means: whether the means are learned, as in the classical GMVAE.
        learn_scale: whether the sds are learned.
        max_scale: upper bound of learned sds, above `scale`; None leaves them unbounded.
        full_covariance: whether each component also learns the directions of its M sds.

    Raises:
        ValueError: `max_scale` does not exceed `scale`, or sds that are not positive or not (C, M).

    Example:
        >>> prior = GaussianMixture(separated_means(5, 2, 2.0), 0.3)
        >>> prior.log_joint(torch.zeros(7, 2)).shape
        torch.Size([7, 5])
    """

    symbol = "w"
    means: Tensor
    raw_scale: Tensor

    def __init__(
        self,
        means: Tensor,
        scale: float | Tensor,
        *,
        free_means: bool = False,
        learn_scale: bool = False,
        max_scale: float | None = None,
        full_covariance: bool = False,
    ) -> None:
        categories, latent = means.shape
        super().__init__(latent)
        self.categories: int = categories
        if free_means:
            self.means = nn.Parameter(means)
        else:
            self.register_buffer("means", means)
        self.bound = max_scale if learn_scale else None
        raw = _raw_scales(scale, self.bound, means)
        if learn_scale:
            self.raw_scale = nn.Parameter(raw)
        else:
            self.register_buffer("raw_scale", raw)
        self.raw_turn: nn.Parameter | None = None
        if full_covariance and latent > 1:
            self.raw_turn = nn.Parameter(torch.zeros(categories, latent * (latent - 1) // 2))

    def component_means(self) -> Tensor:
        """m (C, M)."""
        return self.means

    def component_log_scales(self) -> Tensor:
        """log s, (C, M)."""
        if self.bound is None:
            return self.raw_scale
        return math.log(self.bound) + nn.functional.logsigmoid(self.raw_scale)

    def turns(self) -> Tensor | None:
        """Orthogonal matrices (C, M, M) whose columns are the directions of the sds, if learned."""
        if self.raw_turn is None:
            return None
        m = self.latent
        rows, columns = torch.triu_indices(m, m, offset=1)
        upper = self.raw_turn.new_zeros(self.raw_turn.shape[0], m, m)
        upper[:, rows, columns] = self.raw_turn
        return torch.matrix_exp(upper - upper.mT)

    def covariances(self) -> Tensor:
        """S_c of w given c, (C, M, M)."""
        variance = torch.diag_embed((2 * self.component_log_scales()).exp())
        turns = self.turns()
        return variance if turns is None else turns @ variance @ turns.mT

    def _log_components(self, w: Tensor) -> Tensor:
        """log p(c, w_c), (..., C), for one w per category, (..., C, M) or (..., 1, M)."""
        centred, turns = w - self.means, self.turns()
        if turns is not None:
            centred = (centred[..., None, :] @ turns)[..., 0, :]
        zero = centred.new_zeros(())
        return normal_log_prob(centred, zero, self.component_log_scales()) - math.log(
            self.categories
        )

    def log_joint(self, z: Tensor) -> Tensor:
        """log p(c, w), (..., C), for w (..., M)."""
        return self._log_components(z[..., None, :])

    def log_component(self, z: Tensor) -> Tensor:
        """log p(c, w_c), (S, C, N), for w (S, C, N, M)."""
        return self._log_components(z.movedim(1, 2)).movedim(2, 1)

    def log_prob(self, z: Tensor) -> Tensor:
        """log p(w), the category summed, for w (..., M)."""
        return torch.logsumexp(self.log_joint(z), dim=-1)

    def sample(self, n: int) -> Tensor:
        """n latents w (n, M)."""
        c = torch.randint(self.categories, (n,), device=self.means.device)
        noise = torch.randn(n, self.latent, device=self.means.device, dtype=self.means.dtype)
        offset, turns = self.component_log_scales().exp()[c] * noise, self.turns()
        if turns is not None:
            offset = (turns[c] @ offset[..., None])[..., 0]
        return self.means[c] + offset

    def redraw(self, z: Tensor, k: int) -> Tensor:
        """A new w_k given the other units: a mixture of Gaussians once more."""
        noise = torch.randn_like(z[..., k])
        precision = torch.linalg.inv(self.covariances())
        centred = z[..., None, :] - self.means
        log_sd = -0.5 * precision[:, k, k].log()
        pull = torch.einsum("...cj,cj->...c", centred, precision[:, k]) / precision[:, k, k]
        centre = z[..., None, k] - pull
        own = normal_log_prob(z[..., None, [k]], centre[..., None], log_sd[:, None])
        share = torch.softmax(self.log_joint(z) - own, dim=-1)
        c = torch.multinomial(share.flatten(0, -2), 1).view(*share.shape[:-1], 1)
        sd = log_sd.exp().expand(centre.shape).gather(-1, c)[..., 0]
        moved: Tensor = centre.gather(-1, c)[..., 0] + sd * noise
        return moved

    def unit_log_prob(self, z: Tensor) -> Tensor:
        """log p(w_k) of each unit alone, the category summed."""
        variance = self.covariances().diagonal(dim1=-2, dim2=-1).to(z.dtype)
        squared = (z[..., None, :] - self.means).square() / variance
        log_p = -(squared + variance.log() + LOG_2PI) / 2
        return log_p.logsumexp(-2) - math.log(self.categories)

    def reach(self) -> tuple[Tensor, Tensor]:
        """Seven sds of the widest direction around every mean."""
        spread = REACH * self.component_log_scales().exp().amax(1, keepdim=True)
        return (self.means - spread).amin(0), (self.means + spread).amax(0)
