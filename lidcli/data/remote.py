"""What there is to download: files, how they are known to be right, and whose they are."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["LARGEST", "Archive", "DatasetInfo", "RemoteFile", "readable"]

LARGEST = 1 << 28
"""Bytes at most of a file or an archive whose size is not known beforehand."""
CHUNK = 1 << 20


@dataclass(frozen=True)
class Archive:
    """A `.tar.gz` that holds a file under the name `member`, in whatever folder."""

    url: str
    md5: str
    member: str


@dataclass(frozen=True)
class RemoteFile:
    """A file to download: its place inside `data.root` and inside a mirror, and its checksum.

    Attributes:
        path: inside the folder of data, and inside a mirror.
        urls: where it is, the first that delivers wins.
        sha256: where it is known.
        size: bytes, where they are known.
        md5: where no SHA-256 is published.
        blob: the name that git gives the content, where neither is.
        archives: where it also is, tried last.
        optional: a mirror may lack it, and data are loaded without it, with a note.
        published: the same content as its publisher packs it, where the checksum above is of
            another packing: what `urls` deliver, and as good.

    Raises:
        ValueError: not one of the three checksums is given.

    Example:
        >>> RemoteFile("a.txt", (), None, None, md5="0" * 32).algorithm
        'MD5'
    """

    path: str
    urls: tuple[str, ...]
    sha256: str | None
    size: int | None
    md5: str | None = None
    blob: str | None = None
    archives: tuple[Archive, ...] = ()
    optional: bool = False
    published: RemoteFile | None = None

    def __post_init__(self) -> None:
        if not (self.sha256 or self.md5 or self.blob):
            raise ValueError(f"{self.path} has no checksum.")

    @property
    def algorithm(self) -> str:
        """Which checksum decides, the strongest known."""
        return "SHA-256" if self.sha256 else "MD5" if self.md5 else "git SHA-1"

    @property
    def expected(self) -> str:
        """That checksum, in hexadecimal digits."""
        return self.sha256 or self.md5 or self.blob or ""

    @property
    def limit(self) -> int:
        """Bytes at most."""
        return LARGEST if self.size is None else self.size

    def digest(self, path: Path) -> str:
        """The same checksum of a file that is there.

        Raises:
            OSError: it cannot be read.
        """
        if self.sha256:
            digest = hashlib.sha256()
        elif self.md5:
            digest = hashlib.md5(usedforsecurity=False)
        else:
            head = f"blob {path.stat().st_size}\0".encode()
            digest = hashlib.sha1(head, usedforsecurity=False)
        with path.open("rb") as stream:
            while chunk := stream.read(CHUNK):
                digest.update(chunk)
        return digest.hexdigest()

    def good(self, path: Path) -> bool:
        """Whether a file that is there is this one, or the published one.

        Raises:
            OSError: it cannot be read.
        """
        fits = self.size is None or path.stat().st_size == self.size
        if fits and self.digest(path) == self.expected:
            return True
        return self.published is not None and self.published.good(path)


@dataclass(frozen=True)
class DatasetInfo:
    """One entry of the registry; `files` is empty where nothing has to be downloaded.

    `load` is called with the settings of section data.
    """

    name: str
    kind: str
    title: str
    citation: str
    licence: str
    classes: int
    load: Callable[[Any], Any]
    files: tuple[RemoteFile, ...] = ()
    notes: tuple[str, ...] = ()


def readable(size: int | None) -> str:
    """Bytes as a reader likes them.

    Example:
        >>> readable(26_421_880)
        '26.4 MB'
    """
    if size is None:
        return "unknown"
    if size < 1_000_000:
        return f"{size / 1000:.1f} kB"
    return f"{size / 1_000_000:.1f} MB"
