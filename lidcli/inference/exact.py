"""Exact posteriors of the classical models, in the interface of an amortized one."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from lidcli.models.base import Draws, Parameters, normal_log_prob
from lidcli.models.gmm import GMM
from lidcli.models.likelihoods import LOG_2PI
from lidcli.models.mixture import Mixture
from lidcli.models.ppca import PPCA
from lidcli.models.transport import Identity, TransportDecoder

__all__ = [
    "ExactCategory",
    "ExactClusters",
    "ExactGaussian",
]


class ExactGaussian(nn.Module):
    """p(z | x) of a PPCA, in the interface of an amortized posterior.

    Its importance weights are all equal to p(x), so that every bound is exact to rounding.

    Args:
        model: whose posterior this is; it follows the model's parameters.

    Example:
        >>> from lidcli.models.ppca import fit_ppca
        >>> model = fit_ppca(torch.randn(50, 3), latent=1)
        >>> model.posterior = ExactGaussian(model)
        >>> x = torch.randn(4, 3, dtype=torch.float64)
        >>> torch.allclose(model.log_weights(x, 2), model.log_marginal(x).expand(2, 4))
        True
    """

    explicit = False

    def __init__(self, model: PPCA) -> None:
        super().__init__()
        self._of = (model,)

    def encode(self, x: Tensor) -> Parameters:
        """Means and marginal sds (N, 1, K) of data x (N, D)."""
        (model,) = self._of
        mean = model.posterior_mean(x)[:, None]
        log_sd = 0.5 * model.posterior_covariance().diagonal().log().expand_as(mean)
        return Parameters(x.new_zeros(len(x), 1), mean, log_sd, mean[..., :0])

    def draw(self, parameters: Parameters, samples: int) -> Draws:
        """Draws (S, N, K)."""
        factor = torch.linalg.cholesky(self._of[0].posterior_covariance())
        mean = parameters.loc[:, 0]
        noise = torch.randn(samples, *mean.shape, dtype=mean.dtype, device=mean.device)
        zero = mean.new_zeros(())
        log_q = normal_log_prob(noise, zero, zero) - factor.diagonal().log().sum()
        return Draws(mean + noise @ factor.T, log_q, None)

    def log_prob(self, latent: Tensor, parameters: Parameters) -> Tensor:
        """log p(z_b | x_n), (B, N), for z (B, K)."""
        factor = torch.linalg.cholesky(self._of[0].posterior_covariance())
        centred = latent[:, None] - parameters.loc[:, 0]
        standard = torch.linalg.solve_triangular(factor, centred.mT, upper=False)
        log_det = factor.diagonal().log().sum()
        quadratic = standard.square().sum(-2) + latent.shape[-1] * LOG_2PI
        log_prob: Tensor = -quadratic / 2 - log_det
        return log_prob


class ExactCategory(nn.Module):
    """p(c | x) of a Gaussian mixture model, in the interface of an amortized posterior.

    Args:
        model: whose posterior this is.

    Example:
        >>> from lidcli.models.gmm import shared_gmm
        >>> model = shared_gmm(torch.randn(50, 1), 2)
        >>> model.posterior = ExactCategory(model)
        >>> model.elbo_terms(torch.zeros(3, 1, dtype=torch.float64), 2).shape
        torch.Size([2, 3])
    """

    explicit = True

    def __init__(self, model: GMM) -> None:
        super().__init__()
        self._of = (model,)

    def encode(self, x: Tensor) -> Parameters:
        """Unnormalised log p(c | x), (N, C), and a one-hot latent for each c, (N, C, C)."""
        (model,) = self._of
        logits = model.component_log_density(x) + model.log_pi.detach()
        latent = torch.eye(model.latent, dtype=x.dtype).expand(len(x), -1, -1)
        return Parameters(logits, latent, torch.zeros_like(latent), latent[..., :0])

    def draw(self, parameters: Parameters, samples: int) -> Draws:
        """Every category as its one-hot vector, (S, N, C, C), with its probability."""
        shape = (samples, *parameters.loc.shape)
        log_q_c = torch.log_softmax(parameters.logits, dim=-1)
        return Draws(parameters.loc.expand(shape), log_q_c.new_zeros(shape[:-1]), log_q_c)

    def log_prob(self, latent: Tensor, parameters: Parameters) -> Tensor:
        """log p(c_b | x_n), (B, N), for one-hot c (B, C)."""
        return latent @ torch.log_softmax(parameters.logits, dim=-1).T


class ExactClusters(nn.Module):
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

    explicit = True

    def __init__(
        self, model: Mixture, centres: tuple[float, ...], scale: float, sigma: float, shared: bool
    ) -> None:
        super().__init__()
        self._of = (model,)
        self.centres = torch.tensor(centres, dtype=torch.float64)
        self.scale, self.sigma, self.shared = scale, sigma, shared

    @property
    def _decoder(self) -> TransportDecoder | Identity:
        decoder = self._of[0].decoder
        assert isinstance(decoder, TransportDecoder | Identity)
        return decoder

    def encode(self, x: Tensor) -> Parameters:
        """Weights and moments of y's Gaussians, (N, J) and (N, J, M), of data x (N, D)."""
        variance = self.scale**2 + self.sigma**2
        centres = torch.zeros(len(self.centres), x.shape[1], dtype=x.dtype)
        centres[:, 0] = self.centres
        gap = x[:, None] - centres
        logits = -gap[..., 0].square() / (2 * variance)
        loc = centres + gap * (self.scale**2 / variance)
        log_sd = math.log(self.scale * self.sigma / math.sqrt(variance))
        return Parameters(logits, loc, torch.full_like(loc, log_sd), loc[..., :0])

    def draw(self, parameters: Parameters, samples: int) -> Draws:
        """Draws of w for each category, (S, N, 2, M)."""
        logits, loc, log_sd, _ = parameters
        if self.shared:
            logits = torch.zeros(len(loc), 2, dtype=loc.dtype)
            chosen = torch.multinomial(parameters.logits.softmax(1), 2 * samples, replacement=True)
            index = chosen.view(len(loc), samples, 2).transpose(0, 1)[..., None]
            shape = (*index.shape[:-1], loc.shape[-1])
            loc = loc.expand(samples, *loc.shape).gather(2, index.expand(shape))
        else:
            loc = loc.expand(samples, *loc.shape)
        y = loc + torch.exp(log_sd[0, 0, 0]) * torch.randn_like(loc)
        w: Tensor = self._decoder.inverse(y)
        log_y = self._log_components(y, parameters)
        if self.shared:
            log_q = (log_y + torch.log_softmax(parameters.logits, 1)[:, None]).logsumexp(-1)
        else:
            log_q = log_y.diagonal(dim1=-2, dim2=-1)
        log_q = log_q + self._decoder.log_slope(w, y)
        return Draws(w, log_q, torch.log_softmax(logits, dim=-1))

    def _log_components(self, y: Tensor, parameters: Parameters) -> Tensor:
        """log N(y; component j), (..., N, C, J) for y (..., N, C, M)."""
        loc, log_sd = parameters.loc[:, None], parameters.log_scale[:, None]
        return normal_log_prob(y[..., None, :], loc, log_sd)

    def log_prob(self, latent: Tensor, parameters: Parameters) -> Tensor:
        """log p(w_b | x_n), the category summed, (B, N), for w (B, M)."""
        y = self._decoder(latent)
        log_y = normal_log_prob(y[:, None, None], parameters.loc, parameters.log_scale)
        log_q = (log_y + torch.log_softmax(parameters.logits, 1)).logsumexp(-1)
        return log_q + self._decoder.log_slope(latent, y)[:, None]
