"""Exact posteriors, in the interface of an amortized one."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lidcli.models.batch import Batch, DenseBatch
from lidcli.models.latent import CategoryDraws, Draws, LatentModel, Posterior
from lidcli.models.likelihoods import LOG_2PI
from lidcli.models.observations import DenseObservation
from lidcli.models.ppca import PPCA
from lidcli.models.priors import normal_log_prob
from lidcli.models.transport import Identity, TransportDecoder

__all__ = ["ExactClusters", "ExactGaussian"]


def _rows(x: Batch) -> Tensor:
    assert isinstance(x, DenseBatch)
    return x.x


@dataclass(frozen=True)
class _Gaussian:
    """Normal posteriors of N data that share one covariance."""

    mean: Tensor
    factor: Tensor
    decodings = 1
    category_draws = 0

    def draw(self, samples: int) -> Draws:
        """Draws (S, N, K)."""
        mean, factor = self.mean, self.factor
        noise = torch.randn(samples, *mean.shape, dtype=mean.dtype, device=mean.device)
        zero = mean.new_zeros(())
        log_q = normal_log_prob(noise, zero, zero) - factor.diagonal().log().sum()
        return Draws(mean + noise @ factor.T, log_q)

    def expectation(self) -> Tensor:
        """The means (N, K)."""
        return self.mean

    def log_prob(self, latent: Tensor) -> Tensor:
        """log p(z_b | x_n), (B, N), for z (B, K)."""
        centred = latent[:, None] - self.mean
        standard = torch.linalg.solve_triangular(self.factor, centred.mT, upper=False)
        log_det = self.factor.diagonal().log().sum()
        quadratic = standard.square().sum(-2) + latent.shape[-1] * LOG_2PI
        log_prob: Tensor = -quadratic / 2 - log_det
        return log_prob

    def latent_kl(self, joint: Tensor, q_c: Tensor | None) -> Tensor:
        """The joint KL."""
        return joint

    def rows(self, index: slice | Tensor) -> _Gaussian:
        """The posteriors of some of the data."""
        return _Gaussian(self.mean[index], self.factor)

    def joined(self, *others: _Gaussian) -> _Gaussian:
        """These posteriors and those of further data."""
        return _Gaussian(torch.cat([self.mean, *(o.mean for o in others)]), self.factor)

    def tensors(self) -> tuple[Tensor, ...]:
        """The means."""
        return (self.mean,)

    def replace(self, *tensors: Tensor) -> _Gaussian:
        """The same covariance around other means."""
        (mean,) = tensors
        return _Gaussian(mean, self.factor)


class ExactGaussian(Posterior):
    """p(z | x) of a PPCA, in the interface of an amortized posterior.

    Its importance weights are all equal to p(x), so that every bound is exact to rounding.

    Args:
        model: whose posterior this is; it follows the model's parameters.

    Example:
        >>> from lidcli.models.ppca import fit_ppca
        >>> model = fit_ppca(torch.randn(50, 3), latent=1)
        >>> model.posterior = ExactGaussian(model)
        >>> x = torch.randn(4, 3, dtype=torch.float64)
        >>> torch.allclose(model.log_weights(DenseBatch(x), 2), model.log_marginal(x).expand(2, 4))
        True
    """

    decodings = 1

    def __init__(self, model: PPCA) -> None:
        super().__init__()
        self._of = (model,)

    def forward(self, x: Batch) -> _Gaussian:
        """p(z | x) of data x."""
        (model,) = self._of
        factor = torch.linalg.cholesky(model.posterior_covariance())
        return _Gaussian(model.posterior_mean(_rows(x)), factor)


@dataclass(frozen=True)
class _Clusters:
    """p(c, w | x) of `two_cluster_gmvae`: y = f(w) is a mixture of Gaussians given x.

    Attributes:
        logits: log weights of y's Gaussians, unnormalised, (N, J).
        loc: their means, (N, J, M).
        log_sd: their log sd.
        decoder: f.
        shared: whether both categories share the distribution of all data.
    """

    logits: Tensor
    loc: Tensor
    log_sd: float
    decoder: TransportDecoder | Identity
    shared: bool
    decodings = 2
    category_draws = 0

    def draw(self, samples: int) -> CategoryDraws:
        """Draws of w for each category, (S, 2, N, M)."""
        logits, loc = self.logits, self.loc
        if self.shared:
            logits = torch.zeros(len(loc), 2, dtype=loc.dtype)
            chosen = torch.multinomial(self.logits.softmax(1), 2 * samples, replacement=True)
            index = chosen.view(len(loc), samples, 2).transpose(0, 1)[..., None]
            shape = (*index.shape[:-1], loc.shape[-1])
            loc = loc.expand(samples, *loc.shape).gather(2, index.expand(shape))
        else:
            loc = loc.expand(samples, *loc.shape)
        y = loc + math.exp(self.log_sd) * torch.randn_like(loc)
        w: Tensor = self.decoder.inverse(y)
        log_y = normal_log_prob(y[..., None, :], self.loc[:, None], self._log_scale())
        if self.shared:
            log_q = (log_y + torch.log_softmax(self.logits, 1)[:, None]).logsumexp(-1)
        else:
            log_q = log_y.diagonal(dim1=-2, dim2=-1)
        log_q = log_q + self.decoder.log_slope(w, y)
        log_q_c = torch.log_softmax(logits, dim=-1)
        return CategoryDraws(w.movedim(2, 1), log_q.movedim(2, 1), log_q_c)

    def _log_scale(self) -> Tensor:
        return self.loc.new_full((self.loc.shape[-1],), self.log_sd)

    def log_prob(self, latent: Tensor) -> Tensor:
        """log p(w_b | x_n), the category summed, (B, N), for w (B, M)."""
        y = self.decoder(latent)
        log_y = normal_log_prob(y[:, None, None], self.loc, self._log_scale())
        log_q = (log_y + torch.log_softmax(self.logits, 1)).logsumexp(-1)
        return log_q + self.decoder.log_slope(latent, y)[:, None]

    def latent_kl(self, joint: Tensor, q_c: Tensor | None) -> Tensor:
        """Σ_c p(c|x) KL(p(w|x,c) ‖ p(w|c))."""
        assert q_c is not None
        return joint - math.log(q_c.shape[1]) - torch.xlogy(q_c, q_c).sum(1)

    def rows(self, index: slice | Tensor) -> _Clusters:
        """The posteriors of some of the data."""
        return replace(self, logits=self.logits[index], loc=self.loc[index])

    def joined(self, *others: _Clusters) -> _Clusters:
        """These posteriors and those of further data."""
        return replace(
            self,
            logits=torch.cat([self.logits, *(o.logits for o in others)]),
            loc=torch.cat([self.loc, *(o.loc for o in others)]),
        )

    def tensors(self) -> tuple[Tensor, ...]:
        """Weights and means of y's Gaussians."""
        return self.logits, self.loc

    def replace(self, *tensors: Tensor) -> _Clusters:
        """The same family at other weights and means."""
        logits, loc = tensors
        return replace(self, logits=logits, loc=loc)


class ExactClusters(Posterior):
    """p(c, w | x) of `two_cluster_gmvae`, in the interface of an amortized posterior.

    Below the decoder, y = f(w) given x is a mixture of two Gaussians whatever the parameters;
    w is its image under f^-1. Every importance weight is p(x).

    Args:
        model: from `two_cluster_gmvae`.
        centres: of the data's clusters (J,).
        scale: sd of y within a cluster.
        sigma: noise sd.
        shared: as the model was made.
    """

    decodings = 2

    def __init__(
        self,
        model: LatentModel,
        centres: tuple[float, ...],
        scale: float,
        sigma: float,
        shared: bool,
    ) -> None:
        super().__init__()
        observation = model.observation
        assert isinstance(observation, DenseObservation)
        decoder = observation.decoder
        assert isinstance(decoder, TransportDecoder | Identity)
        self._decoder = (decoder,)
        self.centres = torch.tensor(centres, dtype=torch.float64)
        self.scale, self.sigma, self.shared = scale, sigma, shared

    def forward(self, x: Batch) -> _Clusters:
        """p(c, w | x) of data x."""
        rows = _rows(x)
        variance = self.scale**2 + self.sigma**2
        centres = torch.zeros(len(self.centres), rows.shape[1], dtype=rows.dtype)
        centres[:, 0] = self.centres
        gap = rows[:, None] - centres
        logits = -gap[..., 0].square() / (2 * variance)
        loc = centres + gap * (self.scale**2 / variance)
        log_sd = math.log(self.scale * self.sigma / math.sqrt(variance))
        return _Clusters(logits, loc, log_sd, self._decoder[0], self.shared)
