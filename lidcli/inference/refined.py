"""Semi-amortized inference: the encoder's variational parameters, refined by gradient steps."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from lidcli.models.batch import Batch
from lidcli.models.latent import Conditional, LatentModel, Posterior
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
    ) -> None:
        super().__init__()
        self.base = base
        self.decodings = base.decodings
        self.steps, self.rate, self.momentum, self.clip = steps, rate, momentum, clip
        self._of = (model,)
        self._climbs = True
        for part in model.observation.modules():
            if isinstance(part, ICNN):
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
        (model,) = self._of
        values = list(at.tensors())
        if not create_graph:
            values = [value.detach().requires_grad_() for value in values]
        velocities = [torch.zeros_like(value) for value in values]
        for _ in range(self.steps):
            with model.observation.refining():
                terms = model.terms(x, at.replace(*values).draw(1))
                elbo = (terms.reconstruction - terms.kl).sum()
                slopes = torch.autograd.grad(elbo, values, create_graph=create_graph)
            norm = torch.stack([s.flatten(1).square().sum(1) for s in slopes]).sum(0).sqrt()
            shrink = self.clip / norm.clamp(min=self.clip)
            for i, slope in enumerate(slopes):
                factor = shrink.view(-1, *[1] * (slope.ndim - 1))
                velocities[i] = self.momentum * velocities[i] + factor * slope
                values[i] = values[i] + self.rate * velocities[i]
        return values
