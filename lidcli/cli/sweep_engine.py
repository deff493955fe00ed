"""The engine that `lid sweep` was asked for, and how it is put to work."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from lidcli.cli import options
from lidcli.config.plan import Plan
from lidcli.errors import ConfigError

if TYPE_CHECKING:
    from lidcli.sweep.engines import Engine
    from lidcli.sweep.queue import Job, Outcome

__all__ = ["ENGINES", "choose_engine", "describe", "work"]

ENGINES = ("local", "ray", "slurm")
T = TypeVar("T")


def choose_engine(
    name: str,
    plan: Plan,
    jobs: Sequence[Job],
    *,
    memory: str | None,
    **how: Any,
) -> Engine:
    """The engine of a name, with what this sweep wants of it.

    Raises:
        ConfigError: an option does nothing for it, it cannot work here, or the runs want several
            devices or numbers of threads.
    """
    from lidcli.sweep.engines import Request, make_engine, parse_size

    request = Request(
        experiment=plan.experiment,
        todo=sum(job.state in ("new", "partial") for job in jobs),
        device=_common("device", [run.runtime.device for run in plan.runs], "cpu"),
        threads=_common("threads", [run.runtime.threads or 1 for run in plan.runs], 1),
        memory=None if memory is None else parse_size(memory),
        **how,
    )
    own = ("address", "detach", "sbatch", "memory", "stack")
    given = [f"--{option}" for option in own if getattr(request, option)]
    return make_engine(name, request, [*given, *["--per-gpu"] * (request.per_gpu > 1)])


def _common(key: str, values: Iterable[T], usual: T) -> T:
    """The value of a setting of `runtime` that all runs have, since the workers are of one kind."""
    found = list(dict.fromkeys(values)) or [usual]
    if len(found) > 1:
        raise ConfigError(
            f"The runs differ in runtime.{key} ({', '.join(map(str, found))}), and a sweep has one"
            f" for all: give it with --set runtime.{key}=..., or sweep them apart."
        )
    return found[0]


def describe(plan: Plan, jobs: Sequence[Job], results: Path, engine: Engine) -> dict[str, Any]:
    """Where and how the sweep will run."""
    from lidcli.sweep.stacks import notes

    facts = engine.facts()
    return {
        "experiment": plan.experiment,
        "folder": results / plan.experiment,
        **facts,
        **({"alone": notes(jobs)} if "stack" in facts else {}),
        "states": dict(Counter(job.state for job in jobs)),
    }


def work(
    engine: Engine,
    jobs: Sequence[Job],
    wait: bool,
    silent: bool,
    until: float,
    logged: Path | None = None,
) -> tuple[list[Outcome], int | None]:
    """Do the jobs, and then those that another process gave up meanwhile.

    Args:
        engine: that does them.
        jobs: all of them.
        wait: whether to wait for runs in other hands.
        silent: whether to say nothing meanwhile.
        until: when to give up waiting, by `time.monotonic`.
        logged: folder of the runs, where their curves are to be logged.

    Returns:
        The outcome of each job, in order, and the signal that ended the sweep, if one did.
    """
    from lidcli.cli.logged import LoggedSweep
    from lidcli.cli.sweep_view import SilentSweep, view
    from lidcli.store.lease import Watch
    from lidcli.sweep.queue import await_others

    def watching(those: Sequence[Job]) -> SilentSweep:
        shown = view(those, silent)
        return shown if logged is None else LoggedSweep(shown, logged)

    watch = Watch()
    with watching(jobs) as watcher:
        outcomes, ended = engine.run(jobs, watcher)
    said = silent
    while ended is None:
        left = [index for index, outcome in enumerate(outcomes) if outcome.status == "locked"]
        others = [jobs[index] for index in left]
        if left and not said:
            options.say_wait([job.folder for job in others])
            said = True
        if not left or not await_others(others, wait, until=until, watch=watch):
            break
        with watching(others) as watcher:
            more, ended = engine.run(others, watcher)
        for index, outcome in zip(left, more, strict=True):
            outcomes[index] = outcome
    return outcomes, ended
