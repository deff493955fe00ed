"""Standard streams that may be closed, full, or unable to write every letter."""

from __future__ import annotations

import codecs
import io
import os
import sys
from typing import TextIO

__all__ = ["document", "drop", "finish", "prepare", "reserve"]

PLAIN = {
    "±": "+-", "–": "-", "—": "-", "−": "-", "×": "x", "·": "*", "…": "...", "→": "->", "≥": ">=",
    "≤": "<=", "‖": "||", "²": "^2", "∞": "inf", "“": '"', "”": '"', "’": "'", "α": "alpha",
    "β": "beta", "ε": "epsilon", "θ": "theta", "μ": "mu", "σ": "sigma",
}  # fmt: skip


def prepare() -> None:
    """Make the standard streams usable, whatever they were when the process began.

    A closed one becomes the null device, at its own descriptor: otherwise the next file that is
    opened takes its number, and what is printed ends in that file. A letter that a stream cannot
    write is written in plain ones.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            stream = open(os.devnull, mode, encoding="utf-8")  # noqa: SIM115
            setattr(sys, name, stream)
    codecs.register_error("lid", _plain_letters)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="lid")


_reserved: list[TextIO] = []


def reserve() -> None:
    """Keep stdout for one document: whatever else is printed, a user's code too, goes to stderr."""
    sys.stdout.flush()
    kept = open(os.dup(1), "w", encoding=sys.stdout.encoding, errors="lid")  # noqa: SIM115
    os.dup2(2, 1)
    _reserved.append(kept)


def document() -> TextIO:
    """Where a document goes."""
    return _reserved[-1] if _reserved else sys.stdout


def _plain_letters(error: UnicodeError) -> tuple[str, int]:
    """ASCII for what an encoding lacks; a byte of a file name that is no text as `\\xff`."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    found = []
    for letter in error.object[error.start : error.end]:
        number = ord(letter)
        if 0xDC80 <= number <= 0xDCFF:
            found.append(f"\\x{number - 0xDC00:02x}")
        else:
            found.append(PLAIN.get(letter, letter.encode("ascii", "backslashreplace").decode()))
    return "".join(found), error.end


def drop(stream: TextIO) -> None:
    """Send what a stream still holds, and gets, to the null device."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    except (OSError, ValueError):
        return


def finish() -> None:
    """Write what the streams still hold; what cannot be written is dropped, and no news."""
    for stream in (sys.stdout, sys.stderr, *_reserved):
        try:
            stream.flush()
        except (OSError, ValueError):
            drop(stream)
