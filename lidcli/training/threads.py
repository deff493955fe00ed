"""How many threads a run computes on: measured once, on its own steps, and kept in its record."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import torch

from lidcli.config.run import RunConfig
from lidcli.errors import DivergedError
from lidcli.store.run import Run
from lidcli.training.procedure import Procedure
from lidcli.training.race import WORTH, race

__all__ = ["Rehearsed", "choose", "settle"]


@runtime_checkable
class Rehearsed(Protocol):
    """A procedure whose steps can be timed before it is thrown away."""

    def rehearsal(self) -> Callable[[int], object]:
        """Does the training step of a round, counted from 0; it may change weights."""
        ...


def choose(step: Callable[[int], object], most: int) -> tuple[int, dict[int, float]]:
    """The number of threads that a step repays, by doubling it while that pays.

    A busy machine punishes every thread, so twice the threads have to be `WORTH` it.

    Args:
        step: does the step of a round, counted from 0.
        most: threads at most, >= 1.

    Returns:
        The number, and the mean seconds of a step with each number that was tried.

    Example:
        >>> choose(lambda index: None, 1)
        (1, {})
    """
    count = 1
    seconds: dict[int, float] = {}
    while count < most:
        more = min(2 * count, most)
        pair = race({threads: _with(threads, step) for threads in (count, more)})
        seconds |= pair
        if pair[more] * WORTH > pair[count]:
            break
        count = more
    return count, seconds


def _with(count: int, step: Callable[[int], object]) -> Callable[[int], object]:
    """A step on so many threads."""

    def done(index: int) -> object:
        torch.set_num_threads(count)
        return step(index)

    return done


def settle(
    config: RunConfig, run: Run, made: Procedure, make: Callable[[], Procedure]
) -> Procedure:
    """Fix the threads of a run: those it is told, those of its earlier sessions, or measured ones.

    Where they are not those that the procedure was made with, it is made again, so that every
    number of the run is computed with them.

    Args:
        config: of the run.
        run: its record, which keeps the number and what was measured.
        made: the procedure; where its steps are timed it is used up.
        make: makes it anew, from the run's seed.
    """
    known = run.provenance.get("threads")
    wanted = config.runtime.threads or (known if isinstance(known, int) else None)
    measured: dict[int, float] = {}
    if wanted is None and _measurable(made):
        wanted, measured = _measured(made)
        torch.set_num_threads(wanted)
        made = make()
    elif wanted is not None and wanted != torch.get_num_threads():
        torch.set_num_threads(wanted)
        made = make()
    found: dict[str, Any] = {"threads": torch.get_num_threads()}
    if measured:
        found["thread_seconds"] = {str(count): seconds for count, seconds in measured.items()}
    run.update(provenance=found)
    return made


def _measurable(made: Procedure) -> bool:
    return made.device.type == "cpu" and torch.get_num_threads() > 1 and isinstance(made, Rehearsed)


def _measured(made: Any) -> tuple[int, dict[int, float]]:
    """The threads that the steps of a procedure repay; one, where its first steps diverge."""
    try:
        return choose(made.rehearsal(), torch.get_num_threads())
    except DivergedError:
        return 1, {}
