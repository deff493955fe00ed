"""From a model and data to a posterior, whatever the way: gradient, exact or NUTS."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch

from lidcli.config.run import RunConfig
from lidcli.data.dataset import Dataset
from lidcli.errors import DataError
from lidcli.metrics.evaluation import Evaluation
from lidcli.metrics.own import check_own
from lidcli.models.facts import Facts
from lidcli.store.record import check_arrays
from lidcli.store.run import Run
from lidcli.training.loop import Observer
from lidcli.training.signals import StopRequest
from lidcli.training.sources import split_of

__all__ = ["Fitted", "Job", "Procedure", "procedure"]

SMALLEST = 2
"""Data that are measured: an estimate of one has no standard error."""


class Fitted(Protocol):
    """A model as a checkpoint and a record see it."""

    def facts(self) -> Facts:
        """What its figures are of."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Its weights."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> Any:
        """Take up weights."""
        ...


class Procedure(Protocol):
    """One way to fit a model, made from the settings of section inference."""

    device: torch.device

    @property
    def model(self) -> Fitted:
        """What is fitted."""
        ...

    def parameters(self) -> dict[str, int]:
        """How many numbers are fitted, by part, and in `total`."""
        ...

    def fit(self, job: Job) -> float:
        """Fit from the last checkpoint to the end and write the final one; seconds it took."""
        ...

    def measure(self, config: RunConfig, split: str) -> Evaluation:
        """Everything about a split, its arrays those that figures need; the caller seeds."""
        ...


@dataclass(frozen=True)
class Job:
    """What a procedure works with while it fits."""

    run: Run
    observer: Observer
    stop: StopRequest

    def start(self, of: Procedure, *, step: int, steps: int, warnings: list[str]) -> None:
        """Tell the observer that work begins, or goes on after some steps."""
        self.observer.start(
            {
                "run": self.run.folder.name,
                "folder": str(self.run.folder),
                "device": str(of.device),
                "parameters": of.parameters()["total"],
                "step": step,
                "steps": steps,
                "warnings": warnings,
            }
        )


def procedure(config: RunConfig, data: Dataset) -> Procedure:
    """The procedure of a run, its model started from torch's current seed.

    Raises:
        ConfigError: settings that do not fit each other or the data, or a metric that is none.
        DataError: a datum is larger than a record keeps, or the split that is measured has fewer
            than two data.
    """
    check_own(config.evaluate.metrics)
    split = config.evaluate.split
    count = split_of(data, split, batch_size=1).batches
    if count < SMALLEST:
        raise DataError(
            f"The {split} part of {data.name} has too few data to be measured: {count}, and"
            f" {SMALLEST} are needed."
        )
    try:
        check_arrays({"x": data.shape})
    except ValueError as error:
        raise DataError(f"The data of {data.name} are too large: {error}.") from error
    made: Procedure = config.inference.build(config, data)
    return made
