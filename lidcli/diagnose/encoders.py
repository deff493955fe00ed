"""A user's encoder as a posterior of lid's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Size, Tensor
from torch.distributions import (
    Distribution,
    Independent,
    LowRankMultivariateNormal,
    MultivariateNormal,
    Normal,
)

from lidcli.diagnose.calls import called, drawn, each, finite
from lidcli.models.batch import Batch, DenseBatch
from lidcli.models.latent import Draws, Posterior
from lidcli.models.priors import normal_log_prob

__all__ = ["NAME", "Distributions", "GivenPosterior", "Normals"]

NAME = "encode's distribution"


@dataclass(frozen=True)
class Normals:
    """q(z | x) of N data, diagonal.

    Attributes:
        loc: (N, M).
        log_scale: (N, M).
    """

    loc: Tensor
    log_scale: Tensor
    decodings = 1
    category_draws = 0

    def draw(self, samples: int) -> Draws:
        """Draws (S, N, M)."""
        noise = torch.randn(samples, *self.loc.shape, device=self.loc.device, dtype=self.loc.dtype)
        zero = self.loc.new_zeros(())
        log_q = normal_log_prob(noise, zero, zero) - self.log_scale.sum(-1)
        return Draws(self.loc + self.log_scale.exp() * noise, log_q)

    def expectation(self) -> Tensor:
        """The means (N, M)."""
        return self.loc

    def marginals(self) -> Normals:
        """These: their units are independent."""
        return self

    def log_prob(self, latent: Tensor) -> Tensor:
        """log q(z_b | x_n), (B, N), for z (B, M)."""
        return normal_log_prob(latent[:, None], self.loc, self.log_scale)

    def latent_kl(self, joint: Tensor, q_c: Tensor | None) -> Tensor:
        """The joint KL: there is no category."""
        return joint

    def rows(self, index: slice | Tensor) -> Normals:
        """The posteriors of some of the data."""
        return Normals(self.loc[index], self.log_scale[index])

    def joined(self, *others: Normals) -> Normals:
        """These posteriors and those of further data."""
        return Normals(
            torch.cat([self.loc, *(o.loc for o in others)]),
            torch.cat([self.log_scale, *(o.log_scale for o in others)]),
        )

    def tensors(self) -> tuple[Tensor, ...]:
        """Means and log sds."""
        return self.loc, self.log_scale

    def replace(self, *tensors: Tensor) -> Normals:
        """The same family at other parameters."""
        return Normals(*tensors)

    def unit_kl(self, mean: Tensor, variance: Tensor) -> Tensor:
        """KL to N(mean, variance), each (M,), of every unit, (N, M), in closed form."""
        mean, variance = mean.double(), variance.double()
        log_ratio = 2 * self.log_scale.double() - variance.log()
        moved = (self.loc.double() - mean).square() / variance
        return 0.5 * (moved + log_ratio.exp() - 1 - log_ratio)


@dataclass(frozen=True)
class Distributions:
    """q(z | x) of N data, whatever it is; what cannot be cut is encoded again.

    Attributes:
        encode: from data (n, D) to a distribution whose first dimension they are.
        x: data (N, D).
        parts: the distributions of consecutive parts of the data, with the index of each one's
            first datum; the first part may begin before these data, and the last end after them.
        device: of the latents.
    """

    encode: Callable[[Tensor], Distribution]
    x: Tensor
    parts: tuple[tuple[int, Distribution], ...]
    device: torch.device
    decodings = 1
    category_draws = 0

    def _own(self, found: list[Tensor], axis: int) -> Tensor:
        """Of what the parts gave, along an axis, that of these data."""
        return torch.cat(found, dim=axis).narrow(axis, -self.parts[0][0], len(self.x))

    def draw(self, samples: int) -> Draws:
        """Draws (S, N, M)."""
        latent, log_q = [], []
        for _, part in self.parts:
            z = drawn(NAME, part, Size((samples,)))
            log_q.append(each(NAME, part, z, 2))
            latent.append(z.flatten(2))
        return Draws(self._own(latent, 1), self._own(log_q, 1))

    def expectation(self) -> Tensor | None:
        """The means (N, M) of normal distributions; None of others, whose `mean` may be no mean."""
        found = self.marginals()
        return None if found is None else found.loc

    def marginals(self) -> Normals | None:
        """The units of joint normal distributions, each by itself; None of others."""
        loc, log_scale = [], []
        for _, part in self.parts:
            if not isinstance(part, MultivariateNormal | LowRankMultivariateNormal):
                return None
            loc.append(part.mean.flatten(1))
            log_scale.append(part.variance.log().flatten(1) / 2)
        return Normals(self._own(loc, 0), self._own(log_scale, 0))

    def log_prob(self, latent: Tensor) -> Tensor:
        """log q(z_b | x_n), (B, N), for z (B, M)."""
        found = []
        for _, part in self.parts:
            shape = (part.batch_shape + part.event_shape)[1:]
            found.append(each(NAME, part, latent.view(len(latent), 1, *shape), 2))
        return self._own(found, 1)

    def latent_kl(self, joint: Tensor, q_c: Tensor | None) -> Tensor:
        """The joint KL: there is no category."""
        return joint

    def rows(self, index: slice | Tensor) -> Distributions:
        """The posteriors of some of the data: of a stretch of them the parts that hold it."""
        if isinstance(index, slice) and index.step in (None, 1):
            first, last, _ = index.indices(len(self.x))
            ends = [start for start, _ in self.parts[1:]] + [len(self.x)]
            held = tuple(
                (start - first, part)
                for (start, part), end in zip(self.parts, ends, strict=True)
                if start < last and end > first
            )
            return Distributions(self.encode, self.x[index], held, self.device)
        x = self.x[index.to(self.x.device) if isinstance(index, Tensor) else index]
        return Distributions(self.encode, x, ((0, self.encode(x)),), self.device)

    def joined(self, *others: Distributions) -> Distributions:
        """These posteriors and those of further data, all of whole parts."""
        parts, n = list(self.parts), len(self.x)
        for other in others:
            parts += [(n + start, part) for start, part in other.parts]
            n += len(other.x)
        x = torch.cat([self.x, *(o.x for o in others)])
        return Distributions(self.encode, x, tuple(parts), self.device)

    def tensors(self) -> tuple[Tensor, ...]:
        """None that could be refined, but an empty one where the latents are."""
        return (torch.empty(0, device=self.device),)

    def replace(self, *tensors: Tensor) -> Distributions:
        """The same: there is nothing to refine."""
        return self


class GivenPosterior(Posterior):
    """What a user's encoder returns, as q(z | x).

    Args:
        encode: from data (n, *event) to two tensors, the mean and the log variance, or to a
            distribution, each with n as its first dimension.
        event: shape of a datum.
        device: where the encoder is.

    Raises:
        ValueError: what it returns is neither, or not of this shape, or not finite.

    Example:
        >>> posterior = GivenPosterior(lambda x: (x, 0 * x), Size((2,)), torch.device("cpu"))
        >>> posterior(DenseBatch(torch.zeros(5, 2))).draw(3).latent.shape
        torch.Size([3, 5, 2])
    """

    decodings = 1

    def __init__(self, encode: Callable[[Tensor], Any], event: Size, device: torch.device) -> None:
        super().__init__()
        self._encode, self._event, self._device = (encode,), event, device

    def answer(self, rows: Tensor) -> Distribution | tuple[Tensor, Tensor]:
        """A distribution, or mean and log variance, both (n, *latent), of data (n, D)."""
        x = rows.to(self._device).view(len(rows), *self._event)
        return _read(called("encode", self._encode[0], x), len(rows))

    def forward(self, x: Batch) -> Normals | Distributions:
        """q(z | x) of data x."""
        assert isinstance(x, DenseBatch)
        found = self.answer(x.x)
        if isinstance(found, tuple):
            return Normals(found[0].flatten(1), found[1].flatten(1) / 2)
        normal = found
        while isinstance(normal, Independent):
            normal = normal.base_dist
        if isinstance(normal, Normal):
            loc = finite("the mean of encode's distribution", normal.loc)
            scale = finite("the sd of encode's distribution", normal.scale)
            return Normals(loc.flatten(1), scale.log().flatten(1))
        device = drawn(NAME, found, Size()).device
        return Distributions(self._again, x.x, ((0, found),), device)

    def _again(self, rows: Tensor) -> Distribution:
        found = self.answer(rows)
        assert isinstance(found, Distribution)
        return found


def _read(answer: Any, n: int) -> Distribution | tuple[Tensor, Tensor]:
    if isinstance(answer, Distribution):
        shape = answer.batch_shape + answer.event_shape
        if len(shape) < 2 or shape[0] != n:
            raise ValueError(
                f"encode returned a distribution of shape {tuple(shape)} for {n} data, where"
                f" ({n}, latent) is expected"
            )
        return answer
    mean, log_variance = _pair(answer)
    if mean.ndim < 2 or mean.shape[0] != n or mean.shape != log_variance.shape:
        raise ValueError(
            f"encode returned a mean of shape {tuple(mean.shape)} and a log variance of shape"
            f" {tuple(log_variance.shape)} for {n} data, where ({n}, latent) is expected of both"
        )
    return finite("encode's mean", mean), finite("encode's log variance", log_variance)


def _pair(answer: Any) -> tuple[Tensor, Tensor]:
    """The two tensors of an answer that is no distribution."""
    if isinstance(answer, Mapping) and {"embedding", "log_covariance"} <= set(answer):
        answer = (answer["embedding"], answer["log_covariance"])
    if not isinstance(answer, tuple | list) or not all(isinstance(a, Tensor) for a in answer):
        raise ValueError(
            f"encode returned {_kind(answer)}, where a pair of tensors, mean and log variance, or"
            " a torch distribution is expected"
        )
    if len(answer) != 2:
        raise ValueError(
            f"encode returned {len(answer)} tensors, where two, mean and log variance, are expected"
        )
    return answer[0], answer[1]


def _kind(answer: object) -> str:
    if isinstance(answer, Tensor):
        return f"one tensor of shape {tuple(answer.shape)}"
    return f"a {type(answer).__name__}"
