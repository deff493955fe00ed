"""One step of training: what an update does with a batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch.nn.utils import clip_grad_norm_

from lidcli.config.sections import Amortized, Training
from lidcli.inference.objective import Objective, kl_weight, objective
from lidcli.models.batch import Batch
from lidcli.models.latent import LatentModel
from lidcli.training.guard import Guard
from lidcli.training.optimisers import groups, learning_rate

__all__ = ["Joint", "Update"]


class Update(Protocol):
    """What changes the weights."""

    def step(self, x: Batch, step: int, more: Callable[[], Batch]) -> Objective:
        """Update on a batch.

        Args:
            x: the batch.
            step: steps done before, in all epochs.
            more: gives further batches of the training data, for inner loops.

        Returns:
            The objective at the weights before the step.

        Raises:
            DivergedError: a value was not finite; the weights are as they were.
        """
        ...

    def state(self) -> dict[str, Any]:
        """All that a later process needs to go on exactly."""
        ...

    def restore(self, state: dict[str, Any]) -> None:
        """Take up a state that `state` gave."""
        ...


class Joint:
    """Model and posterior together, on the bound.

    Args:
        inference: the objective's settings.
        training: the optimiser's.
        model: with its posterior attached.
        batches: of an epoch.
        guard: sees every step.
    """

    def __init__(
        self,
        inference: Amortized,
        training: Training,
        model: LatentModel,
        batches: int,
        guard: Guard,
    ) -> None:
        self.inference, self.training, self.model = inference, training, model
        self.batches, self.guard = batches, guard
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.optimiser: torch.optim.Optimizer = training.build(groups(model, training.decoder_rate))

    def step(self, x: Batch, step: int, more: Callable[[], Batch]) -> Objective:
        """One step of the optimiser on the batch's bound."""
        rate = learning_rate(self.training, step, self.batches)
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group["factor"]
        self.optimiser.zero_grad(set_to_none=True)
        result = objective(
            self.model, x, self.inference, kl_weight(self.inference, step / self.batches)
        )
        result.loss.backward()  # type: ignore[no-untyped-call]
        norm = clip_grad_norm_(self.parameters, self.training.clip)
        self.guard.watch(step, result, norm, self.model)
        self.optimiser.step()
        return result

    def state(self) -> dict[str, Any]:
        """The optimiser's."""
        return {"optimiser": self.optimiser.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        """Take up the optimiser's state."""
        self.optimiser.load_state_dict(state["optimiser"])
