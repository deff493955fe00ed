"""The record of one run: `run.h5` for everybody, the checkpoints for the run itself."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from lidcli.errors import StoreError
from lidcli.store.files import sync_folder, unwritable
from lidcli.store.find import find_runs, resolve
from lidcli.store.hdf5 import DamagedError, open_read, write_atomic, write_temporary
from lidcli.store.lock import exclusive, held_here
from lidcli.store.tensors import load_tree, read_array, save_tree, write_array

__all__ = ["STATUSES", "Run", "find_runs", "resolve"]

STATUSES = ("running", "complete", "diverged", "interrupted", "failed")
LARGEST_ARRAY = 1_000_000
Array = np.ndarray[Any, np.dtype[Any]]
Scalars = dict[str, float]


@dataclass
class _Record:
    """What `run.h5` holds."""

    config: dict[str, Any]
    provenance: dict[str, Any]
    curves: dict[str, Array] = field(default_factory=dict)
    evaluation: dict[str, Scalars] = field(default_factory=dict)
    arrays: dict[str, Array] = field(default_factory=dict)

    def write(self, file: h5py.File) -> None:
        for name in ("config", "provenance"):
            text = json.dumps(getattr(self, name), default=_plain).encode()
            kind = h5py.string_dtype("utf-8", len(text))
            file.create_dataset(name, data=np.array(text, dtype=kind))
        for split, scalars in self.evaluation.items():
            for name, value in scalars.items():
                write_array(file, f"evaluation/{split}/{name}", np.asarray(value, np.float64))
        for group, arrays in (("curves", self.curves), ("arrays", self.arrays)):
            for name, array in arrays.items():
                write_array(file, f"{group}/{name}", array)

    @classmethod
    def read(cls, file: h5py.File) -> _Record:
        config, provenance = (json.loads(file[name][()]) for name in ("config", "provenance"))
        if not isinstance(config, dict) or not isinstance(provenance.get("status"), str):
            raise ValueError("no record of a run")
        evaluation: dict[str, Scalars] = {}
        for name, value in _leaves(file, "evaluation").items():
            split, _, figure = name.partition("/")
            evaluation.setdefault(split, {})[figure] = float(value)
        return cls(config, provenance, _leaves(file, "curves"), evaluation, _leaves(file, "arrays"))


def _leaves(file: h5py.File, name: str) -> dict[str, Array]:
    """Every data set below a group, by its path from there."""
    found: dict[str, Array] = {}
    if name in file:
        names: list[str] = []
        file[name].visititems(
            lambda path, item: names.append(path) if isinstance(item, h5py.Dataset) else None
        )
        found = {path: read_array(file[name], path) for path in names}
    return found


def _plain(value: Any) -> Any:
    """What JSON lacks a word for."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"a {type(value).__name__} cannot be part of a run's record")


class Run:
    """One run's folder, `results/<experiment>/<run-id>`.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as results:
        ...     run = Run.create(Path(results, "demo", "abc-s0"), {"seed": 0}, {})
        ...     with run.lock():
        ...         run.save_checkpoint({"step": 3})
        ...         run.update(curves={"train/elbo": np.array([-2.0, -1.5])})
        ...     run.status, run.load_checkpoint()[0], Run.open(run.folder).curves["train/elbo"]
        ('running', {'step': 3}, array([-2. , -1.5]))
    """

    def __init__(self, folder: Path, record: _Record, stamp: tuple[int, int]) -> None:
        self.folder = folder
        self._record = record
        self._stamp = stamp

    @classmethod
    def create(cls, folder: Path, config: Mapping[str, Any], provenance: Mapping[str, Any]) -> Run:
        """Make a run's folder with a record of status `running`, or open what is there.

        A damaged record beside it is set aside as `run.damaged.h5`; checkpoints stay.

        Args:
            folder: of the run.
            config: resolved configuration, plain JSON values.
            provenance: first entries; `status` may be among them.

        Raises:
            LockedError: another process is making the same run.
            StoreError: the folder cannot be written, or a newer lid made the run.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unwritable(folder, error) from error
        path = folder / "run.h5"
        first = {"status": "running", "message": "", **provenance}
        with contextlib.nullcontext() if held_here(folder) else exclusive(folder):
            if path.exists():
                try:
                    return cls.open(folder)
                except DamagedError as error:
                    os.replace(path, folder / "run.damaged.h5")
                    first["warnings"] = [f"{error} It was set aside as run.damaged.h5."]
            record = _Record(dict(config), first)
            write_atomic(path, record.write)
            return cls(folder, record, _stamp(path))

    @classmethod
    def open(cls, folder: Path) -> Run:
        """Open a run that exists.

        Args:
            folder: of the run.

        Raises:
            DamagedError: the record is damaged (a `StoreError`).
            StoreError: the folder holds no run, or one that a newer lid made.
        """
        path = folder / "run.h5"
        if not path.is_file():
            raise StoreError(f"{folder} is not a run: it has no run.h5.")
        stamp = _stamp(path)
        with open_read(path) as file:
            record = _Record.read(file)
        return cls(folder, record, stamp)

    @property
    def config(self) -> dict[str, Any]:
        """The resolved configuration."""
        return self._record.config

    @property
    def provenance(self) -> dict[str, Any]:
        """Where the numbers come from, with `status` and `message`."""
        return self._record.provenance

    @property
    def status(self) -> str:
        """One of `STATUSES`."""
        return str(self._record.provenance["status"])

    @property
    def curves(self) -> dict[str, Array]:
        """Training curves by name, one number an epoch."""
        return self._record.curves

    @property
    def evaluation(self) -> dict[str, Scalars]:
        """Figures by split and name, nats per datum unless they are fractions."""
        return self._record.evaluation

    @property
    def arrays(self) -> dict[str, Array]:
        """Small float32 arrays by name, for figures."""
        return self._record.arrays

    def update(
        self,
        *,
        provenance: Mapping[str, Any] | None = None,
        curves: Mapping[str, Any] | None = None,
        evaluation: tuple[str, Mapping[str, float]] | None = None,
        arrays: Mapping[str, Any] | None = None,
    ) -> None:
        """Merge entries into the record in one atomic rewrite.

        Args:
            provenance: entries, plain JSON values.
            curves: arrays of numbers by name.
            evaluation: a split and its figures by name.
            arrays: arrays by name, each of fewer than a million numbers, kept as float32.

        Raises:
            ValueError: an array is too large or not of numbers, or the status is unknown.
            StoreError: the record cannot be written; it is as it was.
        """
        self._refresh()
        old = self._record
        split, scalars = evaluation or ("", {})
        record = _Record(
            old.config,
            {**old.provenance, **(provenance or {})},
            {**old.curves, **{k: np.asarray(v) for k, v in (curves or {}).items()}},
            {**old.evaluation},
            {**old.arrays, **{k: _small(k, v) for k, v in (arrays or {}).items()}},
        )
        if record.provenance["status"] not in STATUSES:
            raise ValueError(f"a run's status is one of {', '.join(STATUSES)}")
        if split:
            figures = {name: float(value) for name, value in scalars.items()}
            record.evaluation[split] = {**old.evaluation.get(split, {}), **figures}
        path = self.folder / "run.h5"
        write_atomic(path, record.write)
        self._record, self._stamp = record, _stamp(path)

    def _refresh(self) -> None:
        """Read the record again if another process has written it."""
        path = self.folder / "run.h5"
        if path.exists() and _stamp(path) != self._stamp:
            fresh = Run.open(self.folder)
            self._record, self._stamp = fresh._record, fresh._stamp

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other processes from working on this run, and read its record afresh.

        Raises:
            LockedError: another process is working on it.
            StoreError: the folder is not writable.
        """
        with exclusive(self.folder):
            self._refresh()
            yield

    def save_checkpoint(self, tree: Any) -> None:
        """Write a checkpoint; the one before it becomes `checkpoint.prev.h5`.

        The new file is in place before the older ones move, so that a process killed at
        any moment leaves at least one good checkpoint.

        Args:
            tree: as `save_tree` takes it.

        Raises:
            StoreError: it cannot be written; the checkpoints are as they were.
        """
        newest, previous = self.folder / "checkpoint.h5", self.folder / "checkpoint.prev.h5"
        temporary = write_temporary(newest, lambda file: save_tree(file, tree))
        keep = self.folder / ".checkpoint.prev.h5.tmp"
        try:
            keep.unlink(missing_ok=True)
            linked = newest.exists() and _link(newest, keep)
            if newest.exists() and not linked:
                os.replace(newest, previous)
            os.replace(temporary, newest)
            if linked:
                os.replace(keep, previous)
            sync_folder(self.folder)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise unwritable(newest, error) from error

    def load_checkpoint(self) -> tuple[Any, list[str]]:
        """The newest checkpoint that is whole, and what had to be said about it.

        Returns:
            The tree, or None where the run has no checkpoint yet; and warnings, one sentence
            each, where an older checkpoint had to do.

        Raises:
            StoreError: every checkpoint is damaged, or a newer lid wrote it.
        """
        damage: list[str] = []
        for name in ("checkpoint.h5", "checkpoint.prev.h5"):
            path = self.folder / name
            if not path.exists():
                continue
            try:
                with open_read(path) as file:
                    tree = load_tree(file)
            except DamagedError as error:
                damage.append(str(error))
                continue
            return tree, [f"{text} Using the checkpoint before it." for text in damage]
        if damage:
            raise StoreError(f"{' '.join(damage)} --restart begins the run anew.")
        return None, []

    def discard(self) -> None:
        """Delete the record and the checkpoints; the folder and its lock stay.

        Raises:
            StoreError: the folder is not writable.
        """
        try:
            for path in self.folder.glob("*.h5"):
                path.unlink()
            sync_folder(self.folder)
        except OSError as error:
            raise unwritable(self.folder, error) from error


def _stamp(path: Path) -> tuple[int, int]:
    """What changes when a file is replaced."""
    status = path.stat()
    return status.st_ino, status.st_mtime_ns


def _link(path: Path, name: Path) -> bool:
    """Give a file a second name; false where the file system has no hard links."""
    try:
        os.link(path, name)
    except OSError:
        return False
    return True


def _small(name: str, value: Any) -> Array:
    array = np.asarray(value, np.float32)
    if array.size >= LARGEST_ARRAY:
        raise ValueError(f"array {name} has {array.size} numbers; a record keeps fewer than 10^6")
    return array
