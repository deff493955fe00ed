"""The record of one run: `run.h5` for everybody, the checkpoints for the run itself."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

from lidcli.errors import LockedError, StoreError
from lidcli.plain import sync_folder
from lidcli.store import checkpoints
from lidcli.store.files import reason, unwritable
from lidcli.store.find import find_run, find_runs
from lidcli.store.hdf5 import DamagedError, first_line, open_read, write_atomic
from lidcli.store.lock import check_held, exclusive, held_here
from lidcli.store.owner import absolute, check_owner, owner_of
from lidcli.store.record import (
    RECORD_BYTES,
    RECORD_ITEMS,
    STATUSES,
    Array,
    Contents,
    Scalars,
    small,
)

__all__ = ["STATUSES", "Run", "find_run", "find_runs"]

FILES = ("run.h5", "run.damaged.h5", checkpoints.NEWEST, checkpoints.PREVIOUS)


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

    def __init__(self, folder: Path, record: Contents, stamp: bytes) -> None:
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
            place = absolute(folder)
            identity = {"run": place.name, "experiment": place.parent.name}
            record = Contents(dict(config), first, identity=identity)
            record.check(path)
            write_atomic(path, record.write)
            return cls(folder, record, first_line(path))

    @classmethod
    def open(cls, folder: Path) -> Run:
        """Open a run that exists.

        Args:
            folder: of the run.

        Raises:
            DamagedError: the record is damaged (a `StoreError`).
            StoreError: the folder holds no run, another run's record, one that a newer lid made,
                or one larger than lid writes.
        """
        path = folder / "run.h5"
        try:
            stamp = first_line(path)
        except (FileNotFoundError, NotADirectoryError):
            raise StoreError(f"{folder} is not a run: it has no run.h5.") from None
        except OSError as error:
            raise StoreError(f"{path} cannot be read: {reason(error)}.") from error
        with open_read(path, most_bytes=RECORD_BYTES, most_items=RECORD_ITEMS) as file:
            record = Contents.read(file)
        check_owner(folder, owner_of(folder, record))
        return cls(folder, record, stamp)

    @property
    def run_id(self) -> str:
        """Whose record it is: the name of the folder that it was made in."""
        known = self._record.identity
        return absolute(self.folder).name if known is None else str(known["run"])

    @property
    def identity(self) -> dict[str, Any] | None:
        """Run and experiment as the record names them; None in old ones."""
        return self._record.identity

    @property
    def owner(self) -> str:
        """Whose record it is, as the record or its configuration says; empty where neither does."""
        return owner_of(self.folder, self._record)

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

    def begun_for(self, restart: str) -> bool:
        """Whether the record was begun for the `--restart` of this word; always for none, empty."""
        return restart in ("", self.provenance.get("restarted"))

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
            StoreError: the record cannot be written, or would be larger than lid reads; it is
                as it was.
            LockedError: another machine took the run over.
        """
        self._check_held()
        self._refresh()
        old = self._record
        split, scalars = evaluation or ("", {})
        record = Contents(
            old.config,
            {**old.provenance, **(provenance or {})},
            {**old.curves, **{k: np.asarray(v) for k, v in (curves or {}).items()}},
            {**old.evaluation},
            {**old.arrays, **{k: small(k, v) for k, v in (arrays or {}).items()}},
            old.identity,
        )
        if split:
            figures = {name: float(value) for name, value in scalars.items()}
            record.evaluation[split] = {**old.evaluation.get(split, {}), **figures}
        path = self.folder / "run.h5"
        record.check(path)
        write_atomic(path, record.write)
        self._record, self._stamp = record, first_line(path)

    def _changed(self) -> bool:
        """Whether another process has written the record since this one read or wrote it."""
        path = self.folder / "run.h5"
        return path.exists() and first_line(path) != self._stamp

    def _check_held(self) -> None:
        """Before something is written: see that a lock that this process has is still its own.

        One who took the run over may have given it back since, so that no lease says so.

        Raises:
            LockedError: another machine took the run over.
        """
        check_held(self.folder)
        if held_here(self.folder) and self._changed():
            raise LockedError(
                f"Run {self.folder.name} was taken over, and its record is another process's by"
                " now; nothing more of it was written here."
            )

    def _refresh(self) -> None:
        """Read the record again if another process has written it."""
        if self._changed():
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

    def save_checkpoint(self, tree: Any, *, step: int | None = None) -> None:
        """Write a checkpoint; the one before it becomes `checkpoint.prev.h5`.

        The new file is in place before the older ones move, so that a process killed at
        any moment leaves at least one good checkpoint. The file names this run and the step.

        Args:
            tree: as `save_tree` takes it; `best` or `model` in it are what `load_weights` gives.
            step: of the training.

        Raises:
            StoreError: it cannot be written; the checkpoints are as they were.
            LockedError: another machine took the run over.
        """
        self._check_held()
        checkpoints.save(self.folder, self.run_id, tree, step)

    def load_checkpoint(self) -> tuple[Any, list[str]]:
        """The newest checkpoint that is whole, and what had to be said about it.

        Returns:
            The tree, or None where the run has no checkpoint yet; and warnings, one sentence
            each, where an older checkpoint had to do.

        Raises:
            StoreError: every checkpoint is damaged, or one is another run's or a newer lid's.
        """
        return checkpoints.load(self.folder, self.run_id)

    def fitting(self) -> AbstractContextManager[None]:
        """Take up what `load_checkpoint` gave; contents that do not fit become one sentence.

        Raises:
            StoreError: an entry is missing, or another type or shape than is expected.
        """
        return checkpoints.fitting(self.folder)

    def load_weights(self) -> dict[str, Any]:
        """The weights that a finished run was measured with, or nothing.

        Only the newest checkpoint counts, and only if its weights have the digest that the
        record names, `weights_sha256`; an older one is never taken in its place. (A record
        from before there were digests names none; its own newest checkpoint is taken.)

        Returns:
            Tensors by name, on the CPU.

        Raises:
            StoreError: the run is not finished, or has no such weights.
        """
        if self.status != "complete":
            raise StoreError(
                f"Run {self.run_id} is not finished ({self.status}): it has no final weights."
            )
        known = self.provenance.get("weights_sha256")
        if known is None and self._record.identity is not None:
            raise StoreError(
                f"The record of run {self.run_id} names no weights; make the run anew with"
                " --restart."
            )
        return checkpoints.weights(self.folder, self.run_id, known)

    def discard(self) -> None:
        """Delete the record and the checkpoints; the folder and its lock stay.

        Raises:
            StoreError: the folder is not writable.
        """
        try:
            for name in FILES:
                (self.folder / name).unlink(missing_ok=True)
            sync_folder(self.folder)
        except OSError as error:
            raise unwritable(self.folder, error) from error
