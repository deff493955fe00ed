"""`lid show`: what one run or configuration holds."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lidcli.cli import options
from lidcli.config.read import SECTIONS, Experiments, section_keys
from lidcli.config.resolve import resolve
from lidcli.config.run import PLAIN
from lidcli.config.sections import KINDS
from lidcli.errors import ConfigError

if TYPE_CHECKING:
    from lidcli.report.collect import Record

__all__ = ["show"]


class _WithSettings(click.Command):
    """A command whose help ends with every setting of a configuration."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the settings, section by section."""
        for section in SECTIONS:
            with formatter.section(f"Settings of {section}"):
                formatter.write_dl(setting_lines(section))


def setting_lines(section: str) -> list[tuple[str, str]]:
    """Key, and kinds, default and meaning, of every setting of a section.

    Example:
        >>> dict(setting_lines("decoder"))["decoder.maps"]
        'Brenier maps composed (brenier; default 2)'
    """
    kinds = KINDS.get(section)
    classes = {name: kinds[name] for name in kinds} if kinds else {"": PLAIN[section]}
    lines = []
    for key in section_keys(section):
        if kinds and key == kinds.tag:
            lines.append((f"{section}.{key}", f"the kind: {', '.join(classes)}"))
            continue
        holders = [name for name, kind in classes.items() if key in kind.model_fields]
        field = classes[holders[0]].model_fields[key]
        notes = [] if len(holders) == len(classes) else [", ".join(holders)]
        if not field.is_required():
            default = field.default
            notes.append(f"default {'null' if default is None else default}")
        text = field.description or ""
        lines.append((f"{section}.{key}", f"{text} ({'; '.join(notes)})".strip()))
    return lines


@click.command(no_args_is_help=True, cls=_WithSettings)
@click.argument("target", metavar="RUN|config")
@click.option("-m", "--model", help="config: a model or method.")
@click.option("-d", "--data", help="config: a data set.")
@click.option("--seed", type=click.IntRange(0), default=0, envvar="LID_SEED", help="config: seed.")
@click.option("--experiment", help="config: an experiment whose settings apply.")
@click.option(
    "--samples", is_flag=True, help="RUN of text: its reconstructions, samples and words."
)
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
    samples: bool,
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
    configuration. The word config prints the settings that a run would have, by
    section; --set changes any of those below, as section.key=value.

    --samples shows what a model of text writes instead: documents above their
    reconstructions, sentences from the prior and between two documents, and
    the words that each unit of the latent raises and lowers most.

    \b
      lid show 1f2e
      lid show 1f2e --samples
      lid show config -m lidvae -d pinwheel --set decoder.layers=13
    """
    if target == "config":
        if samples:
            raise ConfigError("--samples goes with a run: lid show RUN --samples.")
        if model is None or data is None:
            raise ConfigError("lid show config needs --model and --data; lid list names both.")
        known = options.experiments(config)
        _show_config(known, model, data, seed, experiment, profile, settings, as_json)
        return
    given = click.get_current_context().get_parameter_source("seed")
    seeded = given is click.core.ParameterSource.COMMANDLINE
    if model or data or experiment or profile or settings or seeded:
        raise ConfigError("--model, --data, --set and the like go with: lid show config.")
    from lidcli.report.collect import read_record
    from lidcli.store.run import find_run

    record = read_record(find_run(results, target))
    if samples:
        from lidcli.cli.samples import show_samples

        show_samples(record, as_json)
    else:
        _show_run(record, as_json)


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
    for name, content in resolved.document().items():
        blank = "\n" if isinstance(content, dict) else ""
        click.echo(blank + yaml.safe_dump({name: content}, sort_keys=False), nl=False)


FRACTIONS = ("au", "accuracy", "purity", "nmi", "probe", "probe_draw")
NATS = ("elbo", "ll", "nll", "reconstruction", "kl", "mi", "entropy", "log_n")
UNITS = {
    "perplexity": "categories",
    "certificate": "slope",
    "allowed/mi": "nats",
    "allowed/au": "fraction",
    "anchor/purity": "fraction",
}


def _unit(name: str) -> str:
    stem = name.partition("/")[0]
    if stem in NATS:
        return "nats"
    if stem in FRACTIONS:
        return "fraction"
    return UNITS.get(name, UNITS.get(stem, "slope" if stem.startswith("min_") else ""))


def _show_run(record: Record, as_json: bool) -> None:
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
    _print_status(record)
    splits = {record.split: record.metrics} if record.metrics else {}
    for split, metrics in (splits | record.other_splits).items():
        _print_evaluation(split, metrics)
    shown = {key: value for key, value in record.provenance.items() if key != "texts"}
    _print_tree("provenance", shown)
    _print_tree("configuration", record.config)
    if record.provenance.get("texts"):
        click.echo("\nsentences: lid show --samples")
    click.echo(f"\nin {record.folder}")


def _print_status(record: Record) -> None:
    """What ran, how it ended and what was concluded."""
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


def _print_evaluation(split: str, metrics: dict[str, float]) -> None:
    """Every number of a split, with its error and unit, unit 2 of a latent before unit 10."""
    click.echo(f"\nevaluation, {split} split, per datum")
    names = sorted((name for name in metrics if not name.endswith("_se")), key=_counted)
    width = max((len(name) for name in names), default=0)
    for name in names:
        error = metrics.get(f"{name}_se")
        spread = "" if error is None else f"± {error:.2g}"
        click.echo(f"  {name:<{width}} {metrics[name]:>11.5g} {spread:<10} {_unit(name)}".rstrip())


def _counted(name: str) -> list[str | int]:
    """The name as a key of sorting, its numbers by their value."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]


def _print_tree(title: str, content: dict[str, Any]) -> None:
    """Nested settings as indented YAML."""
    import yaml

    click.echo(f"\n{title}")
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=76)
    click.echo("".join(f"  {line}\n" for line in text.splitlines()), nl=False)
