"""`lid evaluate`: measure trained runs again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lidcli.cli import options
from lidcli.config.run import RunConfig
from lidcli.errors import ConfigError

if TYPE_CHECKING:
    from lidcli.store.run import Run

__all__ = ["evaluate"]


@click.command(no_args_is_help=True)
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option(
    "--split",
    type=click.Choice(["train", "valid", "test"]),
    help="Which data (default: the run's own, test for most models).",
)
@click.option("--samples", type=click.IntRange(2), help="S of the LL (default: the run's own).")
@click.option(
    "--identifiability",
    is_flag=True,
    help="Measure the likelihood's variation over the latent and the KL, unit by unit.",
)
@options.config_option
@options.results_option
@options.device_option
@options.json_option
@options.quiet_option
@options.verbose_option
def evaluate(
    runs: tuple[str, ...],
    split: str | None,
    samples: int | None,
    identifiability: bool,
    config: tuple[Path, ...],
    results: Path,
    device: str | None,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Measure trained runs again, from their stored weights.

    RUN is a folder or the beginning of a run id. The record is updated; nothing
    is trained. A run of your own code needs the file that names it, with -c.
    Everything is in nats per datum, AU a fraction.
    """
    from lidcli.cli.train import print_result, result_document
    from lidcli.store.run import Run, find_run
    from lidcli.training.lifecycle import evaluate_run

    if config:
        options.experiments(config)
    asked = {"split": split, "identifiability": identifiability or None, "samples": samples}
    changes: dict[str, dict[str, Any]] = {
        "evaluate": {key: value for key, value in asked.items() if value is not None},
        "runtime": {} if device is None else {"device": device},
    }
    documents: list[dict[str, Any]] = []
    for folder in [find_run(results, text) for text in runs]:
        run = Run.open(folder)
        again = stored(run).replaced(**changes)
        measured = again.evaluate.split
        if not quiet and not as_json:
            options.say_wait([folder])
            click.echo(f"evaluating {folder.name} on the {measured} split", err=True)
        evaluate_run(run, again)
        if as_json:
            documents.append(result_document(Run.open(folder), measured))
        else:
            print_result(Run.open(folder), measured)
    if as_json:
        options.print_json("evaluate", {"runs": documents})


def stored(run: Run) -> RunConfig:
    """The configuration that a run was made with.

    Raises:
        ConfigError: this version lacks some of it, or nothing allows its code to be imported.
    """
    try:
        return RunConfig.of(run.config)
    except ConfigError as error:
        raise ConfigError(f"{run.folder} was made with other settings: {error}") from error
