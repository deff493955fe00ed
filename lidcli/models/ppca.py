"""Probabilistic PCA: a linear decoder, Gaussian noise, and everything about it in closed form."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from lidcli.models.latent import LatentModel
from lidcli.models.likelihoods import LOG_2PI, Gaussian
from lidcli.models.observations import DenseObservation
from lidcli.models.priors import StandardNormal

__all__ = ["PPCA", "fit_ppca", "principal_axes"]


class PPCA(LatentModel):
    """z ~ N(0, I_K), x | z ~ N(W z + b, σ² I_D), in float64 (paper, section 4.2 and A.1).

    Args:
        weight: W (D, K), K <= D.
        bias: b (D,).
        sigma: noise sd, > 0.

    Shapes: N data, K latent, D data dimensions.

    Raises:
        ValueError: shapes that do not fit, or σ <= 0.

    References:
        Tipping and Bishop, "Probabilistic principal component analysis" (1999).

    Example:
        >>> model = PPCA(torch.eye(3, 2), torch.zeros(3), sigma=1.0)
        >>> round(model.posterior_covariance().trace().item(), 6)
        1.0
    """

    exact = True

    def __init__(self, weight: Tensor, bias: Tensor, sigma: float) -> None:
        if weight.ndim != 2 or bias.shape != weight.shape[:1]:
            raise ValueError(
                f"weight (D, K) and bias (D,) do not fit: {tuple(weight.shape)},"
                f" {tuple(bias.shape)}"
            )
        inputs, latent = weight.shape
        if latent > inputs:
            raise ValueError(f"{latent} latent dimensions exceed the data's {inputs}")
        if not sigma > 0:
            raise ValueError(f"sigma must be positive, not {sigma}")
        decoder = nn.Linear(latent, inputs, dtype=torch.float64)
        with torch.no_grad():
            decoder.weight.copy_(weight)
            decoder.bias.copy_(bias)
        likelihood = Gaussian(sigma)
        likelihood.register_buffer("log_sigma", torch.tensor(math.log(sigma), dtype=torch.float64))
        super().__init__(
            StandardNormal(latent, torch.float64), DenseObservation(decoder, likelihood)
        )

    @property
    def weight(self) -> Tensor:
        """W (D, K)."""
        weight = self.observation.decoder.weight
        assert isinstance(weight, Tensor)
        return weight.detach()

    @property
    def bias(self) -> Tensor:
        """b (D,)."""
        bias = self.observation.decoder.bias
        assert isinstance(bias, Tensor)
        return bias.detach()

    @property
    def variance(self) -> Tensor:
        """σ², a scalar."""
        observation = self.observation
        assert isinstance(observation, DenseObservation)
        assert isinstance(observation.likelihood, Gaussian)
        return torch.exp(2 * observation.likelihood.log_sigma.detach())

    def decode(self, z: Tensor) -> Tensor:
        """W z + b, (..., D), for latents (..., K)."""
        return nn.functional.linear(z, self.weight, self.bias)

    def information(self) -> Tensor:
        """A = Wᵀ W / σ², (K, K): the curvature of -log p(x | z) in z."""
        return self.weight.T @ self.weight / self.variance

    def score(self, x: Tensor) -> Tensor:
        """Wᵀ (x - b) / σ², (N, K): the slope of log p(x | z) at z = 0."""
        return (x - self.bias) @ self.weight / self.variance

    def posterior_covariance(self) -> Tensor:
        """(I + A)^-1, (K, K), the same for every datum."""
        identity = torch.eye(self.latent, dtype=torch.float64, device=self.weight.device)
        return torch.cholesky_inverse(torch.linalg.cholesky(identity + self.information()))

    def posterior_mean(self, x: Tensor) -> Tensor:
        """E[z | x], (N, K), for data x (N, D)."""
        return self.score(x) @ self.posterior_covariance()

    def log_marginal(self, x: Tensor) -> Tensor:
        """log p(x) in nats, (N,), for data x (N, D)."""
        centred, score = x - self.bias, self.score(x)
        covariance = self.posterior_covariance()
        quadratic = centred.square().sum(-1) / self.variance
        explained = ((score @ covariance) * score).sum(-1)
        log_det = x.shape[-1] * torch.log(self.variance) - torch.logdet(covariance)
        return -0.5 * (quadratic - explained + log_det + x.shape[-1] * LOG_2PI)


def principal_axes(x: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues (D,), descending, and eigenvectors (D, D) of the covariance of x over N.

    The sign of each vector makes its largest entry positive.

    Args:
        x: data (N, D).

    Example:
        >>> principal_axes(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]))[0].tolist()
        [1.0, 0.0]
    """
    centred = x.double() - x.double().mean(0)
    values, vectors = torch.linalg.eigh(centred.T @ centred / len(x))
    values, vectors = values.flip(0).clamp(min=0), vectors.flip(1)
    largest = vectors.gather(0, vectors.abs().argmax(0, keepdim=True))
    return values, vectors * torch.sign(largest)


def fit_ppca(x: Tensor, latent: int, sigma: float | None = None) -> PPCA:
    """The maximum-likelihood PPCA in closed form, its latents along the principal axes.

    Direction k is collapsed, W_k = 0, where σ² reaches the k-th eigenvalue λ_k of the sample
    covariance; elsewhere its length is √(λ_k - σ²). W is determined up to a rotation of the
    latents, and this is the one whose columns are orthogonal, longest first.

    Args:
        x: data (N, D), N > latent.
        latent: K, 1 to D, and below D where σ is to be found.
        sigma: known noise sd, > 0; None: its maximum-likelihood value, the root of the mean of
            the discarded eigenvalues.

    Raises:
        ValueError: sizes out of range, σ <= 0, or data without noise where σ is to be found.

    References:
        Tipping and Bishop (1999), section 3.2.

    Example:
        >>> model = fit_ppca(torch.randn(500, 5), latent=2, sigma=9.0)
        >>> model.weight.abs().max().item()
        0.0
    """
    n, inputs = x.shape
    if not 1 <= latent <= inputs:
        raise ValueError(f"latent dimensions must be 1 to {inputs}, the data's, not {latent}")
    if n <= latent:
        raise ValueError(f"{n} data cannot fix {latent} latent dimensions")
    values, vectors = principal_axes(x)
    if sigma is None:
        if latent == inputs:
            raise ValueError(
                f"with {latent} latent dimensions for {inputs} of the data no noise is left to"
                " find sigma from: fix sigma, or take fewer"
            )
        left = values[latent:].mean().item()
        if not left > 1e-12 * values[0].item():
            raise ValueError(f"the data have no noise beyond {latent} dimensions: fix sigma")
        sigma = math.sqrt(left)
    elif not sigma > 0:
        raise ValueError(f"sigma must be positive, not {sigma}")
    lengths = (values[:latent] - sigma**2).clamp(min=0).sqrt()
    return PPCA(vectors[:, :latent] * lengths, x.double().mean(0), sigma)
