"""The tokens that a model of text can predict, numbered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from lidcli.errors import DataError

__all__ = ["END", "END_ID", "UNKNOWN", "UNKNOWN_ID", "Vocabulary"]

END, UNKNOWN = "</s>", "<unk>"
END_ID, UNKNOWN_ID = 0, 1
SPECIAL = (END, UNKNOWN)
ALIASES = {"_UNK": UNKNOWN, "<eos>": END}
"""Other spellings of the special tokens in a file; in documents `_UNK` is one too."""
INPUT_SIDE = frozenset({"<pad>", "<s>", "<bos>"})
"""Entries of a file that no model has to predict; they are left out."""


class Vocabulary:
    """The tokens of a softmax: `</s>`, which ends every document, `<unk>`, then words.

    Everything in it can be predicted, and nothing else: the start of a document and padding are
    no entries. The start is an input only, `start` = V, one more row of an embedding of inputs;
    padded positions hold `</s>` and are known by the lengths.

    Args:
        words: the ordinary tokens in order, without the two special ones.

    Raises:
        ValueError: a word occurs twice or is a special token.

    Example:
        >>> vocabulary = Vocabulary(["the", "cat"])
        >>> vocabulary.encode(["the", "dog", "_UNK"])
        [2, 1, 1]
        >>> vocabulary.decode([2, 3, 0])
        ['the', 'cat', '</s>']
        >>> len(vocabulary), vocabulary.start
        (4, 4)
    """

    def __init__(self, words: Iterable[str]) -> None:
        self.tokens = (*SPECIAL, *words)
        self._ids = {token: i for i, token in enumerate(self.tokens)}
        if len(self._ids) != len(self.tokens):
            raise ValueError("A vocabulary holds a token twice.")
        self._known = {token: i for token, i in self._ids.items() if token not in SPECIAL}

    @classmethod
    def build(cls, documents: Iterable[Sequence[str]], size: int) -> Vocabulary:
        """The commonest words of some documents, by falling frequency, ties by text.

        Args:
            documents: the training part, as tokens.
            size: entries at most, the two special ones among them; at least 3.

        Raises:
            ValueError: size < 3.

        Example:
            >>> Vocabulary.build([["b", "a"], ["b", "c", "_UNK"]], size=4).tokens
            ('</s>', '<unk>', 'b', 'a')
        """
        if size <= len(SPECIAL):
            raise ValueError(f"A vocabulary has 3 entries at least, not {size}.")
        counts: Counter[str] = Counter()
        for words in documents:
            counts.update(words)
        for token in (*SPECIAL, "_UNK"):
            counts.pop(token, None)
        ranked = sorted(counts, key=lambda word: (-counts[word], word))
        return cls(ranked[: size - len(SPECIAL)])

    @classmethod
    def parse(cls, content: bytes, path: Path) -> Vocabulary:
        """A vocabulary from a file of one token a line, in the file's order.

        `<unk>` (or `_UNK`) must be among them; `</s>` (or `<eos>`) may be, `<pad>`, `<s>` and
        `<bos>` are left out.

        Args:
            content: of the file, UTF-8.
            path: for messages.

        Raises:
            DataError: a line is not one new token.
        """
        first: dict[str, int] = {}
        lines = content.removeprefix(b"\xef\xbb\xbf").split(b"\n")
        if lines[-1] == b"":
            lines.pop()
        for number, line in enumerate(lines, 1):
            token = _token(path, number, line)
            token = ALIASES.get(token, token)
            if token in first:
                raise DataError(
                    f"{path}, line {number}: {token!r} is there already, in line {first[token]};"
                    " expected every token once."
                )
            first[token] = number
        if UNKNOWN not in first:
            raise DataError(
                f"{path} has no {UNKNOWN} (or _UNK) in its {len(first)} lines; expected one, for"
                " the words that are not in it."
            )
        words = [t for t in first if t not in SPECIAL and t not in INPUT_SIDE]
        if not words:
            raise DataError(f"{path} holds special tokens only; expected words, one a line.")
        return cls(words)

    def __len__(self) -> int:
        return len(self.tokens)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and self.tokens == other.tokens

    def __hash__(self) -> int:
        return hash(self.tokens)

    @property
    def start(self) -> int:
        """The id of the start of a document, an input and never a target: V."""
        return len(self.tokens)

    def encode(self, words: Iterable[str]) -> list[int]:
        """Ids of words; those that are not in it become `<unk>`, also `</s>` itself."""
        return [self._known.get(word, UNKNOWN_ID) for word in words]

    def decode(self, ids: Iterable[int]) -> list[str]:
        """Tokens of ids in 0 .. V - 1.

        Raises:
            ValueError: an id outside that range.
        """
        ids = list(ids)
        for i in ids:
            if not 0 <= i < len(self.tokens):
                raise ValueError(f"Id {i} is not in 0 .. {len(self.tokens) - 1}.")
        return [self.tokens[i] for i in ids]


def _token(path: Path, number: int, line: bytes) -> str:
    try:
        words = line.decode("utf-8").split()
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}, line {number}: byte {error.start + 1} is not UTF-8 text."
        ) from error
    if len(words) != 1:
        found = f"{len(words)} words" if words else "nothing"
        raise DataError(f"{path}, line {number} holds {found}; expected one token a line.")
    return words[0]
