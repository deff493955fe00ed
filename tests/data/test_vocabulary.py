"""Vocabularies: in order, of the size asked for, and refused where a file is not one."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lidcli.data.vocabulary import END_ID, UNKNOWN_ID, Vocabulary
from lidcli.errors import DataError

words = st.text(st.characters(codec="utf-8", exclude_categories=["Z", "C"]), min_size=1).filter(
    lambda word: word.split() == [word] and word not in ("</s>", "<unk>", "_UNK")
)
documents = st.lists(st.lists(words, min_size=1, max_size=8), min_size=1, max_size=8)


def test_words_stand_by_falling_frequency_and_ties_by_text() -> None:
    built = Vocabulary.build([["b", "c", "a"], ["c", "d"], ["c", "d"]], size=100)
    assert built.tokens == ("</s>", "<unk>", "c", "d", "a", "b")


def test_the_size_counts_the_special_tokens() -> None:
    built = Vocabulary.build([["b", "c", "a"], ["c", "d"], ["c", "d"]], size=4)
    assert built.tokens == ("</s>", "<unk>", "c", "d")
    with pytest.raises(ValueError, match="3 entries at least, not 2"):
        Vocabulary.build([["a"]], size=2)


def test_the_softmax_never_predicts_the_start_or_padding() -> None:
    built = Vocabulary.build([["a"]], size=10)
    assert built.start == len(built) == 3
    assert not {"<pad>", "<s>"} & set(built.tokens)


@pytest.mark.parametrize("spelling", ["_UNK", "<unk>", "never-seen", "</s>"])
def test_what_is_not_in_it_is_unknown_however_it_is_spelt(spelling: str) -> None:
    built = Vocabulary.build([["a", "_UNK", "<unk>"]], size=10)
    assert built.encode(["a", spelling]) == [2, UNKNOWN_ID]


@given(documents)
def test_words_that_are_in_it_come_back(texts: list[list[str]]) -> None:
    built = Vocabulary.build(texts, size=10_000)
    for text in texts:
        assert built.decode(built.encode(text)) == text


@given(documents, st.integers(3, 12))
def test_encoding_is_within_the_vocabulary_and_its_order_is_that_of_counts(texts, size) -> None:
    built = Vocabulary.build(texts, size)
    assert len(built) <= size
    ids = [i for text in texts for i in built.encode(text)]
    assert all(UNKNOWN_ID <= i < len(built) for i in ids)
    counts = [ids.count(i) for i in range(2, len(built))]
    assert counts == sorted(counts, reverse=True)


@given(documents)
def test_the_order_of_documents_does_not_matter(texts: list[list[str]]) -> None:
    assert Vocabulary.build(texts, 6) == Vocabulary.build(texts[::-1], 6)


def test_ids_outside_are_a_caller_s_mistake() -> None:
    with pytest.raises(ValueError, match=r"Id -1 is not in 0 \.\. 2"):
        Vocabulary(["a"]).decode([-1])
    with pytest.raises(ValueError, match="holds a token twice"):
        Vocabulary(["a", "a"])


def read(content: bytes) -> Vocabulary:
    return Vocabulary.parse(content, Path("vocab.txt"))


@pytest.mark.parametrize(
    "content",
    [
        b"<pad>\n<s>\n</s>\n<unk>\nbest\nof\n",
        b"best\n_UNK\nof",
        b"\xef\xbb\xbf_UNK\r\nbest\r\nof\r\n",
        b"<bos>\n<eos>\n_UNK\nbest\nof\n",
    ],
)
def test_a_file_keeps_its_order_and_loses_what_is_no_target(tmp_path, content: bytes) -> None:
    vocabulary = read(content)
    assert vocabulary.tokens == ("</s>", "<unk>", "best", "of")
    assert vocabulary.tokens[END_ID] == "</s>"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"<unk>\na\nb\na\n", "vocab.txt, line 4: 'a' is there already, in line 2"),
        (b"<unk>\n_UNK\na\n", "vocab.txt, line 2: '<unk>' is there already, in line 1"),
        (b"a\nb\n", "has no <unk> (or _UNK) in its 2 lines"),
        (b"", "has no <unk> (or _UNK) in its 0 lines"),
        (b"<unk>\n</s>\n<pad>\n", "holds special tokens only"),
        (b"<unk>\n\na\n", "line 2 holds nothing; expected one token a line"),
        (b"<unk>\t0\n", "line 1 holds 2 words; expected one token a line"),
        (b"<unk>\na\xffb\n", "line 2: byte 2 is not UTF-8 text"),
    ],
)
def test_a_file_that_is_no_vocabulary_is_named_with_its_line(tmp_path, content, words) -> None:
    with pytest.raises(DataError) as caught:
        read(content)
    assert words in str(caught.value)


@pytest.mark.mirror
def test_the_original_vocabulary_of_yahoo_covers_it(mirror: Path) -> None:
    path = mirror / "yahoo/vocab.txt"
    vocabulary = Vocabulary.parse(path.read_bytes(), path)
    assert len(vocabulary) == 19_998
    text = (mirror / "yahoo/yahoo.test.txt").read_text().split()
    assert vocabulary.encode(text).count(UNKNOWN_ID) == 33_081 == text.count("_UNK")
