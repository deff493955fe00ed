"""SIGINT and SIGTERM while a sweep goes on: noted, for the sweep to act on."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

from lidcli.training.signals import Echo, hand_back

__all__ = ["received"]


@contextlib.contextmanager
def received() -> Iterator[list[int]]:
    """The SIGINT and SIGTERM that came while the block ran, one sent twice at once as one.

    Example:
        >>> with received() as signals:
        ...     signal.raise_signal(signal.SIGTERM)
        >>> signals == [signal.SIGTERM]
        True
    """
    signals: list[int] = []
    echo = Echo()

    def note(signum: int, frame: FrameType | None) -> None:
        if not echo(signum):
            signals.append(signum)

    before: dict[int, object] = {
        number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield signals
    finally:
        hand_back(before, echo)
