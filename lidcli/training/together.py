"""Several trainings at once: each its own course, their steps shared where they can be."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from typing import cast

import torch

from lidcli.models.batch import Batch, DenseBatch
from lidcli.training.loop import Done, Trainer, advance
from lidcli.training.race import race
from lidcli.training.stack import Stack, noise_of, skeleton

__all__ = ["Member", "step_seconds", "train_together"]


class Member:
    """One training among several: its course, its own generators, and how it ended.

    Args:
        trainer: at its beginning, or restored; torch's generators are those of its run.
    """

    def __init__(self, trainer: Trainer) -> None:
        self.trainer, self.course = trainer, trainer.course()
        self.generators = trainer.generators()
        self.x: Batch | None = None
        self.error: Exception | None = None

    @contextlib.contextmanager
    def own(self) -> Iterator[None]:
        """Torch's generators are this run's, and what is drawn counts."""
        self.trainer.set_generators(self.generators)
        try:
            yield
        finally:
            self.generators = self.trainer.generators()

    def go_on(self, done: Done | None) -> None:
        """Go to the next batch, to the end or to what ends the run."""
        try:
            with self.own():
                self.x = advance(self.course, done)
        except Exception as error:
            self.fail(error)

    def fail(self, error: Exception) -> None:
        """Leave the others."""
        self.x, self.error = None, error
        self.course.close()

    def alone(self) -> None:
        """Do the next step by itself."""
        assert self.x is not None
        started = time.perf_counter()
        try:
            with self.own():
                terms = self.trainer.step(self.x)
        except Exception as error:
            self.fail(error)
        else:
            self.go_on(Done(terms, time.perf_counter() - started))


class _Together:
    """Whose turn it is, and the stack of those."""

    def __init__(self, members: Sequence[Member], shared: bool) -> None:
        self.members, self.shared = members, shared
        self.turn: list[Member] = []
        self.stack: Stack | None = None
        self.network = skeleton(members[0].trainer)

    def round(self, turn: list[Member]) -> None:
        """The next step of some of the members, whose batches are of one size."""
        if turn != self.turn:
            trainers = [member.trainer for member in turn]
            shared = self.shared and len(turn) > 1
            self.stack = Stack(trainers, self.network) if shared else None
            self.turn = turn
        if self.stack is not None:
            self._step(self.stack, turn)
            return
        for member in turn:
            member.alone()

    def _step(self, stack: Stack, turn: Sequence[Member]) -> None:
        started = time.perf_counter()
        batches = [cast(DenseBatch, member.x) for member in turn]
        noise = []
        for member, batch in zip(turn, batches, strict=True):
            with member.own():
                noise.append(noise_of(member.trainer, batch))
        results = stack.step(batches, noise)
        share = (time.perf_counter() - started) / len(turn)
        for member, result in zip(turn, results, strict=True):
            if isinstance(result, Exception):
                member.fail(result)
            else:
                member.go_on(Done(result, share))


def train_together(members: Sequence[Member], shared: bool = True) -> None:
    """Train runs that differ in their seed alone to their ends, as one batched model.

    Those at the largest batches go first, so that runs taken up at different places meet at the
    end of an epoch. A run that ends, or fails, leaves; the last one goes on alone. Each keeps
    what it ended with in `error`.

    Args:
        members: with one request to stop for all of them.
        shared: whether they share their steps, or each does its own, to the bits of the run alone.
    """
    for member in members:
        member.go_on(None)
    together = _Together(members, shared)
    while waiting := [member for member in members if member.x is not None]:
        if waiting[0].trainer.stop.signum is not None:
            for member in waiting:
                member.go_on(None)
            continue
        most = max(len(member.x) for member in waiting if member.x is not None)
        together.round([m for m in waiting if m.x is not None and len(m.x) == most])


def step_seconds(trainers: Sequence[Trainer]) -> dict[str, float]:
    """Mean seconds of a step of several trainings, each by itself and as one batched model.

    Args:
        trainers: at their beginning, of runs that differ in their seed alone; they are used up.

    Returns:
        `alone` and `together`.

    Raises:
        DivergedError: a value was not finite.
    """
    generator = torch.Generator().manual_seed(0)
    batches = [cast(DenseBatch, one.train.draw(generator).to(one.device)) for one in trainers]
    stack = Stack(trainers, skeleton(trainers[0]))

    def alone(index: int) -> object:
        steps = zip(trainers, batches, strict=True)
        return torch.stack([one.step(batch) for one, batch in steps]).tolist()

    def together(index: int) -> object:
        noise = [noise_of(one, batch) for one, batch in zip(trainers, batches, strict=True)]
        done = stack.step(batches, noise)
        for result in done:
            if isinstance(result, Exception):
                raise result
        return torch.stack(done).tolist()

    return race({"alone": alone, "together": together})
