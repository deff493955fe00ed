"""A Brenier map onto very many outputs, such as a vocabulary's logits, through one embedding."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lidcli.nn.brenier import calibrate_gain, check_epsilon
from lidcli.nn.by_hand import leading, transformed
from lidcli.nn.certificate import MapCertificate, certify
from lidcli.nn.checks import check_finite, check_input
from lidcli.nn.icnn import ICNN, Activation, Backward


class FactoredBrenierMap(nn.Module):
    """The gradient of T(v) = φ(E v) + ½ vᵀ M v + tᵀ v on R^D, at v = β u.

    g(u) = Eᵀ ∇φ(E β u) + M β u + t needs one product of the output's size where an unfactored map
    needs L - 1. β has orthonormal columns: the first `dense` inputs have dense ones (fixed random
    signs, made orthogonal, over the leading outputs), the others are zero-padded to the trailing
    outputs. M is ε on the padded block and `dense_inverse_lipschitz` on the dense one.

    Args:
        dim: D, size of the output.
        hidden: H, units of each of φ's L - 1 hidden layers.
        layers: L >= 2, layers of φ, the scalar one included.
        width: H', size of the embedding E (H', D) and of φ's input.
        active: K <= D, size of the input; D by default.
        dense: how many leading inputs have dense columns, in [0, K].
        activation: "smooth" (default) or "leaky".
        inverse_lipschitz: ε >= 0 of the padded inputs.
        dense_inverse_lipschitz: ε of the dense inputs; by default `inverse_lipschitz` times the
            square root of the outputs they reach, which moves each by `inverse_lipschitz`.
        slope: smallest slope α of the activations.
        sharpness: k > 0 of the smooth activation softplus(k t) / k.
        gain: standard deviation of Eᵀ∇φ that `calibrate` sets, > 0.
        backward: "by-hand" or "plain", of φ.

    Raises:
        ValueError: when a size is out of range, or ε = 0 with H or H' < K (not injective).

    Example:
        >>> g = FactoredBrenierMap(100, 32, 3, width=16, active=6, dense=2)
        >>> g(torch.randn(7, 6)).shape
        torch.Size([7, 100])
    """

    signs: Tensor
    gram: Tensor

    def __init__(
        self,
        dim: int,
        hidden: int,
        layers: int,
        *,
        width: int,
        active: int | None = None,
        dense: int = 0,
        activation: Activation = "smooth",
        inverse_lipschitz: float = 0.5,
        dense_inverse_lipschitz: float | None = None,
        slope: float = 0.2,
        sharpness: float = 1.0,
        gain: float = 0.3,
        backward: Backward = "by-hand",
    ) -> None:
        super().__init__()
        active = dim if active is None else active
        if not 1 <= active <= dim or not 0 <= dense <= active:
            raise ValueError(
                "a factored map needs 0 <= dense <= active <= dim, "
                f"not dense={dense}, active={active}, dim={dim}"
            )
        if width < 1:
            raise ValueError(f"a factored map needs width >= 1, not {width}")
        reached = dim - (active - dense)
        if dense_inverse_lipschitz is None:
            dense_inverse_lipschitz = inverse_lipschitz * reached**0.5
        self.dim, self.active, self.dense, self.gain = dim, active, dense, gain
        self.inverse_lipschitz = float(inverse_lipschitz)
        self.dense_inverse_lipschitz = float(dense_inverse_lipschitz)
        self._check_injective(width, hidden)
        self.icnn = ICNN(
            width,
            hidden,
            layers,
            activation=activation,
            slope=slope,
            sharpness=sharpness,
            backward=backward,
        )
        self.embedding = nn.Parameter(torch.randn(width, dim) * active**-0.5)
        self.tilt = nn.Parameter(torch.zeros(dim))
        signs = _independent_signs(reached, dense)
        self.register_buffer("signs", signs)
        self.register_buffer("gram", signs.T @ signs)

    def _check_injective(self, width: int, hidden: int) -> None:
        sizes = {f"width H'={width}": width, f"hidden H={hidden}": hidden}
        small = [name for name, size in sizes.items() if size < self.active]
        for name, columns in (
            ("inverse_lipschitz", self.active - self.dense),
            ("dense_inverse_lipschitz", self.dense),
        ):
            epsilon = getattr(self, name)
            check_epsilon(epsilon, self.gain)
            if epsilon == 0 and columns and small:
                raise ValueError(
                    f"with {' and '.join(small)} < active K={self.active} and {name}=0 the map is "
                    f"not injective: raise {' and '.join(s.split()[0] for s in small)} or {name}"
                )

    def forward(self, u: Tensor) -> Tensor:
        """Map (..., K) to (..., D)."""
        check_input(u, self.active, self.tilt.dtype)
        rows = u.reshape(-1, self.active)
        first, rest = torch.split(rows, [self.dense, self.active - self.dense], dim=1)
        spread = self.dense_inverse_lipschitz * first @ self.mixing().T
        rest = self.inverse_lipschitz * rest
        inner = self.icnn.gradient(rows @ self.project(self.embedding).T)
        terms = [inner, self.embedding, self.tilt, spread, self.signs, rest]
        if torch.is_autocast_enabled(u.device.type):
            dtype = torch.get_autocast_dtype(u.device.type)
            terms = [term.to(dtype) for term in terms]
        if transformed():
            inner, embedding, tilt, spread, signs, rest = terms
            quadratic = torch.cat([spread @ signs.T, rest], dim=1)
            out = torch.addmm(tilt, inner, embedding) + quadratic
        else:
            out = _Output.apply(*terms)  # type: ignore[no-untyped-call]
        return out.reshape(*u.shape[:-1], self.dim)

    def mixing(self, dtype: torch.dtype | None = None) -> Tensor:
        """R⁻¹ with signs R⁻¹ orthonormal, from the Gram matrix, which is exact."""
        inverse: Tensor = torch.linalg.inv(torch.linalg.cholesky(self.gram.double())).T
        return inverse.to(self.gram.dtype if dtype is None else dtype)

    def project(self, rows: Tensor) -> Tensor:
        """Multiply rows (M, D) by β: (M, K)."""
        reached = self.dim - (self.active - self.dense)
        first, rest = torch.split(rows, [reached, self.dim - reached], dim=1)
        dense = first @ self.signs.to(rows) @ self.mixing(rows.dtype)
        return torch.cat([dense, rest], dim=1)

    def potential(self, u: Tensor) -> Tensor:
        """The convex function (...,) at β u, for u (..., K); its gradient in u is βᵀ g."""
        check_input(u, self.active, self.tilt.dtype)
        phi: Tensor = self.icnn(u @ self.project(self.embedding).T)
        tilt = self.project(self.tilt.unsqueeze(0)).squeeze(0)
        return phi + u.square() @ self.strengths().to(u) / 2 + u @ tilt

    def strengths(self) -> Tensor:
        """The diagonal (K,) of M on the inputs, in float64."""
        epsilons = [self.dense_inverse_lipschitz] * self.dense
        epsilons += [self.inverse_lipschitz] * (self.active - self.dense)
        return torch.tensor(epsilons, dtype=torch.float64)

    @torch.no_grad()
    def calibrate(self, u: Tensor) -> Tensor:
        """Scale Eᵀ∇φ to the standard deviation `gain` on a batch (N, K); return the output."""
        check_input(u, self.active, self.tilt.dtype)
        gradient = self.icnn.gradient(u @ self.project(self.embedding).T) @ self.embedding
        calibrate_gain(self.icnn, gradient, self.gain)
        out: Tensor = self(u)
        return out

    def certificate(self) -> MapCertificate:
        """The proven modulus of monotonicity of βᵀ g, from the weights."""
        check_finite(self)
        with torch.no_grad():
            return certify(self.icnn, self.strengths(), self.project(self.embedding.double()))


class _Output(torch.autograd.Function):
    """inner E + tilt + [spread signsᵀ, rest], with one tensor of the output's size each way."""

    @staticmethod
    def forward(
        ctx: Any,
        inner: Tensor,
        embedding: Tensor,
        tilt: Tensor,
        spread: Tensor,
        signs: Tensor,
        rest: Tensor,
    ) -> Tensor:
        """The output (N, D)."""
        ctx.save_for_backward(inner, embedding, signs)
        out = torch.addmm(tilt, inner, embedding)
        out[:, : len(signs)].addmm_(spread, signs.T)
        out[:, len(signs) :].add_(rest)
        return out

    @staticmethod
    def backward(ctx: Any, G: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of every input but the signs."""
        inner, embedding, signs = ctx.saved_tensors
        G, reached = G.contiguous(), len(signs)
        grown = inner.T @ G if ctx.needs_input_grad[1] else None
        rest = G[:, reached:] if reached else G
        return G @ embedding.T, grown, G.sum(0), leading(G, reached) @ signs, None, rest


def _independent_signs(rows: int, columns: int) -> Tensor:
    """Random signs (rows, columns) of full column rank."""
    while True:
        signs = torch.randint(0, 2, (rows, columns)) * 2.0 - 1.0
        if columns == 0 or int(torch.linalg.matrix_rank(signs)) == columns:
            return signs
