"""Text files: read, split, encoded and kept; refused in one sentence where they are wrong."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lidcli.data import text
from lidcli.data.documents import Documents, TextDataset, documents_of
from lidcli.data.text import TextOptions, load_text
from lidcli.errors import ConfigError, DataError

FORTY = b"".join(b"word %d of %d\n" % (i, i % 7) for i in range(40))
LABELLED = b"".join(b"%s\tword %d\n" % (b"yes" if i % 3 else b"no", i) for i in range(40))


def mine(tmp_path: Path, content: bytes = FORTY, **options: object) -> TextDataset:
    path = tmp_path / "mine.txt"
    path.write_bytes(content)
    (tmp_path / "data").mkdir(exist_ok=True)
    return load_text(TextOptions("mine", path, tmp_path / "data", **options))  # type: ignore[arg-type]


def read(data: TextDataset, *parts: str) -> list[str]:
    documents: list[Documents] = [getattr(data, part) for part in parts]
    return [
        " ".join(data.vocabulary.decode(part[i])) for part in documents for i in range(len(part))
    ]


def same(one: TextDataset, other: TextDataset) -> bool:
    return (one.sha256, one.notes, one.classes) == (other.sha256, other.notes, other.classes)


def published(root: Path, sizes: dict[str, int]) -> None:
    """A small `yahoo` with a training file."""
    (root / "yahoo").mkdir(exist_ok=True)
    for part, size in sizes.items():
        lines = [f"{part} {i} _UNK" for i in range(size)]
        (root / f"yahoo/yahoo.{part}.txt").write_text("\n".join(lines) + "\n")


def test_each_document_is_in_one_part_and_ends(tmp_path) -> None:
    data = mine(tmp_path, max_length=None, vocabulary=1000)
    assert (len(data.train), len(data.valid), len(data.test)) == (32, 4, 4)
    first = [line.split()[1] for line in read(data, "train")]
    assert len(set(first)) == 32
    assert all(line.endswith(" </s>") for line in read(data, "train", "valid", "test"))
    assert data.form == "text"
    assert data.entropy is None


def test_the_vocabulary_is_that_of_the_training_part_alone(tmp_path) -> None:
    data = mine(tmp_path)
    seen = {word for line in read(data, "train") for word in line.split()}
    assert set(data.vocabulary.tokens) == seen | {"<unk>"}
    held_out = " ".join(read(data, "valid", "test"))
    assert "<unk>" in held_out


def test_the_split_follows_its_seed_and_nothing_else(tmp_path) -> None:
    data = mine(tmp_path)
    assert same(mine(tmp_path), data)
    assert mine(tmp_path, split_seed=1).sha256 != data.sha256
    fewer = mine(tmp_path, train=10)
    assert len(fewer.train) == 10
    assert {line.split()[3] for line in read(fewer, "train")} <= {*"0123456", "</s>", "<unk>"}
    np.testing.assert_array_equal(mine(tmp_path, test=2).valid.lengths, data.valid.lengths)


def test_a_document_is_cut_after_so_many_words_and_still_ends(tmp_path) -> None:
    data = mine(tmp_path, max_length=2)
    assert set(data.train.lengths) == {3}
    assert "of" not in data.vocabulary.tokens
    assert "mine: cut after 2 words, which 100.0% exceed." in data.notes


@pytest.mark.parametrize("count", [1, 10_000])
def test_a_document_may_be_of_one_word_or_ten_thousand(tmp_path, count: int) -> None:
    data = mine(tmp_path, FORTY + b"long " * count + b"\n", vocabulary=50, test_fraction=0.01)
    lengths = np.concatenate([data.train.lengths, data.valid.lengths, data.test.lengths])
    assert count + 1 in lengths


@pytest.mark.parametrize("ends", ["\n\n \n", "", "\r\n"])
def test_line_ends_and_a_mark_of_byte_order_do_not_matter(tmp_path, ends: str) -> None:
    content = FORTY.rstrip() + ends.encode()
    if ends == "\r\n":
        content = b"\xef\xbb\xbf" + content.replace(b"\n", b"\r\n")
    assert mine(tmp_path, content).sha256 == mine(tmp_path).sha256


def test_labels_are_numbered_in_rising_order(tmp_path) -> None:
    data = mine(tmp_path, LABELLED, vocabulary=1000)
    assert data.classes == 2
    assert data.train.labels is not None
    for line, label in zip(read(data, "train"), data.train.labels, strict=True):
        assert label == (int(line.split()[1]) % 3 > 0)
    assert mine(tmp_path, LABELLED, labels="none").classes is None
    numbers = b"".join(b"%d a b\n" % (9 + i % 2) for i in range(40))
    ten = mine(tmp_path, numbers, labels="space")
    assert ten.classes == 2
    assert ten.train.lengths.tolist() == [3] * 32


@pytest.mark.parametrize(
    ("content", "options", "words"),
    [
        (b"", {}, "mine.txt is empty; expected one document a line"),
        (b"\n \n\t\n", {}, "mine.txt is empty; expected one document a line"),
        (b"a b\n\nc\n", {}, "mine.txt, line 2 is empty; expected one document a line"),
        (b"y\ta\n\nn\tc\n", {}, "mine.txt, line 2 is empty; expected one document a line"),
        (b"a b\nc \xff d\n", {}, "mine.txt, line 2: byte 3 of the line is not UTF-8"),
        (b"a\x00b\n", {}, "mine.txt, line 1 holds a zero byte"),
        (b"a b\nc </s> d\n", {}, "line 2 holds the token </s>, which is put behind every"),
        (b"yes\ta b\nc d\n", {}, "line 2 has no tab, and line 1 one; expected label, tab and"),
        (b"a b\nyes\tc d\n", {}, "line 2 has a tab, and line 1 none; expected label, tab and"),
        (b"yes\ta b\nno\t\nno\tc\n", {}, "line 2 has a label and no text"),
        (b"yes\t\nno\tc d\nno\tc\n", {}, "line 1 has a label and no text"),
        (b"a b\nc d\n", {"labels": "tab"}, "line 1 has no label; expected label, tab and text"),
        (b"y\ta\n\tb\n", {}, "line 2 has no label; expected label, tab and text"),
        (b"5\n", {"labels": "space"}, "line 1 has no label; expected label, blank and text"),
        (b"y\ta\ny\t \nz\tb\n", {"labels": "tab"}, "line 2 has a label and no text"),
        (b"a b\tc\nd\te\n", {}, "line 1: 'a b' stands where a label is expected"),
        (LABELLED.replace(b"no", b"yes"), {}, "has 1 different labels in 40 lines"),
        (b"a\tb\nc\td\ne\tf\n", {}, "has 3 different labels in 3 lines"),
        (b"a b\n" * 3, {}, "too few documents to split: 3 leave 1 to train"),
        (b"_UNK <unk>\n" * 40, {}, "every training word is <unk> in the vocabulary of the"),
    ],
)
def test_a_wrong_file_is_named_with_its_line(tmp_path, content: bytes, options, words) -> None:
    with pytest.raises(DataError) as caught:
        mine(tmp_path, content, **options)
    assert words in str(caught.value)
    assert caught.value.exit_code == 4


def test_a_vocabulary_of_another_language_is_refused(tmp_path) -> None:
    path = tmp_path / "vocab.txt"
    path.write_text("<unk>\nmot\n")
    with pytest.raises(DataError, match=r"mine\.txt: every training word is <unk>.*vocab\.txt"):
        mine(tmp_path, vocabulary=path)
    path.write_text("<unk>\nword\n")
    assert mine(tmp_path, vocabulary=path).vocabulary.tokens == ("</s>", "<unk>", "word")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"train": 33}, "data.train = 33, but mine has 32 training documents"),
        ({"valid": 5}, "data.valid = 5, but mine has 4 validation documents"),
        ({"test": 5}, "data.test = 5, but mine has 4 test documents"),
    ],
)
def test_more_than_there_is_is_refused(tmp_path, options, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        mine(tmp_path, **options)


@pytest.mark.parametrize("setting", ["path", "vocabulary"])
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_what_has_no_end_is_refused_unread(tmp_path, setting: str, kind: str) -> None:
    odd, plain = tmp_path / "odd.txt", tmp_path / "mine.txt"
    plain.write_bytes(FORTY)
    os.mkfifo(odd) if kind == "pipe" else odd.symlink_to("/dev/zero")
    options = TextOptions("mine", plain, tmp_path)
    with pytest.raises(DataError, match=r"odd\.txt is not a plain file"):
        load_text(replace(options, **{setting: odd}))


def test_a_pipe_where_the_cache_would_be_is_no_cache(tmp_path) -> None:
    data = mine(tmp_path)
    (kept,) = (tmp_path / "data/.cache").iterdir()
    kept.unlink()
    os.mkfifo(kept)
    assert same(mine(tmp_path), data)


def test_files_that_are_not_there_are_named(tmp_path) -> None:
    with pytest.raises(DataError, match=r"none\.txt does not exist; data\.path must name a text"):
        load_text(TextOptions("mine", tmp_path / "none.txt"))
    with pytest.raises(ConfigError, match=r"text takes a \.txt file, not mine\.csv"):
        load_text(TextOptions("mine", tmp_path / "mine.csv"))
    with pytest.raises(ConfigError, match="did you mean yahoo"):
        load_text(TextOptions("yaho", root=tmp_path))
    for name in ("yahoo", "yelp", "short-yelp"):
        with pytest.raises(DataError, match=f"is missing; `lid fetch {name}` gets it"):
            load_text(TextOptions(name, root=tmp_path))


def test_the_published_split_is_taken_where_it_is(tmp_path) -> None:
    published(tmp_path, {"train": 50, "valid": 10, "test": 10})
    data = load_text(TextOptions("yahoo", root=tmp_path, train=30))
    assert read(data, "train")[29] == "train 29 <unk> </s>"
    assert (len(data.train), len(data.valid), len(data.test)) == (30, 10, 10)
    assert data.notes[0] == "yahoo: the first 30 of 50 training documents."
    assert len(load_text(TextOptions("yahoo", root=tmp_path)).train) == 50


def test_without_the_training_file_two_files_are_split_and_it_is_said(tmp_path) -> None:
    published(tmp_path, {"valid": 10, "test": 10})
    data = load_text(TextOptions("yahoo", root=tmp_path, vocabulary=100))
    assert (len(data.train), len(data.valid), len(data.test)) == (10, 5, 5)
    assert data.notes[:2] == (
        "yahoo: without the published training file; the published validation file trains, and"
        " the two halves of the test file validate and test.",
        "yahoo: 10 / 5 / 5 documents train, validate and test.",
    )
    published(tmp_path, {"train": 50})
    assert len(load_text(TextOptions("yahoo", root=tmp_path)).train) == 50


def test_a_label_that_is_none_of_the_corpus_is_named(tmp_path) -> None:
    folder = tmp_path / "yelp/short_yelp"
    folder.mkdir(parents=True)
    for name in ("train.10000", "valid", "test"):
        (folder / f"short_yelp.{name}.txt").write_text("0\tbad\n1\tgood\n" * 2)
    assert load_text(TextOptions("short-yelp", root=tmp_path)).classes == 2
    (folder / "short_yelp.valid.txt").write_text("0\tbad\n2\tgood\n")
    with pytest.raises(DataError, match=r"valid\.txt, line 2: label '2'; expected one of 0, 1"):
        load_text(TextOptions("short-yelp", root=tmp_path))


def cached(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "data" / ".cache").glob("*"))


def test_what_is_encoded_is_kept_and_found_again(tmp_path, monkeypatch) -> None:
    data = mine(tmp_path, LABELLED)
    assert len(cached(tmp_path)) == 1

    def refuse(*_: object) -> None:
        raise AssertionError("encoded again")

    monkeypatch.setattr(text, "_encode", refuse)
    again = mine(tmp_path, LABELLED)
    assert same(again, data)
    assert again.vocabulary == data.vocabulary
    for part in ("train", "valid", "test"):
        for array in ("ids", "offsets", "labels"):
            one, other = (getattr(getattr(d, part), array) for d in (data, again))
            np.testing.assert_array_equal(one, other)
            assert one.dtype == other.dtype


def test_another_file_or_setting_is_another_cache(tmp_path) -> None:
    found = {mine(tmp_path, FORTY + b"more\n").sha256, mine(tmp_path).sha256}
    found |= {mine(tmp_path, max_length=n).sha256 for n in (1, 2, 3)}
    found |= {mine(tmp_path, vocabulary=n).sha256 for n in (5, 6)}
    path = tmp_path / "vocab.txt"
    for words in ("word", "of"):
        path.write_text(f"<unk>\n{words}\n")
        found.add(mine(tmp_path, vocabulary=path).sha256)
    assert len(found) == 9 == len(cached(tmp_path))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.data())
def test_a_damaged_cache_is_made_anew_and_never_believed(tmp_path, data) -> None:
    good = mine(tmp_path)
    (path,) = cached(tmp_path)
    content = path.read_bytes()
    kind = data.draw(st.sampled_from(["flip", "cut", "more", "other"]))
    at = data.draw(st.integers(0, len(content) - 1))
    bit = 1 << data.draw(st.integers(0, 7))
    damaged = {
        "flip": content[:at] + bytes([content[at] ^ bit]) + content[at + 1 :],
        "cut": content[:at],
        "more": content + content[: at + 1],
        "other": b"",
    }[kind]
    path.write_bytes(damaged)
    assert same(mine(tmp_path), good)
    assert path.read_bytes() == content


def test_a_cache_of_another_key_or_of_objects_is_not_read(tmp_path) -> None:
    good = mine(tmp_path)
    (path,) = cached(tmp_path)
    content = path.read_bytes()
    mine(tmp_path, max_length=1)
    (other,) = (p for p in cached(tmp_path) if p != path)
    shutil.copy(other, path)
    assert same(mine(tmp_path), good)
    head = content.partition(b"\n")[0].rsplit(b" ", 1)[0]
    for body in (b"\x80\x04N.", b"garbage", b"\x93NUMPY\x01\x00v\x00{'descr': '|O'"):
        path.write_bytes(head + b" " + hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
        assert same(mine(tmp_path), good)


def test_a_folder_that_may_not_be_written_means_no_cache(tmp_path) -> None:
    good = mine(tmp_path)
    path = tmp_path / "mine.txt"
    root = tmp_path / "read-only"
    root.mkdir(mode=0o555)
    assert same(load_text(TextOptions("mine", path, root)), good)
    assert list(root.iterdir()) == []
    (tmp_path / "file").write_text("")
    assert same(load_text(TextOptions("mine", path, tmp_path / "file")), good)
    assert same(load_text(TextOptions("mine", path, tmp_path / "nowhere")), good)
    assert not (tmp_path / "nowhere").exists()
    odd = tmp_path / "odd"
    odd.mkdir()
    (odd / ".cache").write_text("a file where a folder should be")
    assert same(load_text(TextOptions("mine", path, odd)), good)


def test_old_caches_make_room(tmp_path) -> None:
    for length in range(1, 20):
        mine(tmp_path, max_length=length)
    assert len(cached(tmp_path)) == 16


def _load(path: Path, root: Path) -> str:
    return load_text(TextOptions("mine", path, root)).sha256


def test_two_processes_at_once_get_the_same(tmp_path) -> None:
    path = tmp_path / "mine.txt"
    path.write_bytes(FORTY)
    root = tmp_path / "data"
    root.mkdir()
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        found = pool.starmap(_load, [(path, root)] * 8)
    assert set(found) == {_load(path, root)}
    assert [p.suffix for p in cached(tmp_path)] == [".bin"]


@pytest.mark.parametrize(
    ("ids", "offsets", "words"),
    [
        (np.array([2, 0]), np.array([0, 2]), "int32 ids and"),
        (np.array([2, 0], np.int32), np.array([0, 1]), "from 0 to the number of ids"),
        (np.array([2, 3], np.int32), np.array([0, 2]), "ends with </s>"),
        (np.array([2, 0], np.int32), np.array([0, 0, 2]), "ends with </s>"),
    ],
)
def test_documents_that_do_not_fit_together_are_refused(ids, offsets, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Documents(ids, offsets)
    with pytest.raises(IndexError):
        documents_of([[2]])[1]


@pytest.mark.mirror
@pytest.mark.parametrize(
    ("name", "sizes", "vocabulary", "classes", "words"),
    [
        ("yahoo", (10_000, 5_000, 5_000), 17_045, None, "without the published training file"),
        ("yelp", (7_773, 4_336, 4_335), 10_833, 5, "not the published Yelp15 split"),
        ("short-yelp", (10_000, 10_000, 10_000), 5_149, 2, "0.1% of the training words"),
    ],
)
def test_real_files_are_split_as_documented(
    mirror, tmp_path, name: str, sizes, vocabulary: int, classes, words: str
) -> None:
    for folder in ("yahoo", "yelp"):
        shutil.copytree(mirror / folder, tmp_path / folder)
    data = load_text(TextOptions(name, root=tmp_path))
    assert (len(data.train), len(data.valid), len(data.test)) == sizes
    assert len(data.vocabulary) == vocabulary
    assert data.classes == classes
    assert words in data.notes[0]
    assert same(load_text(TextOptions(name, root=tmp_path)), data)


@pytest.mark.mirror
def test_yahoo_comes_back_word_by_word(mirror, tmp_path) -> None:
    shutil.copytree(mirror / "yahoo", tmp_path / "yahoo")
    data = load_text(TextOptions("yahoo", root=tmp_path, vocabulary=tmp_path / "yahoo/vocab.txt"))
    lines = (mirror / "yahoo/yahoo.test.txt").read_text().splitlines()
    expected = [line.replace("_UNK", "<unk>") + " </s>" for line in lines]
    assert read(data, "valid", "test") == expected
