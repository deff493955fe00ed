"""`lid fetch`: bring the files of data sets into place, checked."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

from lidcli.cli import options
from lidcli.config.read import Experiments
from lidcli.data.download import Progress, State, readable, state
from lidcli.data.download import fetch as fetch_files
from lidcli.data.registry import DATASETS
from lidcli.data.remote import DatasetInfo, RemoteFile
from lidcli.data.text_files import TEXT_DATASETS
from lidcli.errors import ConfigError
from lidcli.names import nearest

__all__ = ["fetch"]

EVERYTHING = "all"
REGISTRY = DATASETS | TEXT_DATASETS
DATA_ROOT = "data.root"


@dataclass(frozen=True)
class Wanted:
    """One name, the registry entry it stands for (None: a file of the user's), and its folder."""

    name: str
    info: DatasetInfo | None
    root: Path

    @property
    def files(self) -> tuple[RemoteFile, ...]:
        """What there is to download."""
        return self.info.files if self.info else ()

    @property
    def amount(self) -> str:
        """How many files, and how many bytes as far as that is known."""
        size = readable(sum(file.size or 0 for file in self.files))
        more = "" if all(file.size for file in self.files) else " and more"
        return f"{len(self.files)} files, {size}{more}"

    def absent(self, states: dict[str, State]) -> list[RemoteFile]:
        """The files that are not there and good."""
        return [file for file in self.files if states[file.path] != "good"]


def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Names that begin as typed."""
    return [name for name in (*REGISTRY, EVERYTHING) if name.startswith(incomplete)]


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=complete)
@click.option(
    "--mirror",
    type=click.Path(path_type=Path),
    envvar="LID_MIRROR",
    show_envvar=True,
    help="Copy from this folder instead of downloading.",
)
@options.config_option
@options.set_option
@options.json_option
@options.dry_run_option
@options.quiet_option
@options.verbose_option
def fetch(
    names: tuple[str, ...],
    mirror: Path | None,
    config: tuple[Path, ...],
    settings: tuple[str, ...],
    as_json: bool,
    dry_run: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Download data, or copy them from a mirror.

    NAME is a data set, or "all"; without one, what there is gets listed. Files are
    checked by checksum and put into data.root. An interrupted download goes on where
    it stopped; what is there and good is left alone.

    \b
      lid fetch mnist
      lid fetch all --mirror /path/to/copies
    """
    chosen = _chosen(names, _known(options.experiments(config), settings))
    documents = []
    with _progress(quiet or as_json) as progress:
        for wanted in chosen:
            before = {file.path: state(file, wanted.root) for file in wanted.files}
            sources: dict[str, str] = {}
            if names and not dry_run:
                sources = _bring(wanted, mirror, progress)
            documents.append(_document(wanted, before, sources))
            if not as_json:
                _say(wanted, before, sources, mirror, dry_run, bool(names) and not dry_run)
    if as_json:
        options.print_json("fetch", {"dry_run": dry_run or not names, "data": documents})
    elif not names and not quiet:
        click.echo("lid fetch NAME... gets them, lid fetch all everything.", err=True)


def _known(experiments: Experiments, settings: tuple[str, ...]) -> dict[str, Wanted]:
    """Every name that can be fetched: the registry's, and those of the configuration."""
    overrides = dict(options.overrides(settings))
    if other := next((key for key in overrides if key != DATA_ROOT), None):
        raise ConfigError(f"lid fetch takes --set {DATA_ROOT}=DIR only, not {other}.")
    common = experiments.defaults.get("data", {}).get("root", "data")
    known = {}
    for name in dict.fromkeys((*REGISTRY, *experiments.data)):
        section = experiments.data.get(name, {}).get("data", {})
        info = None if section.get("path") else REGISTRY.get(section.get("name", name))
        root = Path(str(overrides.get(DATA_ROOT, section.get("root", common))))
        known[name] = Wanted(name, info, root)
    return known


def _chosen(names: tuple[str, ...], known: dict[str, Wanted]) -> list[Wanted]:
    """What the names stand for, everything where there is none."""
    for name in names:
        if name not in known and name != EVERYTHING:
            raise ConfigError(f"Unknown data {name!r}; {nearest(name, [*known, EVERYTHING])}")
    if not names or EVERYTHING in names:
        return list(known.values())
    return [known[name] for name in dict.fromkeys(names)]


def _bring(wanted: Wanted, mirror: Path | None, progress: Progress) -> dict[str, str]:
    """Where each file that had to be brought came from."""
    done = fetch_files(wanted.files, wanted.root, mirror, progress)
    return {one.file.path: one.source for one in done if one.source is not None}


def _document(wanted: Wanted, before: dict[str, State], sources: dict[str, str]) -> dict[str, Any]:
    return {
        "name": wanted.name,
        "kind": wanted.info.kind if wanted.info else None,
        "root": wanted.root,
        "files": [
            {
                "path": wanted.root / file.path,
                "size": file.size,
                "sha256": file.sha256,
                "checksum": {"algorithm": file.algorithm, "value": file.expected},
                "state": "good" if file.path in sources else before[file.path],
                "source": sources.get(file.path),
            }
            for file in wanted.files
        ],
    }


def _say(
    wanted: Wanted,
    before: dict[str, State],
    sources: dict[str, str],
    mirror: Path | None,
    dry_run: bool,
    brought: bool,
) -> None:
    if not wanted.files:
        whose = "" if wanted.info else ", a file of yours"
        click.echo(f"{wanted.name:<14} nothing to download{whose}")
        return
    head = f"{wanted.name:<14} {wanted.amount}:"
    absent = wanted.absent(before)
    if sources:
        verb = "copied" if mirror else "downloaded"
        click.echo(f"{head} {len(sources)} {verb} into {wanted.root}, checksums good")
    elif not absent or brought:
        click.echo(f"{head} already there, checksums good")
    else:
        click.echo(f"{head} {len(absent)} to fetch")
        if dry_run:
            _say_each(absent, wanted.root, before, mirror)
    if brought:
        for file in absent:
            if file.path not in sources:
                click.echo(f"  {file.path} is not in the mirror; the data say so where it matters")


def _say_each(
    absent: list[RemoteFile], root: Path, before: dict[str, State], mirror: Path | None
) -> None:
    """Where absent files would come from, and what there is of each."""
    click.echo(f"  from {mirror or urlsplit(absent[0].urls[0]).hostname} into {root}")
    for file in absent:
        click.echo(f"  {file.path:<46} {readable(file.size):>8}  {before[file.path]}")


@contextmanager
def _progress(silent: bool) -> Iterator[Progress]:
    """Bars on a terminal, a line a file elsewhere, or nothing."""
    if silent:
        yield lambda file, done: None
    elif sys.stderr.isatty():
        with _bars() as update:
            yield update
    else:
        yield _lines()


def _lines() -> Progress:
    seen: set[str] = set()

    def update(file: RemoteFile, done: int) -> None:
        if file.path not in seen:
            seen.add(file.path)
            click.echo(f"fetching {file.path} ({readable(file.size)})", err=True)

    return update


@contextmanager
def _bars() -> Iterator[Callable[[RemoteFile, int], None]]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(compact=True),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        tasks: dict[str, Any] = {}

        def update(file: RemoteFile, done: int) -> None:
            if file.path not in tasks:
                tasks[file.path] = bars.add_task(file.path, total=file.size)
            bars.update(tasks[file.path], completed=done)

        yield update
