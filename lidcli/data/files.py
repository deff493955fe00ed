"""Looks at a user's file before it is opened."""

from __future__ import annotations

import stat
from pathlib import Path

from lidcli.errors import DataError

__all__ = ["LARGEST_FILE", "check_plain"]

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
