"""The training objective: the bound, with β, KL annealing and free bits."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from lidcli.models.batch import Batch
from lidcli.models.latent import Draws, LatentModel

__all__ = ["Objective", "Settings", "kl_weight", "objective"]

RAMP = 0.5
"""Share of a cycle over which the weight rises (Fu et al. 2019)."""


class Settings(Protocol):
    """What the objective is told, a section inference of a run that is trained."""

    @property
    def beta(self) -> float:
        """Weight of the KL."""
        ...

    @property
    def annealing(self) -> str:
        """none, linear or cyclical."""
        ...

    @property
    def annealing_epochs(self) -> float:
        """Length of the ramp, or of a cycle."""
        ...

    @property
    def free_bits(self) -> float:
        """Nats per datum of KL left unpenalised."""
        ...

    @property
    def samples(self) -> int:
        """Draws S of the bound."""
        ...


class Objective(NamedTuple):
    """A loss to minimise and the means it is made of, in nats per datum."""

    loss: Tensor
    reconstruction: Tensor
    kl: Tensor

    @property
    def elbo(self) -> Tensor:
        """The true bound, whatever the weights."""
        return self.reconstruction - self.kl


def kl_weight(config: Settings, epoch: float) -> float:
    """The weight of the KL at a (fractional) epoch: β times the annealing ramp.

    Args:
        config: `beta`, `annealing` and `annealing_epochs` are read.
        epoch: epochs done, at least 0.

    References:
        Bowman et al. (2016), linear; Fu et al. (2019), cyclical.

    Example:
        >>> from lidcli.config.sections import Amortized
        >>> kl_weight(Amortized(annealing="linear", annealing_epochs=10), 5.0)
        0.5
    """
    if config.annealing == "none":
        return config.beta
    position = epoch / config.annealing_epochs
    if config.annealing == "cyclical":
        position = (position % 1.0) / RAMP
    return config.beta * min(1.0, position)


def objective(
    model: LatentModel,
    x: Batch,
    config: Settings,
    weight: float | Tensor,
    draws: Draws | None = None,
) -> Objective:
    """The loss of one batch.

    Args:
        model: with its posterior attached.
        x: N data.
        config: `samples` and `free_bits` are read.
        weight: of the KL, from `kl_weight`.
        draws: from the posterior of x; None: `samples` new ones.

    Returns:
        The loss -(reconstruction - weight max(KL, free bits)) and its parts, scalars.
    """
    draws = model.posterior(x).draw(config.samples) if draws is None else draws
    terms = model.terms(x, draws)
    reconstruction, kl = terms.reconstruction.mean(), terms.kl.mean()
    penalised = torch.clamp(kl, min=config.free_bits) if config.free_bits > 0 else kl
    return Objective(weight * penalised - reconstruction, reconstruction, kl)
