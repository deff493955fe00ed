"""The ELBO, its parts, and the importance-weighted bound, streamed over draws."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from lidcli.metrics.estimate import Tick, silent
from lidcli.models.batch import Batch
from lidcli.models.latent import Centred, Conditional, LatentModel

__all__ = ["Bounds", "bounds"]


class Bounds(NamedTuple):
    """What one pass over data and draws gives, per datum, in nats."""

    elbo: Tensor
    """Mean of the ELBO terms over the draws, (N,)."""
    reconstruction: Tensor
    """(N,)."""
    kl: Tensor
    """Joint KL of every latent, (N,)."""
    kl_latent: Tensor
    """The continuous latent's part of it, (N,)."""
    ll: Tensor
    """Importance-weighted bound, log-mean-exp of the same draws' weights, (N,)."""
    ll_half: Tensor
    """The same bound at half the draws, the mean over two disjoint halves of the weights, (N,)."""
    q_c: Tensor | None
    """q(c | x), (N, C)."""
    mean: Tensor
    """E[latent | x] over each half of the draws, (2, N, M), or twice the exact one."""


@torch.no_grad()
def bounds(
    model: LatentModel,
    x: Batch,
    samples: int,
    batch: int = 10_000,
    tick: Tick = silent,
) -> Bounds:
    """ELBO, reconstruction, KL and the importance-weighted bound of every datum.

    Args:
        model: with its posterior attached.
        x: N data.
        samples: S >= 2 draws a datum; a q(c | x) that is not explicit uses at least 64.
        batch: decodings held at a time; memory grows with it and not with S or N.
        tick: told what share of the work has been done since the last time.

    References:
        Burda, Grosse and Salakhutdinov, "Importance weighted autoencoders" (ICLR 2016).

    Raises:
        ValueError: fewer than two draws.
    """
    if samples < 2:
        raise ValueError(f"at least 2 draws are needed, not {samples}")
    decodings = model.posterior.decodings
    some = x.parts(batch // decodings)
    largest = decodings * max(part.size() for part in some)
    draws = max(1, min(samples, batch // largest))

    def decoded(count: int) -> None:
        tick(count / (samples * len(x)))

    return _joined([_stream(model, part, samples, draws, decoded) for part in some])


def _joined(parts: list[Bounds]) -> Bounds:
    """The bounds of all data from those of their parts."""
    q_c = [part.q_c for part in parts if part.q_c is not None]
    return Bounds(
        elbo=torch.cat([part.elbo for part in parts]),
        reconstruction=torch.cat([part.reconstruction for part in parts]),
        kl=torch.cat([part.kl for part in parts]),
        kl_latent=torch.cat([part.kl_latent for part in parts]),
        ll=torch.cat([part.ll for part in parts]),
        ll_half=torch.cat([part.ll_half for part in parts]),
        q_c=torch.cat(q_c) if q_c else None,
        mean=torch.cat([part.mean for part in parts], dim=1),
    )


def _stream(
    model: LatentModel, x: Batch, samples: int, chunk: int, decoded: Callable[[int], None]
) -> Bounds:
    """The bounds of data few enough to be decoded together, `chunk` draws at a time."""
    conditional = model.posterior(x)
    counts = (samples // 2, samples - samples // 2)
    sums = _Sums(model, x)
    for half, count in enumerate(counts):
        if half and model.posterior.random:
            conditional = model.posterior(x)
        for start in range(0, count, chunk):
            draws = min(chunk, count - start)
            sums.add(conditional, draws, half, count)
            decoded(draws * len(x))
        sums.centre(conditional, half)
    assert sums.reconstruction is not None
    assert sums.kl is not None
    assert sums.means is not None
    q_c = sums.category_probabilities(conditional)
    reconstruction, kl = sums.reconstruction / samples, sums.kl / samples
    both = torch.stack([part for part in sums.log_weights if part is not None])
    ll = both.logsumexp(0) - math.log(samples)
    size = torch.tensor(counts, dtype=kl.dtype, device=kl.device)[:, None]
    ll_half = ((both - size.log()) * size).sum(0) / samples
    kl_latent = conditional.latent_kl(kl, q_c)
    return Bounds(reconstruction - kl, reconstruction, kl, kl_latent, ll, ll_half, q_c, sums.means)


class _Sums:
    """What has been summed over the draws so far, in float64; None before the first."""

    def __init__(self, model: LatentModel, x: Batch) -> None:
        self.model, self.x = model, x
        self.draws = 0
        self.reconstruction: Tensor | None = None
        self.kl: Tensor | None = None
        self.log_weights: list[Tensor | None] = [None, None]
        """Log-sums of the weights of each half of the draws."""
        self.means: Tensor | None = None
        self.q_c: Tensor | None = None

    def add(self, conditional: Conditional, draws: int, half: int, count: int) -> None:
        """Draw and sum, as a part of the `count` draws of a half."""
        drawn = conditional.draw(draws)
        terms = self.model.terms(self.x, drawn)
        self.reconstruction = _add(self.reconstruction, terms.reconstruction.double().sum(0))
        self.kl = _add(self.kl, terms.kl.double().sum(0))
        log_weight = terms.log_weights.double().logsumexp(0)
        known = self.log_weights[half]
        self.log_weights[half] = log_weight if known is None else torch.logaddexp(known, log_weight)
        latent = drawn.mean().double().sum(0) / count
        if self.means is None:
            self.means = latent.new_zeros(2, len(self.x), self.model.latent)
        self.means[half] += latent
        self.q_c = _add_categories(self.q_c, drawn.categories(self.model.prior), draws)
        self.draws += draws

    def centre(self, conditional: Conditional, half: int) -> None:
        """Put the exact mean of the latent in the place of that of the draws, if it is known."""
        exact = conditional.expectation() if isinstance(conditional, Centred) else None
        if exact is not None:
            assert self.means is not None
            self.means[half] = exact.double()

    def category_probabilities(self, conditional: Conditional) -> Tensor | None:
        """q(c | x) (N, C), from as many draws as it needs; None without a category."""
        if self.q_c is None:
            return None
        missing = conditional.category_draws - self.draws
        if missing > 0:
            more = conditional.draw(missing).categories(self.model.prior)
            self.q_c = _add_categories(self.q_c, more, missing)
            self.draws = conditional.category_draws
        assert self.q_c is not None
        return self.q_c / self.draws


def _add(total: Tensor | None, more: Tensor) -> Tensor:
    return more if total is None else total + more


def _add_categories(total: Tensor | None, more: Tensor | None, draws: int) -> Tensor | None:
    return total if more is None else _add(total, more.double() * draws)
