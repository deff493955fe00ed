"""Exact posteriors of the classical models, and quadrature where there is no formula."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import betaln, roots_jacobi, roots_legendre
from torch import Tensor, nn

from lidcli.models.base import Draws, Parameters, normal_log_prob
from lidcli.models.gmm import GMM
from lidcli.models.likelihoods import LOG_2PI
from lidcli.models.mixture import Mixture
from lidcli.models.ppca import PPCA
from lidcli.models.transport import Identity, TransportDecoder

__all__ = [
    "PRIOR",
    "ExactCategory",
    "ExactClusters",
    "ExactGaussian",
    "WeightPosterior",
    "beta_log_prior",
    "weight_log_likelihood",
    "weight_posterior",
]

Array = npt.NDArray[np.float64]
PRIOR = (5.0, 5.0)
"""Beta prior of the mixture weight α (paper, appendix A.2)."""
DEPTH = 80.0
"""Nats below the mode beyond which the density of α is left out: e^-80 of its height."""
PANELS, NODES = 40, 20
"""Gauss-Legendre panels over the rest, and nodes of each."""
JACOBI = 400
"""Nodes of the Gauss-Jacobi rule for expectations under the prior."""


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


def beta_log_prior(alpha: Array) -> Array:
    """log Beta(α; 5, 5) for α in (0, 1)."""
    a, b = PRIOR
    value: Array = (a - 1) * np.log(alpha) + (b - 1) * np.log1p(-alpha) - betaln(a, b)
    return value


def weight_log_likelihood(alpha: Array, log_densities: Array) -> Array:
    """Σ_n log(α p_1(x_n) + (1 - α) p_2(x_n)) in nats, for every α.

    Args:
        alpha: weights of the first component (A,), in (0, 1).
        log_densities: log p_1 and log p_2 of N data, (N, 2).

    Example:
        >>> weight_log_likelihood(np.array([0.3]), np.zeros((7, 2))).tolist()
        [0.0]
    """
    first, second = log_densities[:, 0], log_densities[:, 1]
    total: float = second.sum()
    gap = first - second
    out = np.empty_like(alpha)
    for i, a in enumerate(alpha):
        out[i] = np.logaddexp(np.log(a) + gap, np.log1p(-a)).sum()
    return out + total


@dataclass(frozen=True)
class WeightPosterior:
    """p(α | x) at fixed components, by quadrature.

    `kl` is KL(p(α|x) ‖ p(α)) in nats of the whole data set, `variation` the variance under the
    prior of log p(x | α) in squared nats, and `log_evidence` log ∫ p(x | α) p(α) dα.
    """

    mean: float
    sd: float
    kl: float
    variation: float
    log_evidence: float
    alpha: Array
    """Nodes (A,), ascending."""
    density: Array
    """Posterior density at the nodes."""


def weight_posterior(log_densities: Array) -> WeightPosterior:
    """The posterior of the weight α of two components under Beta(5, 5), components fixed.

    log p(x | α) is concave in α, so the posterior has one mode; Gauss-Legendre panels cover
    everything down to e^-80 of it, in log space.

    Args:
        log_densities: log p_1 and log p_2 of N data, (N, 2), finite.

    Raises:
        ValueError: another shape, or values that are not finite.

    References:
        Paper, appendix A.2.

    Example:
        >>> same = weight_posterior(np.zeros((100, 2)))
        >>> round(same.mean, 12), round(same.sd, 12) == round(1 / 44**0.5, 12)
        (0.5, True)
    """
    if log_densities.ndim != 2 or log_densities.shape[1] != 2 or not len(log_densities):
        raise ValueError(f"log densities must be (N, 2), not {log_densities.shape}")
    if not np.isfinite(log_densities).all():
        raise ValueError("log densities must be finite")

    def log_joint(alpha: Array) -> Array:
        return weight_log_likelihood(alpha, log_densities) + beta_log_prior(alpha)

    low, high, top = _support(log_joint)
    nodes, weights = roots_legendre(NODES)
    edges = np.linspace(low, high, PANELS + 1)
    half = np.diff(edges)[:, None] / 2
    alpha = (edges[:-1, None] + half * (nodes + 1)).ravel()
    measure = (half * weights).ravel()
    likelihood = weight_log_likelihood(alpha, log_densities)
    mass = np.exp(likelihood + beta_log_prior(alpha) - top) * measure
    log_evidence = float(np.log(mass.sum()) + top)
    share = mass / mass.sum()
    mean = float(share @ alpha)
    return WeightPosterior(
        mean=mean,
        sd=float(np.sqrt(share @ (alpha - mean) ** 2)),
        kl=float(share @ (likelihood - log_evidence)),
        variation=_prior_variance(log_densities),
        log_evidence=log_evidence,
        alpha=alpha,
        density=share / measure,
    )


def _support(log_joint: Callable[[Array], Array]) -> tuple[float, float, float]:
    """Where a log-concave density on (0, 1) is above e^-DEPTH of its mode, and its height."""

    def at(t: float) -> float:
        return float(log_joint(np.array([t]))[0])

    a, b = 1e-12, 1 - 1e-12
    ratio = (np.sqrt(5) - 1) / 2
    c, d = b - ratio * (b - a), a + ratio * (b - a)
    at_c, at_d = at(c), at(d)
    while b - a > 1e-10:
        if at_c > at_d:
            b, d, at_d = d, c, at_c
            c = b - ratio * (b - a)
            at_c = at(c)
        else:
            a, c, at_c = c, d, at_d
            d = a + ratio * (b - a)
            at_d = at(d)
    mode = (a + b) / 2
    top = at(mode)
    ends = []
    for end in (0.0, 1.0):
        inside, outside = mode, end
        for _ in range(50):
            middle = (inside + outside) / 2
            if middle in (inside, outside):
                break
            inside, outside = (middle, outside) if at(middle) > top - DEPTH else (inside, middle)
        ends.append(outside)
    return ends[0], ends[1], top


def _prior_variance(log_densities: Array) -> float:
    """Variance of log p(x | α) under the prior, in squared nats."""
    a, b = PRIOR
    nodes, weights = roots_jacobi(JACOBI, b - 1, a - 1)
    share = weights / weights.sum()
    value = weight_log_likelihood((nodes + 1) / 2, log_densities)
    centred = value - share @ value
    return float(share @ centred**2)


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
