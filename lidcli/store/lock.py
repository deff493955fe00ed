"""One worker a run: an advisory lock that dies with its process, and a lease between machines."""

from __future__ import annotations

import contextlib
import errno
import os
import platform
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

from lidcli.errors import LockedError, StoreError
from lidcli.plain import open_plain
from lidcli.store import lease
from lidcli.store.files import unwritable

__all__ = ["check_held", "check_place", "exclusive", "held_here", "held_on_this_machine"]

TRIES, PAUSE = 3, 0.02
"""Of a lock that another may only be looking at."""
_held: dict[Path, lease.Lease] = {}


def held_here(folder: Path) -> bool:
    """Whether this process holds the lock of a folder."""
    return folder.resolve() in _held


def held_on_this_machine(folder: Path) -> bool:
    """Whether a process of this machine holds the lock of a folder at this moment.

    The lock is tried only where there is a lease of this machine, so that looking at many
    folders hardly ever is in the way of who wants one.

    Raises:
        StoreError: its `.lock` is no plain file, or cannot be locked.

    Example:
        >>> held_on_this_machine(Path("nowhere"))
        False
    """
    found = lease.read(folder)
    if found is None or found.machine != lease.here():
        return False
    try:
        descriptor = open_plain(folder / ".lock", os.O_RDWR, error=StoreError)
    except OSError:
        return False
    try:
        _take(folder / ".lock", descriptor)
    except LockedError:
        return True
    finally:
        os.close(descriptor)
    return False


def check_place(folder: Path) -> None:
    """Make sure, before any work, that files can be made and locked in a folder; it is made too.

    Raises:
        StoreError: they cannot.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as results:
        ...     check_place(Path(results, "demo"))
    """
    path = folder / f".probe-{secrets.token_hex(8)}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    except OSError as error:
        raise unwritable(folder, error) from error
    try:
        _take(folder, descriptor)
    finally:
        os.close(descriptor)
        with contextlib.suppress(OSError):
            path.unlink()


def check_held(folder: Path) -> None:
    """Before something is written: see that a lock that this process has is still its own.

    Raises:
        LockedError: another machine took the run over.
    """
    mine = _held.get(folder.resolve())
    if mine is not None:
        lease.check(folder, mine)


@contextlib.contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold the lock and the lease of a run's folder, and clear what a killed writer left there.

    Args:
        folder: of the run; it must exist.

    Raises:
        LockedError: another process holds it; the message names that process. One of another
            machine is watched first, see `lidcli.store.lease`.
        StoreError: the folder is not writable, its `.lock` is no plain file (links are never
            followed), or the system or its file system has no locks.
    """
    path = folder / ".lock"
    try:
        descriptor = open_plain(path, os.O_RDWR | os.O_CREAT, error=StoreError)
    except OSError as error:
        raise unwritable(path, error) from error
    key = folder.resolve()
    try:
        _take(path, descriptor)
        with lease.hold(folder) as mine:
            _held[key] = mine
            try:
                _note_holder(descriptor)
                _clear(folder)
                yield
            finally:
                del _held[key]
    finally:
        os.close(descriptor)


def _take(path: Path, descriptor: int) -> None:
    """Take the lock at once, or say who has it."""
    try:
        import fcntl
    except ImportError:
        raise StoreError(
            "This system has no file locks of the kind that keeps two processes from one run;"
            " lid works on Linux and macOS."
        ) from None
    try:
        for left in reversed(range(TRIES)):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not left:
                    raise
                time.sleep(PAUSE)
    except BlockingIOError:
        holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip("\0 \n")
        shown = "".join(letter for letter in holder if letter.isprintable())
        raise LockedError(
            f"Run {path.parent.name} is being worked on by process {shown or 'unknown'};"
            " wait for it, or stop it."
        ) from None
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise unwritable(path, error) from error
        raise StoreError(
            f"{path} cannot be locked: {error.strerror}; put the results on a file system"
            " with locks."
        ) from error


def _note_holder(descriptor: int) -> None:
    """Write who holds the lock, unless the file has another name too or the disk is full."""
    if os.fstat(descriptor).st_nlink != 1:
        return
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()} on {platform.node()}".encode(), 0)


def _clear(folder: Path) -> None:
    """Delete the temporary files of a writer that was killed."""
    for left in folder.glob(".*.tmp"):
        with contextlib.suppress(OSError):
            left.unlink()
