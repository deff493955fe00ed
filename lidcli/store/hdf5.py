"""HDF5 files that appear whole or not at all, and that are checked before they are read.

A file is an ordinary HDF5 file whose user block, the 512 bytes that HDF5 leaves to
applications, holds one line with the length and the SHA-256 of everything after it. The line is
checked before libhdf5 sees a byte, so that damage anywhere is one sentence and not a crash.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import h5py

from lidcli.errors import StoreError
from lidcli.plain import open_plain, sync_folder
from lidcli.store.files import reason, unwritable
from lidcli.store.foreign import check_contents

__all__ = [
    "SCHEMA_VERSION",
    "DamagedError",
    "checked_digest",
    "first_line",
    "open_read",
    "write_atomic",
    "write_temporary",
]

SCHEMA_VERSION = 1
HEADER = 512
HEADER_LINE = re.compile(rb"lid store, ([0-9]{1,18}) bytes, sha256 [0-9a-f]{64}\n")
BLOCK = 1 << 20
FORMAT = ("v110", "v110")


class DamagedError(StoreError):
    """A file whose bytes are not those that were written."""


class _Sink(io.FileIO):
    """A file that swallows what follows a failed write, and remembers why.

    libhdf5 cannot close a file whose flush fails, and may hang when the process ends;
    it is therefore told that all went well, and the whole file is dropped afterwards.
    """

    failure: BaseException | None = None

    def write(self, data: object) -> int:
        """Write all of it, or remember why not."""
        view = memoryview(data).cast("B")  # type: ignore[arg-type]
        done = 0
        while self.failure is None and done < len(view):
            try:
                done += super().write(view[done:]) or 0
            except BaseException as error:
                self.failure = error
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        """Set the length, or remember why not."""
        if self.failure is None:
            try:
                return super().truncate(size)
            except BaseException as error:
                self.failure = error
        return size or 0


def _header(file: BinaryIO) -> bytes:
    """The user block that belongs to what follows it in the file."""
    digest = hashlib.sha256()
    size = file.seek(HEADER)
    while block := file.read(BLOCK):
        digest.update(block)
        size += len(block)
    return f"lid store, {size} bytes, sha256 {digest.hexdigest()}\n".encode().ljust(HEADER, b"\0")


def write_temporary(path: Path, write: Callable[[h5py.File], None]) -> Path:
    """Write and sync a complete file beside `path`, and give its name.

    Raises:
        StoreError: the disk is full or the folder not writable; no file is left.
    """
    try:
        descriptor, name = tempfile.mkstemp(".tmp", f".{path.name}.", path.parent)
    except OSError as error:
        raise unwritable(path, error) from error
    sink = _Sink(descriptor, "r+")
    try:
        with sink:
            try:
                with h5py.File(sink, "w", libver=FORMAT, userblock_size=HEADER) as file:
                    file.attrs["schema_version"] = SCHEMA_VERSION
                    write(file)
            except Exception as error:
                if sink.failure is None:
                    raise
                raise sink.failure from error
            if sink.failure is None:
                header = _header(sink)
                sink.seek(0)
                sink.write(header)
            if sink.failure is not None:
                raise sink.failure
            os.fchmod(descriptor, 0o666 & ~_umask())
            os.fsync(descriptor)
    except BaseException as error:
        os.unlink(name)
        if isinstance(error, OSError):
            raise unwritable(path, error) from error
        raise
    return Path(name)


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def write_atomic(path: Path, write: Callable[[h5py.File], None]) -> None:
    """Write an HDF5 file that replaces `path` whole, or leaves it as it was.

    Args:
        path: file to write; its folder must exist.
        write: fills the open file; what it raises passes through, with `path` unchanged.

    Raises:
        StoreError: the disk is full or the folder not writable; the old file is intact and no
            temporary one is left.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "a.h5")
        ...     write_atomic(path, lambda file: file.attrs.update(answer=42))
        ...     with open_read(path) as file:
        ...         int(file.attrs["answer"])
        42
    """
    temporary = write_temporary(path, write)
    try:
        os.replace(temporary, path)
        sync_folder(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise unwritable(path, error) from error


@contextlib.contextmanager
def open_read(
    path: Path, *, most_bytes: int | None = None, most_items: int | None = None
) -> Iterator[h5py.File]:
    """Open a file of `write_atomic` for reading, after checking all of its bytes.

    No link inside the file is followed and no lock is taken. Whatever goes wrong while reading
    inside the `with` block, in h5py or for want of an expected entry, is reported as damage.

    Args:
        path: file to read; a link to a plain file will do, anything else is refused unopened.
        most_bytes: a longer file is refused unread.
        most_items: a file of more data sets and groups is refused.

    Raises:
        DamagedError: the file is truncated, changed or not lid's (a `StoreError`).
        StoreError: there is no such file, it is no plain file, it may not be read, a newer lid
            wrote it, it is too large, or it holds something that lid never writes (links, object
            types, foreign filters).
    """
    try:
        with open(open_plain(path, os.O_RDONLY, error=StoreError, follow=True), "rb") as raw:
            _check_bytes(path, raw, most_bytes)
            with as_damage(path), h5py.File(raw, "r") as file:
                _check_schema(path, file)
                check_contents(path, file, most_items)
                yield file
    except FileNotFoundError:
        raise StoreError(f"There is no file {path}.") from None
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {reason(error)}.") from error


def checked_digest(path: Path, most_bytes: int | None = None) -> str:
    """The SHA-256 that a file names, after checking that it is that of its bytes.

    Args:
        path, most_bytes: as of `open_read`.

    Raises:
        DamagedError, StoreError: as `open_read`, but for what is wrong with the contents.
    """
    try:
        with open(open_plain(path, os.O_RDONLY, error=StoreError, follow=True), "rb") as raw:
            _check_bytes(path, raw, most_bytes)
            raw.seek(0)
            return raw.read(HEADER).rstrip(b"\n\0").decode()
    except FileNotFoundError:
        raise StoreError(f"There is no file {path}.") from None
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {reason(error)}.") from error


def first_line(path: Path) -> bytes:
    """What a file says of its own bytes, unchecked: another for other contents.

    Raises:
        StoreError: it is no plain file.
        OSError: it cannot be read.
    """
    with open(open_plain(path, os.O_RDONLY, error=StoreError, follow=True), "rb") as raw:
        return raw.read(HEADER)


@contextlib.contextmanager
def as_damage(path: Path) -> Iterator[None]:
    """Report whatever goes wrong with the contents of a file as damage."""
    try:
        yield
    except (OSError, RuntimeError, LookupError, ValueError, TypeError, AttributeError) as error:
        raise DamagedError(f"{path} is damaged: its contents cannot be read.") from error


def _check_bytes(path: Path, raw: BinaryIO, most: int | None) -> None:
    header = raw.read(HEADER)
    said = HEADER_LINE.match(header)
    if said is None:
        raise DamagedError(f"{path} is damaged or was not written by lid.")
    size = os.fstat(raw.fileno()).st_size
    if size != int(said[1]):
        raise DamagedError(f"{path} is damaged: it has {size} bytes, and lid wrote {int(said[1])}.")
    if most is not None and size > most:
        raise StoreError(f"{path} has {size} bytes; lid reads at most {most} of such a file.")
    if header != _header(raw):
        raise DamagedError(f"{path} is damaged: its bytes are not those that lid wrote.")


def _check_schema(path: Path, file: h5py.File) -> None:
    version = int(file.attrs["schema_version"])
    if version > SCHEMA_VERSION:
        raise StoreError(
            f"{path} was written by a newer lid (schema {version}; this one reads up to"
            f" {SCHEMA_VERSION}); update lid to read it."
        )
