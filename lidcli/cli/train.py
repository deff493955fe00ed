"""`lid train`: one run, from its configuration to its verdict."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lidcli.cli import options
from lidcli.config.identity import identities
from lidcli.config.plan import part_of, relatives
from lidcli.config.resolve import resolve
from lidcli.config.run import RunConfig
from lidcli.errors import ConfigError, Interrupted
from lidcli.names import nearest

if TYPE_CHECKING:
    from lidcli.store.find import Standing
    from lidcli.store.run import Run

__all__ = ["print_result", "result_document", "train"]


@click.command(no_args_is_help=True)
@click.option("-m", "--model", required=True, help="A model or method: vae, lidvae, gmvae, ...")
@click.option("-d", "--data", required=True, help="A data set: pinwheel, digits, mnist, ...")
@click.option("--seed", type=click.IntRange(0), default=0, envvar="LID_SEED", show_default=True)
@click.option(
    "--experiment",
    help="An experiment whose settings apply, and its folder, or its part's that has the run.",
)
@click.option("--restart", is_flag=True, help="Discard what there is of this run.")
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
def train(
    model: str,
    data: str,
    seed: int,
    experiment: str | None,
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
    """Train one model on one data set, and evaluate it.

    A finished run is reported, not repeated, and so is one published with the
    repository; an interrupted one goes on exactly where its last checkpoint left
    it. KL, MI, ELBO and LL are in nats per datum.

    \b
      lid train -m lidvae -d pinwheel
      lid train -m gmvae -d digits --seed 1 --set decoder.layers=13
      lid train -m lidvae -d mnist --log tensorboard
    """
    known = options.experiments(config)
    if experiment is not None:
        experiment = part_of(known, experiment, model, data)
    resolved = resolve(
        known,
        model=model,
        data=data,
        experiment=experiment,
        profile=profile,
        overrides=options.overrides(settings, device),
        seed=seed,
    )
    from lidcli.cli.events import check_log
    from lidcli.store.code import changed
    from lidcli.store.find import standing

    check_log(log)
    folder = experiment or "train"
    found = standing(
        results,
        folder,
        identities(resolved),
        related=relatives(known, folder),
        again=again or restart,
    )
    if dry_run:
        print_plan(resolved, found, folder, as_json)
        return
    if elsewhere := _elsewhere(found, folder):
        from lidcli.store.run import Run

        run = Run.open(found.folder)
        if not (quiet or as_json):
            click.echo(f"{elsewhere}; --again trains it here", err=True)
    else:
        run = work(resolved, results, folder, restart, log, quiet or as_json)
    for name in sorted(set(changed(run, resolved).values())):
        click.echo(
            f"{name} is not the one this run was made with; --restart makes it anew", err=True
        )
    if as_json:
        content = {"state": found.state, **result_document(run, resolved.evaluate.split)}
        options.print_json("train", content)
    else:
        print_result(run, resolved.evaluate.split)


def _elsewhere(found: Standing, folder: str) -> str:
    """By whom else a run was done, in words; nothing where it is this experiment's own."""
    if found.state == "published":
        return "published with the repository"
    maker = found.folder.parent.name
    return f"done with {maker}" if maker != folder else ""


def work(
    config: RunConfig, results: Path, folder: str, restart: bool, log: str | None, silent: bool
) -> Run:
    """Train and evaluate, with a word now and then, and with a log where one is wanted."""
    from lidcli.cli.events import Events
    from lidcli.cli.logged import Logged
    from lidcli.cli.progress import observer
    from lidcli.training.lifecycle import execute, run_folder

    if not silent:
        options.say_wait([run_folder(results, folder, config)])
    watcher = observer(silent)
    word = secrets.token_hex(4) if restart else ""
    with Logged(watcher) if log else watcher as hearing:
        try:
            run = execute(config, results, folder, hearing, restart=word)
        except Interrupted as error:
            raise Interrupted(error.signum, restart=restart) from error
    if log:
        events = Events(run.folder)
        events.begin()
        events.close()
    return run


def print_plan(config: RunConfig, found: Standing, folder: str, as_json: bool) -> None:
    """Print what would be done."""
    from lidcli.training.procedure import procedure

    made = procedure(config, config.data.build())
    device, parameters = made.device, made.parameters()
    if as_json:
        content = {
            "dry_run": True,
            "state": found.state,
            "folder": found.folder,
            "device": str(device),
            "parameters": parameters,
            "config": config.document(),
        }
        options.print_json("train", content)
        return
    click.echo(f"run         {config.run_id} ({found.state})")
    click.echo(f"folder      {found.folder}")
    click.echo(f"device      {device}")
    counts = ", ".join(f"{count:,} {name}" for name, count in parameters.items())
    click.echo(f"parameters  {counts or f'none trained ({config.inference.kind})'}")
    if elsewhere := _elsewhere(found, folder):
        click.echo(f"It is {elsewhere}; --again trains it here.")


def _scalars(run: Run, split: str) -> dict[str, float]:
    if split not in run.evaluation:
        raise ConfigError(
            f"{run.folder.name} has no evaluation of {split!r}; {nearest(split, run.evaluation)}"
        )
    return dict(run.evaluation[split])


def result_document(run: Run, split: str) -> dict[str, Any]:
    """A run's configuration, provenance and evaluation, for `--json`."""
    return {
        "run": run.folder.name,
        "folder": run.folder,
        "config": run.config,
        "provenance": run.provenance,
        "evaluation": {split: _scalars(run, split)},
    }


def _beside(name: str, scalars: dict[str, float], provenance: dict[str, Any]) -> str:
    """How a likelihood was estimated, and what the data set it and the information."""
    entropy, drawn = provenance.get("data_entropy"), scalars.get("ll_samples")
    how = "exact" if drawn is None else f"S = {drawn:.0f}"
    generator = provenance.get("ceiling") or {}
    if name == "ll":
        best = f"; ceiling {-entropy:.3f}" if entropy is not None else ""
        return f"  ({how}{best})"
    if name == "nll":
        best = f"; entropy {entropy:.3f}" if entropy is not None else ""
        return f"  ({how}{best})"
    if name == "mi/z" and generator:
        return f"  (generator {generator['information']:.3f})"
    return ""


def print_result(run: Run, split: str) -> None:
    """Print a run's verdict and figures to stdout."""
    scalars = _scalars(run, split)
    provenance = run.provenance | run.provenance.get("evaluated", {}).get(split, {})
    click.echo(f"{run.folder.name}: {provenance['verdict']} ({provenance['verdict_reason']})")
    if provenance.get("unused_prior"):
        click.echo("  and an unused prior: the KL exceeds the MI by more than half of it")
    from lidcli.metrics.quantities import headlines

    shown = headlines(scalars)
    width = max(15, *(len(label) for label, _, _ in shown))
    for label, name, unit in shown:
        error = f" ± {scalars[f'{name}_se']:.2g}" if f"{name}_se" in scalars else ""
        note = _beside(name, scalars, provenance)
        click.echo(f"  {label:<{width}} {scalars[name]:>9.4g}{error} {unit}{note}".rstrip())
    for text in [*provenance.get("verdict_notes", []), *provenance.get("checks", [])]:
        click.echo(f"  note: {text}")
    click.echo(f"  {split} split, per datum; in {run.folder}")
