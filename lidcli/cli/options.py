"""Options that several commands share, and what they stand for."""

from __future__ import annotations

import contextlib
import gc
import itertools
import json
import math
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from lidcli.cli import streams
from lidcli.config.kinds import allow
from lidcli.config.plan import parts
from lidcli.config.read import Experiments, codes_in, load_files, parse_override
from lidcli.errors import ConfigError, PartialError

__all__ = [
    "again_option",
    "config_option",
    "device_option",
    "dry_run_option",
    "experiments",
    "json_option",
    "known",
    "log_option",
    "overrides",
    "print_json",
    "profile_option",
    "quiet_option",
    "rarely_collecting",
    "refuse_unread",
    "results_option",
    "say_wait",
    "set_option",
    "verbose_option",
    "with_parts",
]

F = TypeVar("F", bound=Callable[..., Any])

JSON_SCHEMA = 1


def config_option(command: F) -> F:
    """`-c/--config`, repeatable."""
    return click.option(
        "-c",
        "--config",
        type=click.Path(path_type=Path, dir_okay=False),
        multiple=True,
        envvar="LID_CONFIG",
        help="Experiment file, over experiments.yaml; repeatable, later ones win.",
    )(command)


def results_option(command: F) -> F:
    """`-o/--results`."""
    return click.option(
        "-o",
        "--results",
        type=click.Path(path_type=Path, file_okay=False),
        default=Path("results"),
        show_default=True,
        envvar="LID_RESULTS",
        help="Folder of the runs.",
    )(command)


def set_option(command: F) -> F:
    """`--set key=value`, repeatable."""
    return click.option(
        "--set",
        "settings",
        metavar="KEY=VALUE",
        multiple=True,
        help="Override one setting, for example decoder.layers=9; repeatable.",
    )(command)


def again_option(command: F) -> F:
    """`--again`."""
    return click.option(
        "--again",
        is_flag=True,
        help="Do here what is published, or done for a related experiment, too.",
    )(command)


def profile_option(command: F) -> F:
    """`--profile`."""
    return click.option("--profile", envvar="LID_PROFILE", help="A profile of experiments.yaml.")(
        command
    )


def device_option(command: F) -> F:
    """`--device`."""
    return click.option(
        "--device",
        default=None,
        envvar="LID_DEVICE",
        metavar="auto|cpu|cuda[:i]",
        help="Where to compute (default: auto, a GPU if there is one).",
    )(command)


def json_option(command: F) -> F:
    """`--json`."""
    return click.option(
        "--json", "as_json", is_flag=True, help="Print one versioned JSON document to stdout."
    )(command)


def log_option(command: F) -> F:
    """`--log`."""
    return click.option(
        "--log",
        type=click.Choice(["tensorboard"]),
        help="Write curves for TensorBoard too, into RESULTS/.tensorboard.",
    )(command)


def dry_run_option(command: F) -> F:
    """`-n/--dry-run`."""
    return click.option("-n", "--dry-run", is_flag=True, help="Print the plan and stop.")(command)


def quiet_option(command: F) -> F:
    """`-q/--quiet`."""
    return click.option("-q", "--quiet", is_flag=True, help="No progress, no log.")(command)


def verbose_option(command: F) -> F:
    """`-v/--verbose`."""
    return click.option("-v", "--verbose", is_flag=True, help="Tracebacks on errors.")(command)


def experiments(config: tuple[Path, ...]) -> Experiments:
    """The contents of `experiments.yaml` and of every file that `-c` names.

    Only what those files name themselves may be imported, not what merely lies in the folder.

    Raises:
        ConfigError: no file at all, or an unreadable one.
    """
    here = Path("experiments.yaml")
    shipped = Path(__file__).parents[1] / "experiments.yaml"
    base = here if here.exists() else shipped
    first = next(
        (path for path in config if os.path.realpath(path) == os.path.realpath(base)), base
    )
    paths = [path for path in (first, *config) if path is not base or base.exists()]
    if not paths:
        raise ConfigError("There is no experiments.yaml here; name one with -c.")
    return load_files(list(dict.fromkeys(paths)), trusted=config)


def known(config: tuple[Path, ...]) -> Experiments | None:
    """The same, or None where there is no such file, or none that can be read.

    Raises:
        ConfigError: a file that `-c` names is unreadable.
    """
    try:
        return experiments(config)
    except ConfigError:
        if config:
            raise
        return None


def with_parts(names: Sequence[str], there: Collection[str], config: tuple[Path, ...]) -> list[str]:
    """Experiments and those of their parts that have runs; none where none is named.

    Args:
        names: of experiments.
        there: the experiments that have runs.
        config: what `-c` names.
    """
    files = known(config)
    if files is None:
        return list(names)
    found = [[name, *parts(files, name)] if name in files.experiments else [name] for name in names]
    wanted = dict.fromkeys(itertools.chain.from_iterable(found))
    return [name for name in wanted if name in there or name in names]


def overrides(settings: tuple[str, ...], device: str | None = None) -> list[tuple[str, Any]]:
    """The pairs of `--set`, with `--device` as one of them."""
    pairs = [parse_override(text) for text in settings]
    for key, value in pairs:
        allow(code for _, code in codes_in({key: value}))
    return [*pairs, ("runtime.device", device)] if device is not None else pairs


def refuse_unread(sentences: Sequence[str]) -> None:
    """End with exit code 3, after everything else was shown, if runs were left out of it.

    Args:
        sentences: the warnings of a `Collection`, already printed.

    Raises:
        PartialError: there are any.
    """
    if sentences:
        runs = "1 run was" if len(sentences) == 1 else f"{len(sentences)} runs were"
        raise PartialError(f"{runs} left out, see the warnings; everything else is shown.")


@contextlib.contextmanager
def rarely_collecting() -> Iterator[None]:
    """Look for cycles of objects rarely, for a command that reads many records and keeps them."""
    before = gc.get_threshold()
    gc.set_threshold(100_000, 50, 50)
    try:
        yield
    finally:
        gc.set_threshold(*before)


def say_wait(folders: Sequence[Path]) -> None:
    """Say that it takes a while to see whether other machines still work on runs, if it does.

    Args:
        folders: of the runs.
    """
    from lidcli.store.lease import foreign

    held = [found for folder in folders if (found := foreign(folder)) is not None]
    if held:
        which = "1 run is" if len(held) == 1 else f"{len(held)} runs are"
        names = ", ".join(sorted({str(found) for found in held})[:3])
        most = max(found.seconds for found in held)
        click.echo(
            f"{which} held by {names}; looking, for up to {most:.0f} s, whether that still works",
            err=True,
        )


def print_json(command: str, content: dict[str, Any]) -> None:
    """Print one versioned document to stdout."""
    document = {"schema_version": JSON_SCHEMA, "command": command, **content}
    stream = streams.document()
    json.dump(_strict(document), stream, indent=2, default=str, allow_nan=False)
    stream.write("\n")
    stream.flush()


def _strict(value: Any) -> Any:
    """JSON has no NaN and no infinity: they become null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {str(key): _strict(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(inner) for inner in value]
    return value
