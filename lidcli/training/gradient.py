"""Training by gradients: the procedure of every amortized posterior."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import torch

from lidcli.config.run import RunConfig
from lidcli.config.sections import Inference
from lidcli.data.dataset import Dataset
from lidcli.metrics.evaluation import Evaluation
from lidcli.metrics.own import measure_own
from lidcli.training.build import build, parameter_counts
from lidcli.training.device import pick_device
from lidcli.training.guard import Guard
from lidcli.training.loop import Observer, Progress, Trainer
from lidcli.training.measure import measure_latent
from lidcli.training.procedure import Job
from lidcli.training.signals import StopRequest
from lidcli.training.sources import split_of
from lidcli.training.updates import Joint

__all__ = ["Gradient"]

REHEARSED = 4
"""Batches that are looked at before training."""


class Gradient:
    """A model trained with its posterior on the bound.

    Args:
        settings: section inference of `config`.
        config: of a run that is trained.
        data: what it is trained on.

    Raises:
        ConfigError: settings that do not fit each other or the data, or no such device.
    """

    def __init__(self, settings: Inference, config: RunConfig, data: Dataset) -> None:
        self.device = pick_device(config.runtime.device)
        self.config, self.data = config, data
        self.model = build(config, data).to(self.device)

    def parameters(self) -> dict[str, int]:
        """Trainable parameters of decoder, posterior and the whole."""
        return parameter_counts(self.model)

    def rehearsal(self) -> Callable[[int], object]:
        """A step as training does it, on the first batches; the weights change.

        Where a step has inner ones, as Lagging's, one of those stands for it.
        """
        training = self.config.train
        assert training is not None
        source = split_of(self.data, "train", training.batch_size)
        epoch = source.epoch(torch.Generator().manual_seed(self.config.seed))
        batches = [x.to(self.device) for x in itertools.islice(epoch, REHEARSED)]
        guard = Guard(self.device)
        update = self.config.inference.update(training, self.model, source.batches, guard)
        self.model.train()

        def step(index: int) -> object:
            x = batches[index % len(batches)]
            if isinstance(update, Joint):
                return Joint.step(update, x, 0, lambda: x)
            return update.step(x, 0, lambda: x)

        return step

    def fit(self, job: Job) -> float:
        """Train to the end, in seconds over all sessions."""
        trainer = self.trainer(job)
        trainer.run()
        return trainer.progress.seconds

    def trainer(self, job: Job) -> Trainer:
        """What trains, at the beginning or at the last checkpoint; the observer hears of it."""
        run, config = job.run, self.config
        assert config.train is not None

        def save(state: dict[str, Any], progress: Progress) -> None:
            run.save_checkpoint(state, step=progress.step)
            run.update(
                provenance={
                    "epochs_done": progress.epoch,
                    "steps": progress.step,
                    "train_seconds": progress.seconds,
                    "best_epoch": progress.best_epoch + 1,
                },
                curves=progress.arrays(),
            )

        trainer = self._trainer(config.train.batch_size, job.observer, save, job.stop)
        state, warnings = run.load_checkpoint()
        if state is None:
            with job.stop.at_once():
                config.model.begin(self.model, self.data, config.seed)
        else:
            with run.fitting():
                trainer.restore(state)
        if warnings:
            run.update(provenance={"warnings": warnings})
        job.start(
            self,
            step=trainer.progress.step,
            steps=config.train.epochs * trainer.batches,
            warnings=warnings,
        )
        return trainer

    def unsaved(self, observer: Observer) -> Trainer:
        """What trains, from the beginning and without a record, for steps that are thrown away."""
        training = self.config.train
        assert training is not None
        trainer = self._trainer(
            training.batch_size, observer, lambda state, progress: None, StopRequest()
        )
        trainer.model.train()
        return trainer

    def _trainer(
        self,
        size: int,
        observer: Observer,
        save: Callable[[dict[str, Any], Progress], None],
        stop: StopRequest,
    ) -> Trainer:
        train, valid = split_of(self.data, "train", size), split_of(self.data, "valid")
        return Trainer(
            self.config, self.model, train, valid, observer=observer, save=save, stop=stop
        )

    def measure(self, config: RunConfig, split: str) -> Evaluation:
        """Bounds, information, pictures and, where asked for, the likelihood's variation."""
        source = split_of(self.data, split)
        x = source.fixed().to(self.device)
        result = measure_latent(config, self.model, x, source.labels, self.data)
        measure_own(config.evaluate.metrics, self.model, x, source.labels, result)
        return result
