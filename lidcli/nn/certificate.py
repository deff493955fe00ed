"""Proven lower bounds on how far apart a map keeps two points, from its weights alone."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from lidcli.nn.checks import check_finite
from lidcli.nn.icnn import ICNN


@dataclass(frozen=True)
class MapCertificate:
    """One Brenier map: <g(a) - g(b), a - b> >= exp(log_modulus) ‖a - b‖² on its inputs.

    log_quadratic is the part of the quadratic term, log_curvature that of the network (both
    -inf when there is none), log_bound the cheaper bound 2 c α^(2+ν) min π σ_min(A)² of the
    latter, and direction (K,) the unit vector along which the bound is smallest.
    """

    log_modulus: float
    log_quadratic: float
    log_curvature: float
    log_bound: float
    direction: Tensor

    @property
    def modulus(self) -> float:
        """exp(log_modulus), 0 or infinite where the logarithm is out of a float's range."""
        return _exp(self.log_modulus)


@dataclass(frozen=True)
class Certificate:
    """A map that keeps points apart: ‖f(a) - f(b)‖ >= modulus ‖a - b‖.

    maps are the Brenier maps that it is composed of; direction (K,) is the unit vector along which
    the bound, or the first map's, is smallest, in the coordinates of the input.
    """

    log_modulus: float
    maps: tuple[MapCertificate, ...]
    direction: Tensor

    @property
    def modulus(self) -> float:
        """exp(log_modulus), 0 or infinite where the logarithm is out of a float's range."""
        return _exp(self.log_modulus)


@runtime_checkable
class Certified(Protocol):
    """A map that can prove something of itself."""

    def certificate(self) -> Certificate | None:
        """What its weights prove, or None."""


def _exp(x: float) -> float:
    return math.exp(x) if x < math.log(sys.float_info.max) else math.inf


def path_certificate(path: Tensor, span: Tensor) -> Certificate | None:
    """Certify z -> span h(z) + path z, whatever the function h.

    What h adds lies in the range of `span`, so that ‖f(a) - f(b)‖ is at least the length of what
    of path (a - b) lies off that range: σ ‖a - b‖, σ the smallest singular value of (I - P) path.

    Args:
        path: (D, K), the linear path of the latent.
        span: (D, H), what the last hidden layer is multiplied by.

    Returns:
        None where σ is not above its own rounding: with H + K > D, or a path within the range.

    Example:
        >>> path, span = torch.eye(3)[:, :1], torch.eye(3)[:, 1:2]
        >>> round(path_certificate(path, span).modulus, 6)
        1.0
        >>> path_certificate(path, torch.eye(3)) is None
        True
    """
    path, span = path.detach().double().cpu(), span.detach().double().cpu()
    if path.shape[1] + span.shape[1] > len(path):
        return None
    off = path
    if span.shape[1]:
        basis = torch.linalg.qr(span).Q
        for _ in range(2):
            off = off - basis @ (basis.T @ off)
    _, values, directions = torch.linalg.svd(off, full_matrices=False)
    rounding = 10 * len(path) * torch.finfo(torch.float64).eps * torch.linalg.matrix_norm(path)
    smallest = float(values[-1] - rounding)
    return Certificate(math.log(smallest), (), directions[-1]) if smallest > 0 else None


def log_path_weights(phi: ICNN) -> Tensor:
    """log of π = c w W_{L-2} … W_1 (H,), in float64."""
    path = phi.log_scalar.detach().double() + phi.log_gain.detach().double()
    for v in reversed(phi.log_weights):
        path = torch.logsumexp(path.unsqueeze(1) + v.detach().double(), dim=0)
    return path


def certify(phi: ICNN, quadratic: Tensor, embedding: Tensor | None = None) -> MapCertificate:
    """Certify u -> Bᵀ ∇φ(B u) + diag(quadratic) u, B = `embedding` (D, K) or the padding.

    Args:
        phi: the network.
        quadratic: (K,), weights >= 0 of the quadratic term ½ Σ m_k u_k².
        embedding: (D, K), or None for phi's own zero padding.

    Raises:
        ValueError: when a weight is not finite.
    """
    check_finite(phi)
    if embedding is not None and not bool(torch.isfinite(embedding).all()):
        raise ValueError(f"no certificate: the embedding {tuple(embedding.shape)} is not finite")
    first = phi.input_weights[0].detach().double()
    first = first[:, : phi.active] if embedding is None else first @ embedding.detach().double()
    slopes_above = phi.layers - (1 if phi.activation == "leaky" else 2)
    log_pi = log_path_weights(phi)
    log_scale = math.log(2) + (2 + slopes_above) * math.log(phi.slope)

    peak = log_pi.max()
    scaled = first * ((log_pi - peak) / 2).exp().unsqueeze(1)
    log_curvature = log_scale + peak.item() + 2 * log_smallest_singular(scaled)
    log_bound = log_scale + log_pi.min().item() + 2 * log_smallest_singular(first)

    m = quadratic.detach().double().cpu()
    log_quadratic = m.min().log().item()
    parts = torch.tensor([log_quadratic, log_curvature], dtype=torch.float64)
    log_modulus = float(torch.logsumexp(parts, dim=0))
    if bool((m == m[0]).all()):
        direction = torch.linalg.svd(scaled, full_matrices=True).Vh[-1]
    else:
        log_curved, log_roots = (log_scale + peak.item()) / 2, m.log() / 2
        unit = max(log_curved, log_roots.max().item())
        total = torch.cat(
            [scaled.cpu() * math.exp(log_curved - unit), (log_roots - unit).exp().diag()]
        )
        log_modulus = max(log_modulus, 2 * (unit + log_smallest_singular(total)))
        direction = torch.linalg.svd(total, full_matrices=False).Vh[-1]
    return MapCertificate(log_modulus, log_quadratic, log_curvature, log_bound, direction.cpu())


def log_smallest_singular(matrix: Tensor) -> float:
    """A rounding-safe lower bound on the log of the smallest of the K singular values of (H, K)."""
    rows, columns = matrix.shape
    if rows < columns:
        return -math.inf
    values = torch.linalg.svdvals(matrix)
    slack = values[0] * max(rows, columns) * torch.finfo(matrix.dtype).eps
    return float((values[-1] - slack).clamp_min(0.0).log())
