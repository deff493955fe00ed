"""HDF5 files that appear whole or not at all, and that are checked before they are read.

A file is an ordinary HDF5 file whose user block, the 512 bytes that HDF5 leaves to
applications, holds one line with the length and the SHA-256 of everything after it. The line is
checked before libhdf5 sees a byte, so that damage anywhere is one sentence and not a crash.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import h5py

from lidcli.errors import StoreError

__all__ = ["SCHEMA_VERSION", "DamagedError", "open_read", "sync_folder", "write_atomic"]

SCHEMA_VERSION = 1
HEADER = 512
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


def _reason(error: OSError) -> str:
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
    return StoreError(f"{path} cannot be written: {_reason(error)}; nothing of it was changed.")


def _header(file: BinaryIO) -> bytes:
    """The user block that belongs to what follows it in the file."""
    digest = hashlib.sha256()
    size = file.seek(HEADER)
    while block := file.read(BLOCK):
        digest.update(block)
        size += len(block)
    return f"lid store, {size} bytes, sha256 {digest.hexdigest()}\n".encode().ljust(HEADER, b"\0")


def sync_folder(folder: Path) -> None:
    """Make renames inside a folder outlast a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
def open_read(path: Path) -> Iterator[h5py.File]:
    """Open a file of `write_atomic` for reading, after checking all of its bytes.

    No link is followed and no lock is taken. Whatever goes wrong while reading inside the
    `with` block, in h5py or for want of an expected entry, is reported as damage.

    Args:
        path: file to read.

    Raises:
        DamagedError: the file is truncated, changed or not lid's (a `StoreError`).
        StoreError: there is no such file, it may not be read, a newer lid wrote it, or it
            holds something that lid never writes (links, object types, foreign filters).
    """
    try:
        with open(path, "rb") as raw:
            _check_bytes(path, raw)
            with _as_damage(path), h5py.File(raw, "r") as file:
                _check_schema(path, file)
                root = file["/"].id
                _check_group(path, root, {h5py.h5o.get_info(root).addr})
                yield file
    except FileNotFoundError:
        raise StoreError(f"There is no file {path}.") from None
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {_reason(error)}.") from error


@contextlib.contextmanager
def _as_damage(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError, LookupError, ValueError, TypeError, AttributeError) as error:
        raise DamagedError(f"{path} is damaged: its contents cannot be read.") from error


def _check_bytes(path: Path, raw: BinaryIO) -> None:
    header = raw.read(HEADER)
    if not header.startswith(b"lid store, "):
        raise DamagedError(f"{path} is damaged or was not written by lid.")
    if header != _header(raw):
        raise DamagedError(f"{path} is damaged: its bytes are not those that lid wrote.")


def _check_schema(path: Path, file: h5py.File) -> None:
    version = int(file.attrs["schema_version"])
    if version > SCHEMA_VERSION:
        raise StoreError(
            f"{path} was written by a newer lid (schema {version}; this one reads up to"
            f" {SCHEMA_VERSION}); update lid to read it."
        )


def _check_group(path: Path, group: h5py.h5g.GroupID, seen: set[int]) -> None:
    """Refuse everything in a group that lid itself never writes."""
    for name in group:
        link = group.links.get_info(name)
        item = h5py.h5o.open(group, name) if link.type == h5py.h5l.TYPE_HARD else None
        address = h5py.h5o.get_info(item).addr if item is not None else 0
        if item is None or address in seen:
            what = "a link"
        elif isinstance(item, h5py.h5g.GroupID):
            seen.add(address)
            _check_group(path, item, seen)
            continue
        else:
            seen.add(address)
            what = _foreign(item)
        if what:
            raise StoreError(
                f"{path} holds {what} ({name.decode(errors='replace')}), which lid neither"
                " writes nor follows; it was not opened."
            )


def _foreign(item: object) -> str:
    """What about an object is not lid's, or nothing."""
    if not isinstance(item, h5py.h5d.DatasetID):
        return "a named type"
    settings, kind = item.get_create_plist(), item.get_type()
    filters = [settings.get_filter(i)[0] for i in range(settings.get_nfilters())]
    if settings.get_layout() == h5py.h5d.VIRTUAL or settings.get_external_count():
        return "data kept in another file"
    if any(code != h5py.h5z.FILTER_FLETCHER32 for code in filters):
        return "a foreign filter"
    classes = (h5py.h5t.INTEGER, h5py.h5t.FLOAT, h5py.h5t.STRING)
    if kind.get_class() not in classes or kind.detect_class(h5py.h5t.VLEN):
        return "an object type"
    if isinstance(kind, h5py.h5t.TypeStringID) and kind.is_variable_str():
        return "an object type"
    if item.get_space().get_simple_extent_npoints() * kind.get_size() > item.get_storage_size():
        return "data that are not in the file"
    return ""
