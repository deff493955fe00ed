"""`lid evaluate`: measure trained runs again."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import click

from lidcli.cli import options
from lidcli.errors import ConfigError

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
    results: Path,
    device: str | None,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Measure trained runs again, from their stored weights.

    RUN is a folder or the beginning of a run id. The record is updated; nothing
    is trained. Everything is in nats per datum, AU a fraction.
    """
    from lidcli.cli.train import print_result, result_document
    from lidcli.config.schema import RunConfig
    from lidcli.store.run import Run, resolve
    from lidcli.training.lifecycle import evaluate_run

    documents: list[dict[str, Any]] = []
    for folder in [resolve(results, text) for text in runs]:
        run = Run.open(folder)
        document: dict[str, Any] = copy.deepcopy(run.config)
        if split is not None:
            document["evaluate"]["split"] = split
        if identifiability:
            document["evaluate"]["identifiability"] = True
        if samples is not None:
            document["evaluate"]["samples"] = samples
        if device is not None:
            document["runtime"]["device"] = device
        try:
            config = RunConfig.model_validate(document)
        except ValueError as error:
            raise ConfigError(f"{folder} was made with settings this version lacks.") from error
        measured = config.evaluate.split
        if not quiet and not as_json:
            click.echo(f"evaluating {folder.name} on the {measured} split", err=True)
        evaluate_run(run, config)
        if as_json:
            documents.append(result_document(Run.open(folder), measured))
        else:
            print_result(Run.open(folder), measured)
    if as_json:
        options.print_json("evaluate", {"runs": documents})
