"""From an experiment, or an ad-hoc grid, to the list of its runs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lidcli.config.read import Experiments
from lidcli.config.resolve import resolve_loosely
from lidcli.config.run import RunConfig
from lidcli.errors import ConfigError
from lidcli.names import nearest

__all__ = [
    "LIMIT",
    "Plan",
    "parse_seeds",
    "part_of",
    "parts",
    "plan_experiment",
    "plan_grid",
    "relatives",
]


@dataclass(frozen=True)
class Plan:
    """The runs of one experiment, in order, without repetition.

    `related` are the other experiments that may have made some of them: its parts, and those that
    take it in.
    """

    experiment: str
    runs: tuple[RunConfig, ...]
    related: tuple[str, ...] = ()


LIMIT = 100_000
"""The most runs of one plan."""


@dataclass(frozen=True)
class _Grid:
    """Models times data times settings times seeds."""

    experiment: str | None
    models: Sequence[str]
    data: Sequence[str]
    settings: Mapping[str, Sequence[Any]]
    seeds: Sequence[int]

    def __post_init__(self) -> None:
        for key in self.settings:
            if key.startswith("runtime.") or key == "data.root":
                raise ConfigError(f"{key} makes no other run: give it one value, with --set.")

    @property
    def number(self) -> int:
        """How many combinations there are."""
        sizes = map(len, (self.models, self.data, self.seeds, *self.settings.values()))
        return math.prod(sizes)

    def points(self) -> Iterator[tuple[str, str, list[tuple[str, Any]]]]:
        """Model, data and settings."""
        values = itertools.product(*self.settings.values())
        for model, data, chosen in itertools.product(self.models, self.data, values):
            yield model, data, list(zip(self.settings, chosen, strict=True))


def parse_seeds(text: str | Iterable[int]) -> tuple[int, ...]:
    """Seeds from `0-4`, `3` or `0-2,7`, or from a list.

    Raises:
        ConfigError: the text is no such list, or is empty.

    Example:
        >>> parse_seeds("0-2,7")
        (0, 1, 2, 7)
    """
    seeds: dict[int, None] = {}
    for first, last in _ranges(text):
        if len(seeds) + last - first >= LIMIT:
            raise ConfigError(f"{text!r} names more than {LIMIT:,} seeds.")
        seeds |= dict.fromkeys(range(first, last + 1))
    if not seeds:
        raise ConfigError(f"{text!r} names no seed.")
    return tuple(seeds)


def _ranges(text: str | Iterable[int]) -> Iterator[tuple[int, int]]:
    """First and last seed of each part of a list."""
    if not isinstance(text, str):
        yield from ((seed, seed) for seed in text)
        return
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not _is_seed(first) or (dash and not _is_seed(last)):
            raise ConfigError(f"Seeds are written like 0-4 or 0,3,7, not {text[:60]!r}.")
        yield int(first), int(last or first)


def _is_seed(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 18


def plan_experiment(
    experiments: Experiments,
    name: str,
    *,
    profile: str | None = None,
    overrides: Sequence[tuple[str, Any]] = (),
    seeds: str | None = None,
) -> Plan:
    """The runs of a named experiment, and of those that it takes in with `also`.

    Args:
        experiments: what `load_files` returned.
        name: a name of `experiments`.
        profile: a name of `profiles`, over the experiment's settings.
        overrides: pairs of dotted key and value, over everything; each has to do something for
            one run at least.
        seeds: in place of the experiment's own.

    Raises:
        ConfigError: an unknown name, a setting that does nothing, a run that does not validate,
            or more than `LIMIT` runs.
    """
    grids = []
    for part in parts(experiments, name):
        spec = experiments.experiments[part]
        chosen = parse_seeds(seeds if seeds is not None else spec.seeds)
        grids.append(_Grid(part, spec.models, spec.data, spec.grid, chosen))
    plan = _plan(experiments, name, grids, profile, overrides)
    return replace(plan, related=relatives(experiments, name))


def plan_grid(
    experiments: Experiments,
    folder: str,
    *,
    models: Sequence[str],
    data: Sequence[str],
    grid: Mapping[str, Sequence[Any]],
    seeds: Sequence[int],
    profile: str | None = None,
    overrides: Sequence[tuple[str, Any]] = (),
) -> Plan:
    """Every combination of models, data, grid values and seeds.

    Args:
        experiments: what `load_files` returned.
        folder: where the runs go below the results folder.
        models: names of `models`.
        data: names of `data`.
        grid: dotted key to the values it takes; each has to do something for one model at least.
        seeds: run seeds.
        profile: a name of `profiles`.
        overrides: pairs of dotted key and value, over everything but the grid; likewise.

    Raises:
        ConfigError: a setting that does nothing, a run that does not validate, or more than
            `LIMIT` runs.
    """
    only = _Grid(None, models, data, grid, seeds)
    return _plan(experiments, folder, [only], profile, overrides)


def parts(experiments: Experiments, name: str) -> list[str]:
    """An experiment and those that it takes in, each once."""
    known, found, waiting = experiments.experiments, dict[str, None](), [name]
    while waiting:
        part = waiting.pop()
        if part not in known:
            raise ConfigError(f"Unknown experiment {part!r}; {nearest(part, known)}")
        if part not in found:
            found[part] = None
            waiting.extend(reversed(known[part].also))
    return list(found)


def relatives(experiments: Experiments, name: str) -> tuple[str, ...]:
    """The experiments that an experiment takes in, and those that take it in.

    Args:
        experiments: what `load_files` returned.
        name: of an experiment; one that is not known has none.
    """
    known = experiments.experiments
    if name not in known:
        return ()
    takers = [other for other in known if name in parts(experiments, other)]
    return tuple(dict.fromkeys(n for n in [*parts(experiments, name), *takers] if n != name))


def part_of(experiments: Experiments, name: str, model: str, data: str) -> str:
    """The part of an experiment that has a model on some data; the experiment itself if none has.

    Args:
        experiments: what `load_files` returned.
        name: of an experiment.
        model, data: names of them.

    Raises:
        ConfigError: an unknown experiment.
    """
    for part in parts(experiments, name):
        spec = experiments.experiments[part]
        if model in spec.models and data in spec.data:
            return part
    return name


def _plan(
    experiments: Experiments,
    name: str,
    grids: Sequence[_Grid],
    profile: str | None,
    overrides: Sequence[tuple[str, Any]],
) -> Plan:
    """The runs of some grids; what does nothing for all of them is an error."""
    number = sum(grid.number for grid in grids)
    if number > LIMIT:
        raise ConfigError(f"{name} has {number:,} runs; the limit is {LIMIT:,} for one sweep.")
    runs: dict[str, RunConfig] = {}
    used: set[str] = set()
    hidden: set[str] = set()
    idle: dict[str, str] = {}
    for grid in grids:
        for model, data, values in grid.points():
            settings = [*overrides, *values]
            gridded = {key for key, _ in overrides} & set(grid.settings)
            for seed in grid.seeds:
                config, unused = resolve_loosely(
                    experiments,
                    model=model,
                    data=data,
                    experiment=grid.experiment,
                    profile=profile,
                    overrides=settings,
                    seed=seed,
                )
                runs.setdefault(config.run_id, config)
            used |= {key for key, _ in settings} - set(unused) - gridded
            idle = unused | idle
            hidden |= gridded
    if not runs:
        raise ConfigError(
            f"{name} names no run: give it models, data and seeds, and no empty list of values."
        )
    for key, reason in idle.items():
        if key not in used:
            raise ConfigError(reason)
    for key in sorted(hidden - used):
        raise ConfigError(f"{key} is set to one value, and the grid of {name} goes over others.")
    return Plan(name, tuple(runs.values()))
