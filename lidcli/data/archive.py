"""One file out of a `.tar.gz` from the net, which is trusted with nothing."""

from __future__ import annotations

import tarfile
import zlib
from pathlib import Path, PurePosixPath

from lidcli.data.files import writing

__all__ = ["ArchiveError", "extract"]

CHUNK = 1 << 20


class ArchiveError(Exception):
    """An archive that is damaged, unsafe, or lacks the file; the reason in a few words."""


def extract(archive: Path, member: str, target: Path, limit: int) -> None:
    """Write the one regular file of that name to `target`, and nothing anywhere else.

    Names, modes and owners in the archive are never used. One with a member outside its own
    folder is refused, as is a link or a device in place of the file.

    Args:
        archive: the `.tar.gz`.
        member: the file's name, in whatever folder of the archive.
        target: where its content goes.
        limit: bytes at most of all content before and with the file, unpacked.

    Raises:
        ArchiveError: the archive is damaged, unsafe, too large or lacks the file; `target` is not
            there then.
        OSError: `target` cannot be written, or the archive not be read.
    """
    try:
        with tarfile.open(archive, "r|gz") as content:
            _extract(content, member, target, limit)
    except (tarfile.TarError, EOFError, zlib.error) as error:
        target.unlink(missing_ok=True)
        raise ArchiveError("the archive is damaged") from error
    except BaseException:
        target.unlink(missing_ok=True)
        raise


def _extract(content: tarfile.TarFile, member: str, target: Path, limit: int) -> None:
    unpacked = 0
    for entry in content:
        path = PurePosixPath(entry.name)
        if path.is_absolute() or ".." in path.parts:
            raise ArchiveError(f"the archive has {entry.name!r}, outside its own folder")
        unpacked += max(entry.size, 0)
        if unpacked > limit:
            raise ArchiveError(f"the archive unpacks to more than {limit:,} bytes")
        if path.name != member:
            continue
        if not entry.isreg():
            raise ArchiveError(f"{entry.name!r} in the archive is not a regular file")
        source = content.extractfile(entry)
        assert source is not None
        with source, writing(target) as out:
            while chunk := source.read(CHUNK):
                out.write(chunk)
        return
    raise ArchiveError(f"the archive has no {member}")
