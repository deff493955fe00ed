"""Arrays kept beside the data, so that they are computed once; checked, never trusted.

A file is one line, the name of the format, the key and the SHA-256 of what follows, and then
arrays as numpy writes them, without pickle. One that is damaged, or was written for another
key, is as good as none.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["keep", "recall"]

FORMAT = "lid cache 1"
KEPT = 16
"""Files of a kind of data in a folder, the newest; what is older is removed."""


def recall(root: Path, key: str, kind: str = "text") -> list[NDArray[Any]] | None:
    """The arrays kept under a key, or None where there are none that are whole.

    Args:
        root: the folder of data.
        key: 64 hexadecimal digits that stand for all the arrays depend on.
        kind: of data, a word in the file's name.
    """
    path = _path(root, key, kind)
    try:
        content = path.read_bytes() if path.is_file() else b""
    except OSError:
        return None
    line, _, body = content.partition(b"\n")
    if line != _line(key, body):
        return None
    stream = io.BytesIO(body)
    arrays = []
    try:
        while stream.tell() < len(body):
            arrays.append(np.load(stream, allow_pickle=False))
    except (ValueError, EOFError):
        return None
    return arrays


def keep(root: Path, key: str, arrays: Sequence[NDArray[Any]], kind: str = "text") -> None:
    """Keep arrays under a key, if `root` is a folder that may be written; say nothing if not.

    A folder without a right to write is left alone, by the superuser too. The file appears
    whole or not at all; of two processes that write the same, either wins.
    """
    stream = io.BytesIO()
    for array in arrays:
        np.save(stream, array, allow_pickle=False)
    body = stream.getvalue()
    path = _path(root, key, kind)
    with contextlib.suppress(OSError):
        if not root.is_dir() or not root.stat().st_mode & 0o222:
            return
        path.parent.mkdir(exist_ok=True)
        descriptor, name = tempfile.mkstemp(".tmp", f".{path.name}.", path.parent)
        try:
            with open(descriptor, "wb") as out:
                out.write(_line(key, body) + b"\n" + body)
            os.replace(name, path)
        except BaseException:
            os.unlink(name)
            raise
        _forget(path.parent, kind)


def _forget(folder: Path, kind: str) -> None:
    files = sorted(folder.glob(f"{kind}-*.bin"), key=lambda path: path.stat().st_mtime_ns)
    for path in files[:-KEPT]:
        path.unlink(missing_ok=True)


def _path(root: Path, key: str, kind: str) -> Path:
    return root / ".cache" / f"{kind}-{key[:16]}.bin"


def _line(key: str, body: bytes) -> bytes:
    return f"{FORMAT} {key} {hashlib.sha256(body).hexdigest()}".encode()
