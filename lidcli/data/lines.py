"""Documents as a text file holds them: one a line, with a label in front or without."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lidcli.data.files import LARGEST_FILE, check_plain
from lidcli.data.vocabulary import END
from lidcli.errors import DataError

__all__ = ["Labels", "Lines", "number_labels", "parse_lines", "read_bytes"]

Labels = Literal["auto", "none", "tab", "space"]
"""Where the label of a line ends; `auto`: at a tab, if the first line has one."""

EXPECTED = "expected one document a line"


@dataclass(frozen=True)
class Lines:
    """The documents of a file.

    Attributes:
        path: the file, for messages.
        words: of each document, one at least.
        names: their labels as they are written, or None.
    """

    path: Path
    words: list[list[str]]
    names: list[str] | None


def read_bytes(path: Path, setting: str = "data.path") -> bytes:
    """The whole file.

    Raises:
        DataError: it is missing, cannot be read, is no plain file, or has more than 1 GiB.
    """
    check_plain(path, LARGEST_FILE)
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; {setting} must name a text file.") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error


def parse_lines(
    content: bytes, path: Path, labels: Labels = "auto", known: tuple[str, ...] = ()
) -> Lines:
    """Take a file apart into documents of words between blanks, and labels.

    Args:
        content: of the file, UTF-8.
        path: for messages.
        labels: where they are.
        known: the labels that may occur; empty: any.

    Raises:
        DataError: file, line and what was expected.

    Example:
        >>> parse_lines(b"yes\\tgood food\\nno\\tcold .\\n", Path("a.txt")).words
        [['good', 'food'], ['cold', '.']]
    """
    texts = _texts(content, path)
    if labels == "auto":
        labels = _where(path, texts)
    names, words = [], []
    for number, text in enumerate(texts, 1):
        if not text or text.isspace():
            raise DataError(f"{path}, line {number} is empty; {EXPECTED}.")
        if labels != "none":
            name, text = _label(path, number, text, "\t" if labels == "tab" else " ", known)
            names.append(name)
        words.append(_words(path, number, text))
    return Lines(path, words, None if labels == "none" else names)


def number_labels(files: list[Lines]) -> tuple[list[NDArray[np.int64] | None], int | None]:
    """Number the labels of all files together, in rising order, as integers where all are.

    Returns:
        (N,) int64 in 0 .. classes - 1 of each file, and the number of labels; None without.

    Raises:
        DataError: there is one label only, or hardly two documents share one.

    Example:
        >>> number_labels([parse_lines(b"10\\ta\\n9\\tb\\n10\\tc\\n9\\td", Path("a.txt"))])
        ([array([1, 0, 1, 0])], 2)
    """
    if any(lines.names is None for lines in files):
        return [None for _ in files], None
    names = [name for lines in files for name in lines.names or ()]
    found = set(names)
    if not 2 <= len(found) <= len(names) // 2:
        raise DataError(
            f"{files[0].path} has {len(found)} different labels in {len(names)} lines; expected"
            " two or more of some lines each, or data.labels: none."
        )
    index = {name: i for i, name in enumerate(_in_order(found))}
    numbers = [np.array([index[name] for name in f.names or ()], np.int64) for f in files]
    return list(numbers), len(index)


def _in_order(names: set[str]) -> list[str]:
    """Labels in rising order, as integers where all are."""
    if all(name.isdecimal() for name in names):
        return sorted(names, key=lambda name: (int(name), name))
    return sorted(names)


def _texts(content: bytes, path: Path) -> list[str]:
    """The lines of a file, without empty ones at its end."""
    rows = content.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    while rows and not rows[-1].strip():
        rows.pop()
    if not rows:
        raise DataError(f"{path} is empty; {EXPECTED}.")
    return [_decode(path, number, row) for number, row in enumerate(rows, 1)]


def _decode(path: Path, number: int, row: bytes) -> str:
    try:
        text = row.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}, line {number}: byte {error.start + 1} of the line is not UTF-8 text."
        ) from error
    if "\0" in text:
        raise DataError(f"{path}, line {number} holds a zero byte; expected UTF-8 text.")
    return text


def _where(path: Path, texts: list[str]) -> Labels:
    """Labels if the first line has a tab; then every line must have one, and else none.

    A tab at the end of a line stands for a label without text only where another line has one
    before its text.
    """
    if not any("\t" in text.rstrip() for text in texts):
        return "none"
    has = ["\t" in text for text in texts]
    if all(has):
        return "tab"
    odd = has.index(not has[0])
    if not texts[odd].strip():
        raise DataError(f"{path}, line {odd + 1} is empty; {EXPECTED}.")
    found, other = ("no tab", "one") if has[0] else ("a tab", "none")
    raise DataError(
        f"{path}, line {odd + 1} has {found}, and line 1 {other}; expected label, tab and text in"
        " every line, or data.labels: none, which reads a tab as a blank."
    )


def _label(
    path: Path, number: int, text: str, separator: str, known: tuple[str, ...]
) -> tuple[str, str]:
    """The label of a line, one of those known if there are any, and the text after it."""
    name, found, rest = text.partition(separator)
    what = "tab" if separator == "\t" else "blank"
    if not found or not name.strip():
        raise DataError(f"{path}, line {number} has no label; expected label, {what} and text.")
    if len(name.split()) != 1:
        raise DataError(
            f"{path}, line {number}: {name.strip()[:40]!r} stands where a label is expected, one"
            " word before the tab."
        )
    if not rest.strip():
        raise DataError(f"{path}, line {number} has a label and no text.")
    name = name.strip()
    if known and name not in known:
        raise DataError(
            f"{path}, line {number}: label {name!r}; expected one of {', '.join(known)}."
        )
    return name, rest


def _words(path: Path, number: int, text: str) -> list[str]:
    words = text.split()
    if END in words:
        raise DataError(
            f"{path}, line {number} holds the token {END}, which is put behind every document;"
            " leave it out."
        )
    return words
