"""`lid list`: what there is."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lidcli.cli import options
from lidcli.config.identity import identities
from lidcli.config.plan import plan_experiment
from lidcli.config.sections import KINDS, Model
from lidcli.errors import ConfigError
from lidcli.names import nearest

if TYPE_CHECKING:
    from lidcli.data.remote import DatasetInfo

__all__ = ["list_"]

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
    rows = [model_row(name, entry) for name, entry in options.experiments(config).models.items()]
    _print("models", rows, as_json)


def model_row(name: str, entry: Mapping[str, Mapping[str, Any]]) -> Row:
    """What an entry of `models` fixes."""
    tags = {kinds.section: entry.get(kinds.section, {}).get(kinds.tag) for kinds in KINDS.values()}
    family = tags["model"]
    fixed = KINDS["model"][family] if isinstance(family, str) and ":" not in family else Model
    needs: tuple[str, ...] = fixed.needs  # type: ignore[attr-defined]
    settings = [
        f"{section}.{key}={value}"
        for section, content in entry.items()
        for key, value in content.items()
        if section not in ("model", "decoder", "inference") or key != KINDS[section].tag
    ]
    return {
        "model": name,
        "family": family or "follows the data",
        "decoder": (tags["decoder"] or "mlp") if "decoder" in needs else None,
        "inference": tags["inference"] or "amortized",
        "settings": settings,
    }


@list_.command()
@options.config_option
@options.json_option
@options.verbose_option
def data(config: tuple[Path, ...], as_json: bool, verbose: bool) -> None:
    """Data sets that --data names, and whether their files are here.

    stand-in: not the published files, but others that are taken in their place; tables say which.
    """
    rows = [
        data_row(name, entry.get("data", {}))
        for name, entry in options.experiments(config).data.items()
    ]
    _print("data", rows, as_json)


def data_row(name: str, section: Mapping[str, Any]) -> Row:
    """What an entry of `data` is, and whether its files are here."""
    from lidcli.data.registry import DATASETS

    kind, path = str(section.get("kind")), section.get("path")
    info = DATASETS.get(name)
    here, title = "unknown", None
    if path is not None:
        here, title = "yes" if os.path.exists(str(path)) else "no", "a file of yours"
    elif ":" in kind:
        here, title = "made", "code of yours"
    elif info is not None:
        here, title = _here(info, Path(str(section.get("root", "data")))), info.title
    return {
        "data": name,
        "kind": section.get("kind"),
        "classes": info.classes if info else None,
        "here": here,
        "licence": info.licence if info else None,
        "title": title,
    }


def _here(info: DatasetInfo, root: Path) -> str:
    """Whether a known data set needs no files, has them, or has others that stand in for them."""
    if not info.files:
        return "made"
    published, others = _ways(info, root)
    return "yes" if _whole(published) else "stand-in" if _whole(others) else "fetch"


def _ways(info: DatasetInfo, root: Path) -> tuple[list[list[Path]], list[list[Path]]]:
    """Lists of files each of which is a data set, and such of which each stands in for it."""
    from lidcli.data.corpora import CORPORA

    if info.name in CORPORA:
        first, *others = [[root / f.path for f in way.files] for way in CORPORA[info.name]]
        return [first], others
    needed = [root / file.path for file in info.files if not file.optional]
    return [needed, *([root / file.path] for file in info.files if file.optional)], []


def _whole(ways: list[list[Path]]) -> bool:
    """Whether all files of one of the lists are there."""
    return any(all(path.exists() for path in way) for way in ways)


@list_.command()
@options.config_option
@options.results_option
@options.json_option
@options.verbose_option
def experiments(config: tuple[Path, ...], results: Path, as_json: bool, verbose: bool) -> None:
    """Experiments that lid sweep runs, and how much of each is done, or published."""
    from lidcli.store.find import standing

    known = options.experiments(config)
    rows = []
    for name, spec in known.experiments.items():
        plan = plan_experiment(known, name)
        found = [standing(results, name, identities(r), related=plan.related) for r in plan.runs]
        states = Counter(each.state for each in found)
        counts = {state: states[state] for state in ("done", "published")}
        rows.append({"experiment": name, "runs": len(found), **counts, "title": spec.title})
    _print("experiments", rows, as_json)


@list_.command()
@click.argument("experiment", required=False)
@click.option("--watch", is_flag=True, help="Go on showing where they stand, until Ctrl-C.")
@options.results_option
@options.json_option
@options.verbose_option
def runs(experiment: str | None, watch: bool, results: Path, as_json: bool, verbose: bool) -> None:
    """Runs in the results folder, of one EXPERIMENT or of all. LL in nats per datum.

    A run that cannot be read is named and left out, and the exit code is 3. --watch
    shows each run's epoch, validation, steps a second and time left as of its last
    checkpoint, from any terminal or machine that sees the folder.

    \b
      lid list runs demo --watch
    """
    from lidcli.store.find import with_runs

    named = [experiment] if experiment else []
    there = with_runs(results) if named else set()
    if watch:
        if as_json:
            raise ConfigError("--watch shows a table that changes; leave out --json.")
        from lidcli.cli.watch import follow

        unread = follow(results, options.with_parts(named, there, ()))
        for warning in unread:
            click.echo(f"warning: {warning}", err=True)
        options.refuse_unread(unread)
        return
    from lidcli.report.collect import collect

    click.get_current_context().with_resource(options.rarely_collecting())
    wanted = options.with_parts(named, there, ())
    if experiment and there.isdisjoint(wanted):
        raise ConfigError(f"No runs of {experiment!r} in {results}; {nearest(experiment, there)}")
    found = collect(results, wanted)
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
