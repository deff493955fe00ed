"""One worker a run: an advisory lock that dies with the process that holds it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import platform
from collections.abc import Iterator
from pathlib import Path

from lidcli.errors import LockedError, StoreError
from lidcli.store.hdf5 import unwritable

__all__ = ["exclusive", "held_here"]

_held: set[Path] = set()


def held_here(folder: Path) -> bool:
    """Whether this process holds the lock of a folder."""
    return folder.resolve() in _held


@contextlib.contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold the lock of a run's folder, and clear what a killed writer left there.

    Args:
        folder: of the run; it must exist.

    Raises:
        LockedError: another process holds it; the message names that process.
        StoreError: the folder is not writable, or its file system has no locks.
    """
    path = folder / ".lock"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise unwritable(path, error) from error
    key = folder.resolve()
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip()
            raise LockedError(
                f"Run {folder.name} is being worked on by process {holder or 'unknown'};"
                " wait for it, or stop it."
            ) from None
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise unwritable(path, error) from error
            raise StoreError(
                f"{path} cannot be locked: {error.strerror}; put the results on a file system"
                " with locks."
            ) from error
        _held.add(key)
        _note_holder(descriptor)
        for left in folder.glob(".*.tmp"):
            left.unlink(missing_ok=True)
        yield
    finally:
        _held.discard(key)
        os.close(descriptor)


def _note_holder(descriptor: int) -> None:
    """Write who holds the lock; on a full disk it stays unsaid."""
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()} on {platform.node()}".encode(), 0)
