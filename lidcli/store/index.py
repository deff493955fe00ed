"""What records say, kept by the SHA-256 of their bytes, so that many are read again quickly.

Every byte of a record is still checked each time; only parsing it is saved. What is kept is no
part of the results: it lies in the user's own cache, is found by content alone, and may be
deleted at any time.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from lidcli.store.hdf5 import checked_digest
from lidcli.store.owner import check_owner
from lidcli.store.record import RECORD_BYTES, Array, Scalars
from lidcli.store.run import Run

__all__ = ["MANY", "Index", "Summary", "record_digest"]

MANY = 200
"""Fewer runs than these are read without an index."""
NAME = "records-5.sqlite"
FEW = 256
"""An array of so many numbers at most is kept with its contents."""
MOST = 200_000
TREES = ("config", "provenance")
T = TypeVar("T")


@dataclass(frozen=True)
class Summary:
    """A record without the contents of its larger arrays, of which it keeps the shapes."""

    config: dict[str, Any]
    provenance: dict[str, Any]
    identity: dict[str, Any] | None
    evaluation: dict[str, Scalars]
    curves: dict[str, Array]
    shapes: dict[str, tuple[int, ...]]
    few: dict[str, Array]

    @property
    def status(self) -> str:
        """As of a `Run`."""
        return str(self.provenance["status"])

    @classmethod
    def of(cls, run: Run) -> Summary:
        """What a run's record says."""
        shapes = {name: array.shape for name, array in run.arrays.items()}
        few = {name: array for name, array in run.arrays.items() if array.size <= FEW}
        told = run.config, run.provenance, run.identity, run.evaluation
        return cls(*told, run.curves, shapes, few)

    def pack(self) -> tuple[bytes, bytes]:
        """As it is kept: lines of text, and the numbers of its arrays."""
        arrays = [*self.curves.values(), *self.few.values()]
        numbers = b"".join(array.tobytes() for array in arrays)
        starts = accumulate((array.nbytes for array in arrays), initial=0)
        places = [
            (str(array.dtype), array.size, start, array.shape)
            for array, start in zip(arrays, starts, strict=False)
        ]
        form = {
            "trees": {name: list(getattr(self, name)) for name in TREES},
            "curves": dict(zip(self.curves, places, strict=False)),
            "few": dict(zip(self.few, places[len(self.curves) :], strict=True)),
            "shapes": self.shapes,
        }
        parts = [part for name in TREES for part in getattr(self, name).values()]
        own = [self.identity, self.evaluation, zlib.crc32(numbers)]
        lines = "\n".join(map(json.dumps, [form, *parts, own]))
        return zlib.compress(lines.encode(), 1), numbers

    @classmethod
    def unpack(cls, kept: bytes, numbers: bytes, parts: dict[str, Any]) -> Summary:
        """From what `pack` gave.

        Args:
            kept, numbers: that.
            parts: of the configuration and the provenance, by their text: what many records have
                in common is one object. Takes those that are new.

        Raises:
            ValueError: the numbers are others.
        """
        first, *texts, last = zlib.decompress(kept).decode().split("\n")
        form = _part(first, parts, _form)
        identity, evaluation, checksum = json.loads(last)
        if zlib.crc32(numbers) != checksum:
            raise ValueError("other numbers")
        told = iter(texts)
        config, provenance = (
            {key: _part(next(told), parts) for key in form["trees"][name]} for name in TREES
        )
        curves, few = (
            {
                name: np.frombuffer(numbers, kind, size, start).reshape(shape)
                for name, (kind, size, start, shape) in form[group].items()
            }
            for group in ("curves", "few")
        )
        return cls(config, provenance, identity, evaluation, curves, form["shapes"], few)


def _part(text: str, parts: dict[str, Any], read: Callable[[str], Any] = json.loads) -> Any:
    """What a text says, read once."""
    if text not in parts:
        parts[text] = read(text)
    return parts[text]


def _form(text: str) -> dict[str, Any]:
    """The names in a record and the places of its numbers, which many have in common."""
    form: dict[str, Any] = json.loads(text)
    return form | {"shapes": {name: tuple(shape) for name, shape in form["shapes"].items()}}


def cache_folder() -> Path:
    """The user's own cache: `LID_CACHE`, or as the desktop's convention says."""
    named = os.environ.get("LID_CACHE")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lid"


class Index:
    """Summaries of records; without a file that can be used, they are read each time.

    Args:
        path: of the file, or None.

    Example:
        >>> Index.of(3).path is None
        True
    """

    def __init__(self, path: Path | None) -> None:
        self.path, self._file = path, None if path is None else _open(path)
        self._parts: dict[str, Any] = {}

    @classmethod
    def of(cls, runs: int) -> Index:
        """The user's index, where there are so many runs that it pays."""
        return cls(cache_folder() / NAME if runs >= MANY else None)

    def summary(self, folder: Path, digest: str | None = None) -> Summary:
        """What the record of a run's folder says; parts of it are those of other summaries too.

        Args:
            folder: of the run.
            digest: of the record, where its bytes were checked just now.

        Raises:
            DamagedError, StoreError: as `Run.open`.
        """

        def read(kept: bytes, numbers: bytes) -> Summary:
            return Summary.unpack(kept, numbers, self._parts)

        return self._known(folder, digest, "body, numbers", read, lambda summary: summary)

    def status(self, folder: Path) -> str:
        """The status of the run of a folder.

        Raises:
            DamagedError, StoreError: as `Run.open`.
        """
        return self._known(folder, None, "status", str, lambda summary: summary.status)

    def _known(
        self,
        folder: Path,
        checked: str | None,
        columns: str,
        decode: Callable[..., T],
        choose: Callable[[Summary], T],
    ) -> T:
        if self._file is None or not (folder / "run.h5").exists():
            return choose(Summary.of(Run.open(folder)))
        digest = checked or record_digest(folder)
        with _quietly():
            query = f"SELECT run, status, seal, {columns} FROM record WHERE digest = ?"
            row = self._file.execute(query, (digest,)).fetchone()
            if row is not None and row[2] == _seal(digest, *row[:2]):
                owner, _, _, *kept = row
                found = decode(*kept)
                check_owner(folder, owner)
                return found
        run = Run.open(folder)
        summary = Summary.of(run)
        if record_digest(folder) == digest:
            with _quietly():
                seal, kept = _seal(digest, run.owner, summary.status), summary.pack()
                self._file.execute(
                    "INSERT OR REPLACE INTO record VALUES (?, ?, ?, ?, ?, ?)",
                    (digest, run.owner, summary.status, seal, *kept),
                )
                summary = Summary.unpack(*kept, self._parts)
        return choose(summary)


def record_digest(folder: Path) -> str:
    """The digest that a run's record names, after checking that it is that of its bytes.

    Raises:
        DamagedError, StoreError: as `checked_digest`.
    """
    return checked_digest(folder / "run.h5", RECORD_BYTES)


def _seal(digest: str, owner: str, status: str | None) -> int:
    """A checksum of what is kept beside the body, which has its own."""
    return zlib.crc32(json.dumps([digest, owner, status]).encode())


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Do without the index where it is busy, damaged or full."""
    with contextlib.suppress(sqlite3.Error, zlib.error, ValueError, TypeError, KeyError, OSError):
        yield


def _open(path: Path) -> sqlite3.Connection | None:
    """The file, made anew where it is damaged; None where that cannot be."""
    for attempt in (1, 2):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = sqlite3.connect(path, timeout=2.0, isolation_level=None)
            file.execute("PRAGMA synchronous = OFF")
            file.execute(
                "CREATE TABLE IF NOT EXISTS record"
                " (digest TEXT PRIMARY KEY, run TEXT, status TEXT, seal INTEGER, body BLOB,"
                " numbers BLOB)"
            )
            (count,) = file.execute("SELECT count(*) FROM record").fetchone()
            if count > MOST:
                file.execute("DELETE FROM record")
            return file
        except (sqlite3.DatabaseError, UnicodeDecodeError):
            if attempt == 1:
                with contextlib.suppress(OSError):
                    path.unlink()
        except OSError:
            return None
    return None
