"""The ELBO, its parts, and the importance-weighted bound, streamed over draws."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from lidcli.models.base import Model

__all__ = ["Bounds", "bounds"]

MINIMUM_DRAWS = 64
"""Draws of w that a collapsed q(c | x) is averaged over, at least."""


class Bounds(NamedTuple):
    """What one pass over data and draws gives, per datum, in nats."""

    elbo: Tensor
    """Mean of the ELBO terms over the draws, (N,)."""
    reconstruction: Tensor
    """(N,)."""
    kl: Tensor
    """Joint KL of every latent, (N,)."""
    ll: Tensor
    """Importance-weighted bound, log-mean-exp of the same draws' weights, (N,)."""
    ll_half: Tensor
    """The same bound at half the draws, the mean over two disjoint halves of the weights, (N,)."""
    q_c: Tensor | None
    """q(c | x), (N, C)."""
    mean: Tensor
    """E[latent | x] over the odd and over the even draws, (2, N, M)."""


@torch.no_grad()
def bounds(model: Model, x: Tensor, samples: int, batch: int = 10_000) -> Bounds:
    """ELBO, reconstruction, KL and the importance-weighted bound of every datum.

    Args:
        model: with its posterior attached.
        x: data (N, D).
        samples: S >= 2 draws a datum; a collapsed q(c | x) uses at least 64.
        batch: decodings held at a time; memory grows with it and not with S or N.

    References:
        Burda, Grosse and Salakhutdinov, "Importance weighted autoencoders" (ICLR 2016).

    Raises:
        ValueError: fewer than two draws.
    """
    if samples < 2:
        raise ValueError(f"at least 2 draws are needed, not {samples}")
    categories = (model.categories or 1) if model.posterior.explicit else 1
    rows = max(1, min(x.shape[0], batch // categories))
    draws = max(1, min(samples, batch // (categories * rows)))
    parts = [_stream(model, part, samples, draws) for part in torch.split(x, rows)]
    q_c = [part.q_c for part in parts if part.q_c is not None]
    return Bounds(
        elbo=torch.cat([part.elbo for part in parts]),
        reconstruction=torch.cat([part.reconstruction for part in parts]),
        kl=torch.cat([part.kl for part in parts]),
        ll=torch.cat([part.ll for part in parts]),
        ll_half=torch.cat([part.ll_half for part in parts]),
        q_c=torch.cat(q_c) if q_c else None,
        mean=torch.cat([part.mean for part in parts], dim=1),
    )


def _stream(model: Model, x: Tensor, samples: int, chunk: int) -> Bounds:
    n = x.shape[0]
    parameters = model.posterior.encode(x)
    reconstruction, kl = x.new_zeros(n).double(), x.new_zeros(n).double()
    log_sums = torch.full_like(kl, -math.inf).repeat(2, 1)
    counts = (samples // 2, samples - samples // 2)
    means = x.new_zeros(2, n, model.latent).double()
    q_c: Tensor | None = None
    done = 0
    for half, count in enumerate(counts):
        for start in range(0, count, chunk):
            s = min(chunk, count - start)
            drawn = model.posterior.draw(parameters, s)
            terms = model.terms(x, drawn)
            reconstruction += terms.reconstruction.double().sum(0)
            kl += terms.kl.double().sum(0)
            more_weight = terms.log_weights.double().logsumexp(0)
            log_sums[half] = torch.logaddexp(log_sums[half], more_weight)
            latent = drawn.latent
            if drawn.log_q_c is not None:
                latent = (drawn.log_q_c.exp()[..., None] * latent).sum(-2)
            means[half] += latent.double().sum(0) / count
            probabilities = model.category_probabilities(drawn)
            if probabilities is not None:
                total = probabilities.double() * s
                q_c = total if q_c is None else q_c + total
            done += s
    if q_c is not None:
        missing = MINIMUM_DRAWS - done
        if missing > 0 and not model.posterior.explicit:
            more = model.category_probabilities(model.posterior.draw(parameters, missing))
            assert more is not None
            q_c, done = q_c + more.double() * missing, MINIMUM_DRAWS
        q_c = q_c / done
    reconstruction, kl = reconstruction / samples, kl / samples
    ll = log_sums.logsumexp(0) - math.log(samples)
    size = torch.tensor(counts, dtype=kl.dtype, device=kl.device)[:, None]
    ll_half = ((log_sums - size.log()) * size).sum(0) / samples
    return Bounds(reconstruction - kl, reconstruction, kl, ll, ll_half, q_c, means)
