"""SIGINT and SIGTERM as a request to stop after a checkpoint."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType, TracebackType

from lidcli.errors import Interrupted

__all__ = ["StopRequest"]


class StopRequest:
    """A context in which the first signal is noted and the second one ends the process.

    Example:
        >>> with StopRequest() as stop:
        ...     stop.signum is None
        True
    """

    def __init__(self) -> None:
        self.signum: int | None = None
        self.immediate = False
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
        for signum, handler in self._previous.items():
            signal.signal(signum, handler)  # type: ignore[arg-type]

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """Let a signal end the block where it is; nothing of the block may be kept then.

        Raises:
            Interrupted: a signal came, in the block or before it.
        """
        self.immediate = True
        try:
            if self.signum is not None:
                raise Interrupted(self.signum)
            yield
        finally:
            self.immediate = False

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if self.signum is not None or self.immediate:
            self.signum = signum
            raise Interrupted(signum)
        self.signum = signum
