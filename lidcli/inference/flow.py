"""Amortized posteriors: an encoder, and a conditional RealNVP on a Gaussian base."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from lidcli.inference.category import CategoryNetwork
from lidcli.models.batch import Batch
from lidcli.models.latent import (
    CATEGORY_DRAWS,
    CategoryDraws,
    Draws,
    Posterior,
    SampledDraws,
    log_of_rest,
    without_negligible,
)
from lidcli.models.priors import normal_log_prob
from lidcli.nn.flows import ConditionalRealNVP
from lidcli.nn.mlp import affine

__all__ = ["CategoryFlow", "CategoryPosterior", "Flow", "FlowPosterior"]

CONTEXT = 32


@dataclass(frozen=True)
class Flow:
    """q(w | x) of N data: a flow on a Gaussian base.

    Attributes:
        loc: mean of the base, (N, M).
        log_scale: log sd of the base, (N, M).
        context: what the flow is conditioned on, (N, context).
        flow: the couplings.
    """

    loc: Tensor
    log_scale: Tensor
    context: Tensor
    flow: ConditionalRealNVP
    decodings = 1
    category_draws = CATEGORY_DRAWS

    def _noise(self, samples: int) -> Tensor:
        loc = self.loc
        return torch.randn(samples, *loc.shape, device=loc.device, dtype=loc.dtype)

    def _push(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Latents and their log q where the noise (S, *bases) has gone through the flow."""
        loc, log_scale = self.loc, self.log_scale
        w, log_det = self.flow(loc + log_scale.exp() * noise, self.context)
        zero = loc.new_zeros(())
        return w, normal_log_prob(noise, zero, zero) - log_scale.sum(-1) - log_det

    def draw(self, samples: int) -> Draws:
        """Reparametrised draws (S, N, M)."""
        return self.at(self._noise(samples))

    def at(self, noise: Tensor) -> Draws:
        """The draws that standard normal values, as `FlowPosterior.noise` gives them, become."""
        return Draws(*self._push(noise))

    def _log_base(self, latent: Tensor) -> Tensor:
        """log q of latents (B, M) under each of the bases, (B, *bases)."""
        bases = self.loc.shape[:-1]
        shape = (len(latent), *bases)
        flat = latent.view(len(latent), *[1] * len(bases), latent.shape[-1])
        base, log_det = self.flow.inverse(
            flat.expand(*shape, latent.shape[-1]), self.context.expand(*shape, CONTEXT)
        )
        return normal_log_prob(base, self.loc, self.log_scale) + log_det

    def expectation(self) -> Tensor | None:
        """Mean (N, M) of q(w | x) where nothing bends the base."""
        return None if len(self.flow.couplings) else self.loc

    def log_prob(self, latent: Tensor) -> Tensor:
        """log q(w_b | x_n), (B, N), for w (B, M)."""
        return self._log_base(latent)

    def latent_kl(self, joint: Tensor, q_c: Tensor | None) -> Tensor:
        """The joint KL itself: the category is a view of w, no summand."""
        return joint

    def rows(self, index: slice | Tensor) -> Flow:
        """The posteriors of some of the data."""
        return replace(
            self,
            loc=self.loc[index],
            log_scale=self.log_scale[index],
            context=self.context[index],
        )

    def joined(self, *others: Flow) -> Flow:
        """These posteriors and those of further data."""
        return replace(
            self,
            loc=torch.cat([self.loc, *(o.loc for o in others)]),
            log_scale=torch.cat([self.log_scale, *(o.log_scale for o in others)]),
            context=torch.cat([self.context, *(o.context for o in others)]),
        )

    def tensors(self) -> tuple[Tensor, ...]:
        """Mean and log sd of the base."""
        return self.loc, self.log_scale

    def replace(self, *tensors: Tensor) -> Flow:
        """The same flow on another base."""
        loc, log_scale = tensors
        return replace(self, loc=loc, log_scale=log_scale)


@dataclass(frozen=True)
class CategoryFlow(Flow):
    """q(c | x) q(w | x, c) of N data: a flow for each category.

    Attributes:
        logits: log q(c | x), unnormalised, (N, C); the other tensors are (N, C, ...).
        likeliest: K < C - 1, categories that are drawn beside a random one; None: all are.
    """

    logits: Tensor
    likeliest: int | None = None
    category_draws = 0

    @property
    def decodings(self) -> int:  # type: ignore[override]
        """C."""
        return self.logits.shape[1]

    def _log_q_c(self) -> Tensor:
        return torch.log_softmax(self.logits, dim=-1)

    def draw(self, samples: int) -> CategoryDraws:
        """Reparametrised draws (S, C, N, M), or of some categories only."""
        if self.likeliest is not None:
            return self._draw_some(samples, self.likeliest)
        return self.at(self._noise(samples))

    def at(self, noise: Tensor) -> CategoryDraws:
        """The draws of every category that standard normal values become."""
        w, log_q = self._push(noise)
        return CategoryDraws(w.movedim(2, 1), log_q.movedim(2, 1), self._log_q_c())

    def _draw_some(self, samples: int, likeliest: int) -> SampledDraws:
        """Draws (S, K + 1, N, M) of the likeliest categories and a random one of the rest."""
        log_q_c = self._log_q_c()
        known = log_q_c.detach().topk(likeliest, dim=1).indices
        other = torch.multinomial(log_of_rest(log_q_c.detach(), known).exp(), 1)
        chosen = torch.cat([known, other], dim=1)
        loc, log_scale = _pick(self.loc, chosen), _pick(self.log_scale, chosen)
        some = Flow(loc, log_scale, _pick(self.context, chosen), self.flow)
        w, log_q = some._push(some._noise(samples))
        return SampledDraws(w.movedim(2, 1), log_q.movedim(2, 1), log_q_c, chosen)

    def expectation(self) -> Tensor | None:
        """Mean (N, M) of q(w | x) over the categories, where nothing bends the bases."""
        q_c = self._log_q_c().exp()[..., None]
        return None if len(self.flow.couplings) else (q_c * self.loc).sum(1)

    def log_prob(self, latent: Tensor) -> Tensor:
        """log q(w_b | x_n), (B, N), for w (B, M), over all categories but negligible ones."""
        log_q_c = without_negligible(self._log_q_c())
        n, c = (log_q_c != -torch.inf).nonzero(as_tuple=True)
        kept = Flow(self.loc[n, c], self.log_scale[n, c], self.context[n, c], self.flow)
        log_q = log_q_c.expand(len(latent), *log_q_c.shape).clone()
        log_q[:, n, c] += kept._log_base(latent)
        return torch.logsumexp(log_q, dim=-1)

    def latent_kl(self, joint: Tensor, q_c: Tensor | None) -> Tensor:
        """Σ_c q(c|x) KL(q(w|x,c) ‖ p(w|c)), for a uniform category."""
        assert q_c is not None
        return joint - math.log(q_c.shape[1]) - torch.xlogy(q_c, q_c).sum(1)

    def rows(self, index: slice | Tensor) -> CategoryFlow:
        """The posteriors of some of the data."""
        return replace(
            self,
            loc=self.loc[index],
            log_scale=self.log_scale[index],
            context=self.context[index],
            logits=self.logits[index],
        )

    def joined(self, *others: CategoryFlow) -> CategoryFlow:  # type: ignore[override]
        """These posteriors and those of further data."""
        joined = super().joined(*others)
        assert isinstance(joined, CategoryFlow)
        return replace(joined, logits=torch.cat([self.logits, *(o.logits for o in others)]))

    def tensors(self) -> tuple[Tensor, ...]:
        """Logits of the category, mean and log sd of the bases."""
        return self.logits, self.loc, self.log_scale

    def replace(self, *tensors: Tensor) -> CategoryFlow:
        """The same flow on other bases and categories."""
        logits, loc, log_scale = tensors
        return replace(self, logits=logits, loc=loc, log_scale=log_scale)


def _pick(values: Tensor, chosen: Tensor) -> Tensor:
    """Of values (N, C, ...), those (N, K, ...) of the categories chosen, (N, K)."""
    index = chosen[..., None].expand(*chosen.shape, values.shape[-1])
    return values.gather(1, index)


class _BasesPosterior(Posterior):
    """An encoder and a head for one or several Gaussian bases, and the couplings they share."""

    latent: int

    def _make_bases(
        self, encoder: Callable[[], nn.Module], features: int, hidden: int, transforms: int
    ) -> None:
        outputs = self.decodings * 2 * self.latent
        self.base, self.base_head = encoder(), affine(features, outputs + CONTEXT)
        self.embedding = nn.Parameter(torch.randn(self.decodings, CONTEXT))
        self.flow = ConditionalRealNVP(self.latent, CONTEXT, transforms, hidden)
        with torch.no_grad():
            self.base_head.weight[:outputs] *= 0.1

    @torch.no_grad()
    def start_at(self, loc: Tensor, log_scale: Tensor) -> None:
        """Start the Gaussian bases near given means and log sds, (C, M) or broadcasting."""
        shape = (self.decodings, self.latent)
        start = torch.stack([loc.expand(shape), log_scale.expand(shape)], dim=1)
        self.base_head.bias[: start.numel()] = start.flatten()

    def _bases(self, x: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Means and log sds (N, C, M) of the bases, and contexts (N, C, context)."""
        c, m = self.decodings, self.latent
        out = self.base_head(self.base(x))
        base = out[:, : c * 2 * m].view(len(out), c, 2, m)
        context = out[:, None, c * 2 * m :] + self.embedding
        return base[:, :, 0], base[:, :, 1], context


class FlowPosterior(_BasesPosterior):
    """q(w | x): an encoder, a head for the Gaussian base, and couplings.

    Args:
        encoder: makes a new network from data to (N, features).
        features: what it gives.
        latent: M.
        hidden: units of the couplings' networks.
        transforms: couplings; 0 leaves a diagonal Gaussian.

    References:
        Paper, section 4.1 and appendix C (RealNVP on images); Dinh et al. (2017).

    Example:
        >>> from lidcli.models.batch import DenseBatch
        >>> class Rows(nn.Linear):
        ...     def forward(self, x):
        ...         return super().forward(x.x)
        >>> q = FlowPosterior(lambda: Rows(5, 16), 16, latent=2, hidden=8, transforms=2)
        >>> q(DenseBatch(torch.randn(7, 5))).draw(4).latent.shape
        torch.Size([4, 7, 2])
    """

    decodings = 1

    def __init__(
        self,
        encoder: Callable[[], nn.Module],
        features: int,
        *,
        latent: int,
        hidden: int,
        transforms: int,
    ) -> None:
        super().__init__()
        self.latent = latent
        self._make_bases(encoder, features, hidden, transforms)

    def noise(self, n: int, samples: int) -> Tensor:
        """What `draw` would draw of n data: standard normal values (S, n, M)."""
        like = self.embedding
        return torch.randn(samples, n, self.latent, device=like.device, dtype=like.dtype)

    def forward(self, x: Batch) -> Flow:
        """q(w | x) of data x."""
        loc, log_scale, context = self._bases(x)
        return Flow(loc[:, 0], log_scale[:, 0], context[:, 0], self.flow)


class CategoryPosterior(_BasesPosterior):
    """q(c | x) q(w | x, c): encoders of the category and of every category's base.

    Args:
        categories: C.
        encoder, features, latent, hidden, transforms: as of `FlowPosterior`.
        likeliest: K >= 1, categories drawn in training beside a random one where that is less
            than all; None: all are. Evaluation always sums all.
        path: D, dimensions of dense data that reach the logits of q(c | x) by a linear map beside
            the network; None: no such map.
    """

    def __init__(
        self,
        categories: int,
        encoder: Callable[[], nn.Module],
        features: int,
        *,
        latent: int,
        hidden: int,
        transforms: int,
        likeliest: int | None = None,
        path: int | None = None,
    ) -> None:
        super().__init__()
        self.latent, self.decodings = latent, categories
        some = likeliest is not None and likeliest + 1 < categories
        self.likeliest = likeliest if some else None
        self.category, self.category_head = encoder(), affine(features, categories)
        self._make_bases(encoder, features, hidden, transforms)
        self.category_path = None if path is None else affine(path, categories)

    def category_network(self) -> CategoryNetwork:
        """What gives the logits of q(c | x)."""
        return CategoryNetwork(self.category, self.category_head, self.category_path)

    def noise(self, n: int, samples: int) -> Tensor:
        """What `draw` would draw of n data, all categories: standard normal (S, n, C, M)."""
        like, shape = self.embedding, (samples, n, self.decodings, self.latent)
        return torch.randn(*shape, device=like.device, dtype=like.dtype)

    def forward(self, x: Batch) -> CategoryFlow:
        """q(c | x) q(w | x, c) of data x."""
        logits = self.category_network()(x)
        loc, log_scale, context = self._bases(x)
        likeliest = self.likeliest if self.training else None
        return CategoryFlow(loc, log_scale, context, self.flow, logits, likeliest)
