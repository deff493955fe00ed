"""Who works on a run, said between machines: a file with a counter that its holder moves on.

Locks of a shared folder may not reach from one machine to the next, and clocks of two machines
may differ by any amount. So the holder of a run counts up in `.lease`, and who wants the run
looks, by a clock of its own that only measures how long it has looked, whether the count moves.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import json
import os
import platform
import threading
import time
import uuid
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from lidcli.errors import ConfigError, LockedError, StoreError
from lidcli.plain import open_plain
from lidcli.store.files import unwritable

__all__ = [
    "Lease",
    "State",
    "Watch",
    "check",
    "displace",
    "foreign",
    "here",
    "hold",
    "patience",
    "read",
]

NAME = ".lease"
SECONDS = 120.0
BEATS = 12
"""Beats in the silence after which a run is taken over."""
LENGTH = 512
POLL = 0.5
State = Literal["free", "unknown", "held", "silent"]


@dataclass(frozen=True)
class Lease:
    """What a lease says: who holds it, how far its count is, and after how long it is dead."""

    owner: str
    process: int
    host: str
    machine: str
    seconds: float
    beat: int = 0

    def bytes(self) -> bytes:
        """As it is written, always of one length, so that no write leaves a part of another."""
        return json.dumps(asdict(self)).encode().ljust(LENGTH)[:LENGTH]

    def __str__(self) -> str:
        host = "".join(letter for letter in self.host if letter.isprintable())
        return f"process {self.process} on {host}"


def patience() -> float:
    """Seconds of silence after which a run of this process is taken over: `LID_LEASE`, or 120.

    Raises:
        ConfigError: `LID_LEASE` is no number above 0.
    """
    text = os.environ.get("LID_LEASE", str(SECONDS))
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise ConfigError(f"LID_LEASE is a number of seconds above 0, not {text!r}.")
    return seconds


@functools.cache
def here() -> str:
    """This machine, as long as it runs: where two processes have it, file locks hold for both."""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{platform.node()}/{boot}"
    return platform.node()


def read(folder: Path) -> Lease | None:
    """The lease in a run's folder; one that says nothing sensible has no owner's name.

    Raises:
        StoreError: it is no plain file.
    """
    try:
        descriptor = open_plain(folder / NAME, os.O_RDONLY, error=StoreError)
    except OSError:
        return None
    try:
        raw = os.read(descriptor, LENGTH)
    finally:
        os.close(descriptor)
    return _parse(raw)


def foreign(folder: Path) -> Lease | None:
    """The lease in a run's folder where it is another machine's, which may be dead.

    Raises:
        StoreError: it is no plain file.

    Example:
        >>> foreign(Path("nowhere")) is None
        True
    """
    found = read(folder)
    return None if found is None or found.machine == here() else found


def _parse(raw: bytes) -> Lease:
    try:
        found = json.loads(raw)
        return Lease(
            owner=str(found["owner"]),
            process=int(found["process"]),
            host=str(found["host"]),
            machine=str(found["machine"]),
            seconds=min(max(float(found["seconds"]), 0.0), 86_400.0),
            beat=int(found["beat"]),
        )
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return Lease("", 0, "unknown", "", SECONDS, zlib.crc32(raw))


class Watch:
    """Looks at leases of other machines, again and again, until each is known.

    Example:
        >>> Watch().look(Path("nowhere"))
        'free'
    """

    def __init__(self) -> None:
        self._seen: dict[Path, tuple[Lease, float, bool]] = {}

    def look(self, folder: Path) -> State:
        """Whether a run is held elsewhere.

        Returns:
            `free`: by no other machine, so that the lock decides. `held`: its count has been
            seen to move. `silent`: it has not moved for as long as its holder said. `unknown`:
            neither yet.
        """
        lease, now = read(folder), time.monotonic()
        if lease is None or lease.machine == here():
            self._seen.pop(folder, None)
            return "free"
        before, since, moved = self._seen.get(folder, (None, now, False))
        if before is None or before.owner != lease.owner:
            self._seen[folder] = (lease, now, False)
            return "unknown"
        if before != lease:
            self._seen[folder] = (lease, now, True)
            return "held"
        if now - since >= lease.seconds:
            return "silent"
        return "held" if moved else "unknown"

    def lease(self, folder: Path) -> Lease | None:
        """The lease that was last looked at, where it is another machine's."""
        return self._seen[folder][0] if folder in self._seen else None


def displace(folder: Path, dead: Lease) -> None:
    """Remove a lease, if it is still the one that was found dead.

    It is renamed and then read again, so that of several who do this at once one has it; a
    live one that was taken by mistake is put back.

    Raises:
        StoreError: the folder is not writable.
    """
    path, aside = folder / NAME, folder / f".lease.{uuid.uuid4().hex}.tmp"
    try:
        os.rename(path, aside)
    except FileNotFoundError:
        return
    except OSError as error:
        raise unwritable(path, error) from error
    with contextlib.suppress(OSError):
        if _parse(aside.read_bytes()[:LENGTH]) != dead:
            os.link(aside, path)
    with contextlib.suppress(OSError):
        aside.unlink()


@contextlib.contextmanager
def hold(folder: Path) -> Iterator[Lease]:
    """Hold the lease of a run whose lock this process has, and move its count on.

    Args:
        folder: of the run.

    Raises:
        LockedError: another machine holds it, and its count moves; that takes some seconds to
            see, and a count that stands still is waited for as long as its holder said.
        StoreError: the folder is not writable.
    """
    mine = Lease(uuid.uuid4().hex, os.getpid(), platform.node(), here(), patience())
    while not _create(folder, mine):
        _clear_dead(folder)
    stop = threading.Event()
    beating = threading.Thread(target=_beat, args=(folder, mine, stop), daemon=True)
    beating.start()
    try:
        yield mine
    finally:
        stop.set()
        beating.join()
        _release(folder, mine)


def check(folder: Path, mine: Lease) -> None:
    """See that a lease is still this process's before something is written under it.

    Raises:
        LockedError: it was silent for so long that another took the run over.
    """
    now = read(folder)
    if now is not None and now.owner not in (mine.owner, ""):
        raise LockedError(
            f"Run {folder.name} was taken over by {now}, since this process had been silent for"
            f" {mine.seconds:.0f} s; nothing more of it was written here."
        )


def _create(folder: Path, mine: Lease) -> bool:
    """Write the lease, unless there is one."""
    path = folder / NAME
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    except FileExistsError:
        return False
    except OSError as error:
        raise unwritable(path, error) from error
    try:
        os.pwrite(descriptor, mine.bytes(), 0)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise unwritable(path, error) from error
    finally:
        os.close(descriptor)
    return True


def _clear_dead(folder: Path) -> None:
    """Wait until the lease that is there is known, and remove it if it is dead."""
    watch = Watch()
    while (state := watch.look(folder)) in ("unknown", "held"):
        if state == "held":
            raise LockedError(
                f"Run {folder.name} is being worked on by {watch.lease(folder)};"
                " wait for it, or stop it."
            )
        time.sleep(POLL)
    dead = read(folder)
    if dead is not None and (state == "silent" or dead.machine == here()):
        displace(folder, dead)


def _clock() -> float:
    """Seconds, those in which the machine sleeps among them."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def _beat(folder: Path, mine: Lease, stop: threading.Event) -> None:
    """Move the count on until told to stop, or until the lease is another's.

    One that is gone is made again, but not after a silence in which another may have had the run.
    """
    beat, last = 0, _clock()
    while not stop.wait(mine.seconds / BEATS):
        beat += 1
        with contextlib.suppress(OSError):
            if read(folder) is None:
                if _clock() - last >= mine.seconds:
                    return
                _create(folder, replace(mine, beat=beat))
                continue
            descriptor = os.open(folder / NAME, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
            try:
                if _parse(os.pread(descriptor, LENGTH, 0)).owner not in (mine.owner, ""):
                    return
                os.pwrite(descriptor, replace(mine, beat=beat).bytes(), 0)
                last = _clock()
            finally:
                os.close(descriptor)


def _release(folder: Path, mine: Lease) -> None:
    """Remove the lease, if it is still this process's."""
    found = read(folder)
    if found is not None and found.owner in (mine.owner, ""):
        with contextlib.suppress(OSError):
            (folder / NAME).unlink()
