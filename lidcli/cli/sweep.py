"""`lid sweep`: the runs of an experiment, or of a grid of one's own."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lidcli.cli import options
from lidcli.cli.events import check_log
from lidcli.cli.sweep_engine import ENGINES, choose_engine, describe, work
from lidcli.cli.sweep_plan import make_plan, parse_grid
from lidcli.cli.sweep_text import (
    entry,
    list_commands,
    plan_text,
    print_outcomes,
    print_plan,
    say_other_code,
)
from lidcli.config.read import Experiments
from lidcli.config.resolve import resolve_loosely
from lidcli.config.run import RunConfig
from lidcli.errors import ConfigError, Interrupted, SweepError, TimeUp, same_command

if TYPE_CHECKING:
    from lidcli.sweep.queue import Outcome

__all__ = ["sweep"]


@click.command(no_args_is_help=True)
@click.argument("experiment", required=False)
@click.option("-m", "--model", help="For a grid of your own: models, separated by commas.")
@click.option("-d", "--data", help="For a grid of your own: data sets, separated by commas.")
@click.option(
    "--grid",
    metavar="KEY=V,V,...",
    multiple=True,
    help="For a grid of your own: a setting and its values; repeatable.",
)
@click.option("--seeds", envvar="LID_SEEDS", help="Seeds, like 0-4 or 0,3,7.")
@click.option(
    "-w",
    "--workers",
    type=click.IntRange(1),
    envvar="LID_WORKERS",
    help="Runs at a time (default: cores / runtime.threads, or --per-gpu on every GPU).",
)
@click.option(
    "--per-gpu", type=click.IntRange(1), default=1, show_default=True, help="Runs on one GPU."
)
@click.option(
    "--engine",
    type=click.Choice(ENGINES),
    default="local",
    show_default=True,
    envvar="LID_ENGINE",
    help="This machine, a Ray cluster, or a Slurm array; see docs/SCALING.md.",
)
@click.option(
    "--address",
    metavar="auto|HOST:PORT",
    help="ray: the cluster (default: RAY_ADDRESS, or one that is started here).",
)
@click.option("--memory", metavar="SIZE", help="ray, slurm: what a run may use, like 4GiB.")
@click.option(
    "--detach",
    is_flag=True,
    help="slurm: return at once; the same command (without --restart) goes on.",
)
@click.option(
    "--sbatch",
    metavar="OPTION",
    multiple=True,
    help="slurm: an option of sbatch, like --partition=long; repeatable.",
)
@click.option(
    "--stack",
    type=click.Choice(["seeds", "auto"]),
    envvar="LID_STACK",
    help="local: train runs that differ in their seed alone as one batched model; auto: where"
    " that is faster.",
)
@click.option("--shard", metavar="I/N", help="Only the i-th of n parts, for a batch scheduler.")
@click.option("--print-commands", is_flag=True, help="Print a command for each run, and stop.")
@click.option("--fail-fast", is_flag=True, help="Stop the others when a run fails.")
@click.option(
    "--retries",
    type=click.IntRange(0),
    default=1,
    show_default=True,
    envvar="LID_RETRIES",
    help="Further attempts at a run that failed, or whose process was lost.",
)
@click.option("--max-time", metavar="2h", help="Stop after so long, with checkpoints: 90m, 1h30m.")
@click.option("--wait", is_flag=True, help="Wait for runs that another process is working on.")
@click.option("--restart", is_flag=True, help="Discard what there is of these runs.")
@options.again_option
@options.config_option
@options.results_option
@options.set_option
@options.profile_option
@options.device_option
@options.log_option
@options.json_option
@options.dry_run_option
@options.quiet_option
@options.verbose_option
def sweep(
    experiment: str | None,
    model: str | None,
    data: str | None,
    grid: tuple[str, ...],
    seeds: str | None,
    workers: int | None,
    per_gpu: int,
    engine: str,
    address: str | None,
    memory: str | None,
    detach: bool,
    sbatch: tuple[str, ...],
    stack: str | None,
    shard: str | None,
    print_commands: bool,
    fail_fast: bool,
    retries: int,
    max_time: str | None,
    wait: bool,
    restart: bool,
    again: bool,
    config: tuple[Path, ...],
    results: Path,
    settings: tuple[str, ...],
    profile: str | None,
    device: str | None,
    log: str | None,
    as_json: bool,
    dry_run: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Run an experiment, or a grid of your own, several runs at a time.

    Finished and published runs are not repeated and partial ones go on where they
    were: after a crash, or Ctrl-C, give the same command again (without --restart,
    which would discard the runs again). A run that fails does not stop the others
    and is tried once more; failures, with a command that
    repeats each, and runs that another process is working on, are listed at the
    end (exit code 3). A run whose machine died is taken over once its heartbeat
    has stood still for two minutes (LID_LEASE, in seconds). --max-time stops every
    run after a checkpoint (exit code 124). --set and --grid have to do something
    for one model at least. Each run computes on one thread unless --set
    runtime.threads says otherwise, so that workers do not fight for cores. With
    --stack seeds those that differ in their seed alone share their steps, which is
    faster where nets are small; each keeps its own record and checkpoints, and its
    results are the same but for rounding. --stack auto times some steps of each kind
    and shares them only where that is faster. Kinds that cannot are done one by one.
    Figures are in nats per datum, AU a fraction.

    \b
      lid sweep demo
      lid sweep pinwheel-depth --seeds 0-9 --workers 4
      lid sweep pinwheel-depth --log tensorboard
      lid sweep -m gmvae,lidgmvae -d pinwheel --grid decoder.layers=5,7,9 --seeds 0-2
      lid sweep pinwheel-depth --seeds 0-9 --stack seeds
      lid sweep pinwheel-depth --shard 2/8       the second of eight machines
      lid sweep pinwheel-depth --engine ray --address auto
      lid sweep pinwheel-depth --engine slurm --detach --sbatch --time=4:00:00
    """
    from lidcli.store.lock import check_place
    from lidcli.sweep import queue

    check_log(log)
    until = math.inf
    if max_time is not None:
        until = time.monotonic() + queue.parse_duration(max_time)
    known = options.experiments(config)
    common = {"profile": profile, "overrides": options.overrides(settings, device)}
    plan, keys = make_plan(known, experiment, model, data, parse_grid(grid), seeds, **common)
    if shard is not None:
        plan = replace(plan, runs=tuple(queue.shard(plan.runs, shard)))
    shared = shared_words(config, results, profile, device, (again, restart))

    def command(run: RunConfig) -> str:
        base = usual(known, run, experiment, **common)
        return queue.train_command(run, base, experiment, shared, settings)

    if print_commands:
        list_commands([command(run) + " --restart" * restart for run in plan.runs], as_json)
        return
    jobs = queue.survey(plan, results, keys, restart=restart, again=again)
    chosen = choose_engine(
        engine,
        plan,
        jobs,
        results=results,
        workers=workers,
        per_gpu=per_gpu,
        address=address,
        memory=memory,
        detach=detach,
        sbatch=sbatch,
        stack=stack,
        restart=restart,
        fail_fast=fail_fast,
        retries=retries,
        until=until,
        verbose=verbose,
    )
    facts = describe(plan, jobs, results, chosen)
    say_other_code(jobs)
    if dry_run:
        print_plan(facts, chosen.text(), jobs, as_json)
        return
    if any(job.state in ("new", "partial") for job in jobs):
        check_place(results / plan.experiment)
    if not (quiet or as_json):
        click.echo(plan_text(facts, chosen.text(), jobs), err=True)
    place = results / plan.experiment if log else None
    outcomes, ended = work(chosen, jobs, wait, quiet or as_json, until, place)
    show(plan.experiment, facts, outcomes, command, as_json, quiet=quiet, verbose=verbose)
    raise_for(outcomes, ended, time.monotonic() >= until, restart)


def show(
    experiment: str,
    facts: dict[str, Any],
    outcomes: Sequence[Outcome],
    command: Callable[[RunConfig], str],
    as_json: bool,
    **how: bool,
) -> None:
    """Print how the runs ended; `command` is what repeats one."""
    if as_json:
        runs = [entry(outcome, command) for outcome in outcomes]
        options.print_json("sweep", {**facts, "runs": runs})
    else:
        print_outcomes(experiment, outcomes, command, **how)


def raise_for(
    outcomes: Sequence[Outcome], ended: int | None, late: bool = False, restart: bool = False
) -> None:
    """Turn a sweep that was stopped, or had failures, into its exit code.

    Raises:
        Interrupted: a signal ended it.
        TimeUp: --max-time did, and runs are left.
        SweepError: runs failed.
    """
    if ended is not None:
        raise Interrupted(ended, restart=restart)
    left = sum(o.status in ("interrupted", "waiting", "locked") for o in outcomes)
    if late and left:
        raise TimeUp(
            f"The time of --max-time is up with {left} of {len(outcomes)} runs left;"
            f" {same_command(restart)} goes on."
        )
    complain(outcomes)


def usual(
    known: Experiments, run: RunConfig, experiment: str | None, **common: Any
) -> RunConfig | None:
    """The run of the same model, data and seed without the grid's settings, where there is one."""
    names: dict[str, Any] = {"model": run.method, "data": run.data.name, "seed": run.seed}
    try:
        return resolve_loosely(known, **names, experiment=experiment, **common).config
    except ConfigError:
        return None


def complain(outcomes: Sequence[Outcome]) -> None:
    """Say that not every run came to its end.

    Raises:
        SweepError: runs failed, were stopped, or are in another process's hands.
    """
    failed = sum(o.failed or o.status == "interrupted" for o in outcomes)
    if failed:
        raise SweepError(f"{failed} of {len(outcomes)} runs failed.")
    locked = sum(o.status == "locked" for o in outcomes)
    if locked:
        raise SweepError(
            f"{locked} of {len(outcomes)} runs are in the hands of another process;"
            " --wait waits for them."
        )


def shared_words(
    config: Sequence[Path],
    results: Path,
    profile: str | None,
    device: str | None,
    again: Sequence[bool],
) -> list[str]:
    """The options that every printed command repeats; --restart does again what is published."""
    words = [word for path in config for word in ("--config", str(path))]
    words += ["--results", str(results)]
    words += ["--profile", profile] if profile else []
    words += ["--device", device] if device else []
    return words + ["--again"] * any(again)
