"""Gaussian mixture models: exact responsibilities, and maximum likelihood by EM."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import minimize
from torch import Tensor, nn

from lidcli.models.facts import Facts
from lidcli.models.likelihoods import LOG_2PI

__all__ = ["GMM", "fit_gmm", "shared_gmm"]


SMALLEST = 0.01
"""Share of the data below which a component counts as degenerate."""
TOLERANCE = 1e-9
"""Gain of the mean log-likelihood, in nats, at which EM gives way to L-BFGS."""


class GMM(nn.Module):
    """c ~ Cat(π), x | c ~ N(μ_c, Σ_c), in float64.

    Args:
        weights: π (C,), positive, summing to 1.
        means: μ (C, D).
        covariances: Σ (C, D, D), symmetric and positive definite.

    Shapes: N data, C components, D data dimensions.

    Raises:
        ValueError: shapes that do not fit, or a Σ_c that is not positive definite.

    References:
        Paper, appendix A.2, where the weight α = π_1 of two components is itself latent.

    Example:
        >>> model = GMM(torch.tensor([0.5, 0.5]), torch.zeros(2, 1), torch.ones(2, 1, 1))
        >>> model.responsibilities(torch.zeros(1, 1)).tolist()
        [[0.5, 0.5]]
    """

    log_pi: Tensor
    means: Tensor
    factors: Tensor

    def __init__(self, weights: Tensor, means: Tensor, covariances: Tensor) -> None:
        c, d = means.shape
        if weights.shape != (c,) or covariances.shape != (c, d, d):
            raise ValueError(
                f"weights (C,), means (C, D) and covariances (C, D, D) do not fit:"
                f" {tuple(weights.shape)}, {tuple(means.shape)}, {tuple(covariances.shape)}"
            )
        factors, info = torch.linalg.cholesky_ex(covariances.double())
        if bool(info.any()):
            raise ValueError("a covariance is not positive definite")
        super().__init__()
        self.categories: int = c
        self.register_buffer("log_pi", weights.double().log())
        self.register_buffer("means", means.double())
        self.register_buffer("factors", factors)

    def facts(self) -> Facts:
        """What the figures of this model are of."""
        return Facts("c", "c", {"c": self.categories}, self.categories, exact=True)

    @property
    def weights(self) -> Tensor:
        """π (C,)."""
        return self.log_pi.exp()

    @property
    def covariances(self) -> Tensor:
        """Σ (C, D, D)."""
        return self.factors @ self.factors.mT

    def component_log_density(self, x: Tensor) -> Tensor:
        """log N(x; μ_c, Σ_c) in nats, (N, C), for data x (N, D)."""
        log_det = self.factors.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        quadratic = _squared_distance(x, self.means, self.factors) + x.shape[-1] * LOG_2PI
        return -quadratic / 2 - log_det

    def log_marginal(self, x: Tensor) -> Tensor:
        """log p(x) in nats, (N,), for data x (N, D)."""
        return torch.logsumexp(self.component_log_density(x) + self.log_pi, dim=-1)

    def responsibilities(self, x: Tensor) -> Tensor:
        """p(c | x), (N, C), for data x (N, D)."""
        return torch.softmax(self.component_log_density(x) + self.log_pi, dim=-1)

    @torch.no_grad()
    def sample(self, n: int) -> Tensor:
        """n data (n, D) from the model."""
        c = torch.multinomial(self.weights, n, replacement=True)
        noise = torch.randn(n, self.means.shape[1], 1, dtype=torch.float64)
        return self.means[c] + (self.factors[c] @ noise)[..., 0]


def shared_gmm(x: Tensor, components: int) -> GMM:
    """Every component at the single-Gaussian fit: stationary for EM, with a collapsed latent.

    Args:
        x: data (N, D), N > D, of full rank.
        components: C, at least 1.

    Raises:
        ValueError: the covariance of the data is singular.
    """
    x = x.double()
    centred = x - x.mean(0)
    covariance = centred.T @ centred / len(x)
    return GMM(
        torch.full((components,), 1 / components),
        x.mean(0).expand(components, -1),
        covariance.expand(components, -1, -1),
    )


def fit_gmm(
    x: Tensor,
    components: int,
    *,
    starts: int = 5,
    iterations: int = 100,
    seed: int = 0,
) -> GMM:
    """Maximum likelihood by EM from several starts, components in the order of their first mean.

    The likelihood is unbounded where a component shrinks onto few points, and has spurious
    maxima near there. Starts that end with a component of less than a hundredth of the data are
    left out: the result is the best of the other maxima that were found.

    Args:
        x: data (N, D), N > D, of full rank.
        components: C, at least 1.
        starts: random centres that EM sets out from; the best goes on to the top by L-BFGS.
        iterations: steps of EM of every start, at most.
        seed: of the centres.

    Raises:
        ValueError: the covariance of the data is singular, or every start degenerated.

    References:
        Dempster, Laird and Rubin (1977).

    Example:
        >>> x = torch.cat([torch.randn(200, 1) - 9, torch.randn(200, 1) + 9])
        >>> fit_gmm(x, 2).means.sign().flatten().tolist()
        [-1.0, 1.0]
    """
    x = x.double()
    whole = shared_gmm(x, components)
    generator = torch.Generator().manual_seed(seed)
    best: tuple[float, GMM] | None = None
    for _ in range(starts if components > 1 else 1):
        centres = x[torch.randperm(len(x), generator=generator)[:components]]
        model, value = _em(
            GMM(whole.weights, centres, whole.covariances / components), x, iterations, TOLERANCE
        )
        if model is not None and (best is None or value > best[0]):
            best = (value, model)
    if best is None:
        raise ValueError(f"EM found no bounded maximum with {components} components")
    found = _climb(best[1], x)
    order = found.means[:, 0].argsort()
    return GMM(found.weights[order], found.means[order], found.covariances[order])


def _squared_distance(x: Tensor, means: Tensor, factors: Tensor) -> Tensor:
    """‖L_c⁻¹ (x - μ_c)‖², (N, C), of data (N, D), means (C, D) and factors L (C, D, D)."""
    centred = (x - means[:, None]).mT
    standard: Tensor = torch.linalg.solve_triangular(factors, centred, upper=False)
    return standard.square().sum(-2).T


def _least(x: Tensor) -> float:
    """Data that a component must hold so as not to count as shrunk onto a few."""
    return max(x.shape[1] + 1, SMALLEST * len(x))


def _step(model: GMM, x: Tensor) -> tuple[GMM | None, float]:
    """One step of EM, none where a component degenerates, and the mean LL before it."""
    log_joint = model.component_log_density(x) + model.log_pi
    value = torch.logsumexp(log_joint, -1).mean().item()
    r = torch.softmax(log_joint, dim=-1)
    mass = r.sum(0)
    if bool((mass < _least(x)).any()):
        return None, value
    means = (r.T @ x) / mass[:, None]
    centred = x[:, None] - means
    spread = torch.einsum("nci,ncj->cij", r[..., None] * centred, centred) / mass[:, None, None]
    try:
        return GMM(mass / len(x), means, spread), value
    except ValueError:
        return None, value


def _pack(model: GMM) -> Tensor:
    """The parameters without constraints, in one vector."""
    factors = model.factors
    diagonal = factors.diagonal(dim1=-2, dim2=-1).log()
    parts = (model.log_pi, model.means, diagonal, factors.tril(-1))
    return torch.cat([part.flatten() for part in parts])


def _unpack(vector: Tensor, c: int, d: int) -> GMM:
    log_pi, means, diagonal, lower = torch.split(vector, [c, c * d, c * d, c * d * d])
    factors = lower.view(c, d, d) + torch.diag_embed(diagonal.view(c, d).exp())
    return GMM(torch.softmax(log_pi, 0), means.view(c, d), factors @ factors.mT)


def _em(model: GMM, x: Tensor, iterations: int, tolerance: float) -> tuple[GMM | None, float]:
    """EM until a step gains less than the tolerance; no model where a component degenerates."""
    last = -math.inf
    for _ in range(iterations):
        better, value = _step(model, x)
        if better is None:
            return None, -math.inf
        if value - last < tolerance:
            return model, value
        model, last = better, value
    return model, last


def _climb(model: GMM, x: Tensor) -> GMM:
    """The last stretch to the maximum by L-BFGS, where components overlap and EM creeps."""
    c, d = model.means.shape

    def loss(vector: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        point = torch.tensor(vector, requires_grad=True)
        log_pi, means, diagonal, lower = torch.split(point, [c, c * d, c * d, c * d * d])
        factors = lower.view(c, d, d).tril(-1) + torch.diag_embed(diagonal.view(c, d).exp())
        distance = _squared_distance(x, means.view(c, d), factors)
        quadratic = -0.5 * distance - diagonal.view(c, d).sum(1)
        value = -torch.logsumexp(quadratic + torch.log_softmax(log_pi, 0), dim=1).mean()
        (slope,) = torch.autograd.grad(value, point)
        return value.item(), slope.numpy()

    start = _pack(model).numpy()
    found = minimize(
        loss,
        start,
        jac=True,
        method="L-BFGS-B",
        options={"ftol": 1e-15, "gtol": 1e-9, "maxiter": 500},
    )
    try:
        climbed = _unpack(torch.from_numpy(found.x), c, d)
    except ValueError:
        return model
    better = climbed.log_marginal(x).mean() > model.log_marginal(x).mean()
    massive = bool((climbed.responsibilities(x).sum(0) >= _least(x)).all())
    return climbed if better and massive else model
