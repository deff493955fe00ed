"""From an experiment, or an ad-hoc grid, to the list of its runs."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lidcli.config.load import Experiments, nearest, resolve
from lidcli.config.schema import RunConfig
from lidcli.errors import ConfigError

__all__ = ["Plan", "parse_seeds", "plan_experiment", "plan_grid"]


@dataclass(frozen=True)
class Plan:
    """The runs of one experiment, in order, without repetition."""

    experiment: str
    runs: tuple[RunConfig, ...]


def parse_seeds(text: str | Iterable[int]) -> tuple[int, ...]:
    """Seeds from `0-4`, `3` or `0-2,7`, or from a list.

    Raises:
        ConfigError: the text is no such list, or is empty.

    Example:
        >>> parse_seeds("0-2,7")
        (0, 1, 2, 7)
    """
    seeds: list[int] = []
    if not isinstance(text, str):
        seeds = list(text)
    else:
        for part in text.split(","):
            first, dash, last = part.strip().partition("-")
            if not first.isdecimal() or (dash and not last.isdecimal()):
                raise ConfigError(f"Seeds are written like 0-4 or 0,3,7, not {text!r}.")
            seeds.extend(range(int(first), int(last or first) + 1))
    if not seeds:
        raise ConfigError(f"{text!r} names no seed.")
    return tuple(dict.fromkeys(seeds))


def plan_experiment(
    experiments: Experiments,
    name: str,
    *,
    profile: str | None = None,
    overrides: Sequence[tuple[str, Any]] = (),
    seeds: str | None = None,
) -> Plan:
    """The runs of a named experiment.

    Args:
        experiments: what `load_files` returned.
        name: a name of `experiments`.
        profile: a name of `profiles`, over the experiment's settings.
        overrides: pairs of dotted key and value, over everything.
        seeds: in place of the experiment's own.

    Raises:
        ConfigError: an unknown name, or a run that does not validate.
    """
    if name not in experiments.experiments:
        raise ConfigError(f"Unknown experiment {name!r}; {nearest(name, experiments.experiments)}")
    spec = experiments.experiments[name]
    others = [
        run
        for other in spec.also
        for run in plan_experiment(
            experiments, other, profile=profile, overrides=overrides, seeds=seeds
        ).runs
    ]
    own = plan_grid(
        experiments,
        name,
        models=spec.models,
        data=spec.data,
        grid=spec.grid,
        seeds=parse_seeds(seeds if seeds is not None else spec.seeds),
        experiment=name,
        profile=profile,
        overrides=overrides,
    )
    return Plan(name, tuple({run.run_id: run for run in (*own.runs, *others)}.values()))


def plan_grid(
    experiments: Experiments,
    folder: str,
    *,
    models: Sequence[str],
    data: Sequence[str],
    grid: Mapping[str, Sequence[Any]],
    seeds: Sequence[int],
    experiment: str | None = None,
    profile: str | None = None,
    overrides: Sequence[tuple[str, Any]] = (),
) -> Plan:
    """Every combination of models, data, grid values and seeds.

    Args:
        experiments: what `load_files` returned.
        folder: where the runs go below the results folder.
        models: names of `models`.
        data: names of `data`.
        grid: dotted key to the values it takes.
        seeds: run seeds.
        experiment: a named experiment whose `set` applies.
        profile: a name of `profiles`.
        overrides: pairs of dotted key and value, over everything but the grid.

    Raises:
        ConfigError: a run that does not validate.
    """
    runs: dict[str, RunConfig] = {}
    for model, datum, values, seed in itertools.product(
        models, data, itertools.product(*grid.values()), seeds
    ):
        config = resolve(
            experiments,
            model=model,
            data=datum,
            experiment=experiment,
            profile=profile,
            overrides=[*overrides, *zip(grid, values, strict=True)],
            seed=seed,
        )
        runs.setdefault(config.run_id, config)
    if not runs:
        raise ConfigError(f"{folder} names no run: give it models, data and seeds.")
    return Plan(folder, tuple(runs.values()))
