"""The GMVAE of section 2.2 at two parameters of equal likelihood, one identifiable, one not."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from lidcli.models.latent import LatentModel
from lidcli.models.likelihoods import LOG_2PI, Gaussian
from lidcli.models.observations import DenseObservation
from lidcli.models.priors import GaussianMixture

__all__ = ["Identity", "TransportDecoder", "two_cluster_gmvae"]

BISECTIONS = 80


def _log_ndtr(t: Tensor) -> Tensor:
    """log Φ(t); -inf below -38, where Φ is no float64."""
    return torch.log(torch.erfc(-t / math.sqrt(2)) / 2)


class TransportDecoder(nn.Module):
    """The monotone map of N(0, 1) to a mixture on the first coordinate, and w_2 to s w_2.

    Args:
        centres: of the mixture's components (J,), of equal weight and sd s.
        scale: s, > 0.

    Shapes: w and y are (..., M), in float64.

    Example:
        >>> f = TransportDecoder(torch.tensor([0.0]), 2.0)
        >>> f(torch.tensor([[1.0, -1.0]], dtype=torch.float64)).tolist()
        [[2.0, -2.0]]
    """

    centres: Tensor

    def __init__(self, centres: Tensor, scale: float) -> None:
        super().__init__()
        self.register_buffer("centres", centres.double())
        self.scale = scale

    def _tails(self, first: Tensor) -> tuple[Tensor, Tensor]:
        """log P(Y < y) and log P(Y > y) under the mixture."""
        standard = (first[..., None] - self.centres) / self.scale
        below = _log_ndtr(standard).logsumexp(-1)
        above = _log_ndtr(-standard).logsumexp(-1)
        count = math.log(len(self.centres))
        return below - count, above - count

    def log_density(self, first: Tensor) -> Tensor:
        """log p(y_1) under the mixture."""
        standard = (first[..., None] - self.centres) / self.scale
        log_p = -(standard.square() + LOG_2PI) / 2 - math.log(self.scale)
        return log_p.logsumexp(-1) - math.log(len(self.centres))

    def log_slope(self, w: Tensor, y: Tensor) -> Tensor:
        """log |det dy/dw| at a pair that belongs together, (...)."""
        first = -(w[..., 0].square() + LOG_2PI) / 2 - self.log_density(y[..., 0])
        return first + (w.shape[-1] - 1) * math.log(self.scale)

    def forward(self, w: Tensor) -> Tensor:
        """y = f(w)."""
        first = w[..., 0].detach()
        negative = first <= 0
        wanted = _log_ndtr(-first.abs())
        low = torch.full_like(first, self.centres.min().item() - 40 * self.scale)
        high = torch.full_like(first, self.centres.max().item() + 40 * self.scale)
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            below, above = self._tails(middle)
            right = torch.where(negative, below < wanted, above > wanted)
            low, high = torch.where(right, middle, low), torch.where(right, high, middle)
        y = (low + high) / 2
        slope = torch.exp(-(first.square() + LOG_2PI) / 2 - self.log_density(y))
        moved = y + slope * (w[..., 0] - first)
        return torch.cat([moved[..., None], self.scale * w[..., 1:]], dim=-1)

    def inverse(self, y: Tensor) -> Tensor:
        """w with f(w) = y."""
        below, above = self._tails(y[..., 0])
        smaller = torch.special.ndtri(torch.minimum(below, above).exp())
        first = torch.where(below < above, smaller, -smaller)
        return torch.cat([first[..., None], y[..., 1:] / self.scale], dim=-1)


class Identity(nn.Module):
    """f(w) = w, in the interface of the transport."""

    def forward(self, w: Tensor) -> Tensor:
        """y = w."""
        return w

    def inverse(self, y: Tensor) -> Tensor:
        """w = y."""
        return y

    def log_slope(self, w: Tensor, y: Tensor) -> Tensor:
        """0, (...)."""
        return torch.zeros_like(w[..., 0])


def two_cluster_gmvae(
    centres: tuple[float, ...], scale: float, sigma: float, latent: int, *, shared: bool
) -> LatentModel:
    """A GMVAE with two categories at parameters of one and the same likelihood.

    With `shared` false the categories are the data's two clusters and f is the identity (the
    paper's first maximiser). With `shared` true both categories are N(0, I) and f maps that to
    the whole of the data (its second; its third where the data have one cluster): p(x) is the
    same function, and c tells nothing.

    Args:
        centres: of the data's clusters on the first axis, one or two, of equal weight.
        scale: sd of w (before the noise) within a cluster, > 0.
        sigma: noise sd, > 0.
        latent: M = D, at least 1.
        shared: whether both categories share the distribution of all data.

    Raises:
        ValueError: neither one nor two centres.

    References:
        Paper, section 2.2.

    Example:
        >>> two_cluster_gmvae((-2.0, 2.0), 0.5, 0.3, 2, shared=True).prior.means.tolist()
        [[0.0, 0.0], [0.0, 0.0]]
    """
    if len(centres) not in (1, 2):
        raise ValueError(f"one or two clusters, not {len(centres)}")
    at = torch.tensor(centres, dtype=torch.float64)
    decoder: nn.Module = TransportDecoder(at, scale) if shared else Identity()
    means = torch.zeros(2, latent, dtype=torch.float64)
    if not shared:
        means[:, 0] = at
    prior = GaussianMixture(means, 1.0 if shared else scale)
    likelihood = Gaussian(sigma).double()
    likelihood.register_buffer("log_sigma", torch.tensor(math.log(sigma), dtype=torch.float64))
    model = LatentModel(prior, DenseObservation(decoder, likelihood))
    model.exact = True
    return model
