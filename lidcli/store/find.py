"""Finds runs below a results folder."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from lidcli.errors import StoreError

if TYPE_CHECKING:
    from lidcli.store.index import Index

__all__ = ["Standing", "find_run", "find_runs", "standing", "state", "with_runs"]

STATES = {
    "complete": "done",
    "running": "partial",
    "interrupted": "partial",
    "failed": "partial",
    "diverged": "diverged",
}


class Standing(NamedTuple):
    """Where a run stands, and the folder that it is in or will be in.

    `state` is new, partial, done, diverged or published: done by whoever made the repository.
    """

    state: str
    folder: Path


def state(folder: Path, index: Index | None = None) -> str:
    """Where the run of a folder stands: new, partial, done or diverged.

    Args:
        folder: of the run.
        index: of many records.

    Example:
        >>> state(Path("nowhere"))
        'new'
    """
    from lidcli.store.run import Run

    if not (folder / "run.h5").exists():
        return "new"
    try:
        return STATES[Run.open(folder).status if index is None else index.status(folder)]
    except (StoreError, KeyError):
        return "partial"


def standing(
    results: Path,
    experiment: str,
    ids: Sequence[str],
    *,
    related: Sequence[str] = (),
    again: bool = False,
    index: Index | None = None,
) -> Standing:
    """Where a run of an experiment stands, one's own before the one published.

    A run that a related experiment finished is done for this one; what any other has, or has
    published, counts for that one, whose report has it: a demo trains.

    Args:
        results: folder of the runs.
        experiment: the folder of this one below it.
        ids: of the run under every version of its identity, the present one first.
        related: folders of the experiments that take this one in, and of those it takes in.
        again: whether to look at this experiment's own runs alone.
        index: of many records.

    Example:
        >>> standing(Path("nowhere"), "demo", ["abc-s0"]).state
        'new'
    """
    for name in ids:
        folder = results / experiment / name
        if (folder / "run.h5").exists():
            return Standing(state(folder, index), folder)
    for word, root in () if again else (("done", results), ("published", results / "published")):
        for place, name in itertools.product((experiment, *related), ids):
            if state(root / place / name, index) == "done":
                return Standing(word, root / place / name)
    return Standing("new", results / experiment / ids[0])


def find_runs(results: Path, experiments: Sequence[str] = ()) -> list[Path]:
    """Folders of all runs, one's own before those published with the repository.

    A run of `results/published` is left out where the same run is in `results` itself.

    Args:
        results: folder of the runs.
        experiments: only theirs; none means all.

    Example:
        >>> find_runs(Path("nowhere"))
        []
    """
    found: dict[tuple[str, str], Path] = {}
    for root in (results, results / "published"):
        places = [root / name for name in experiments] or _folders(root)
        for folder in (folder for place in places for folder in _folders(place)):
            if _has_record(folder):
                found.setdefault((folder.parent.name, folder.name), folder)
    return list(found.values())


def with_runs(results: Path) -> set[str]:
    """The experiments that have a run, one's own or published.

    Example:
        >>> with_runs(Path("nowhere"))
        set()
    """
    folders = [place for root in (results, results / "published") for place in _folders(root)]
    return {folder.name for folder in folders if any(map(_has_record, _folders(folder)))}


def _folders(place: Path) -> list[Path]:
    """What is in a folder, in order; itself where nobody is told what is in it."""
    try:
        return sorted(place.iterdir())
    except PermissionError:
        return [place]
    except OSError:
        return []


def _has_record(folder: Path) -> bool:
    """Whether a folder has a record, or may have one that may not be read."""
    try:
        (folder / "run.h5").stat()
    except PermissionError:
        return True
    except OSError:
        return False
    return True


def _named(runs: Sequence[Path], text: str) -> list[Path]:
    """The runs that an id, whole or else its beginning, may mean."""
    experiment, _, prefix = text.rpartition("/")
    hits = [
        folder
        for folder in runs
        if folder.name.startswith(prefix) and experiment in ("", folder.parent.name)
    ]
    return [folder for folder in hits if folder.name == prefix] or hits


def find_run(results: Path, text: str) -> Path:
    """The run that a folder, an id or the beginning of one names.

    Args:
        results: folder of the runs.
        text: a path, `<run-id>` or `<experiment>/<run-id>`, the id as short as is unique.

    Raises:
        StoreError: no run, or more than one, is named so.
    """
    path = Path(text)
    if path.name == "run.h5":
        path = path.parent
    if (path / "run.h5").is_file():
        return path
    runs = find_runs(results)
    hits = _named(runs, text)
    if len(hits) == 1:
        return hits[0]
    if hits:
        names = ", ".join(f"{folder.parent.name}/{folder.name}" for folder in hits[:4])
        raise StoreError(
            f"{len(hits)} runs are named {text!r}: {names}{', ...' if len(hits) > 4 else ''}."
        )
    close = difflib.get_close_matches(text.rpartition("/")[2], [run.name for run in runs], n=1)
    hint = f"did you mean {close[0]}?" if close else "lid list runs shows what there is."
    raise StoreError(f"There is no run {text!r} in {results}; {hint}")
