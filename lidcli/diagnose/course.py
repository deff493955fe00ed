"""How far a diagnosis has come."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Course", "Progress"]

Progress = Callable[[int, int], None]
"""Told the work done and the work in all, in decodings."""


class Course:
    """The parts of a diagnosis and what each is worth, told as they are done.

    Args:
        told: called with the decodings done and those in all, the last time with all of them.
        parts: what each part is worth in decodings.

    Example:
        >>> course = Course(lambda done, total: print(f"{done} of {total}"), bounds=80, mi=20)
        >>> course("mi", 0.5)
        10 of 100
        >>> course.end()
        100 of 100
    """

    def __init__(self, told: Progress | None, **parts: int) -> None:
        self._told, self._parts, self._done = told, parts, 0.0
        self._total = sum(parts.values())

    def __call__(self, part: str, share: float) -> None:
        """A share of a part has been done since the last call."""
        self._done += share * self._parts[part]
        self._tell(min(round(self._done), self._total))

    def end(self) -> None:
        """Nothing is left, whatever could not be done."""
        self._tell(self._total)

    def _tell(self, done: int) -> None:
        if self._told is not None:
            self._told(done, self._total)
