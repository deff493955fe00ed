"""Several trainings at once: each its own course, their steps shared where they can be."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from typing import cast

from lidcli.models.batch import Batch, DenseBatch
from lidcli.training.loop import Done, Trainer, advance
from lidcli.training.stack import Stack, noise_of, skeleton

__all__ = ["Member", "train_together"]


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

    def __init__(self, members: Sequence[Member]) -> None:
        self.members = members
        self.turn: list[Member] = []
        self.stack: Stack | None = None
        self.network = skeleton(members[0].trainer)

    def round(self, turn: list[Member]) -> None:
        """The next step of some of the members, whose batches are of one size."""
        if turn != self.turn:
            trainers = [member.trainer for member in turn]
            self.stack = Stack(trainers, self.network) if len(turn) > 1 else None
            self.turn = turn
        if self.stack is None:
            turn[0].alone()
            return
        self._step(self.stack, turn)

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


def train_together(members: Sequence[Member]) -> None:
    """Train runs that differ in their seed alone to their ends, as one batched model.

    Those at the largest batches go first, so that runs taken up at different places meet at the
    end of an epoch. A run that ends, or fails, leaves; the last one goes on alone. Each keeps
    what it ended with in `error`.

    Args:
        members: with one request to stop for all of them.
    """
    for member in members:
        member.go_on(None)
    together = _Together(members)
    while waiting := [member for member in members if member.x is not None]:
        if waiting[0].trainer.stop.signum is not None:
            for member in waiting:
                member.go_on(None)
            continue
        most = max(len(member.x) for member in waiting if member.x is not None)
        together.round([m for m in waiting if m.x is not None and len(m.x) == most])
