"""Runs whose lock a sweep holds for nodes that do not see its results folder."""

from __future__ import annotations

import contextlib
from pathlib import Path

from lidcli.errors import LidError
from lidcli.store.lock import check_held, exclusive
from lidcli.sweep.ray_task import Files, read_files, write_files

__all__ = ["Lent"]


class Lent:
    """The runs that are lent out, by their folders.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as results:
        ...     folder, lent = Path(results, "run"), Lent()
        ...     _ = lent.lend(folder)
        ...     stored = lent.store(folder, {"run.h5": b"record"})
        ...     lent.close()
        ...     stored, folder in lent, (folder / "run.h5").read_bytes()
        (None, False, b'record')
    """

    def __init__(self) -> None:
        self._locks: dict[Path, contextlib.ExitStack] = {}

    def __contains__(self, folder: Path) -> bool:
        return folder in self._locks

    def lend(self, folder: Path) -> Files | str:
        """Take a run's lock, and give what there is of the run, or say why it cannot be had."""
        try:
            if folder not in self._locks:
                folder.mkdir(parents=True, exist_ok=True)
                with contextlib.ExitStack() as lock:
                    lock.enter_context(exclusive(folder))
                    self._locks[folder] = lock.pop_all()
            return read_files(folder)
        except (LidError, OSError) as error:
            return str(error)

    def store(self, folder: Path, files: Files) -> str | None:
        """Put the files of a run that is lent into its folder, or say why that cannot be."""
        if folder not in self._locks:
            return None
        try:
            check_held(folder)
            write_files(folder, files)
        except LidError as error:
            return str(error)
        except OSError as error:
            return f"{folder} cannot be written: {error.strerror}"
        return None

    def take_back(self, folder: Path) -> None:
        """Give up the lock of a run."""
        if folder in self._locks:
            self._locks.pop(folder).close()

    def close(self) -> None:
        """Give up every lock."""
        for folder in list(self._locks):
            self.take_back(folder)
