"""What a sweep has to do: the runs of a plan, where each stands, and how each ended."""

from __future__ import annotations

import contextlib
import json
import math
import re
import shlex
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from lidcli.config.identity import identities
from lidcli.config.parse import UnreadableError, parse
from lidcli.config.plan import Plan
from lidcli.config.run import RunConfig
from lidcli.config.sections import KINDS
from lidcli.errors import ConfigError, LidError, StoreError
from lidcli.names import short_keys
from lidcli.store import lease
from lidcli.store.find import Standing, standing, state
from lidcli.store.index import Index
from lidcli.store.lease import Watch
from lidcli.store.lock import held_on_this_machine
from lidcli.store.run import Run

__all__ = [
    "Job",
    "Outcome",
    "await_others",
    "count",
    "elsewhere",
    "has",
    "is_locked",
    "note_failure",
    "parse_duration",
    "parse_shard",
    "settled",
    "shard",
    "state",
    "survey",
    "train_command",
]

T = TypeVar("T")
POLL = 1.0


@dataclass(frozen=True)
class Job:
    """One run of a sweep: its `state` as `standing` tells it, and a `label` for people."""

    config: RunConfig
    folder: Path
    state: str
    label: str


@dataclass(frozen=True)
class Outcome:
    """How a run ended: complete, published, diverged, failed, interrupted, locked or waiting.

    `published` runs were not repeated, `locked` ones are in another process's hands, `waiting`
    ones were never started. `details` is what the run printed, and `lasting` says that another
    attempt would end the same way.
    """

    job: Job
    status: str
    message: str = ""
    seconds: float = 0.0
    details: str = field(default="", repr=False)
    lasting: bool = False

    @property
    def last_line(self) -> str:
        """The last line that the run printed."""
        return next(reversed(self.details.split("\n")), "").strip()

    @property
    def failed(self) -> bool:
        """Whether the run counts as failed."""
        return self.status in ("failed", "diverged")


def has(config: RunConfig, key: str) -> bool:
    """Whether a run has the setting of a dotted key."""
    section, _, name = key.partition(".")
    part = getattr(config, section, None)
    return part is not None and (name == "use" or name in type(part).model_fields)


def setting(config: RunConfig, key: str) -> Any:
    """The value of a dotted key."""
    section, _, name = key.partition(".")
    return getattr(getattr(config, section), KINDS[section].tag if name == "use" else name)


def survey(
    plan: Plan,
    results: Path,
    grid: Sequence[str] = (),
    *,
    restart: bool = False,
    again: bool = False,
) -> list[Job]:
    """The jobs of a plan, with what earlier sweeps left of them.

    Args:
        plan: an experiment's runs.
        results: folder of all runs.
        grid: dotted keys in which the runs differ, for their labels.
        restart: whether everything there is will be discarded.
        again: whether runs that are published, or a related experiment has, are done here too.
    """
    jobs, index, names = [], Index.of(len(plan.runs)), short_keys(grid)
    for config in plan.runs:
        found = standing(
            results,
            plan.experiment,
            identities(config),
            related=plan.related,
            again=again or restart,
            index=index,
        )
        if restart:
            found = Standing("new", results / plan.experiment / config.run_id)
        keys = [key for key in grid if has(config, key)]
        values = [f"{names[key]}={setting(config, key)}" for key in keys]
        label = " ".join([config.method, config.data.name, *values, f"seed {config.seed}"])
        jobs.append(Job(config, found.folder, found.state, label))
    return jobs


def settled(job: Job, index: Index | None = None) -> Outcome | None:
    """The outcome of a run that needs no worker: done, published, or sure to diverge again.

    A run on a file of the user's gets a worker, which looks whether the file is still the same.

    Args:
        job: the run.
        index: of many records.
    """
    if job.state == "published":
        return Outcome(job, "published")
    now = state(job.folder, index)
    if now not in ("done", "diverged"):
        return None
    data = job.config.data
    if now == "done" and (getattr(data, "path", None) is not None or ":" in data.kind):
        return None
    if now == "done":
        return Outcome(job, "complete")
    message = f"{Run.open(job.folder).provenance.get('message', '')} --restart discards the run."
    return Outcome(job, "diverged", message.strip())


def is_locked(job: Job) -> bool:
    """Whether another process of this machine is working on a run at this moment."""
    try:
        return held_on_this_machine(job.folder)
    except StoreError:
        return False


def elsewhere(job: Job) -> Outcome | None:
    """The outcome of a run that another machine has, or had when it died; `await_others` tells."""
    try:
        held = lease.foreign(job.folder)
    except StoreError:
        return None
    if held is None:
        return None
    return Outcome(job, "locked", f"Run {job.folder.name} is being worked on by {held}.")


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


UNITS = {"d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0}


def parse_duration(text: str) -> float:
    """The seconds of `2h`, `90m`, `1h30m`, `45s` or `1d`.

    Raises:
        ConfigError: the text is no such time, or none at all.

    Example:
        >>> parse_duration("1h30m")
        5400.0
    """
    parts = re.findall(r"(\d+(?:\.\d+)?)([dhms])", text)
    seconds = sum(float(number) * UNITS[unit] for number, unit in parts)
    if "".join(number + unit for number, unit in parts) != text or not 0 < seconds < math.inf:
        raise ConfigError(f"A time is written like 2h, 90m, 1h30m or 45s, not {text!r}.")
    return seconds


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
    if isinstance(value, str):
        with contextlib.suppress(UnreadableError):
            if parse(value) == value:
                return value
    return json.dumps(value)


def train_command(
    config: RunConfig,
    base: RunConfig | None,
    experiment: str | None,
    options: Sequence[str],
    settings: Iterable[str] = (),
) -> str:
    """The shell command that does one run of a sweep.

    Args:
        config: the run.
        base: the run that the command without further settings would do, where there is one.
        experiment: a named experiment, or None for a grid of one's own.
        options: what all runs share: files, folders.
        settings: of `--set`; those that this run does not have, or that do nothing for it, are
            left out.
    """
    words = ["lid", "train", "--model", config.method, "--data", config.data.name]
    words += ["--seed", str(config.seed)]
    words += ["--experiment", experiment] if experiment else []
    words += options
    idle = {f"{section}.{key}" for section, key in config.idle()}
    for text in settings:
        key = text.partition("=")[0].strip()
        words += ["--set", text] if has(config, key) and key not in idle else []
    before = base.document() if base is not None else {}
    for section, values in config.document().items():
        if isinstance(values, dict):
            old = before.get(section, {})
            for key, value in values.items():
                if key not in old or old[key] != value:
                    words += ["--set", f"{section}.{key}={_written(value)}"]
    return shlex.join(words)


def await_others(
    jobs: Sequence[Job], patience: bool, *, until: float = math.inf, watch: Watch | None = None
) -> bool:
    """Whether a run that another process was working on is free, or done, now.

    A run of another machine is looked at until its holder is seen to be alive, or has been
    silent for so long that it counts as dead and its lease is removed.

    Args:
        jobs: such runs.
        patience: whether to wait until one is.
        until: when to give up waiting, by `time.monotonic`.
        watch: what is known of other machines from earlier calls.
    """
    watch = watch or Watch()
    while True:
        states = [_hands(job, watch) for job in jobs]
        if "free" in states:
            return True
        if (not patience and "unknown" not in states) or time.monotonic() >= until:
            return False
        time.sleep(POLL)


def _hands(job: Job, watch: Watch) -> str:
    """Whether a run is free or held, or its holder not known well enough yet."""
    if is_locked(job):
        return "held"
    try:
        found = watch.look(job.folder)
        dead = watch.lease(job.folder)
        if found == "silent" and dead is not None:
            lease.displace(job.folder, dead)
            return "free"
    except StoreError:
        return "free"
    return found


def note_failure(folder: Path, message: str) -> None:
    """Write into a run's record that its process was lost, unless somebody works on it."""
    with contextlib.suppress(LidError):
        run = Run.open(folder)
        with run.lock():
            if run.status == "running":
                run.update(provenance={"status": "failed", "message": message})
