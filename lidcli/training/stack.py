"""Runs of one architecture as one batched model: their steps are one step.

The numbers of all runs lie in one matrix, a row a run, and every run's own model and optimiser
hold views of its row. So whatever else is done with a run, its validation, its checkpoints, its
best weights, is done by the code that does it for a run alone.

Shape suffixes: R runs, P numbers that are trained, N batch, S draws.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from lidcli.errors import DivergedError
from lidcli.inference.flow import CategoryPosterior, Flow, FlowPosterior
from lidcli.inference.objective import Objective, Settings, kl_weight, objective
from lidcli.models.batch import DenseBatch
from lidcli.models.latent import LatentModel
from lidcli.training.loop import Trainer
from lidcli.training.optimisers import learning_rate
from lidcli.training.rows import Rows
from lidcli.training.updates import Joint

__all__ = ["Stack", "skeleton"]


class _Bound(nn.Module):
    """The loss of a batch and its parts, as a function of data, noise and the KL's weight."""

    def __init__(self, model: LatentModel, settings: Settings) -> None:
        super().__init__()
        self.model, self.settings = model, settings

    def forward(self, x: Tensor, noise: Tensor, weight: Tensor) -> tuple[Tensor, ...]:
        """Loss, reconstruction and KL, scalars."""
        batch = DenseBatch(x)
        draws = cast(Flow, self.model.posterior(batch)).at(noise)
        return tuple(objective(self.model, batch, self.settings, weight, draws))


def skeleton(trainer: Trainer) -> nn.Module:
    """The architecture that all runs of a stack have, without numbers."""
    bound = _Bound(trainer.model, trainer.inference)
    return copy.deepcopy(bound).to("meta").train()


class Stack:
    """Trainers whose next steps are done as one.

    Args:
        trainers: of runs that differ in their seed alone, at batches of the same size; each has
            its own place in the training.
        network: their `skeleton`.
    """

    def __init__(self, trainers: Sequence[Trainer], network: nn.Module) -> None:
        self.trainers, self.network = list(trainers), network
        self.updates = [cast(Joint, trainer.update) for trainer in trainers]
        self.rows = Rows([trainer.model for trainer in trainers], self.optimisers())
        self.buffers, self.places = _buffers([trainer.model for trainer in trainers])
        names = {f"model.{name}": 0 for name in self.rows.leaves}
        self.loss = vmap(self._one, in_dims=(names, self.places, 0, 0, 0))

    def optimisers(self) -> list[torch.optim.Adam]:
        """One a run."""
        return [cast(torch.optim.Adam, update.optimiser) for update in self.updates]

    def _one(
        self, numbers: dict[str, Tensor], buffers: dict[str, Tensor], *inputs: Tensor
    ) -> tuple[Tensor, ...]:
        found: tuple[Tensor, ...] = functional_call(self.network, (numbers, buffers), inputs)
        return found

    def step(self, batches: Sequence[DenseBatch], noise: Sequence[Tensor]) -> list[Any]:
        """One step of every run.

        Args:
            batches: one a run, N data each.
            noise: one a run, as its posterior's `noise` gives it.

        Returns:
            Of each run its batch's ELBO and KL (2,) in float64, or the `DivergedError` that the
            step would have been alone.
        """
        weights = [
            kl_weight(trainer.inference, trainer.progress.step / trainer.batches)
            for trainer in self.trainers
        ]
        x = torch.stack([batch.x for batch in batches])
        leaves = {f"model.{name}": leaf for name, leaf in self.rows.leaves.items()}
        parts = self.loss(leaves, self.buffers, x, torch.stack(list(noise)), x.new_tensor(weights))
        gradient = self.rows.gradient(parts[0].sum())
        norm = gradient.norm(dim=1)
        errors = self._watch([part.detach() for part in parts], norm, gradient)
        rates = [
            learning_rate(trainer.training, trainer.progress.step, trainer.batches)
            for trainer in self.trainers
        ]
        clip = self.trainers[0].training.clip
        gradient.mul_((clip / (norm + 1e-6)).clamp(max=1.0)[:, None])
        self.rows.descend(gradient, rates)
        elbo, kl = (parts[1] - parts[2]).detach().double(), parts[2].detach().double()
        terms = torch.stack([elbo, kl], dim=1)
        return [errors.get(index, terms[index]) for index in range(len(batches))]

    def _watch(
        self, parts: Sequence[Tensor], norm: Tensor, gradient: Tensor
    ) -> dict[int, DivergedError]:
        """What each run's guard says to its step: before it on a CPU, later on a GPU."""
        here = norm.device.type == "cpu"
        watched = list(range(len(self.trainers)))
        if here:
            watched = torch.isfinite(parts[0] + norm).logical_not().nonzero().flatten().tolist()
        errors: dict[int, DivergedError] = {}
        for index in watched:
            trainer = self.trainers[index]
            result = Objective(*(part[index] for part in parts))
            if here:
                self.rows.lend(gradient, index)
            try:
                trainer.guard.watch(trainer.progress.step, result, norm[index], trainer.model)
            except DivergedError as error:
                errors[index] = error
        return errors


def noise_of(trainer: Trainer, batch: DenseBatch) -> Tensor:
    """What a run's own generator gives for a step."""
    posterior = trainer.model.posterior
    assert isinstance(posterior, FlowPosterior | CategoryPosterior)
    return posterior.noise(len(batch), trainer.inference.samples)


def _buffers(models: Sequence[LatentModel]) -> tuple[dict[str, Tensor], dict[str, int | None]]:
    """What is not trained: once where it is the same in all runs, else stacked."""
    found: dict[str, Tensor] = {}
    places: dict[str, int | None] = {}
    fixed = [dict(_untrained(model)) for model in models]
    for name, first in fixed[0].items():
        same = all(torch.equal(first, other[name]) for other in fixed[1:])
        found[f"model.{name}"] = first if same else torch.stack([one[name] for one in fixed])
        places[f"model.{name}"] = None if same else 0
    return found, places


def _untrained(model: LatentModel) -> list[tuple[str, Tensor]]:
    frozen = [(name, p.detach()) for name, p in model.named_parameters() if not p.requires_grad]
    return [*model.named_buffers(), *frozen]
