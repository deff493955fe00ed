"""Several runs from their configurations to their records, trained as one batched model."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from lidcli.config.run import RunConfig
from lidcli.data.dataset import Dataset
from lidcli.errors import ConfigError, DivergedError
from lidcli.store.run import Run
from lidcli.training import lifecycle
from lidcli.training.gradient import Gradient
from lidcli.training.loop import Observer
from lidcli.training.procedure import Job, procedure
from lidcli.training.race import WORTH
from lidcli.training.signals import StopRequest
from lidcli.training.stackable import but_for_the_seed, obstacle
from lidcli.training.together import Member, step_seconds, train_together

__all__ = ["execute_together"]


@dataclass
class _Entry:
    """One run that is worked on."""

    config: RunConfig
    run: Run
    made: Gradient
    observer: Observer
    generators: torch.Tensor
    member: Member | None = None


@lifecycle.flushing()
def execute_together(
    configs: Sequence[RunConfig],
    results: Path,
    experiment: str,
    observers: Sequence[Observer],
    *,
    restart: str = "",
    measured: bool = False,
) -> list[Run | Exception]:
    """Train and evaluate runs that differ in their seed alone, as one batched model.

    Each has its own generators, order of data, patience, checkpoints and record, and is taken up
    where an earlier process left it, however that trained it. One that fails, diverges or is in
    another process's hands does not stop the others.

    Args:
        configs: at least one, resolved.
        results: folder of all runs.
        experiment: folder of these below it.
        observers: one a run.
        restart: as of `execute`.
        measured: whether they share their steps only where some first ones, which are thrown
            away, are the faster for it; else each does its own, to the bits of the run alone.

    Returns:
        Of each run its finished record, or what `execute` would have raised.

    Raises:
        ConfigError: the runs differ in more, or are of a kind that is trained one by one.
        DataError: their data are missing or wrong.
    """
    _check(configs)
    lifecycle.prepare(configs[0])
    data: Dataset = configs[0].data.build()
    outcomes: list[Run | Exception] = []
    with contextlib.ExitStack() as locks:
        entries: list[_Entry] = []
        for config, observer in zip(configs, observers, strict=True):
            found = _enter(config, data, results / experiment, observer, locks, restart)
            outcomes.append(found.run if isinstance(found, _Entry) else found)
            entries += [found] if isinstance(found, _Entry) else []
        failed = _work(entries, data, measured) if entries else {}
    return [failed.get(id(outcome), outcome) for outcome in outcomes]


def _check(configs: Sequence[RunConfig]) -> None:
    """Raise ConfigError unless the runs can be one model."""
    reason = obstacle(configs[0])
    if reason is not None:
        raise ConfigError(f"These runs cannot be stacked: {reason}.")
    if len({but_for_the_seed(config) for config in configs}) > 1:
        raise ConfigError("Only runs that differ in their seed alone can be stacked.")


def _enter(
    config: RunConfig,
    data: Dataset,
    folder: Path,
    observer: Observer,
    locks: contextlib.ExitStack,
    restart: str,
) -> _Entry | Run | Exception:
    """Take a run's lock and build its model; what it is instead, where that is not needed."""
    place = folder / config.run_id
    try:
        known = lifecycle.finished(place, restart)
        if known is not None:
            lifecycle.check_data(known, data)
            return known
        torch.manual_seed(config.seed)
        made = procedure(config, data)
        assert isinstance(made, Gradient)
        run = locks.enter_context(lifecycle.entered(place, config, restart))
        lifecycle.check_data(run, data)
    except Exception as error:
        return error
    if run.status == "complete":
        return run
    return _Entry(config, run, made, observer, torch.get_rng_state())


def _work(entries: Sequence[_Entry], data: Dataset, measured: bool) -> dict[int, Exception]:
    """Train and evaluate; why runs came to no end, by the identity of their record."""
    failed: dict[int, Exception] = {}

    def fail(entry: _Entry, error: Exception) -> None:
        lifecycle.note_end(entry.run, error)
        failed[id(entry.run)] = error

    with StopRequest() as stop:
        with stop.at_once():
            shared = not measured or _faster(entries, data)
        for entry in entries:
            try:
                _start(entry, data, stop, len(entries) if shared else 1)
            except Exception as error:
                fail(entry, error)
        train_together([one.member for one in entries if one.member is not None], shared)
        for entry in entries:
            if entry.member is None:
                continue
            try:
                _end(entry, entry.member, stop)
            except Exception as error:
                fail(entry, error)
    return failed


def _faster(entries: Sequence[_Entry], data: Dataset) -> bool:
    """Whether runs are faster for sharing their steps, by their first ones; each record keeps both.

    Where the first steps diverge, each run shall do so by itself.
    """
    made = [Gradient(one.config.inference, one.config, data) for one in entries]
    try:
        trainers = [one.unsaved(entry.observer) for one, entry in zip(made, entries, strict=True)]
        seconds = step_seconds(trainers)
    except DivergedError:
        return False
    for entry in entries:
        entry.run.update(provenance={"stack_seconds": seconds})
    return seconds["together"] * WORTH <= seconds["alone"]


def _start(entry: _Entry, data: Dataset, stop: StopRequest, count: int) -> None:
    """Begin the record's session, and stand at the run's first batch or its last checkpoint."""
    torch.manual_seed(entry.config.seed)
    torch.set_rng_state(entry.generators)
    entry.run.update(provenance={"threads": torch.get_num_threads()})
    lifecycle.begin(entry.config, entry.run, entry.made, data, stacked=count)
    trainer = entry.made.trainer(Job(entry.run, entry.observer, stop))
    entry.member = Member(trainer)


def _end(entry: _Entry, member: Member, stop: StopRequest) -> None:
    """Raise what ended the training too early, or evaluate."""
    if member.error is not None:
        raise member.error
    seconds = member.trainer.progress.seconds
    lifecycle.finish(entry.config, entry.run, entry.made, entry.observer, stop, seconds)
