"""`lid report`: tables and figures of what was run."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lidcli.cli import options
from lidcli.config.plan import relatives
from lidcli.errors import ConfigError, StoreError
from lidcli.names import nearest

if TYPE_CHECKING:
    from rich.console import Console

    from lidcli.config.read import Experiments
    from lidcli.report.write import Report

__all__ = ["report"]

WIDTH = 80


@click.command()
@click.argument("experiments", nargs=-1, metavar="[EXPERIMENT]...")
@options.results_option
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the report (default: report/ in the results folder).",
)
@click.option(
    "-f",
    "--format",
    "kind",
    type=click.Choice(["terminal", "markdown", "latex", "csv", "html", "all"]),
    default="all",
    show_default=True,
    help="markdown, latex and csv also go to stdout; terminal writes no file.",
)
@click.option(
    "--figures/--no-figures",
    default=None,
    help="Draw figures, PNG and PDF (default: with all and html).",
)
@options.config_option
@options.json_option
@options.quiet_option
@options.verbose_option
def report(
    experiments: tuple[str, ...],
    results: Path,
    output: Path | None,
    kind: str,
    figures: bool | None,
    config: tuple[Path, ...],
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Tables and figures of what was run, ours beside the paper's.

    Prints the tables, mean ± sd over seeds, and writes them as Markdown, LaTeX, CSV (a
    row a run) and one HTML page, with figures. KL, MI, ELBO and LL are in nats per
    datum, AU is a fraction. Nothing is trained or measured: only what is in the
    results folder, and in its published/ folder, is shown. A run that cannot be
    read is named and left out, and the exit code is 3.

    \b
      lid report                           every experiment
      lid report demo                      one
      lid report demo --format csv > runs.csv
    """
    from lidcli.report.collect import collect
    from lidcli.report.write import FORMATS, build

    click.get_current_context().with_resource(options.rarely_collecting())
    made = build(collect(results, _named(experiments, results, config)))
    kinds = [name for name in FORMATS if kind in (name, "all")]
    drawn = kind in ("all", "html") if figures is None else figures
    folder = output or results / "report"
    told = _warn(made.warnings)
    _print(made, "html" if as_json else kind)
    files = _write(made, folder, kinds, drawn, options.known(config))
    _warn(made.warnings[told:])
    if as_json:
        options.print_json("report", _document(made, files))
    elif made.collection.records:
        if files and not quiet:
            _name_files(files, folder, len(kinds))
        if kind in ("all", "terminal"):
            _answer(made)
    elif not made.warnings:
        click.echo(f"No runs in {results} yet; lid sweep demo makes the first.", err=True)
    options.refuse_unread(made.collection.warnings)


def _write(
    made: Report, folder: Path, kinds: list[str], drawn: bool, known: Experiments | None
) -> list[Path]:
    """The files of a report; none, and no folder, where there is nothing to write."""
    from lidcli.report.write import write
    from lidcli.store.files import reason

    if not made.collection.records or not (kinds or drawn):
        return []
    try:
        return write(made, folder, kinds, drawn, known)
    except OSError as error:
        raise StoreError(
            f"{folder} cannot be written: {reason(error)}; --output names another folder."
        ) from error


def _warn(warnings: Sequence[str]) -> int:
    """Say warnings on stderr; how many there were."""
    for warning in warnings:
        click.echo(f"warning: {warning}", err=True)
    return len(warnings)


def _name_files(files: list[Path], folder: Path, shown: int) -> None:
    """Say on stderr what was written."""
    click.echo(f"{len(files)} files in {folder}", err=True)
    for path in files[:shown]:
        click.echo(f"  {path}", err=True)


def _named(names: tuple[str, ...], results: Path, config: tuple[Path, ...]) -> list[str]:
    """Experiments and their parts; where none has runs, the command that makes them is named."""
    from lidcli.store.find import with_runs

    there = with_runs(results) if names else set()
    wanted = options.with_parts(names, there, config)
    for name in names:
        if there.isdisjoint(options.with_parts([name], there, config)):
            raise ConfigError(_without_runs(name, there, results, options.experiments(config)))
    return wanted


def _without_runs(name: str, there: set[str], results: Path, known: Experiments) -> str:
    """What to do where an experiment has no runs."""
    for taker in relatives(known, name):
        if taker in there:
            return (
                f"Experiment {name!r} has no runs of its own in {results}; lid report {taker}"
                " shows those of the experiment that takes it in."
            )
    if name in known.experiments:
        return f"Experiment {name!r} has no runs in {results}; lid sweep {name}"
    return f"No runs of {name!r} in {results}; {nearest(name, there)}"


def _print(made: Report, kind: str) -> None:
    """The tables on stdout, in the format asked for; nothing of html, or where there are none."""
    if not made.collection.records:
        return
    if kind in ("markdown", "latex", "csv"):
        from lidcli.report.write import text_of

        click.echo(text_of(made, kind), nl=False)
        return
    if kind == "html":
        return
    from rich.text import Text

    from lidcli.report.render import terminal

    console = _console()
    for name in made.experiments:
        console.rule(Text(name), align="left")
        for sentence in made.headlines(name):
            console.print(Text(sentence))
        console.print()
        for table in made.tables(name):
            console.print(terminal(table, console.width, stars=not console.is_terminal))


def _console() -> Console:
    """As wide as the terminal, or of 80 columns where there is none."""
    from rich.console import Console

    return Console(highlight=False) if sys.stdout.isatty() else Console(width=WIDTH)


def _answer(made: Report) -> None:
    """The last words: what the runs say to the question, and the pictures that show it."""
    width = min(WIDTH, _console().width)
    for text in made.answers():
        click.echo(textwrap.fill(text, width, break_on_hyphens=False))
    for path in made.glances():
        click.echo(f"  {path}")


def _document(made: Report, files: list[Path]) -> dict[str, Any]:
    """The report as plain values."""
    return {
        "experiments": [
            {
                "name": name,
                "headline": made.headlines(name),
                "tables": [asdict(table) for table in made.tables(name)],
                "runs": [
                    {
                        "run": record.run_id,
                        "folder": record.folder,
                        "method": record.method,
                        "data": record.data,
                        "seed": record.seed,
                        "status": record.status,
                        "verdict": record.verdict,
                        "evaluation": record.evaluation,
                    }
                    for record in made.collection.experiments()[name]
                ],
            }
            for name in made.experiments
        ],
        "files": files,
        "warnings": made.warnings,
    }
