"""A user's decoder and likelihood as an observation of lid's."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Size, Tensor, nn
from torch.distributions import Distribution
from torch.func import jvp

from lidcli.diagnose.calls import called, each, finite, kind_of, outside, span
from lidcli.metrics.estimate import Tick, silent
from lidcli.models.batch import Batch, DenseBatch
from lidcli.models.likelihoods import Bernoulli, Gaussian, Likelihood
from lidcli.models.observations import DenseObservation, Observation
from lidcli.names import nearest

__all__ = ["LIKELIHOODS", "Decode", "GivenLogProb", "GivenObservation", "Unobserved", "Wanted"]

LIKELIHOODS = ("bernoulli", "bernoulli-logits", "gaussian")
JACOBIANS = 8
"""Latents whose Jacobian is held at once."""


class Wanted(NamedTuple):
    """What a user said of p(x | z)."""

    decode: Callable[[Tensor], Any] | None
    likelihood: str | None
    sigma: float | None
    log_prob: Callable[[Tensor, Tensor], Tensor] | None

    def check(self) -> None:
        """Whether it fits together, before anything is called.

        Raises:
            ValueError: it does not.
        """
        if self.likelihood is not None and self.likelihood not in LIKELIHOODS:
            raise ValueError(
                f"likelihood={self.likelihood!r} is not known;"
                f" {nearest(self.likelihood, LIKELIHOODS)}"
            )
        if self.log_prob is not None and self.likelihood is not None:
            raise ValueError("likelihood and log_prob were both given, where one is expected")
        if self.likelihood is not None and self.decode is None:
            raise ValueError(f"likelihood={self.likelihood!r} was given without decode")
        self._check_sigma()

    def _check_sigma(self) -> None:
        if self.likelihood == "gaussian" and self.sigma is None:
            raise ValueError(
                "likelihood='gaussian' needs sigma, the sd of the noise: 1 where the model was"
                " trained on half the squared error, 0.5 ** 0.5 where on the squared error"
            )
        if self.sigma is not None and self.likelihood != "gaussian":
            raise ValueError(f"sigma={self.sigma} was given without likelihood='gaussian'")
        if isinstance(self.sigma, str):
            raise ValueError(f"sigma={self.sigma!r} is a text, where a number is expected")
        if self.sigma is not None and not 0 < self.sigma < float("inf"):
            raise ValueError(f"sigma must be positive and finite, not {self.sigma}")

    def observation(self, z: Tensor, latent: Size, event: Size, batch: int) -> Observation:
        """The observation, whose decoder is tried on some latents.

        Args:
            z: (n, M), latents to try it on.
            latent: the shape of a latent.
            event: the shape of a datum.
            batch: decodings at a time.

        Raises:
            ValueError: decode fails, or returns what no likelihood was named for.
        """
        if self.log_prob is not None:
            guarded = functools.partial(called, "log_prob", self.log_prob)
            return GivenLogProb(guarded, "log_prob", latent, event)
        if self.decode is None:
            return Unobserved()
        answer = called("decode", self.decode, z.view(len(z), *latent))
        if isinstance(answer, Distribution):
            if self.likelihood is not None:
                raise ValueError(
                    f"decode returns a {type(answer).__name__}, with which likelihood="
                    f"{self.likelihood!r} cannot stand"
                )
            return GivenLogProb(_of_distribution(self.decode), "decode", latent, event)
        if self.likelihood is None:
            raise ValueError(
                f"decode returns parameters, and nothing says of what: name likelihood="
                f" {', '.join(LIKELIHOODS)}, or give log_prob(x, z)"
            )
        decoder = Decode(self.decode, latent, event, self.likelihood == "bernoulli", batch)
        likelihood = Bernoulli() if self.sigma is None else Gaussian(self.sigma)
        found = GivenObservation(decoder, likelihood.to(z.device, z.dtype))
        tried = decoder(z)
        if self.likelihood == "bernoulli-logits" and tried.min() >= 0 and tried.max() <= 1:
            found.notes.append(
                f"decode gives {span(tried)}, which look like probabilities: likelihood='bernoulli'"
                " expects these, 'bernoulli-logits' log odds."
            )
        return found


def _of_distribution(decode: Callable[[Tensor], Any]) -> Callable[[Tensor, Tensor], Tensor]:
    """log p(x | z) of a decoder that returns distributions."""

    def log_prob(x: Tensor, z: Tensor) -> Tensor:
        found = called("decode", decode, z)
        if not isinstance(found, Distribution):
            raise ValueError(
                f"decode returned a {type(found).__name__}, where a distribution is expected, as"
                " it returned before"
            )
        if outside(found, x):
            kind = kind_of(found)
            grey = kind == "Bernoulli" and bool((x >= 0).all() and (x <= 1).all())
            more = "; values between 0 and 1 are taken by likelihood='bernoulli'" if grey else ""
            raise ValueError(
                f"x has values of {span(x)}, some of them outside the support of decode's"
                f" distribution, a {kind}{more}"
            )
        return each("decode's distribution", found, x)

    return log_prob


class Decode(nn.Module):
    """A user's decoder as a map of rows.

    Args:
        decode: from latents (n, *latent) to parameters of D numbers each, a tensor, or a mapping
            with the entry `reconstruction`.
        latent: the shape of a latent.
        event: the shape of a datum, D numbers.
        probabilities: whether it gives probabilities, of which log odds are made.
        batch: rows at a time.

    Example:
        >>> Decode(torch.sigmoid, Size((3,)), Size((3,)), True, 2)(torch.zeros(5, 3)).sum().item()
        0.0
    """

    def __init__(
        self,
        decode: Callable[[Tensor], Any],
        latent: Size,
        event: Size,
        probabilities: bool,
        batch: int,
    ) -> None:
        super().__init__()
        self._decode, self._latent, self._event = (decode,), latent, event
        self._probabilities, self._batch = probabilities, batch
        self.saturated = self.given = 0

    def forward(self, z: Tensor) -> Tensor:
        """Parameters (*L, D) at latents (*L, M)."""
        rows = z.reshape(-1, z.shape[-1])
        found = torch.cat([self._rows(part) for part in torch.split(rows, self._batch)])
        return found.view(*z.shape[:-1], found.shape[-1])

    def _rows(self, rows: Tensor) -> Tensor:
        answer = called("decode", self._decode[0], rows.view(len(rows), *self._latent))
        if isinstance(answer, Mapping) and "reconstruction" in answer:
            answer = answer["reconstruction"]
        if not isinstance(answer, Tensor):
            raise ValueError(
                f"decode returned a {type(answer).__name__}, where a tensor of parameters or a"
                " torch distribution is expected"
            )
        d = self._event.numel()
        if answer.shape[:1] != rows.shape[:1] or answer.numel() != len(rows) * d:
            raise ValueError(
                f"decode returned {tuple(answer.shape)} for {len(rows)} latents, where"
                f" {(len(rows), *self._event)} is expected: data have the shape"
                f" {tuple(self._event)}"
            )
        found = finite("decode's answer", answer.reshape(len(rows), d), "latents")
        return self._log_odds(found) if self._probabilities else found

    def _log_odds(self, p: Tensor) -> Tensor:
        """Log odds of probabilities; those that are 0 or 1 by rounding are counted."""
        if p.min() < 0 or p.max() > 1:
            raise ValueError(
                f"decode gave values of {span(p)}, where likelihood='bernoulli' expects"
                " probabilities between 0 and 1; of log odds it is 'bernoulli-logits'"
            )
        self.given += p.numel()
        self.saturated += int(((p == 0) | (p == 1)).sum())
        info = torch.finfo(p.dtype)
        return torch.logit(p.clamp(info.tiny, 1 - info.eps / 2))


class GivenObservation(DenseObservation):
    """A user's decoder and a likelihood of lid's.

    Args:
        decoder: the decoder as a map of rows.
        likelihood: log p(x | parameters).

    Attributes:
        notes: what a reader must know of it.
        tick: told of the Fisher information's progress.

    Example:
        >>> decoder = Decode(lambda z: 2 * z, Size((3,)), Size((3,)), False, 10)
        >>> GivenObservation(decoder, Gaussian(1.0)).fisher(torch.zeros(1, 3)).diagonal(0, 1, 2)
        tensor([[4., 4., 4.]])
    """

    def __init__(self, decoder: Decode, likelihood: Likelihood) -> None:
        super().__init__(decoder, likelihood)
        self.notes: list[str] = []
        self.tick: Tick = silent

    def log_prob(self, x: Batch, z: Tensor) -> Tensor:
        """log p(x_n | z_n) in nats, (*L, N), for latents (*L, N, M); x is brought to z."""
        assert isinstance(x, DenseBatch)
        return super().log_prob(x.to(z.device), z)

    def fisher(self, z: Tensor) -> Tensor:
        """Jᵀ G J (N, M, M), J by forward differentiation, a few latents at a time."""
        found = []
        for rows in torch.split(z, JACOBIANS):
            columns = [self._slope(rows, k) for k in range(z.shape[1])]
            jacobian = torch.stack(columns, dim=-1)
            self.tick(len(rows) / len(z))
            weights = self.likelihood.weights(self.decode(rows))
            found.append(torch.einsum("ndi,nd,ndj->nij", jacobian, weights, jacobian))
        return torch.cat(found)

    def _slope(self, z: Tensor, k: int) -> Tensor:
        """The derivative (N, D) of the parameters in latent k."""
        tangent = torch.zeros_like(z)
        tangent[:, k] = 1
        found: Tensor = jvp(self.decode, (z,), (tangent,))[1]
        return found

    def map(self) -> None:  # type: ignore[override]
        """None: a user's decoder need not be one that torch.func transforms."""
        return

    def remarks(self) -> list[str]:
        """What a reader of the figures must know of the decoder."""
        decoder = self.decoder
        assert isinstance(decoder, Decode)
        if not decoder.saturated:
            return self.notes
        share = decoder.saturated / decoder.given
        return [
            *self.notes,
            f"{share:.2g} of the decoder's probabilities are 0 or 1 to rounding, where LL and ELBO"
            " are only as exact as the float: 'bernoulli-logits' with log odds has no such limit.",
        ]


class GivenLogProb(Observation):
    """log p(x | z) by a user's function, about which nothing else is known.

    Args:
        log_prob: from data (n, *event) and latents (n, *latent) to (n,).
        name: the user's name for it.
        latent: the shape of a latent.
        event: the shape of a datum.

    Example:
        >>> shape = Size((2,))
        >>> observation = GivenLogProb(lambda x, z: -(x - z).abs().sum(1), "f", shape, shape)
        >>> observation.log_prob(DenseBatch(torch.zeros(5, 2)), torch.ones(3, 5, 2)).shape
        torch.Size([3, 5])
    """

    def __init__(
        self,
        log_prob: Callable[[Tensor, Tensor], Tensor],
        name: str,
        latent: Size,
        event: Size,
    ) -> None:
        super().__init__()
        self._log_prob, self.name, self._latent, self._event = (log_prob,), name, latent, event

    def log_prob(self, x: Batch, z: Tensor) -> Tensor:
        """log p(x_n | z_n) in nats, (*L, N), for latents (*L, N, M)."""
        assert isinstance(x, DenseBatch)
        rows = z.reshape(-1, *self._latent)
        data = x.x.to(z.device).expand(*z.shape[:-1], -1).reshape(-1, *self._event)
        found = self._log_prob[0](data, rows)
        if not isinstance(found, Tensor) or found.shape != rows.shape[:1]:
            seen = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise ValueError(
                f"{self.name} gave a log probability of shape {seen} for {len(rows)} data and"
                f" latents, where ({len(rows)},) is expected: a number for each datum"
            )
        return finite(f"the log probability of {self.name}", found[:, None])[:, 0].view(
            z.shape[:-1]
        )

    def sample(self, z: Tensor) -> DenseBatch:
        """Not known."""
        raise ValueError(f"{self.name} gives log probabilities, no data")


class Unobserved(Observation):
    """No likelihood at all, where only the encoder is looked at."""

    def log_prob(self, x: Batch, z: Tensor) -> Tensor:
        """Zeros (*L, N)."""
        return z.new_zeros(z.shape[:-1])

    def sample(self, z: Tensor) -> DenseBatch:
        """Not known."""
        raise ValueError("without a decoder there are no data to draw")
