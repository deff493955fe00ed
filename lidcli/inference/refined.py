"""Semi-amortized inference: the encoder's variational parameters, refined by gradient steps."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from lidcli.models.batch import Batch
from lidcli.models.latent import Conditional, LatentModel, Posterior
from lidcli.nn.hessian import Hessian, slope
from lidcli.nn.icnn import ICNN

__all__ = ["Refined"]

ROWS = 1000
"""Data refined at a time in an evaluation."""


class Refined(Posterior):
    """A posterior whose parameters are moved up the ELBO of each datum before they are used.

    From what the encoder gives, `steps` steps of gradient ascent with momentum on each datum's
    own ELBO (one draw each, gradients clipped by the datum's norm). In training mode the steps
    stay in the graph, so that encoder and decoder are trained through them. An evaluation uses
    the refined parameters too.

    Args:
        base: the amortized posterior.
        model: whose ELBO is climbed; it is not registered as a part of this module.
        steps: K >= 1.
        rate: learning rate of a step, > 0.
        momentum: 0 <= momentum < 1.
        clip: norm at which a datum's gradient is clipped, > 0.
        hessian: how training differentiates a step: "exact", or by "finite" differences of two
            gradients, which suit what has no second derivatives or slow ones.

    References:
        Kim, Wiseman, Miller, Sontag and Rush, "Semi-amortized variational autoencoders"
        (ICML 2018), algorithm 1.

    Example:
        >>> from lidcli.inference.exact import ExactGaussian
        >>> from lidcli.models.batch import DenseBatch
        >>> from lidcli.models.ppca import PPCA
        >>> model = PPCA(torch.eye(3, 2), torch.zeros(3), 1.0)
        >>> base = ExactGaussian(model)
        >>> refined = Refined(base, model, steps=2, rate=0.1, momentum=0.5, clip=5.0).eval()
        >>> refined(DenseBatch(torch.zeros(4, 3, dtype=torch.float64))).tensors()[0].shape
        torch.Size([4, 2])
    """

    random = True

    def __init__(
        self,
        base: Posterior,
        model: LatentModel,
        *,
        steps: int,
        rate: float,
        momentum: float,
        clip: float,
        hessian: Hessian = "exact",
    ) -> None:
        super().__init__()
        self.base = base
        self.decodings = base.decodings
        self.steps, self.rate, self.momentum, self.clip = steps, rate, momentum, clip
        self.hessian = hessian
        self._of = (model,)
        self._climbs = True
        for part in model.observation.modules():
            if isinstance(part, ICNN) and hessian == "exact":
                part.backward = "plain"

    @contextlib.contextmanager
    def unrefined(self) -> Iterator[None]:
        """The amortized posterior in its place."""
        self._climbs = False
        try:
            yield
        finally:
            self._climbs = True

    def category_network(self) -> nn.Module | None:
        """The one of the posterior that is refined."""
        return self.base.category_network()

    def forward(self, x: Batch) -> Conditional:
        """q(latent | x) of data x, refined unless within `unrefined`."""
        start: Conditional = self.base(x)
        if not self._climbs:
            return start
        if self.training and torch.is_grad_enabled():
            return start.replace(*self._climb(x, start, create_graph=True))
        parts = []
        for i in range(0, len(x), ROWS):
            rows = slice(i, i + ROWS)
            moved = self._climb(x.rows(rows), start.rows(rows), create_graph=False)
            parts.append([part.detach() for part in moved])
        return start.replace(*(torch.cat(part) for part in zip(*parts, strict=True)))

    @torch.enable_grad()
    def _climb(self, x: Batch, at: Conditional, *, create_graph: bool) -> list[Tensor]:
        values = list(at.tensors())
        if not create_graph:
            values = [value.detach().requires_grad_() for value in values]
        velocities = [torch.zeros_like(value) for value in values]
        for _ in range(self.steps):
            slopes = self._slopes(x, at, values, create_graph)
            norm = torch.stack([s.flatten(1).square().sum(1) for s in slopes]).sum(0).sqrt()
            shrink = self.clip / norm.clamp(min=self.clip)
            for i, part in enumerate(slopes):
                factor = shrink.view(-1, *[1] * (part.ndim - 1))
                velocities[i] = self.momentum * velocities[i] + factor * part
                values[i] = values[i] + self.rate * velocities[i]
        return values

    def _slopes(
        self, x: Batch, at: Conditional, values: list[Tensor], create_graph: bool
    ) -> tuple[Tensor, ...]:
        (model,) = self._of
        count, known = len(values), {id(value) for value in at.tensors()}
        held = {
            name: value
            for name, value in vars(at).items()
            if isinstance(value, Tensor) and value.requires_grad and id(value) not in known
        }

        def elbo(*parts: Tensor) -> Tensor:
            here: Any = at.replace(*parts[:count])
            if parts[count:]:
                here = replace(here, **dict(zip(held, parts[count:], strict=True)))
            terms = model.terms(x, here.draw(1))
            return (terms.reconstruction - terms.kl).sum()

        if create_graph and self.hessian == "finite":
            return slope(elbo, [*values, *held.values()], [*model.parameters()])[:count]
        with model.observation.refining():
            return torch.autograd.grad(elbo(*values), values, create_graph=create_graph)
