"""One step of training: what an update does with a batch."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, cast

import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_

from lidcli.config import sections
from lidcli.config.sections import Training
from lidcli.inference.objective import Objective, Settings, kl_weight, objective
from lidcli.inference.refined import Refined
from lidcli.models.batch import Batch
from lidcli.models.latent import LatentModel
from lidcli.training.guard import Guard
from lidcli.training.optimisers import groups, learning_rate

__all__ = ["Joint", "Lagging", "SemiAmortized", "Update"]


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

    def validated(self, mi: Callable[[], float]) -> None:
        """An epoch was validated; `mi()` is the mutual information of the judged latent."""
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
        inference: Settings,
        training: Training,
        model: LatentModel,
        batches: int,
        guard: Guard,
    ) -> None:
        self.inference, self.training, self.model = inference, training, model
        self.batches, self.guard = batches, guard
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.optimiser: torch.optim.Optimizer = training.build(
            groups(model, training.decoder_rate, training.category_rate)
        )

    def step(self, x: Batch, step: int, more: Callable[[], Batch]) -> Objective:
        """One step of the optimiser on the batch's bound."""
        return self._descend(x, step)

    def _descend(
        self, x: Batch, step: int, parameters: list[nn.Parameter] | None = None
    ) -> Objective:
        """A step of the optimiser for all of the parameters, or for some."""
        rate = learning_rate(self.training, step, self.batches)
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group["factor"]
        self.optimiser.zero_grad(set_to_none=True)
        result = objective(
            self.model, x, self.inference, kl_weight(self.inference, step / self.batches)
        )
        result.loss.backward(inputs=parameters)  # type: ignore[no-untyped-call]
        norm = clip_grad_norm_(parameters or self.parameters, self.training.clip)
        self.guard.watch(step, result, norm, self.model)
        self.optimiser.step()
        return result

    def validated(self, mi: Callable[[], float]) -> None:
        """Nothing depends on it."""

    def state(self) -> dict[str, Any]:
        """The optimiser's."""
        return {"optimiser": self.optimiser.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        """Take up the optimiser's state."""
        self.optimiser.load_state_dict(state["optimiser"])


class SemiAmortized(Joint):
    """Amortized for the first `amortized_epochs`, which are cheap, and refined from then on."""

    def step(self, x: Batch, step: int, more: Callable[[], Batch]) -> Objective:
        """A joint step, with or without refinements."""
        settings = cast(sections.SemiAmortized, self.inference)
        if step >= settings.amortized_epochs * self.batches:
            return super().step(x, step, more)
        with cast(Refined, self.model.posterior).unrefined():
            return super().step(x, step, more)


class Lagging(Joint):
    """The encoder first: many steps of it before each of the decoder, while that still pays.

    In the aggressive phase the posterior alone is updated on further batches, in blocks whose
    mean loss is compared with the block before; when a block is no better, or after the most
    updates, the rest of the model takes one step. The phase ends for good when the mutual
    information on the validation data is lower than at its best, or after the epochs that the
    settings allow; then the updates are joint.

    Args:
        inference: block, inner and aggressive_epochs, beside the objective's settings.
        training, model, batches, guard: as of `Joint`.

    References:
        He, Spokoyny, Neubig and Berg-Kirkpatrick, "Lagging inference networks and posterior
        collapse in variational autoencoders" (ICLR 2019), algorithm 1.
    """

    def __init__(
        self,
        inference: sections.Lagging,
        training: Training,
        model: LatentModel,
        batches: int,
        guard: Guard,
    ) -> None:
        super().__init__(inference, training, model, batches, guard)
        self.settings = inference
        own = {id(p) for p in model.posterior.parameters()}
        self.encoder = [p for p in self.parameters if id(p) in own]
        self.rest = [p for p in self.parameters if id(p) not in own]
        self.aggressive, self.best = True, -math.inf

    def step(self, x: Batch, step: int, more: Callable[[], Batch]) -> Objective:
        """Inner steps of the encoder and one of the rest, or a joint one."""
        most = self.settings.aggressive_epochs
        if most is not None and step >= most * self.batches:
            self.aggressive = False
        if not self.aggressive:
            return super().step(x, step, more)
        self._inner(x, step, more)
        return self._descend(x, step, self.rest)

    def _inner(self, x: Batch, step: int, more: Callable[[], Batch]) -> None:
        before, loss, terms = math.inf, 0.0, 0
        for done in range(1, self.settings.inner + 1):
            with _constant(self.rest):
                result = self._descend(x, step, self.encoder)
            loss, terms = loss + result.loss.item() * len(x), terms + x.terms()
            if done % self.settings.block == 0:
                if loss / terms >= before:
                    return
                before, loss, terms = loss / terms, 0.0, 0
            x = more()

    def validated(self, mi: Callable[[], float]) -> None:
        """Leave the aggressive phase when the information no longer rises."""
        if not self.aggressive:
            return
        now = mi()
        self.aggressive = now >= self.best
        self.best = max(self.best, now)

    def state(self) -> dict[str, Any]:
        """The optimiser's, and where the phase stands."""
        return {
            **super().state(),
            "phase": {"aggressive": self.aggressive, "best": self.best},
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take up the optimiser's state and the phase."""
        super().restore(state)
        phase = state["phase"]
        self.aggressive, self.best = phase["aggressive"], phase["best"]


@contextlib.contextmanager
def _constant(parameters: Sequence[nn.Parameter]) -> Iterator[None]:
    """Parameters whose gradients nobody computes meanwhile."""
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)
