"""`lid sweep`: the runs of an experiment, or of a grid of one's own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import yaml

from lidcli.cli import options
from lidcli.config.load import Experiments
from lidcli.config.plan import Plan, parse_seeds, plan_experiment, plan_grid
from lidcli.errors import ConfigError, Interrupted, SweepError

if TYPE_CHECKING:
    from lidcli.sweep.queue import Job, Outcome

__all__ = ["sweep"]

STATES = ("new", "partial", "done", "diverged")
STATUSES = ("complete", "failed", "diverged", "interrupted", "locked", "waiting")
AD_HOC = "train"
Grid = dict[str, list[Any]]


def parse_grid(texts: Sequence[str]) -> Grid:
    """The keys and values of `--grid key=value,value`, values read as YAML.

    Raises:
        ConfigError: no `=`, no value, or values that are not YAML.

    Example:
        >>> parse_grid(["decoder.layers=5,9", "decoder.kind=mlp"])
        {'decoder.layers': [5, 9], 'decoder.kind': ['mlp']}
    """
    grid: Grid = {}
    for text in texts:
        key, _, values = text.partition("=")
        try:
            grid[key.strip()] = yaml.safe_load(f"[{values}]")
        except yaml.YAMLError:
            grid[key.strip()] = []
        if not grid[key.strip()]:
            raise ConfigError(f"--grid takes key=value,value, not {text!r}.")
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
        return plan, list(known.experiments[experiment].grid)
    if not models or not data:
        raise ConfigError("Name an experiment, or both --model and --data.")
    plan = plan_grid(
        known,
        AD_HOC,
        models=[name.strip() for name in models.split(",")],
        data=[name.strip() for name in data.split(",")],
        grid=grid,
        seeds=parse_seeds(seeds or "0"),
        **common,
    )
    return plan, list(grid)


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
@click.option("--shard", metavar="I/N", help="Only the i-th of n parts, for a batch scheduler.")
@click.option("--print-commands", is_flag=True, help="Print a command for each run, and stop.")
@click.option("--fail-fast", is_flag=True, help="Stop the others when a run fails.")
@click.option("--restart", is_flag=True, help="Discard what there is of these runs.")
@options.config_option
@options.results_option
@options.set_option
@options.profile_option
@options.device_option
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
    shard: str | None,
    print_commands: bool,
    fail_fast: bool,
    restart: bool,
    config: tuple[Path, ...],
    results: Path,
    settings: tuple[str, ...],
    profile: str | None,
    device: str | None,
    as_json: bool,
    dry_run: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Run an experiment, or a grid of your own, several runs at a time.

    Finished runs are not repeated and partial ones go on where they were: after a
    crash, or Ctrl-C, give the same command again. A run that fails does not stop
    the others; failures are listed at the end (exit code 3). Each run computes on
    one thread unless --set runtime.threads says otherwise, so that workers do not
    fight for cores. Figures are in nats per datum, AU a fraction.

    \b
      lid sweep demo
      lid sweep pinwheel-depth --seeds 0-9 --workers 4
      lid sweep -m gmvae,lidgmvae -d pinwheel --grid decoder.layers=5,7,9 --seeds 0-2
      lid sweep pinwheel-depth --shard 2/8       the second of eight machines
    """
    from lidcli.sweep import queue

    plan, keys = make_plan(
        options.experiments(config),
        experiment,
        model,
        data,
        parse_grid(grid),
        seeds,
        profile=profile,
        overrides=options.overrides(settings, device),
    )
    if shard is not None:
        plan = Plan(plan.experiment, tuple(queue.shard(plan.runs, shard)))
    if print_commands:
        shared = shared_words(config, results, settings, profile, device)
        for run in plan.runs:
            click.echo(queue.train_command(run, experiment, keys, shared))
        return
    jobs = queue.survey(plan, results, keys, restart=restart)
    facts = describe(plan, jobs, results, workers, per_gpu)
    if dry_run:
        print_plan(facts, jobs, as_json)
        return

    from lidcli.cli.sweep_view import view
    from lidcli.sweep.local import run_local

    if not (quiet or as_json):
        click.echo(plan_text(facts, jobs), err=True)
    with view(len(jobs), quiet or as_json) as watcher:
        outcomes, ended = run_local(
            jobs,
            results=results,
            experiment=plan.experiment,
            devices=facts["devices"],
            threads=facts["threads"],
            watcher=watcher,
            restart=restart,
            fail_fast=fail_fast,
        )
    if as_json:
        options.print_json("sweep", {**facts, "runs": [entry(outcome) for outcome in outcomes]})
    else:
        print_outcomes(plan.experiment, outcomes, quiet=quiet, verbose=verbose)
    raise_for(outcomes, ended)


def raise_for(outcomes: Sequence[Outcome], ended: int | None) -> None:
    """Turn a sweep that was stopped, or had failures, into its exit code.

    Raises:
        Interrupted: a signal ended it.
        SweepError: runs failed.
    """
    if ended is not None:
        raise Interrupted(ended)
    failed = sum(o.failed or o.status == "interrupted" for o in outcomes)
    if failed:
        raise SweepError(f"{failed} of {len(outcomes)} runs failed.")


def shared_words(
    config: Sequence[Path],
    results: Path,
    settings: Sequence[str],
    profile: str | None,
    device: str | None,
) -> list[str]:
    """The options that every printed command repeats."""
    words = [word for path in config for word in ("--config", str(path))]
    words += ["--results", str(results)]
    words += ["--profile", profile] if profile else []
    words += ["--device", device] if device else []
    return words + [word for text in settings for word in ("--set", text)]


def describe(
    plan: Plan, jobs: Sequence[Job], results: Path, workers: int | None, per_gpu: int
) -> dict[str, Any]:
    """Where and how the sweep will run.

    Raises:
        ConfigError: there is no such device here.
    """
    from lidcli.sweep.local import find_device, slots

    runtime = plan.runs[0].runtime if plan.runs else None
    name = runtime.device if runtime else "cpu"
    threads = (runtime.threads if runtime else None) or 1
    device, gpus = find_device(name)
    devices = slots(device, gpus, workers=workers, threads=threads, per_gpu=per_gpu)
    todo = sum(job.state in ("new", "partial") for job in jobs)
    return {
        "experiment": plan.experiment,
        "folder": results / plan.experiment,
        "device": device,
        "devices": devices[: max(1, todo)],
        "threads": threads,
    }


def plan_text(facts: dict[str, Any], jobs: Sequence[Job]) -> str:
    """What will be done, in three lines."""
    from lidcli.sweep.queue import count

    workers, threads = len(facts["devices"]), facts["threads"]
    states = count((job.state for job in jobs), STATES)
    return (
        f"sweep {facts['experiment']}: {len(jobs)} run{'s' * (len(jobs) != 1)} ({states})\n"
        f"device {facts['device']}, {workers} worker{'s' * (workers > 1)}"
        f" of {threads} thread{'s' * (threads > 1)}\n"
        f"folder {facts['folder']}"
    )


def print_plan(facts: dict[str, Any], jobs: Sequence[Job], as_json: bool) -> None:
    """Print what would be done, run by run."""
    if as_json:
        runs = [{"run": job.folder.name, "label": job.label, "state": job.state} for job in jobs]
        options.print_json("sweep", {"dry_run": True, **facts, "runs": runs})
        return
    click.echo(plan_text(facts, jobs))
    for job in jobs:
        click.echo(f"  {job.state:<8}  {job.folder.name}  {job.label}")


def entry(outcome: Outcome) -> dict[str, Any]:
    """A run's part of the JSON document."""
    from lidcli.errors import StoreError
    from lidcli.store.run import Run

    job = outcome.job
    content: dict[str, Any] = {
        "run": job.folder.name,
        "label": job.label,
        "method": job.config.method,
        "data": job.config.data.name,
        "seed": job.config.seed,
        "state": job.state,
        "status": outcome.status,
        "message": outcome.message,
    }
    try:
        run = Run.open(job.folder)
    except StoreError:
        return content
    return content | {"verdict": run.provenance.get("verdict"), "evaluation": run.evaluation}


def print_outcomes(
    experiment: str, outcomes: Sequence[Outcome], *, quiet: bool, verbose: bool
) -> None:
    """Print the count to stdout, and every failure with its message to stderr."""
    from lidcli.sweep.queue import count

    same: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        if outcome.failed:
            same.setdefault(outcome.message, []).append(outcome)
        elif outcome.status == "locked":
            click.echo(f"skipped {outcome.job.label}: {outcome.message}", err=True)
    for message, group in same.items():
        for outcome in group:
            click.echo(f"{outcome.status} {outcome.job.label} ({outcome.job.folder})", err=True)
        click.echo(f"  {message}", err=True)
        if verbose and group[0].details:
            click.echo(group[0].details, err=True)
    total = f"{len(outcomes)} run{'s' * (len(outcomes) != 1)}"
    click.echo(f"{experiment}: {total}, {count((o.status for o in outcomes), STATUSES)}")
    if not quiet and all(outcome.status == "complete" for outcome in outcomes):
        click.echo(f"lid report {experiment} shows the tables and figures", err=True)
