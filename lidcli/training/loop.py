"""The training loop: epochs, validation, best weights, checkpoints that resume exactly."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from lidcli.config.run import RunConfig
from lidcli.errors import DivergedError, Interrupted
from lidcli.metrics import information
from lidcli.metrics.likelihood import bounds
from lidcli.models.batch import Batch
from lidcli.models.latent import LatentModel
from lidcli.training.device import device_of
from lidcli.training.guard import Guard
from lidcli.training.optimisers import learning_rate
from lidcli.training.signals import StopRequest
from lidcli.training.sources import Source
from lidcli.training.updates import Update

__all__ = ["Course", "Done", "Observer", "Progress", "Trainer", "advance"]

VALIDATION_DRAWS = 4
AU_DRAWS = 64
AU_DATA = 200
"""Of how many data a curve tells the AU where each encoding is a search of its own."""
VALIDATION_SEED = 20211
MI_OUTER = 200
"""Data in the outer mean of the MI of a continuous latent."""


class Observer(Protocol):
    """Hears how a training goes; the command line prints it."""

    def start(self, facts: dict[str, Any]) -> None:
        """Training begins, or goes on, with these run, folder, device, parameters and steps."""
        ...

    def step(self, done: int, total: int) -> None:
        """Some steps were done, of `total`."""
        ...

    def epoch(self, record: dict[str, float]) -> None:
        """An epoch was validated."""
        ...

    def evaluating(self, split: str) -> None:
        """Training is over and the evaluation of a split begins."""
        ...


class Done(NamedTuple):
    """What a step gave: the batch's ELBO and KL (2,), in float64, and the seconds it took."""

    terms: Tensor
    seconds: float


Course = Generator[Batch, Done | None, None]
"""A training as its batches: each is given out, and what the step on it gave is sent back."""


def advance(course: Course, done: Done | None) -> Batch | None:
    """Send what a step gave; the next batch, or None at the end."""
    try:
        return course.send(done)
    except StopIteration:
        return None


@dataclass
class Progress:
    """All of a training's state that is not weights, optimiser or generator."""

    epoch: int = 0
    batch: int = 0
    step: int = 0
    seconds: float = 0.0
    best: float = -math.inf
    best_epoch: int = -1
    waited: int = 0
    sums: list[float] = field(default_factory=lambda: [0.0, 0.0])
    curves: dict[str, list[float]] = field(default_factory=dict)

    def note(self, record: dict[str, float]) -> None:
        """Append one epoch to the curves."""
        for name, value in record.items():
            self.curves.setdefault(name, []).append(value)

    def arrays(self) -> dict[str, np.ndarray[Any, np.dtype[np.float64]]]:
        """The curves as arrays, for the run store."""
        return {name: np.asarray(values) for name, values in self.curves.items()}


class Trainer:
    """Trains one model on one data set.

    Args:
        config: resolved.
        model: on its device, with its posterior attached.
        train: training data.
        valid: validation data.
        observer: hears of steps and epochs.
        save: writes a checkpoint; called with the whole state and the progress.
        stop: a signal's request to stop.
    """

    def __init__(
        self,
        config: RunConfig,
        model: LatentModel,
        train: Source,
        valid: Source,
        *,
        observer: Observer,
        save: Callable[[dict[str, Any], Progress], None],
        stop: StopRequest,
    ) -> None:
        assert config.train is not None
        self.config, self.model, self.train = config, model, train
        self.training = config.train
        self.inference: Any = config.inference
        self.observer, self.save, self.stop = observer, save, stop
        self.device = device_of(model)
        self.valid: Batch = valid.fixed().to(self.device)
        self.batches = train.batches
        self.guard = Guard(self.device)
        self.update: Update = config.inference.update(config.train, model, self.batches, self.guard)
        self.progress = Progress()
        self.best: dict[str, Tensor] = {}
        self._saved = time.monotonic()

    def state(self) -> dict[str, Any]:
        """Everything a later process needs to go on exactly from here."""
        return {
            "model": self.model.state_dict(),
            "best": self.best,
            "update": self.update.state(),
            "progress": vars(self.progress),
            "rng": self.generators(),
        }

    def generators(self) -> dict[str, Tensor | None]:
        """The states of torch's own generators."""
        cuda = self.device.type == "cuda"
        return {
            "cpu": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state(self.device) if cuda else None,
        }

    def set_generators(self, states: dict[str, Any]) -> None:
        """Set torch's own generators to states that `generators` gave."""
        torch.set_rng_state(states["cpu"])
        if self.device.type == "cuda" and states["cuda"] is not None:
            torch.cuda.set_rng_state(states["cuda"], self.device)

    def restore(self, state: dict[str, Any]) -> None:
        """Take up a state that `state` gave."""
        self.model.load_state_dict(state["model"])
        self.update.restore(state["update"])
        self.best = {name: value.to(self.device) for name, value in state["best"].items()}
        self.progress = Progress(**state["progress"])
        self.set_generators(state["rng"])

    def run(self) -> None:
        """Train from the current progress to the end, then take up the best weights.

        Raises:
            DivergedError: a value was not finite.
            Interrupted: a signal asked to stop; a checkpoint was written.
        """
        self.drive(self.course())

    def drive(self, course: Course) -> None:
        """Do every step of a course alone."""
        x = advance(course, None)
        while x is not None:
            started = time.perf_counter()
            terms = self.step(x)
            x = advance(course, Done(terms, time.perf_counter() - started))

    def course(self) -> Course:
        """What `run` does, but for the steps: whoever drives it does one on each batch.

        Where a signal asks to stop, None can be sent in place of what a step gave: then the step
        was not done.
        """
        progress, epochs = self.progress, self.training.epochs
        while progress.epoch < epochs and not self._out_of_patience():
            yield from self._epoch()
            progress.epoch += 1
            progress.batch, progress.sums = 0, [0.0, 0.0]
            self._checkpoint_if_due()
        if not self.best:
            self._keep_best(-math.inf)
        self._checkpoint()
        self.model.load_state_dict(self.best)

    def _generator(self) -> torch.Generator:
        """The generator of this epoch, a function of seed and epoch alone."""
        seed = np.random.SeedSequence([self.config.seed, self.progress.epoch]).generate_state(1)
        return torch.Generator().manual_seed(int(seed[0]))

    def _epoch(self) -> Course:
        config, progress = self.training, self.progress
        sums = torch.tensor(progress.sums, dtype=torch.float64, device=self.device)
        self.model.train()
        total = config.epochs * self.batches
        epoch = itertools.islice(self.train.epoch(self._generator()), progress.batch, None)
        for batch, x in enumerate(epoch, start=progress.batch):
            done = yield x.to(self.device)
            if done is not None:
                sums += done.terms * len(x)
                progress.batch, progress.step = batch + 1, progress.step + 1
                progress.seconds += done.seconds
                self.observer.step(progress.step, total)
            if self.stop.signum is not None or self._due():
                progress.sums = sums.tolist()
                self._checkpoint_if_due()
        if (progress.epoch + 1) % config.validate_every == 0 or progress.epoch + 1 == config.epochs:
            progress.sums = sums.tolist()
            self._validate_or_stop()

    def _validate_or_stop(self) -> None:
        """Validate; a signal ends that at once, and the next session validates first."""
        generators = self.generators()
        elbo, kl = (total / len(self.train) for total in self.progress.sums)
        try:
            self._validate(elbo, kl)
        except Interrupted:
            self.set_generators(generators)
            self._checkpoint()
            raise

    def step(self, x: Batch) -> Tensor:
        """One update; returns the batch's ELBO and KL, detached."""
        result = self.update.step(x, self.progress.step, self._more)
        return torch.stack([result.elbo.detach(), result.kl.detach()]).double()

    def _more(self) -> Batch:
        """A further batch, for an inner loop, by torch's own generator."""
        generator = torch.Generator().manual_seed(int(torch.randint(2**31, ())))
        return self.train.draw(generator).to(self.device)

    def _validate(self, elbo: float, kl: float) -> None:
        config, progress = self.config, self.progress
        self.guard.flush(progress.step, self.model)
        self.model.eval()
        devices = [self.device] if self.device.type == "cuda" else []
        with self.stop.at_once(), torch.random.fork_rng(devices):
            torch.manual_seed(VALIDATION_SEED)
            measured = bounds(self.model, self.valid, VALIDATION_DRAWS, config.runtime.batch)
            if not torch.isfinite(measured.elbo).all():
                raise DivergedError(
                    f"Step {progress.step}: the ELBO of the validation data is not finite."
                    " What was saved before is kept; try a smaller learning rate."
                )
            latent = measured.q_c is None and self.model.latent > 0
            halves = self._mean_halves() if latent else None
        record = {
            "epoch": float(progress.epoch + 1),
            "step": float(progress.step),
            "seconds": progress.seconds,
            "learning_rate": learning_rate(self.training, progress.step, self.batches),
            "train/elbo": elbo,
            "train/kl": kl,
            "valid/elbo": measured.elbo.mean().item(),
            "valid/kl/joint": measured.kl.mean().item(),
        }
        if halves is not None:
            active = information.active_units_of_halves(halves)
            record[f"valid/au/{self.model.prior.symbol}"] = active
        if measured.q_c is not None:
            record["valid/kl/c"] = information.categorical_kl(measured.q_c).value
            record["valid/mi/c"] = information.categorical_mi(measured.q_c).value
            record["valid/au/c"] = information.active_units(measured.q_c)
        self.update.validated(lambda: self._information(record))
        progress.note(record)
        reconstruction = measured.reconstruction.mean().item()
        criterion = reconstruction - self.inference.beta * record["valid/kl/joint"]
        if criterion > progress.best:
            self._keep_best(criterion)
        else:
            progress.waited += self.training.validate_every
        self.observer.epoch(record)

    def _information(self, record: dict[str, float]) -> float:
        """MI of the judged latent on the validation data, which becomes part of the record."""
        name = f"valid/mi/{self.model.facts().judged}"
        if name not in record:
            devices = [self.device] if self.device.type == "cuda" else []
            with self.stop.at_once(), torch.random.fork_rng(devices):
                torch.manual_seed(VALIDATION_SEED)
                batch = self.config.runtime.batch
                measured = information.continuous_mi(self.model, self.valid, MI_OUTER, batch)
            record[name] = measured.value
        return record[name]

    @torch.no_grad()
    def _mean_halves(self) -> Tensor:
        """Two estimates (2, N, K) of the posterior means, from draws that are not decoded."""
        batch = self.config.runtime.batch
        if self.model.posterior.random:
            few = self.valid.rows(slice(None, None, -(-len(self.valid) // AU_DATA)))
            both = [information.encode(self.model, few, batch) for _ in range(2)]
            return torch.stack([one.draw(AU_DRAWS // 2).mean().mean(0) for one in both])
        conditional = information.encode(self.model, self.valid, batch)
        latent: Tensor = conditional.draw(AU_DRAWS).latent
        return latent.view(2, AU_DRAWS // 2, *latent.shape[1:]).mean(1)

    def _keep_best(self, criterion: float) -> None:
        progress = self.progress
        progress.best, progress.best_epoch, progress.waited = criterion, progress.epoch, 0
        self.best = {k: v.detach().clone() for k, v in self.model.state_dict().items()}

    def _out_of_patience(self) -> bool:
        patience = self.training.patience
        return patience is not None and self.progress.waited >= patience

    def _due(self) -> bool:
        return time.monotonic() - self._saved >= self.config.runtime.checkpoint_seconds

    def _checkpoint_if_due(self) -> None:
        if self.stop.signum is not None:
            self._checkpoint()
            raise Interrupted(self.stop.signum)
        if self._due():
            self._checkpoint()

    def _checkpoint(self) -> None:
        self.guard.flush(self.progress.step, self.model)
        self.save(self.state(), self.progress)
        self._saved = time.monotonic()
