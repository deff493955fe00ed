"""Saying why a file of the store cannot be used."""

from __future__ import annotations

import errno
from pathlib import Path

from lidcli.errors import StoreError

__all__ = ["reason", "unwritable"]


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
