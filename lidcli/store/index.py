"""What records say, kept by the SHA-256 of their bytes, so that many are read again quickly.

Every byte of a record is still checked each time; only parsing it is saved. What is kept is no
part of the results: it lies in the user's own cache, is found by content alone, and may be
deleted at any time.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import sqlite3
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from lidcli.store.hdf5 import checked_digest
from lidcli.store.record import RECORD_BYTES, Array, Scalars
from lidcli.store.run import Run, check_owner

__all__ = ["MANY", "Index", "Summary"]

MANY = 200
"""Fewer runs than these are read without an index."""
NAME = "records-4.sqlite"
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

    def pack(self) -> bytes:
        """As it is kept."""
        content = {**vars(self), "curves": _written(self.curves), "few": _written(self.few)}
        for name in TREES:
            content[name] = {key: json.dumps(part) for key, part in content[name].items()}
        return zlib.compress(json.dumps(content).encode(), 1)

    @classmethod
    def unpack(cls, kept: bytes, parts: dict[str, Any]) -> Summary:
        """From what `pack` gave.

        Args:
            kept: that.
            parts: of the configuration and the provenance, by their text: what many records have
                in common is one object. Takes those that are new.
        """
        content = json.loads(zlib.decompress(kept))
        for name in TREES:
            content[name] = {key: _part(text, parts) for key, text in content[name].items()}
        for name in ("curves", "few"):
            content[name] = _read(content[name])
        content["shapes"] = {name: tuple(shape) for name, shape in content["shapes"].items()}
        return cls(**content)


def _part(text: str, parts: dict[str, Any]) -> Any:
    """What a text says, read once."""
    if text not in parts:
        parts[text] = json.loads(text)
    return parts[text]


def _written(arrays: dict[str, Array]) -> dict[str, Any]:
    """Arrays as JSON."""
    return {
        name: [str(array.dtype), array.shape, base64.b64encode(array.tobytes()).decode()]
        for name, array in arrays.items()
    }


def _read(arrays: dict[str, Any]) -> dict[str, Array]:
    """Arrays from what `_written` gave."""
    return {
        name: np.frombuffer(base64.b64decode(raw), dtype).reshape(shape)
        for name, (dtype, shape, raw) in arrays.items()
    }


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

    def summary(self, folder: Path) -> Summary:
        """What the record of a run's folder says; parts of it are those of other summaries too.

        Raises:
            DamagedError, StoreError: as `Run.open`.
        """

        def read(kept: bytes) -> Summary:
            return Summary.unpack(kept, self._parts)

        return self._known(folder, "body", read, lambda summary: summary)

    def status(self, folder: Path) -> str:
        """The status of the run of a folder.

        Raises:
            DamagedError, StoreError: as `Run.open`.
        """
        return self._known(folder, "status", str, lambda summary: summary.status)

    def _known(
        self,
        folder: Path,
        column: str,
        decode: Callable[[Any], T],
        choose: Callable[[Summary], T],
    ) -> T:
        path = folder / "run.h5"
        if self._file is None or not path.exists():
            return choose(Summary.of(Run.open(folder)))
        digest = checked_digest(path, RECORD_BYTES)
        with _quietly():
            query = f"SELECT run, status, seal, {column} FROM record WHERE digest = ?"
            owner, status, seal, kept = (
                self._file.execute(query, (digest,)).fetchone() or (None,) * 4
            )
            if owner is not None and seal == _seal(digest, owner, status):
                found = decode(kept)
                check_owner(folder, owner)
                return found
        run = Run.open(folder)
        summary = Summary.of(run)
        if checked_digest(path, RECORD_BYTES) == digest:
            with _quietly():
                seal = _seal(digest, run.owner, summary.status)
                self._file.execute(
                    "INSERT OR REPLACE INTO record VALUES (?, ?, ?, ?, ?)",
                    (digest, run.owner, summary.status, seal, summary.pack()),
                )
        return choose(summary)


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
                " (digest TEXT PRIMARY KEY, run TEXT, status TEXT, seal INTEGER, body BLOB)"
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
