"""The command that makes one run by itself."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from lidcli.errors import ConfigError
from lidcli.report.collect import NOT_SETTINGS, Record, flatten

if TYPE_CHECKING:
    from lidcli.config.read import Experiments
    from lidcli.config.run import RunConfig

__all__ = ["commands", "train_command"]

KINDS = (".kind", "model.family")
MISSING = object()


def commands(records: Iterable[Record]) -> list[str]:
    """The command lines that made runs, each once.

    Args:
        records: of any experiments.
    """
    lines = []
    for record in records:
        argv = [str(part) for part in record.provenance.get("argv") or []]
        if argv:
            lines.append(shlex.join(argv))
    return list(dict.fromkeys(lines))


def train_command(record: Record, experiments: Experiments | None) -> str:
    """A command line that makes a run by itself, or the one that made it with others.

    Args:
        record: of the run.
        experiments: the models and data that its settings are told from; None where there are
            none.

    Returns:
        `lid train` with the settings that model and data do not have already, if these files make
        the same run of it; else the stored command line, empty where none is stored.
    """
    made = _resolved(record, experiments) if experiments is not None else None
    if experiments is None or made is None:
        return next(iter(commands([record])), "")
    line = ["lid", "train", *(word for path in experiments.named for word in ("-c", str(path)))]
    line += ["-m", record.method, "-d", record.data, "--seed", str(record.seed)]
    for key, value in made:
        line += ["--set", f"{key}={value if isinstance(value, str) else json.dumps(value)}"]
    return shlex.join(line)


def _resolved(record: Record, experiments: Experiments) -> list[tuple[str, Any]] | None:
    """The settings to name, kinds first; None where they do not make this run."""
    from lidcli.config.identity import identities
    from lidcli.config.resolve import resolve

    def made(overrides: list[tuple[str, Any]]) -> RunConfig:
        return resolve(
            experiments,
            model=record.method,
            data=record.data,
            overrides=overrides,
            seed=record.seed,
        )

    try:
        chosen = [pair for pair in _differing(record, made([])) if pair[0].endswith(KINDS)]
        chosen += _differing(record, made(chosen))
        same = record.run_id in identities(made(chosen))
    except ConfigError:
        return None
    return chosen if same else None


def _differing(record: Record, config: RunConfig) -> list[tuple[str, Any]]:
    """Settings of a run that a configuration does not have."""
    own = flatten(config.document())
    return [
        (key, value)
        for key, value in flatten(record.config).items()
        if own.get(key, MISSING) != value and not key.startswith(NOT_SETTINGS)
    ]
