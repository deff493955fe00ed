"""Opening files that a stranger may have put there, and saying why one cannot be used."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from lidcli.errors import StoreError

__all__ = ["open_plain", "reason", "sync_folder", "unwritable"]

KINDS = (
    (stat.S_ISLNK, "a link"),
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
)


def reason(error: OSError) -> str:
    """Half a sentence on why the operating system refused."""
    return {
        errno.ENOSPC: "the disk is full",
        errno.EDQUOT: "the disk quota is used up",
        errno.EACCES: "permission is denied",
        errno.EPERM: "permission is denied",
        errno.EROFS: "the file system is read-only",
        errno.ENOENT: "its folder does not exist",
        errno.ENOTDIR: "part of its path is a file and not a folder",
    }.get(error.errno or 0, (error.strerror or str(error)).lower())


def unwritable(path: Path, error: OSError) -> StoreError:
    """The sentence for a file that the operating system would not write."""
    return StoreError(f"{path} cannot be written: {reason(error)}; nothing of it was changed.")


def _refuse_unless_plain(path: Path, status: os.stat_result) -> None:
    if stat.S_ISREG(status.st_mode):
        return
    kind = next((name for test, name in KINDS if test(status.st_mode)), "a device")
    raise StoreError(f"{path} is {kind} and not a plain file; remove it.")


def open_plain(path: Path, flags: int, *, follow: bool = False) -> int:
    """Open a plain file, and nothing else, without ever waiting.

    What the name stands for is looked at before it is opened, since opening a device or a pipe
    may already do something, and again once it is open.

    Args:
        path: of the file.
        flags: as `os.open` takes them.
        follow: whether the last part of the path may be a link, to a plain file.

    Returns:
        The descriptor.

    Raises:
        StoreError: it is a link, a folder, a pipe, a socket or a device.
        OSError: it is missing, or not permitted.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     open_plain(Path(folder), os.O_RDONLY)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        lidcli.errors.StoreError: ... is a folder and not a plain file; remove it.
    """
    try:
        _refuse_unless_plain(path, os.stat(path, follow_symlinks=follow))
    except FileNotFoundError:
        if not flags & os.O_CREAT:
            raise
    flags |= getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    if not follow:
        flags |= getattr(os, "O_NOFOLLOW", 0)
    descriptor = os.open(path, flags, 0o666)
    try:
        _refuse_unless_plain(path, os.fstat(descriptor))
    except StoreError:
        os.close(descriptor)
        raise
    return descriptor


def sync_folder(folder: Path) -> None:
    """Make renames inside a folder outlast a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
