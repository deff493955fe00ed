"""Which runs a sweep's options ask for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lidcli.config.kinds import allow
from lidcli.config.parse import UnreadableError, parse
from lidcli.config.plan import Plan, parse_seeds, parts, plan_experiment, plan_grid
from lidcli.config.read import Experiments, codes_in
from lidcli.errors import ConfigError

__all__ = ["make_plan", "parse_grid"]

AD_HOC = "train"
Grid = dict[str, list[Any]]


def parse_grid(texts: Sequence[str]) -> Grid:
    """The keys and values of `--grid key=value,value`, values read as YAML.

    Raises:
        ConfigError: no `=`, no value, values that are not YAML, or a key twice.

    Example:
        >>> parse_grid(["decoder.layers=5,9", "decoder.kind=mlp"])
        {'decoder.layers': [5, 9], 'decoder.kind': ['mlp']}
    """
    grid: Grid = {}
    for text in texts:
        key, _, values = text.partition("=")
        try:
            found = parse(f"[{values}]")
        except UnreadableError:
            found = None
        if not isinstance(found, list) or not found:
            raise ConfigError(f"--grid takes key=value,value, not {text[:60]!r}.")
        if (key := key.strip()) in grid:
            raise ConfigError(f"--grid {key} stands twice; its values go into one, as {key}=1,2.")
        grid[key] = found
    allow(code for _, code in codes_in(grid))
    return grid


def make_plan(
    known: Experiments,
    experiment: str | None,
    models: str | None,
    data: str | None,
    grid: Grid,
    seeds: str | None,
    **common: Any,
) -> tuple[Plan, list[str]]:
    """The runs, and the keys in which they differ.

    Raises:
        ConfigError: an experiment and a grid of one's own at once, or neither.
    """
    if experiment is not None:
        if models or data or grid:
            raise ConfigError("Name an experiment, or --model, --data and --grid, not both.")
        plan = plan_experiment(known, experiment, seeds=seeds, **common)
        grids = [known.experiments[name].grid for name in parts(known, experiment)]
        return plan, list(dict.fromkeys(key for grid in grids for key in grid))
    if not models or not data:
        raise ConfigError("Name an experiment, or both --model and --data.")
    plan = plan_grid(
        known,
        AD_HOC,
        models=_listed(models),
        data=_listed(data),
        grid=grid,
        seeds=parse_seeds("0" if seeds is None else seeds),
        **common,
    )
    return plan, list(grid)


def _listed(text: str) -> list[str]:
    """Names that stand between commas."""
    return [name.strip() for name in text.split(",")]
