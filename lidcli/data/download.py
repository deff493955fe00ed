"""Downloads that resume, are checked, and never leave half a file under its name."""

from __future__ import annotations

import errno
import http.client
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from lidcli.data.archive import ArchiveError, extract
from lidcli.data.files import check_plain, claim, only_one, writing
from lidcli.data.remote import LARGEST, Archive, RemoteFile, readable
from lidcli.errors import DataError
from lidcli.plain import sync_folder

__all__ = ["Fetched", "Progress", "State", "fetch", "readable", "state"]

State = Literal["good", "damaged", "partial", "missing"]
Progress = Callable[[RemoteFile, int], None]
"""Called with a file and the bytes of it that are there."""

CHUNK = 1 << 16
TIMEOUT_SECONDS = 30.0
BACKOFF_SECONDS = 0.5
IDLE_ATTEMPTS = 3
ATTEMPTS = 20
PASSING_STATUS = {408, 425, 429, 500, 502, 503, 504}


@dataclass(frozen=True)
class Fetched:
    """A file that is in place and checked; `source` is None where it was there before."""

    file: RemoteFile
    path: Path
    source: str | None


class SourceError(Exception):
    """A source that does not deliver; `passing` if trying again may help."""

    def __init__(self, reason: str, passing: bool = False) -> None:
        super().__init__(reason)
        self.passing = passing


def state(file: RemoteFile, root: Path) -> State:
    """What there is of a file inside `root`, by its size and checksum.

    Raises:
        DataError: it cannot be read.
    """
    path = root / file.path
    check_plain(path)
    try:
        if path.exists():
            return "good" if file.good(path) else "damaged"
        return "partial" if _part(path).exists() else "missing"
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error


def fetch(
    files: Iterable[RemoteFile],
    root: Path,
    mirror: Path | None = None,
    progress: Progress = lambda file, done: None,
) -> list[Fetched]:
    """Bring files into `root`, each checked by its checksum before it gets its name.

    A file that is there and good is left alone. Half a download stays beside it as `NAME.part`
    and the next call goes on from there; a damaged file is replaced only by a good one.

    Args:
        files: what is wanted.
        root: the folder of data, made where it is missing.
        mirror: a folder to copy from instead of downloading.
        progress: called as bytes arrive.

    Returns:
        One entry a file, in order; none for an optional one that the mirror lacks.

    Raises:
        DataError: no source delivers a file, or the folder cannot be written.
        LockedError: another process fetches into the same folder.

    Example:
        >>> fetch([], Path("data"))
        []
    """
    files = list(files)
    if mirror is not None and not mirror.is_dir():
        raise DataError(f"The mirror {mirror} is not a folder; expected one of data files.")
    if all(state(file, root) == "good" for file in files):
        return [Fetched(file, root / file.path, None) for file in files]
    with _writing(root, "the lock file"), only_one(root):
        done = [_fetch(file, root, mirror, progress) for file in files]
    return [one for one in done if one is not None]


def _fetch(file: RemoteFile, root: Path, mirror: Path | None, progress: Progress) -> Fetched | None:
    target = root / file.path
    if state(file, root) == "good":
        return Fetched(file, target, None)
    if mirror is not None and file.optional and not (mirror / file.path).exists():
        return None
    part = _part(target)
    with _writing(target.parent, f"{file.path} ({readable(file.size)})"):
        target.parent.mkdir(parents=True, exist_ok=True)
        claim(part)
        if mirror is not None:
            source = _copy(file, mirror / file.path, part, progress)
        else:
            source = _download(file.published or file, part, progress)
        with writing(part, append=True) as stream:
            os.fsync(stream.fileno())
        os.replace(part, target)
        sync_folder(target.parent)
    return Fetched(file, target, source)


def _copy(file: RemoteFile, source: Path, part: Path, progress: Progress) -> str:
    try:
        if not source.is_file():
            raise DataError(f"{source} is missing; without a mirror the file is downloaded.")
        found = file.digest(source)
    except OSError as error:
        raise DataError(f"{source} cannot be read: {error.strerror or error}.") from error
    if found != file.expected and not file.good(source):
        raise DataError(
            f"{source} has the {_wrong(file, found)}: it is damaged or another file. Nothing was"
            " installed."
        )
    with source.open("rb") as incoming, writing(part) as out:
        while chunk := incoming.read(CHUNK):
            out.write(chunk)
            progress(file, out.tell())
    if not file.good(part):
        part.unlink()
        raise DataError(f"The copy of {source} came out damaged; is the disk of {part} sound?")
    return str(source)


def _download(file: RemoteFile, part: Path, progress: Progress) -> str:
    """Try the sources in order, each going on where the one before stopped."""
    reasons = []
    for url in file.urls:
        try:
            _from_url(file, url, part, progress)
        except SourceError as error:
            reasons.append(f"{urlsplit(url).hostname}: {error}")
        else:
            return url
    for archive in file.archives:
        try:
            _from_archive(file, archive, part, progress)
        except SourceError as error:
            reasons.append(f"{urlsplit(archive.url).hostname}: {error}")
        else:
            return archive.url
    kept = f" ({readable(part.stat().st_size)} are kept)" if part.exists() else ""
    raise DataError(
        f"{file.path} could not be downloaded ({'; '.join(reasons)}). Try again later{kept}, or"
        " copy it from a folder with --mirror DIR."
    )


def _from_archive(file: RemoteFile, archive: Archive, part: Path, progress: Progress) -> None:
    """Download an archive beside the file, and take the file out of it."""
    packed = part.with_name(f"{Path(archive.member).name}.tar.gz.part")
    claim(packed)
    whole = RemoteFile(f"{file.path}.tar.gz", (archive.url,), None, None, md5=archive.md5)
    _from_url(whole, archive.url, packed, progress)
    try:
        extract(packed, archive.member, part, max(file.limit, LARGEST))
    except ArchiveError as error:
        raise SourceError(str(error)) from error
    finally:
        packed.unlink()
    if not file.good(part):
        found = file.digest(part)
        part.unlink()
        raise SourceError(_wrong(file, found))


def _from_url(file: RemoteFile, url: str, part: Path, progress: Progress) -> None:
    idle = 0
    for _ in range(ATTEMPTS):
        before = _size(part)
        try:
            if not _whole(file, part):
                _receive(file, url, part, progress)
        except SourceError as error:
            idle = 0 if _size(part) > before else idle + 1
            if not error.passing or idle == IDLE_ATTEMPTS:
                raise
            time.sleep(BACKOFF_SECONDS * 2**idle)
            continue
        found = file.digest(part)
        if found == file.expected:
            return
        part.unlink()
        if before == 0:
            raise SourceError(_wrong(file, found))
    raise SourceError("the connection keeps breaking off")


def _whole(file: RemoteFile, part: Path) -> bool:
    """Whether there is nothing more to ask for."""
    if file.size is not None:
        return _size(part) >= file.size
    return part.exists() and file.digest(part) == file.expected


def _wrong(file: RemoteFile, found: str) -> str:
    return f"wrong checksum ({file.algorithm} {found[:12]}…, expected {file.expected[:12]}…)"


def _receive(file: RemoteFile, url: str, part: Path, progress: Progress) -> None:
    """Append to what is there, or begin anew where the server cannot resume."""
    offset = _size(part)
    with _open(url, part, offset) as response:
        resumed = response.status == http.HTTPStatus.PARTIAL_CONTENT
        done = offset if resumed else 0
        total = _offered(file, response, done)
        most = file.limit if total is None else total
        with writing(part, append=resumed) as out:
            while chunk := _read(response):
                done += len(chunk)
                if done > most:
                    break
                out.write(chunk)
                progress(file, done)
    if done > most:
        part.unlink()
        raise SourceError(f"sends more than the {total or file.limit:,} bytes expected")
    if total is not None and done < total:
        raise SourceError(f"broke off after {done:,} of {total:,} bytes", passing=True)


def _open(url: str, part: Path, offset: int) -> http.client.HTTPResponse:
    """The answer of a server that is asked for the bytes from an offset on."""
    headers = {"User-Agent": "lidcli", "Accept-Encoding": "identity"}
    if offset:
        headers["Range"] = f"bytes={offset}-"
    try:
        response: http.client.HTTPResponse = urllib.request.urlopen(
            urllib.request.Request(url, headers=headers), timeout=TIMEOUT_SECONDS
        )
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and offset:
            part.unlink()
            raise SourceError("will not resume", passing=True) from error
        raise SourceError(f"HTTP {error.code}", error.code in PASSING_STATUS) from error
    except (OSError, http.client.HTTPException) as error:
        raise SourceError(_reason(error), passing=True) from error
    return response


def _offered(file: RemoteFile, response: http.client.HTTPResponse, start: int) -> int | None:
    """The size of the whole, where it is known; another file is refused by it."""
    if start:
        total = _total_of_range(file, response.headers.get("Content-Range", ""), start)
    else:
        total = response.headers.get("Content-Length") or "*"
        if file.size is not None and total not in ("*", str(file.size)):
            raise SourceError(f"offers {total} bytes, expected {file.size:,}")
    if file.size is not None or not total.isdecimal():
        return file.size
    if int(total) > file.limit:
        raise SourceError(f"offers {total} bytes, expected {file.limit:,} at most")
    return int(total)


def _total_of_range(file: RemoteFile, announced: str, start: int) -> str:
    """What `bytes 100-199/200` says after its slash; another range or file is refused."""
    first, _, total = announced.removeprefix("bytes ").partition("/")
    known = total == "*" or (total.isdecimal() and int(total) == (file.size or int(total)))
    if first.partition("-")[0] != str(start) or not known:
        raise SourceError(f"answers bytes {start}- with {announced or 'no range'}")
    return total


def _read(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read(CHUNK)
    except (OSError, http.client.HTTPException) as error:
        raise SourceError(_reason(error), passing=True) from error


def _reason(error: Exception) -> str:
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, TimeoutError):
        return "no answer"
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    return str(cause) or type(cause).__name__


@contextmanager
def _writing(folder: Path, what: str) -> Iterator[None]:
    """Turn a failing disk into one sentence."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise DataError(
                f"No space is left in {folder} for {what}. What has arrived is kept; free some"
                " space and run the same command again."
            ) from error
        raise DataError(
            f"{error.filename or folder} cannot be written: {error.strerror or error}. Another"
            " folder can be named with --set data.root=DIR."
        ) from error


def _part(path: Path) -> Path:
    return path.with_name(path.name + ".part")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
