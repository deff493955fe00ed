"""Example 1: a category picks a Gaussian for w, and w is decoded."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from lidcli.models.base import Draws, Model, Terms, normal_log_prob
from lidcli.models.likelihoods import Likelihood

__all__ = ["Mixture", "separated_means"]


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


class Mixture(Model):
    """c ~ Cat(1/C), w | c ~ N(m_c, s_c²), x ~ EF(f(w)) (paper, Example 1).

    Args:
        decoder: maps w (..., M) to the likelihood's parameters (..., D).
        likelihood: log p(x | parameters).
        latent: M.
        categories: C.
        separation: norm of the means (their start, where they are free).
        scale: sd of w given c (its start, where it is learned).
        free_means: whether the means are learned, as in the classical GMVAE.
        learn_scale: whether the sds are learned.
        max_scale: upper bound of learned sds, above `scale`; None leaves them unbounded.
        full_covariance: whether each component also learns the directions of its M sds.

    Raises:
        ValueError: `max_scale` does not exceed `scale`.

    Example:
        >>> from lidcli.models.likelihoods import Gaussian
        >>> model = Mixture(nn.Linear(2, 5), Gaussian(), latent=2, categories=5)
        >>> model.log_prior(torch.zeros(7, 2)).shape
        torch.Size([7])
    """

    symbol = "w"

    def __init__(
        self,
        decoder: nn.Module,
        likelihood: Likelihood,
        latent: int,
        categories: int,
        *,
        separation: float = 2.0,
        scale: float = 0.3,
        free_means: bool = False,
        learn_scale: bool = False,
        max_scale: float | None = None,
        full_covariance: bool = False,
    ) -> None:
        super().__init__(decoder, likelihood, latent)
        self.categories: int = categories
        self.max_scale = max_scale
        means = separated_means(categories, latent, separation)
        if free_means:
            self.means = nn.Parameter(means)
        else:
            self.register_buffer("means", means)
        start = math.log(scale)
        if max_scale is not None and learn_scale:
            if scale >= max_scale:
                raise ValueError(f"model.max_scale = {max_scale} must exceed model.scale = {scale}")
            start = math.log(scale / (max_scale - scale))
        raw = torch.full((categories, latent), start)
        if learn_scale:
            self.raw_scale = nn.Parameter(raw)
        else:
            self.register_buffer("raw_scale", raw)
        self.bounded = learn_scale and max_scale is not None
        self.raw_turn: nn.Parameter | None = None
        if full_covariance and latent > 1:
            self.raw_turn = nn.Parameter(torch.zeros(categories, latent * (latent - 1) // 2))

    def prior_means(self) -> Tensor:
        """The component means, (C, M)."""
        return self.means

    def log_scale(self) -> Tensor:
        """log s, (C, M)."""
        if not self.bounded:
            return self.raw_scale
        assert self.max_scale is not None
        return math.log(self.max_scale) + nn.functional.logsigmoid(self.raw_scale)

    def turns(self) -> Tensor | None:
        """Orthogonal matrices (C, M, M) whose columns are the directions of the sds, if learned."""
        if self.raw_turn is None:
            return None
        m = self.latent
        rows, columns = torch.triu_indices(m, m, offset=1)
        upper = self.raw_turn.new_zeros(self.raw_turn.shape[0], m, m)
        upper[:, rows, columns] = self.raw_turn
        return torch.matrix_exp(upper - upper.mT)

    def log_joint_prior(self, latent: Tensor) -> Tensor:
        """log p(c, w_c), (..., C), for one w per category, (..., C, M) or (..., 1, M)."""
        centred, turns = latent - self.means, self.turns()
        if turns is not None:
            centred = (centred[..., None, :] @ turns)[..., 0, :]
        zero = centred.new_zeros(())
        return normal_log_prob(centred, zero, self.log_scale()) - math.log(self.categories)

    def log_prior(self, latent: Tensor) -> Tensor:
        """log p(w), the category summed, for w (..., M)."""
        return torch.logsumexp(self.log_joint_prior(latent[..., None, :]), dim=-1)

    def sample_prior(self, n: int) -> Tensor:
        """n latents w (n, M)."""
        c = torch.randint(self.categories, (n,), device=self.means.device)
        noise = torch.randn(n, self.latent, device=self.means.device, dtype=self.means.dtype)
        offset, turns = self.log_scale().exp()[c] * noise, self.turns()
        if turns is not None:
            offset = (turns[c] @ offset[..., None])[..., 0]
        return self.means[c] + offset

    def terms(self, x: Tensor, draws: Draws) -> Terms:
        """The parts of the bound: the category summed exactly where the draws have its axis."""
        if draws.log_q_c is None:
            return super().terms(x, draws)
        q_c = draws.log_q_c.exp()
        likelihood = self.log_likelihood(x[:, None], draws.latent)
        ratio = draws.log_q - self.log_joint_prior(draws.latent)
        reconstruction = (q_c * likelihood).sum(-1)
        kl = (q_c * (draws.log_q_c + ratio)).sum(-1)
        return Terms(reconstruction, kl, torch.logsumexp(likelihood - ratio, dim=-1))

    def category_probabilities(self, draws: Draws) -> Tensor:
        """q(c | x), (N, C): the explicit one, or E_q(w|x) p(c | w) over the draws."""
        if draws.log_q_c is not None:
            return draws.log_q_c.exp()
        joint = self.log_joint_prior(draws.latent[..., None, :])
        return torch.softmax(joint, dim=-1).mean(0)
