"""Logits that are injective in the latent whatever the history, through one embedding.

Shape suffixes: N sentences, T tokens, R = V - 1 free logits, K latent, J history, H width,
L leading axes.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lidcli.nn.brenier import BrenierMap, calibrate_gain
from lidcli.nn.certificate import Certificate, MapCertificate
from lidcli.nn.checks import check_finite
from lidcli.nn.icnn import ICNN, Backward
from lidcli.nn.orthogonal import Rotation
from lidcli.nn.token_output import TokenOutput, beside, check_columns, check_latent

CALIBRATION_ROWS = 256


class ConditionalOutput(TokenOutput):
    """v = B g₁(Q z), logits = W h + Eᵀ ∇φ(E F v + P h) + B diag(ε) g₁(Q z) + t.

    F = diag p - p pᵀ is the Fisher information of the unigram distribution. For every history h
    the second term is monotone in v in F's inner product (φ is convex), so that with B orthonormal
    in it ‖Δ logits‖_F >= min(ε) ε₁ ‖Δz‖, ε₁ the modulus of the Brenier map g₁; Q is a rotation of
    the latent alone. Without φ and B this is a language model's output. The reference token's
    logit is 0.

    Args:
        columns: B (R, K), fixed.
        unigram: p (R,) > 0 of the free tokens; the reference token has the rest, also > 0.
        strengths: ε (K,) >= 0.
        history: size of h.
        reference: token whose logit is 0.
        width: H, columns of the embedding E, the size of φ's input.
        hidden: units of each hidden layer of φ and of g₁.
        layers: L >= 2 of φ and of g₁.
        inner_lipschitz: ε₁ >= 0 of g₁.
        rotations: whether Q is learned.
        slope: smallest slope of the activations.
        sharpness: k > 0 of the smooth activation.
        gain: standard deviation that `calibrate` sets.
        dropout: of ∇φ in training, in [0, 1).
        backward: "by-hand" or "plain", of φ and g₁.

    Raises:
        ValueError: when a size is out of range or p is no part of a distribution.

    References:
        Wang, Blei and Cunningham (NeurIPS 2021), Example 2; Amos, Xu and Kolter (ICML 2017), for
        potentials convex in a part of their input.

    Example:
        >>> out = ConditionalOutput(
        ...     torch.randn(9, 2), torch.full((9,), 0.1), torch.ones(2), 4, reference=0, width=8
        ... )
        >>> features = out.features(torch.randn(7, 3, 2), torch.randn(3, 5, 4))
        >>> features.shape, out.logits(features).shape
        (torch.Size([7, 3, 5, 14]), torch.Size([7, 3, 5, 10]))
    """

    columns: Tensor
    unigram: Tensor
    strengths: Tensor

    def __init__(
        self,
        columns: Tensor,
        unigram: Tensor,
        strengths: Tensor,
        history: int,
        *,
        reference: int,
        width: int,
        hidden: int = 64,
        layers: int = 2,
        inner_lipschitz: float = 1.0,
        rotations: bool = True,
        slope: float = 0.2,
        sharpness: float = 1.0,
        gain: float = 0.3,
        dropout: float = 0.0,
        backward: Backward = "by-hand",
    ) -> None:
        check_columns(columns, strengths)
        if unigram.shape != columns.shape[:1] or not bool((unigram > 0).all()):
            raise ValueError(f"expected {len(columns)} probabilities > 0, {tuple(unigram.shape)}")
        rest = 1 - unigram.double().sum()
        if not rest > 0:
            raise ValueError(f"the reference token is left with a probability of {float(rest):.3g}")
        super().__init__(len(columns) + 1, columns.shape[1], reference)
        self.icnn = ICNN(width, hidden, layers, slope=slope, sharpness=sharpness, backward=backward)
        self.inner = BrenierMap(
            self.latent,
            hidden,
            layers,
            inverse_lipschitz=inner_lipschitz,
            slope=slope,
            sharpness=sharpness,
            gain=gain,
            backward=backward,
        )
        self.rotation = Rotation(self.latent) if rotations and self.latent > 1 else None
        self.gain, self.dropout = gain, dropout
        self.embedding = nn.Parameter(torch.randn(self.free, width) / math.sqrt(width))
        self.reading = nn.Parameter(torch.randn(width, history) / math.sqrt(history))
        self.linear = nn.Parameter(torch.randn(self.free, history) / math.sqrt(history))
        odds = unigram.double().log() - rest.log()
        self.tilt = nn.Parameter(odds.to(torch.get_default_dtype()))
        for name, fixed in (("columns", columns), ("unigram", unigram), ("strengths", strengths)):
            self.register_buffer(name, fixed.detach().to(torch.get_default_dtype()).clone())

    def features(self, z: Tensor | None, h: Tensor) -> Tensor:
        """[h, ∇φ(E F v + P h), ε g₁(Q z)]: (*L, N, T, J + H + K)."""
        return self._features(self.inner(self._turned(check_latent(z, self.latent))), h)

    def weight(self) -> Tensor:
        """[W, Eᵀ, B] (R, J + H + K)."""
        return torch.cat([self.linear, self.embedding, self.columns], dim=1)

    def bias(self) -> Tensor:
        """t (R,)."""
        return self.tilt

    def _turned(self, z: Tensor) -> Tensor:
        return z if self.rotation is None else self.rotation(z)

    def _features(self, g: Tensor, h: Tensor) -> Tensor:
        slopes = F.dropout(self.icnn.gradient(self._read(g, h)), self.dropout, self.training)
        history = h.to(slopes.dtype).expand(*slopes.shape[:-1], -1)
        return beside(torch.cat([history, slopes], dim=-1), g * self.strengths)

    def _read(self, g: Tensor, h: Tensor) -> Tensor:
        """E F B g + P h: (*L, N, T, H)."""
        along = self.embedding.T @ metric(self.columns, self.unigram)
        return F.linear(g, along).unsqueeze(-2) + F.linear(h, self.reading)

    @torch.no_grad()
    def calibrate(self, z: Tensor, h: Tensor) -> None:
        """Scale ∇φ₁ and Eᵀ∇φ to the standard deviation `gain` at latents (N, K), h (N, T, ·).

        The first rows are enough for the second, so that no batch of logits is held.
        """
        g = self.inner.calibrate(self._turned(check_latent(z, self.latent)))
        rows = self._read(g, h).flatten(0, -2)[:CALIBRATION_ROWS]
        calibrate_gain(self.icnn, self.icnn.gradient(rows) @ self.embedding.T, self.gain)

    def certificate(self) -> Certificate:
        """‖Δ logits‖_F >= modulus ‖Δz‖ for every history, from the weights, in float64.

        With M = Bᵀ F B, not taken to be exactly I, and D = diag ε: <B a, Δ logits>_F >= aᵀ M D a
        and ‖B a‖_F <= √λ_max(M) ‖a‖, so the second factor is λ_min(sym(M D)) / √λ_max(M), each
        eigenvalue moved by its rounding error to the safe side; 0 where that is not positive.
        """
        check_finite(self)
        first = self.inner.certificate()
        columns, epsilon = self.columns.double().cpu(), self.strengths.double().cpu()
        gram = columns.T @ metric(columns, self.unigram.double().cpu())
        gram = (gram + gram.T) / 2
        mixed = (gram * epsilon + epsilon.unsqueeze(1) * gram) / 2
        slack = (self.free + 10) * torch.finfo(torch.float64).eps
        values, vectors = torch.linalg.eigh(mixed)
        smallest = float(values[0] - slack * _size(columns, self.unigram) * epsilon.max())
        largest = float(torch.linalg.eigvalsh(gram)[-1] + slack * _size(columns, self.unigram))
        log = math.log(smallest) - math.log(largest) / 2 if smallest > 0 else -math.inf
        second = MapCertificate(log, log, -math.inf, -math.inf, vectors[:, 0])
        direction = first.direction
        if self.rotation is not None:
            direction = direction @ self.rotation.matrix().detach().to(direction)
        return Certificate(first.log_modulus + log, (first, second), direction)


def metric(columns: Tensor, unigram: Tensor) -> Tensor:
    """F B (R, K) of B (R, K) and p (R,), F = diag p - p pᵀ never formed.

    Example:
        >>> metric(torch.tensor([[1.0], [0.0]]), torch.tensor([0.5, 0.25]))
        tensor([[ 0.2500],
                [-0.1250]])
    """
    return unigram.unsqueeze(1) * (columns - unigram @ columns)


def minimal(columns: Tensor, unigram: Tensor, reference: int) -> tuple[Tensor, Tensor]:
    """Columns (V, K) and probabilities (V,) of the V - 1 logits other than the reference's.

    The columns become differences to the reference token's row, which leaves Bᵀ F B as it was.

    Example:
        >>> columns, p = minimal(torch.tensor([[1.0], [3.0]]), torch.tensor([0.4, 0.6]), 0)
        >>> columns, p
        (tensor([[2.]]), tensor([0.6000]))
    """
    if not 0 <= reference < len(columns) or unigram.shape != columns.shape[:1]:
        raise ValueError(
            f"no reference token {reference} among columns {tuple(columns.shape)} "
            f"and probabilities {tuple(unigram.shape)}"
        )
    others = torch.arange(len(columns), device=columns.device) != reference
    return (columns - columns[reference])[others], unigram[others]


def _size(columns: Tensor, unigram: Tensor) -> float:
    """A bound on the sums whose rounding moves the eigenvalues of Bᵀ F B."""
    p = unigram.double().cpu()
    return float(2 * (p @ columns.square()).sum())
