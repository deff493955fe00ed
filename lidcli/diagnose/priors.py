"""A user's prior as one of lid's."""

from __future__ import annotations

import torch
from torch import Size, Tensor
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal

from lidcli.diagnose.calls import drawn, each
from lidcli.models.moments import Moments
from lidcli.models.priors import Prior, StandardNormal

__all__ = ["GivenPrior", "prior_of", "spread", "units_of"]

DRAWS = 4000
"""Draws from which the variances of a prior are had."""


class GivenPrior(Prior):
    """A torch distribution over the latent.

    Args:
        distribution: of latents of the shape (*latent).
        latent: the shape of a latent.

    Raises:
        ValueError: its shape is another.

    Example:
        >>> prior = GivenPrior(Normal(torch.zeros(2), torch.full((2,), 3.0)), Size((2,)))
        >>> prior.log_prob(torch.zeros(7, 2)).shape
        torch.Size([7])
    """

    def __init__(self, distribution: Distribution, latent: Size) -> None:
        shape = distribution.batch_shape + distribution.event_shape
        if not shape and latent:
            distribution, shape = distribution.expand(latent), latent
        if shape != latent:
            raise ValueError(
                f"the prior is over latents of shape {tuple(shape)}, and encode gives"
                f" {tuple(latent)}"
            )
        super().__init__(latent.numel())
        self._distribution, self._shape = (distribution,), latent

    def log_prob(self, z: Tensor) -> Tensor:
        """log p(z) in nats, (...), for latents (..., M)."""
        leading = z.ndim - 1
        return each(
            "the prior", self._distribution[0], z.reshape(*z.shape[:-1], *self._shape), leading
        )

    def sample(self, n: int) -> Tensor:
        """n latents (n, M)."""
        return drawn("the prior", self._distribution[0], Size((n,))).detach().flatten(1)

    def _normal(self) -> Normal | MultivariateNormal | None:
        """The distribution, if it is normal."""
        base = self._distribution[0]
        while isinstance(base, Independent):
            base = base.base_dist
        if isinstance(base, MultivariateNormal):
            return None if base.batch_shape else base
        return base if isinstance(base, Normal) else None

    def moments(self) -> Moments | None:
        """Exact ones of normals, independent or not; None of anything else."""
        normal = self._normal()
        if isinstance(normal, MultivariateNormal):
            return Moments.gaussian(normal.covariance_matrix)
        return None if normal is None else Moments.gaussian(torch.diag(normal.variance.flatten()))

    def units(self) -> tuple[Tensor, Tensor] | None:
        """Means and variances (M,) of normal units; None of anything else."""
        normal = self._normal()
        return None if normal is None else (normal.mean.flatten(), normal.variance.flatten())

    def unit_log_prob(self, z: Tensor) -> Tensor | None:
        """log p(z_k) of units that are normal, independent or not; None of anything else."""
        units = self.units()
        if units is None:
            return None
        mean, variance = (part.to(z.dtype) for part in units)
        return each("the prior", Normal(mean, variance.sqrt()), z, z.ndim)


def units_of(prior: Prior) -> tuple[Tensor, Tensor] | None:
    """Means and variances (M,) of a prior's units where they are normal, else None.

    Example:
        >>> units_of(StandardNormal(2))
        (tensor([0., 0.]), tensor([1., 1.]))
    """
    if isinstance(prior, StandardNormal):
        return prior.zero.new_zeros(prior.latent), prior.zero.new_ones(prior.latent)
    return prior.units() if isinstance(prior, GivenPrior) else None


def prior_of(
    given: Distribution | None, latent: Size, device: torch.device, dtype: torch.dtype
) -> Prior:
    """The prior that a user gave, N(0, I) where none.

    Raises:
        ValueError: it is no distribution, over other latents, or on another device.
    """
    if given is None:
        return StandardNormal(latent.numel(), dtype).to(device)
    if not isinstance(given, Distribution):
        raise ValueError(
            f"the prior is a {type(given).__name__}, where a torch distribution, or None for"
            " N(0, I), is expected"
        )
    prior = GivenPrior(given, latent)
    where = prior.sample(1).device
    if where != device:
        raise ValueError(f"the prior is on {where}, and encode gives latents on {device}")
    return prior


def spread(prior: Prior) -> Tensor:
    """Variances (M,) of the prior's units, by draws where they are not normal.

    Example:
        >>> spread(StandardNormal(2))
        tensor([1., 1.])
    """
    units = units_of(prior)
    return prior.sample(DRAWS).var(0) if units is None else units[1]
