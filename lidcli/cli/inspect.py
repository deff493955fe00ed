"""`lid list` and `lid show`: what there is, and what one run or configuration holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lidcli.cli import options
from lidcli.config.load import Experiments, nearest, resolve
from lidcli.config.plan import plan_experiment
from lidcli.errors import ConfigError

if TYPE_CHECKING:
    from lidcli.report.collect import Record

__all__ = ["list_", "show"]

Row = dict[str, Any]


class _Named(click.Group):
    """A group whose unknown subcommands name the nearest one."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the subcommand, or name the nearest one."""
        if args and not args[0].startswith("-") and args[0] not in self.commands:
            ctx.fail(f"No such list {args[0]!r}; {nearest(args[0], self.commands)}")
        return super().resolve_command(ctx, args)


@click.group("list", cls=_Named)
def list_() -> None:
    """List models, data, experiments or runs.

    \b
      lid list models
      lid list runs demo
    """


def _print(name: str, rows: list[Row], as_json: bool) -> None:
    """Rows as aligned columns, or as one document."""
    if as_json:
        options.print_json(f"list {name}", {name: rows})
        return
    if not rows:
        click.echo(f"No {name}.", err=True)
        return
    head = list(rows[0])
    table = [head, *([_text(row[key]) for key in head] for row in rows)]
    widths = [max(len(line[i]) for line in table) for i in range(len(head))]
    for line in table:
        cells = [text.ljust(width) for text, width in zip(line, widths, strict=True)]
        click.echo("  ".join(cells).rstrip())


def _text(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


@list_.command()
@options.config_option
@options.json_option
@options.verbose_option
def models(config: tuple[Path, ...], as_json: bool, verbose: bool) -> None:
    """Models and methods that --model names."""
    from lidcli.report.collect import flatten

    rows = []
    for name, entry in options.experiments(config).models.items():
        settings = flatten(entry)
        rows.append(
            {
                "model": name,
                "family": settings.pop("model.family", "follows the data"),
                "decoder": settings.pop("decoder.kind", "mlp"),
                "inference": settings.pop("inference.kind", "amortized"),
                "settings": [f"{key}={value}" for key, value in settings.items()],
            }
        )
    _print("models", rows, as_json)


@list_.command()
@options.config_option
@options.json_option
@options.verbose_option
def data(config: tuple[Path, ...], as_json: bool, verbose: bool) -> None:
    """Data sets that --data names, and whether their files are here."""
    from lidcli.data.registry import DATASETS

    rows = []
    for name, entry in options.experiments(config).data.items():
        section = entry.get("data", {})
        info = DATASETS.get(name)
        root = Path(section.get("root", "data"))
        if section.get("path"):
            here = "yes" if Path(section["path"]).exists() else "no"
        elif info is None or not info.files:
            here = "made" if info is not None else "unknown"
        else:
            here = "yes" if all((root / f.path).exists() for f in info.files) else "fetch"
        rows.append(
            {
                "data": name,
                "kind": section.get("kind"),
                "classes": info.classes if info else None,
                "here": here,
                "licence": info.licence if info else None,
                "title": info.title if info else "a file of yours" if "path" in section else None,
            }
        )
    _print("data", rows, as_json)


@list_.command()
@options.config_option
@options.results_option
@options.json_option
@options.verbose_option
def experiments(config: tuple[Path, ...], results: Path, as_json: bool, verbose: bool) -> None:
    """Experiments that lid sweep runs, and how much of each is done."""
    known = options.experiments(config)
    rows = []
    for name, spec in known.experiments.items():
        runs = plan_experiment(known, name).runs
        done = sum(_done(results, name, run.run_id) for run in runs)
        rows.append({"experiment": name, "runs": len(runs), "done": done, "title": spec.title})
    _print("experiments", rows, as_json)


def _done(results: Path, experiment: str, run_id: str) -> bool:
    from lidcli.errors import StoreError
    from lidcli.store.run import Run

    for folder in (results / experiment / run_id, results / "published" / experiment / run_id):
        if (folder / "run.h5").is_file():
            try:
                if Run.open(folder).status == "complete":
                    return True
            except StoreError:
                continue
    return False


@list_.command()
@click.argument("experiment", required=False)
@options.results_option
@options.json_option
@options.verbose_option
def runs(experiment: str | None, results: Path, as_json: bool, verbose: bool) -> None:
    """Runs in the results folder, of one EXPERIMENT or of all. LL in nats per datum.

    A run that cannot be read is named and left out, and the exit code is 3.
    """
    from lidcli.report.collect import collect
    from lidcli.store.run import find_runs

    there = sorted({folder.parent.name for folder in find_runs(results)})
    if experiment is not None and experiment not in there:
        raise ConfigError(f"No runs of {experiment!r} in {results}; {nearest(experiment, there)}")
    found = collect(results, [experiment] if experiment else [])
    for warning in found.warnings:
        click.echo(f"warning: {warning}", err=True)
    rows = [
        {
            "run": f"{record.experiment}/{record.run_id}",
            "model": record.method,
            "data": record.data,
            "status": record.status,
            "LL": record.metrics.get("ll"),
            "verdict": record.verdict or None,
        }
        for record in found.records
    ]
    _print("runs", rows, as_json)
    options.refuse_unread(found.warnings)


@click.command(no_args_is_help=True)
@click.argument("target", metavar="RUN|config")
@click.option("-m", "--model", help="config: a model or method.")
@click.option("-d", "--data", help="config: a data set.")
@click.option("--seed", type=click.IntRange(0), default=0, envvar="LID_SEED", help="config: seed.")
@click.option("--experiment", help="config: an experiment whose settings apply.")
@options.config_option
@options.results_option
@options.set_option
@options.profile_option
@options.json_option
@options.verbose_option
def show(
    target: str,
    model: str | None,
    data: str | None,
    seed: int,
    experiment: str | None,
    config: tuple[Path, ...],
    results: Path,
    settings: tuple[str, ...],
    profile: str | None,
    as_json: bool,
    verbose: bool,
) -> None:
    """Show one run, or a resolved configuration.

    RUN is a folder or the beginning of a run id: verdict, evaluation with standard
    errors (KL, MI, ELBO and LL in nats per datum, AU a fraction), provenance and
    configuration. The word config prints the settings a run would have.

    \b
      lid show 1f2e
      lid show config -m lidvae -d pinwheel --set decoder.layers=13
    """
    if target == "config":
        if model is None or data is None:
            raise ConfigError("lid show config needs --model and --data; lid list names both.")
        known = options.experiments(config)
        _show_config(known, model, data, seed, experiment, profile, settings, as_json)
        return
    if model or data or experiment or profile or settings:
        raise ConfigError("--model, --data, --set and the like go with: lid show config.")
    from lidcli.report.collect import read_record
    from lidcli.store.run import resolve as find

    _show_run(read_record(find(results, target)), as_json)


def _show_config(
    known: Experiments,
    model: str,
    data: str,
    seed: int,
    experiment: str | None,
    profile: str | None,
    settings: tuple[str, ...],
    as_json: bool,
) -> None:
    import yaml

    resolved = resolve(
        known,
        model=model,
        data=data,
        experiment=experiment,
        profile=profile,
        overrides=options.overrides(settings),
        seed=seed,
    )
    if as_json:
        content = {"run": resolved.run_id, "config": resolved.document()}
        options.print_json("show config", content)
        return
    click.echo(f"# run {resolved.run_id}")
    click.echo(yaml.safe_dump(resolved.document(), sort_keys=False), nl=False)


def _unit(name: str) -> str:
    stem = name.partition("/")[0]
    if stem in ("elbo", "ll", "reconstruction", "kl", "mi", "entropy"):
        return "nats"
    if stem in ("au", "accuracy", "purity", "nmi"):
        return "fraction"
    return {"perplexity": "categories", "log_n": "nats", "certificate": "slope"}.get(
        stem, "slope" if stem.startswith("min_") else ""
    )


def _show_run(record: Record, as_json: bool) -> None:
    import yaml

    splits = {record.split: record.metrics} if record.metrics else {}
    splits |= record.other_splits
    if as_json:
        content = {
            "run": record.run_id,
            "folder": record.folder,
            "experiment": record.experiment,
            "status": record.status,
            "config": record.config,
            "provenance": record.provenance,
            "evaluation": record.evaluation,
        }
        options.print_json("show", content)
        return
    click.echo(f"{record.experiment}/{record.run_id}: {record.method} on {record.data}")
    message = str(record.provenance.get("message") or "")
    click.echo(f"status   {record.status}{f' ({message})' if message else ''}")
    if record.verdict:
        reason = str(record.provenance.get("verdict_reason") or "no reason stored")
        click.echo(f"verdict  {record.verdict}: {reason}")
        if record.provenance.get("unused_prior"):
            click.echo("         unused prior: the KL exceeds the MI by more than half of it")
    for text in [*record.texts("verdict_notes"), *record.texts("checks")]:
        click.echo(f"note     {text}")
    for split, metrics in splits.items():
        click.echo(f"\nevaluation, {split} split, per datum")
        for name, value in metrics.items():
            if not name.endswith("_se"):
                error = metrics.get(f"{name}_se")
                spread = "" if error is None else f"± {error:.2g}"
                click.echo(f"  {name:<20} {value:>11.5g} {spread:<10} {_unit(name)}".rstrip())
    for title, content in (("provenance", record.provenance), ("configuration", record.config)):
        click.echo(f"\n{title}")
        text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=76)
        click.echo("".join(f"  {line}\n" for line in text.splitlines()), nl=False)
    click.echo(f"\nin {record.folder}")
