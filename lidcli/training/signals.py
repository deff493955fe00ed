"""SIGINT and SIGTERM as a request to stop after a checkpoint."""

from __future__ import annotations

import contextlib
import math
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from types import FrameType, TracebackType

from lidcli.errors import Interrupted

__all__ = ["Echo", "StopRequest", "hand_back"]

ECHO_SECONDS = 2.0


class Echo:
    """Tells a SIGTERM that a scheduler sends again, at once, from one that is meant.

    Example:
        >>> echo = Echo()
        >>> [echo(number) for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT)]
        [False, True, False]
    """

    def __init__(self) -> None:
        self._since = -math.inf

    @property
    def heard(self) -> bool:
        """Whether a SIGTERM has come."""
        return self._since > -math.inf

    def __call__(self, signum: int) -> bool:
        """Whether a signal that comes now only repeats a SIGTERM of less than two seconds ago."""
        now = time.monotonic()
        if signum != signal.SIGTERM:
            return False
        if now - self._since < ECHO_SECONDS:
            return True
        self._since = now
        return False


def hand_back(handlers: Mapping[int, object], echo: Echo) -> None:
    """Set the handlers of before again; of SIGTERM, once a repetition of it can no longer come.

    Args:
        handlers: what `signal.signal` gave, by number.
        echo: what heard the signals until now.

    Example:
        >>> before = signal.getsignal(signal.SIGTERM)
        >>> echo = Echo()
        >>> _ = echo(signal.SIGTERM)
        >>> hand_back({signal.SIGTERM: before}, echo)
        >>> signal.raise_signal(signal.SIGTERM)
        >>> _ = signal.signal(signal.SIGTERM, before)
    """

    def late(signum: int, frame: FrameType | None) -> None:
        if not echo(signum):
            signal.signal(signum, handlers[signum])  # type: ignore[arg-type]
            signal.raise_signal(signum)

    for signum, handler in handlers.items():
        waits = signum == signal.SIGTERM and echo.heard
        signal.signal(signum, late if waits else handler)  # type: ignore[arg-type]


class StopRequest:
    """A context in which the first signal is noted and the second one ends the process.

    A SIGTERM that follows another within two seconds is no second one, see `Echo`.

    Example:
        >>> with StopRequest() as stop:
        ...     stop.signum is None
        True
    """

    def __init__(self) -> None:
        self.signum: int | None = None
        self.immediate = False
        self._echo = Echo()
        self._previous: dict[int, object] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for signum in (signal.SIGINT, signal.SIGTERM):
                self._previous[signum] = signal.signal(signum, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        hand_back(self._previous, self._echo)

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """Let a signal end the block where it is, or at its end; nothing of it may be kept then.

        Raises:
            Interrupted: a signal came, in the block or before it, whatever a library between made
                of it.
        """
        self.immediate = True
        try:
            if self.signum is not None:
                raise Interrupted(self.signum)
            yield
        except Exception as error:
            if self.signum is None or isinstance(error, Interrupted):
                raise
            raise Interrupted(self.signum) from error
        finally:
            self.immediate = False
        if self.signum is not None:
            raise Interrupted(self.signum)

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if self._echo(signum):
            return
        if self.signum is not None or self.immediate:
            self.signum = signum
            raise Interrupted(signum)
        self.signum = signum
