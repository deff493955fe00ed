"""Looks at a user's file before it is opened, and writes only into plain files."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipInfo

from lidcli.errors import DataError, LockedError
from lidcli.plain import open_plain

__all__ = ["LARGEST_FILE", "check_packing", "check_plain", "claim", "only_one", "writing"]

LARGEST_FILE = 1 << 30
"""Bytes of a text file of numbers, 1 GiB."""


def check_plain(path: Path, most: int | None = None) -> None:
    """Refuse pipes and devices, whose end may never come, and files that are too long.

    Args:
        path: of the file; that there is none is left to whoever opens it.
        most: bytes that it may have.

    Raises:
        DataError: it is no plain file, or too long.

    Example:
        >>> check_plain(Path("/dev/zero"))
        Traceback (most recent call last):
        lidcli.errors.DataError: /dev/zero is not a plain file; expected one that can be read twice.
    """
    try:
        status = path.stat()
    except OSError:
        return
    if stat.S_ISDIR(status.st_mode):
        return
    if not stat.S_ISREG(status.st_mode):
        raise DataError(f"{path} is not a plain file; expected one that can be read twice.")
    if most is not None and status.st_size > most:
        raise DataError(
            f"{path} has {status.st_size} bytes; lid reads files of at most {most >> 30} GiB."
        )


def check_packing(path: Path, member: ZipInfo) -> None:
    """Refuse what is packed in a way that none of our archives is.

    Args:
        path: of the archive, for the message.
        member: of it.

    Raises:
        DataError: it is neither stored nor deflated.

    Example:
        >>> check_packing(Path("mine.npz"), ZipInfo("x.npy"))
    """
    if member.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
        raise DataError(
            f"{path}: {member.filename!r} is packed by another method than deflate; pack the"
            " archive anew."
        )


def claim(path: Path) -> None:
    """Make sure that what is under a name is lid's own to go on with, or nothing.

    Args:
        path: of half a download; where the file has another name too, this one is removed.

    Raises:
        DataError: it is a link, a folder, a pipe, a socket or a device.
    """
    try:
        descriptor = open_plain(path, os.O_RDWR, error=DataError)
    except FileNotFoundError:
        return
    try:
        if os.fstat(descriptor).st_nlink > 1:
            path.unlink()
    finally:
        os.close(descriptor)


def writing(path: Path, *, append: bool = False) -> BinaryIO:
    """A plain file open for writing, never through a link.

    Args:
        path: of the file.
        append: whether to go on at its end; else it is begun anew.

    Raises:
        DataError: it is a link, a folder, a pipe, a socket or a device.
        OSError: it cannot be written.
    """
    more = os.O_APPEND if append else os.O_TRUNC
    flags = os.O_WRONLY | os.O_CREAT | more
    return open(open_plain(path, flags, error=DataError), "ab" if append else "wb")


@contextmanager
def only_one(root: Path) -> Iterator[None]:
    """Keep other processes from fetching into a folder, which is made where it is missing.

    Raises:
        LockedError: another process does.
        DataError: its `.lock` is no plain file.
        OSError: it cannot be written.
    """
    import fcntl

    root.mkdir(parents=True, exist_ok=True)
    descriptor = open_plain(root / ".lock", os.O_RDWR | os.O_CREAT, error=DataError)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LockedError(
                f"Another process fetches into {root}; wait until it is done."
            ) from None
        yield
    finally:
        os.close(descriptor)
