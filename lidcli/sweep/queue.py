"""What a sweep has to do: the runs of a plan, where each stands, and how each ended."""

from __future__ import annotations

import contextlib
import json
import shlex
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml

from lidcli.config.plan import Plan
from lidcli.config.schema import RunConfig
from lidcli.errors import ConfigError, LidError, StoreError
from lidcli.store.run import Run

__all__ = [
    "Job",
    "Outcome",
    "count",
    "note_failure",
    "parse_shard",
    "settled",
    "shard",
    "state",
    "survey",
    "train_command",
]

T = TypeVar("T")

STATES = {
    "complete": "done",
    "running": "partial",
    "interrupted": "partial",
    "failed": "partial",
    "diverged": "diverged",
}


@dataclass(frozen=True)
class Job:
    """One run of a sweep: `state` is new, partial, done or diverged, `label` for people."""

    config: RunConfig
    folder: Path
    state: str
    label: str


@dataclass(frozen=True)
class Outcome:
    """How a run ended: complete, diverged, failed, interrupted, locked or waiting.

    `locked` runs are in another process's hands, `waiting` ones were never started.
    """

    job: Job
    status: str
    message: str = ""
    seconds: float = 0.0
    details: str = field(default="", repr=False)

    @property
    def failed(self) -> bool:
        """Whether the run counts as failed."""
        return self.status in ("failed", "diverged")


def state(folder: Path) -> str:
    """Where a run stands: new, partial, done or diverged.

    Example:
        >>> state(Path("nowhere"))
        'new'
    """
    if not (folder / "run.h5").exists():
        return "new"
    try:
        return STATES[Run.open(folder).status]
    except (StoreError, KeyError):
        return "partial"


def setting(config: RunConfig, key: str) -> Any:
    """The value of a dotted key."""
    section, _, name = key.partition(".")
    return getattr(getattr(config, section), name)


def survey(
    plan: Plan, results: Path, grid: Sequence[str] = (), *, restart: bool = False
) -> list[Job]:
    """The jobs of a plan, with what earlier sweeps left of them.

    Args:
        plan: an experiment's runs.
        results: folder of all runs.
        grid: dotted keys in which the runs differ, for their labels.
        restart: whether everything there is will be discarded.
    """
    jobs = []
    for config in plan.runs:
        folder = results / plan.experiment / config.run_id
        values = [f"{key.rpartition('.')[2]}={setting(config, key)}" for key in grid]
        label = " ".join([config.method, config.data.name, *values, f"seed {config.seed}"])
        jobs.append(Job(config, folder, "new" if restart else state(folder), label))
    return jobs


def settled(job: Job) -> Outcome | None:
    """The outcome of a run that needs no worker, because it is done or would diverge again.

    A run on a file of the user's gets a worker, which looks whether the file is still the same.
    """
    now = state(job.folder)
    if now not in ("done", "diverged"):
        return None
    if now == "done" and job.config.data.path is not None:
        return None
    run = Run.open(job.folder)
    if now == "done":
        return Outcome(job, "complete")
    message = f"{run.provenance.get('message', '')} --restart discards the run."
    return Outcome(job, "diverged", message.strip())


def count(words: Iterable[str], order: Sequence[str]) -> str:
    """How many of each word, as text, in the order given.

    Example:
        >>> count(["new", "done", "new"], ["new", "partial", "done"])
        '2 new, 1 done'
    """
    counts = Counter(words)
    return ", ".join(f"{counts[word]} {word}" for word in order if counts[word]) or "none"


def parse_shard(text: str) -> tuple[int, int]:
    """The i and n of `--shard i/n`, 1 <= i <= n.

    Raises:
        ConfigError: the text is no such pair.

    Example:
        >>> parse_shard("2/8")
        (2, 8)
    """
    index, _, number = text.partition("/")
    if index.isdecimal() and number.isdecimal() and 1 <= int(index) <= int(number):
        return int(index), int(number)
    raise ConfigError(f"--shard is written i/n, from 1/n to n/n, not {text!r}.")


def shard(items: Sequence[T], text: str) -> list[T]:
    """Every n-th item, beginning with the i-th; all shards together are all items.

    Raises:
        ConfigError: the shard is not written i/n.

    Example:
        >>> shard("abcde", "2/2")
        ['b', 'd']
    """
    index, number = parse_shard(text)
    return list(items[index - 1 :: number])


def _written(value: Any) -> str:
    """A value as `--set` reads it back."""
    if isinstance(value, str) and yaml.safe_load(value) == value:
        return value
    return json.dumps(value)


def train_command(
    config: RunConfig, experiment: str | None, grid: Iterable[str], options: Sequence[str]
) -> str:
    """The shell command that does one run of a sweep.

    Args:
        config: the run.
        experiment: a named experiment, or None for a grid of one's own.
        grid: dotted keys in which the runs differ.
        options: what all runs share: files, folders, settings.
    """
    words = ["lid", "train", "--model", config.method, "--data", config.data.name]
    words += ["--seed", str(config.seed)]
    words += ["--experiment", experiment] if experiment else []
    words += options
    for key in grid:
        words += ["--set", f"{key}={_written(setting(config, key))}"]
    return shlex.join(words)


def note_failure(folder: Path, message: str) -> None:
    """Write into a run's record that its process was lost, unless somebody works on it."""
    with contextlib.suppress(LidError):
        run = Run.open(folder)
        with run.lock():
            if run.status == "running":
                run.update(provenance={"status": "failed", "message": message})
