"""What `lid sweep` says before and after: its plan, and how each run ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from lidcli.cli import options

if TYPE_CHECKING:
    from lidcli.config.run import RunConfig
    from lidcli.sweep.queue import Job, Outcome

__all__ = ["entry", "list_commands", "plan_text", "print_outcomes", "print_plan"]

STATES = ("new", "partial", "done", "published", "diverged")
STATUSES = (
    "complete",
    "published",
    "failed",
    "diverged",
    "interrupted",
    "submitted",
    "locked",
    "waiting",
)


def plan_text(facts: dict[str, Any], where: str, jobs: Sequence[Job]) -> str:
    """What will be done, in three lines or more; `where` is the engine's."""
    from lidcli.sweep.queue import count

    states = count((job.state for job in jobs), STATES)
    note = "\npublished runs are not repeated; --again does them here"
    alone = "".join(f"{sentence}\n" for sentence in facts.get("alone", ()))
    return (
        f"sweep {facts['experiment']}: {len(jobs)} run{'s' * (len(jobs) != 1)} ({states})\n"
        f"{where}\n"
        f"{alone}"
        f"folder {facts['folder']}{note if 'published' in facts['states'] else ''}"
    )


def say_other_code(jobs: Sequence[Job]) -> None:
    """Say to stderr which files of the user's are not those that finished runs were made with."""
    from lidcli.config.kinds import allowed
    from lidcli.config.read import codes_in
    from lidcli.store.code import changed
    from lidcli.store.run import Run

    found: Counter[str] = Counter()
    for job in jobs if allowed() else ():
        if job.state in ("done", "published") and any(codes_in(job.config.document())):
            found.update(set(changed(Run.open(job.folder), job.config).values()))
    for name, number in sorted(found.items()):
        runs = "a finished run was" if number == 1 else f"{number} finished runs were"
        click.echo(
            f"{name} is not the one that {runs} made with; --restart makes the runs anew", err=True
        )


def print_plan(facts: dict[str, Any], where: str, jobs: Sequence[Job], as_json: bool) -> None:
    """Print what would be done, run by run."""
    if as_json:
        runs = [{"run": job.folder.name, "label": job.label, "state": job.state} for job in jobs]
        options.print_json("sweep", {"dry_run": True, **facts, "runs": runs})
        return
    click.echo(plan_text(facts, where, jobs))
    for job in jobs:
        click.echo(f"  {job.state:<9}  {job.folder.name}  {job.label}")


def list_commands(commands: Sequence[str], as_json: bool) -> None:
    """Print what does each run by itself."""
    if as_json:
        options.print_json("sweep", {"commands": list(commands)})
        return
    for command in commands:
        click.echo(command)


def repeat(outcome: Outcome, command: Callable[[RunConfig], str]) -> str:
    """The shell command that does a failed run again."""
    discard = " --restart" if outcome.status == "diverged" else ""
    return command(outcome.job.config) + discard


def entry(outcome: Outcome, command: Callable[[RunConfig], str]) -> dict[str, Any]:
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
    if outcome.failed:
        content |= {"last_line": outcome.last_line, "command": repeat(outcome, command)}
    try:
        run = Run.open(job.folder)
    except StoreError:
        return content
    return content | {"verdict": run.provenance.get("verdict"), "evaluation": run.evaluation}


def print_outcomes(
    experiment: str,
    outcomes: Sequence[Outcome],
    command: Callable[[RunConfig], str],
    *,
    quiet: bool,
    verbose: bool,
) -> None:
    """Print the count to stdout, and every failure to stderr: why, and what repeats it."""
    from lidcli.sweep.queue import count

    same: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        if outcome.failed:
            same.setdefault(outcome.message, []).append(outcome)
        elif outcome.status == "locked":
            click.echo(f"skipped {outcome.job.label}: {outcome.message}", err=True)
    for group in same.values():
        _print_failures(group, command, verbose)
    total = f"{len(outcomes)} run{'s' * (len(outcomes) != 1)}"
    click.echo(f"{experiment}: {total}, {count((o.status for o in outcomes), STATUSES)}")
    if not quiet and all(outcome.status in ("complete", "published") for outcome in outcomes):
        makers = dict.fromkeys(outcome.job.folder.parent.name for outcome in outcomes)
        click.echo(f"lid report {' '.join(makers)} shows the tables and figures", err=True)


def _print_failures(
    group: Sequence[Outcome], command: Callable[[RunConfig], str], verbose: bool
) -> None:
    """Print runs that failed with one message, what repeats each, and what the first printed."""
    for outcome in group:
        click.echo(f"{outcome.status} {outcome.job.label} ({outcome.job.folder})", err=True)
        click.echo(f"  {repeat(outcome, command)}", err=True)
    message, last = group[0].message, group[0].last_line
    click.echo(f"  {message}", err=True)
    if verbose and group[0].details:
        click.echo(group[0].details, err=True)
    elif last and last not in message:
        click.echo(f"  its last line: {last[:200]}", err=True)
