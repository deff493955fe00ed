"""Opening files that a stranger may have put there: plain ones, without ever waiting."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from lidcli.errors import LidError

__all__ = ["open_plain", "sync_folder"]

KINDS = (
    (stat.S_ISLNK, "a link"),
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
)


def _refuse_unless_plain(
    path: Path, status: os.stat_result, error: type[LidError], remedy: str
) -> None:
    if stat.S_ISREG(status.st_mode):
        return
    kind = next((name for test, name in KINDS if test(status.st_mode)), "a device")
    raise error(f"{path} is {kind} and not a plain file; {remedy}.")


def open_plain(
    path: Path,
    flags: int,
    *,
    error: type[LidError],
    follow: bool = False,
    remedy: str = "remove it",
) -> int:
    """Open a plain file, and nothing else, without ever waiting.

    What the name stands for is looked at before it is opened, since opening a device or a pipe
    may already do something, and again once it is open.

    Args:
        path: of the file.
        flags: as `os.open` takes them.
        error: what is raised of another thing under that name.
        follow: whether the last part of the path may be a link, to a plain file.
        remedy: what is said of what to do then.

    Returns:
        The descriptor.

    Raises:
        LidError: `error`; it is a link, a folder, a pipe, a socket or a device.
        OSError: it is missing, or not permitted.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     open_plain(Path(folder), os.O_RDONLY, error=LidError)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        lidcli.errors.LidError: ... is a folder and not a plain file; remove it.
    """
    try:
        _refuse_unless_plain(path, os.stat(path, follow_symlinks=follow), error, remedy)
    except FileNotFoundError:
        if not flags & os.O_CREAT:
            raise
    flags |= getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    if not follow:
        flags |= getattr(os, "O_NOFOLLOW", 0)
    descriptor = os.open(path, flags, 0o666)
    try:
        _refuse_unless_plain(path, os.fstat(descriptor), error, remedy)
    except LidError:
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
