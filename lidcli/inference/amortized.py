"""Amortized posteriors: encoders, and a conditional RealNVP on a Gaussian base."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lidcli.models.base import Draws, Parameters, normal_log_prob
from lidcli.nn.flows import ConditionalRealNVP
from lidcli.nn.mlp import MLP

__all__ = ["FlowPosterior"]

CONTEXT = 32


class FlowPosterior(nn.Module):
    """q(c | x) q(w | x, c), or q(w | x): MLP encoders and couplings on a Gaussian base.

    Args:
        inputs: data dimensions D.
        latent: M.
        categories: C for the explicit posterior; None for q(w | x) alone.
        hidden: units of the encoders and of the couplings' networks.
        layers: hidden layers of the encoders.
        transforms: couplings; 0 leaves a diagonal Gaussian.

    References:
        Paper, section 4.1 and appendix C (RealNVP on images); Dinh et al. (2017).

    Example:
        >>> q = FlowPosterior(5, latent=2, categories=3, hidden=16, layers=1, transforms=2)
        >>> q.draw(q.encode(torch.randn(7, 5)), samples=4).latent.shape
        torch.Size([4, 7, 3, 2])
    """

    def __init__(
        self,
        inputs: int,
        latent: int,
        categories: int | None,
        *,
        hidden: int,
        layers: int,
        transforms: int,
    ) -> None:
        super().__init__()
        self.explicit = categories is not None
        self.categories, self.latent = categories or 1, latent
        self.category = None
        if categories is not None:
            self.category = MLP(inputs, categories, hidden, layers + 1, activation="gelu")
        outputs = self.categories * 2 * latent
        self.base = MLP(inputs, outputs + CONTEXT, hidden, layers + 1, activation="gelu")
        self.embedding = nn.Parameter(torch.randn(self.categories, CONTEXT))
        self.flow = ConditionalRealNVP(latent, CONTEXT, transforms, hidden)
        head = self.base.stages[-1]
        assert isinstance(head, nn.Linear)
        with torch.no_grad():
            head.weight[:outputs] *= 0.1

    @torch.no_grad()
    def start_at(self, loc: Tensor, log_scale: Tensor) -> None:
        """Start the Gaussian bases near given means and log sds, (C, M) or broadcasting."""
        head = self.base.stages[-1]
        assert isinstance(head, nn.Linear)
        shape = (self.categories, self.latent)
        start = torch.stack([loc.expand(shape), log_scale.expand(shape)], dim=1)
        head.bias[: start.numel()] = start.flatten()

    def encode(self, x: Tensor) -> Parameters:
        """Variational parameters of data x (N, D)."""
        n, c, m = x.shape[0], self.categories, self.latent
        out = self.base(x)
        base = out[:, : c * 2 * m].view(n, c, 2, m)
        context = out[:, None, c * 2 * m :] + self.embedding
        logits = x.new_zeros(n, 1) if self.category is None else self.category(x)
        return Parameters(logits, base[:, :, 0], base[:, :, 1], context)

    def draw(self, parameters: Parameters, samples: int) -> Draws:
        """Reparametrised draws: (S, N, C, M) explicit, else (S, N, M)."""
        loc, log_scale = parameters.loc, parameters.log_scale
        noise = torch.randn(samples, *loc.shape, device=loc.device, dtype=loc.dtype)
        w, log_det = self.flow(loc + log_scale.exp() * noise, parameters.context)
        zero = loc.new_zeros(())
        log_q = normal_log_prob(noise, zero, zero) - log_scale.sum(-1) - log_det
        if not self.explicit:
            return Draws(w[:, :, 0], log_q[:, :, 0], None)
        return Draws(w, log_q, torch.log_softmax(parameters.logits, dim=-1))

    def log_prob(self, latent: Tensor, parameters: Parameters) -> Tensor:
        """log q(w_b | x_n), the category summed, (B, N) for w (B, M)."""
        shape = (latent.shape[0], *parameters.loc.shape)
        base, log_det = self.flow.inverse(
            latent[:, None, None].expand(shape), parameters.context.expand(*shape[:3], CONTEXT)
        )
        log_q = normal_log_prob(base, parameters.loc, parameters.log_scale) + log_det
        return torch.logsumexp(log_q + torch.log_softmax(parameters.logits, dim=-1), dim=-1)
