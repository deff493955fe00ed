"""From a history and a latent to the logits of a token, through one vocabulary-sized product.

Shape suffixes: N sentences, T tokens, V vocabulary, R free logits, M latent, H features, L leading
axes.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lidcli.nn.certificate import Certificate, path_certificate
from lidcli.nn.checks import check_finite
from lidcli.nn.cross_entropy import CHUNK, log_prob


class TokenOutput(nn.Module, ABC):
    """An output layer in two parts: features of each token, and weights that they share.

    logits = features weightᵀ + bias, a reference token's logit being 0 where there is one.

    Args:
        vocabulary: V >= 2.
        latent: M, size of the latent it reads, or 0.
        reference: token whose logit is 0, or None.
    """

    certifies_fed_histories = False
    """Whether what `certificate` proves holds of histories that were fed z too."""

    def __init__(self, vocabulary: int, latent: int, reference: int | None) -> None:
        super().__init__()
        if vocabulary < 2 or latent < 0:
            raise ValueError(
                "a token output needs vocabulary >= 2 and latent >= 0, "
                f"not vocabulary={vocabulary}, latent={latent}"
            )
        if reference is not None and not 0 <= reference < vocabulary:
            raise ValueError(f"the reference token must lie in [0, {vocabulary}), not {reference}")
        self.vocabulary, self.latent, self.reference = vocabulary, latent, reference
        self.free = vocabulary - (reference is not None)

    @abstractmethod
    def features(self, z: Tensor | None, h: Tensor) -> Tensor:
        """(*L, N, T, H) of latents (*L, N, M) and histories (N, T, ·) or (*L, N, T, ·)."""

    @abstractmethod
    def weight(self) -> Tensor:
        """(R, H)."""

    @abstractmethod
    def bias(self) -> Tensor:
        """(R,)."""

    def certificate(self) -> Certificate | None:
        """What is proven of z -> logits for every history, or None where nothing is."""
        return None

    def log_prob(
        self,
        features: Tensor,
        targets: Tensor,
        *,
        chunk: int = CHUNK,
        anticipated: Tensor | None = None,
        features_only: bool = False,
    ) -> Tensor:
        """Log-probabilities (N,) of targets (N,) given features (N, H), as in `cross_entropy`."""
        return log_prob(
            features,
            self.weight(),
            targets,
            bias=self.bias(),
            reference=self.reference,
            chunk=chunk,
            anticipated=anticipated,
            features_only=features_only,
        )

    def logits(self, features: Tensor) -> Tensor:
        """All logits (..., V) of features (..., H), the reference token's included."""
        free = F.linear(features, self.weight(), self.bias())
        if self.reference is None:
            return free
        left, right = free[..., : self.reference], free[..., self.reference :]
        return torch.cat([left, torch.zeros_like(free[..., :1]), right], dim=-1)


class LinearOutput(TokenOutput):
    """Logits linear in the history: the language model's, and the classical sequential VAE's.

    Args:
        vocabulary: V.
        history: size of h.
        reference: token whose logit is 0, or None.
        start: (R,) logits at the start, such as log unigram odds; zeros by default.

    Example:
        >>> out = LinearOutput(10, 4)
        >>> out.logits(out.features(None, torch.randn(2, 5, 4))).shape
        torch.Size([2, 5, 10])
    """

    def __init__(
        self,
        vocabulary: int,
        history: int,
        *,
        reference: int | None = None,
        start: Tensor | None = None,
    ) -> None:
        super().__init__(vocabulary, 0, reference)
        self.embedding = nn.Parameter(torch.randn(self.free, history) / math.sqrt(history))
        self.tilt = nn.Parameter(_start(start, self.free))

    def features(self, z: Tensor | None, h: Tensor) -> Tensor:
        """h itself."""
        return h

    def weight(self) -> Tensor:
        """(R, H)."""
        return self.embedding

    def bias(self) -> Tensor:
        """(R,)."""
        return self.tilt


class SkipOutput(TokenOutput):
    """Logits linear in the history plus fixed columns of the latent: W h + B diag(ε) z + t.

    The path from latent to logits that a conditional Brenier output has, without its maps: the
    baseline that tells what they add. It is injective for almost all weights (`certificate`).

    Args:
        columns: B (R, M), fixed.
        strengths: ε (M,), the latents' weights.
        history: size of h.
        reference: token whose logit is 0, or None where B has a row for every token.
        start: (R,) logits at the start; zeros by default.
        unigram: p (R,) > 0 of the free tokens, for the certificate, which needs a reference too.

    Example:
        >>> out = SkipOutput(torch.randn(9, 2), torch.ones(2), 4, reference=0)
        >>> out.features(torch.randn(3, 2), torch.randn(3, 5, 4)).shape
        torch.Size([3, 5, 6])
    """

    certifies_fed_histories = True
    columns: Tensor
    strengths: Tensor
    unigram: Tensor | None

    def __init__(
        self,
        columns: Tensor,
        strengths: Tensor,
        history: int,
        *,
        reference: int | None = None,
        start: Tensor | None = None,
        unigram: Tensor | None = None,
    ) -> None:
        check_columns(columns, strengths)
        if unigram is not None and (unigram.shape != columns.shape[:1] or reference is None):
            raise ValueError(
                f"expected {len(columns)} probabilities and a reference token, got"
                f" {tuple(unigram.shape)} and {reference}"
            )
        super().__init__(len(columns) + (reference is not None), columns.shape[1], reference)
        self.embedding = nn.Parameter(torch.randn(self.free, history) / math.sqrt(history))
        self.tilt = nn.Parameter(_start(start, self.free))
        dtype = torch.get_default_dtype()
        self.register_buffer("columns", columns.detach().to(dtype).clone())
        self.register_buffer("strengths", strengths.detach().to(dtype).clone())
        known = None if unigram is None else unigram.detach().double().clone()
        self.register_buffer("unigram", known, persistent=False)

    def certificate(self) -> Certificate | None:
        """‖Δ logits‖_F >= modulus ‖Δz‖ for every history, F the unigram's Fisher information.

        Whatever h makes of z, it adds to the logits within the range of W (`path_certificate`).
        """
        if self.unigram is None:
            return None
        check_finite(self)
        p = self.unigram.double()
        path = in_fisher(self.columns.double() * self.strengths.double(), p)
        return path_certificate(path, in_fisher(self.embedding.double(), p))

    def features(self, z: Tensor | None, h: Tensor) -> Tensor:
        """[h, ε z]."""
        return beside(h, check_latent(z, self.latent) * self.strengths)

    def weight(self) -> Tensor:
        """[E, B]."""
        return torch.cat([self.embedding, self.columns], dim=1)

    def bias(self) -> Tensor:
        """(R,)."""
        return self.tilt


def in_fisher(columns: Tensor, unigram: Tensor) -> Tensor:
    """Columns (R, K) of logits as (R + 1, K) whose inner products are those of Fisher's metric.

    Example:
        >>> b, p = torch.tensor([[1.0], [0.0]]), torch.tensor([0.5, 0.25])
        >>> round(float(in_fisher(b, p).square().sum()), 6)
        0.25
    """
    mean = unigram @ columns
    rest = 1 - unigram.sum()
    inner = unigram.sqrt().unsqueeze(1) * (columns - mean)
    return torch.cat([inner, -rest.sqrt() * mean.unsqueeze(0)])


def beside(h: Tensor, latent: Tensor) -> Tensor:
    """[h, latent] (*L, N, T, ·) of (N, T, ·) or (*L, N, T, ·), and (*L, N, ·)."""
    shape = (*latent.shape[:-1], h.shape[-2])
    repeated = latent.unsqueeze(-2).expand(*shape, -1)
    return torch.cat([h.to(latent.dtype).expand(*shape, -1), repeated], dim=-1)


def check_latent(z: Tensor | None, size: int) -> Tensor:
    """z, or ValueError unless it is (..., N, size)."""
    if z is None or z.ndim < 2 or z.shape[-1] != size:
        given = None if z is None else tuple(z.shape)
        raise ValueError(f"expected latents (..., N, {size}), got {given}")
    return z


def check_columns(columns: Tensor, strengths: Tensor) -> None:
    """Raise ValueError unless columns are finite (R, M) and strengths (M,) are >= 0 and finite."""
    if columns.ndim != 2 or strengths.shape != columns.shape[1:] or 0 in columns.shape:
        raise ValueError(
            "expected columns (R, M) and strengths (M,), "
            f"got {tuple(columns.shape)} and {tuple(strengths.shape)}"
        )
    if not bool(torch.isfinite(columns).all()):
        raise ValueError(f"columns {tuple(columns.shape)} must be finite")
    if not bool(((strengths >= 0) & torch.isfinite(strengths)).all()):
        raise ValueError(f"strengths must be >= 0 and finite, not {strengths.tolist()}")


def _start(start: Tensor | None, free: int) -> Tensor:
    """The given logits, or zeros."""
    if start is None:
        return torch.zeros(free)
    if start.shape != (free,) or not bool(torch.isfinite(start).all()):
        raise ValueError(f"expected {free} finite logits to start at, got {tuple(start.shape)}")
    return start.detach().to(torch.get_default_dtype()).clone()
