"""Batches of similar length: every document once, little padding, the same for the same seed."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lidcli.data.buckets import buckets
from lidcli.data.documents import documents_of, pad
from lidcli.data.text import TextOptions, load_text

some_lengths = st.lists(st.integers(1, 300), min_size=1, max_size=200).map(np.array)


def waste(lengths: np.ndarray, batches: list[np.ndarray]) -> float:
    """The share of padded positions."""
    area = sum(lengths[rows].max() * len(rows) for rows in batches)
    return 1 - lengths.sum() / area


@given(some_lengths, st.integers(1, 70), st.integers(0, 2**63 - 1))
def test_every_document_is_in_one_batch(lengths, batch_size: int, seed: int) -> None:
    batches = buckets(lengths, batch_size, seed)
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
    sizes = [len(rows) for rows in batches]
    assert len(sizes) == -(-len(lengths) // batch_size)
    assert sum(size < batch_size for size in sizes) <= 1
    assert max(sizes) <= batch_size


@given(some_lengths, st.integers(1, 70), st.integers(0, 2**63 - 1), st.integers(0, 5))
def test_an_epoch_can_be_taken_up_at_any_batch(lengths, batch_size: int, seed: int, epoch: int):
    once = buckets(lengths, batch_size, [seed, epoch])
    again = buckets(lengths.copy(), batch_size, [seed, epoch])
    for first, second in zip(once[1:], again[1:], strict=True):
        np.testing.assert_array_equal(first, second)


def test_epochs_differ_in_order_and_in_company() -> None:
    lengths = np.random.default_rng(0).integers(20, 200, 3000)
    first, second = (buckets(lengths, 30, [0, epoch]) for epoch in (0, 1))
    assert [rows.tolist() for rows in first] != [rows.tolist() for rows in second]
    beside = [{frozenset(rows.tolist()) for rows in epoch} for epoch in (first, second)]
    assert not beside[0] & beside[1]


def test_the_order_of_batches_does_not_follow_the_length() -> None:
    lengths = np.arange(1, 5001)
    means = [lengths[rows].mean() for rows in buckets(lengths, 50, 0)]
    assert abs(np.corrcoef(np.arange(100), means)[0, 1]) < 0.4  # four standard deviations


def test_the_small_batch_is_not_always_that_of_the_longest() -> None:
    lengths = np.arange(1, 102)
    small = [min(buckets(lengths, 10, seed), key=len) for seed in range(20)]
    assert len({int(lengths[rows[0]]) // 20 for rows in small}) > 2


def test_padding_is_bounded_by_the_blur_on_many_documents() -> None:
    lengths = np.random.default_rng(1).integers(20, 200, 20_000)
    assert waste(lengths, buckets(lengths, 64, 0)) < 0.06
    order = np.random.default_rng(2).permutation(len(lengths))
    assert waste(lengths, np.split(order[: 312 * 64], 312)) > 0.4


@pytest.mark.parametrize(
    ("lengths", "batch_size", "words"),
    [([3, 0], 2, "one token at least, not 0"), ([3], 0, "one document at least, not 0")],
)
def test_a_caller_s_mistake_is_named(lengths, batch_size: int, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        buckets(np.array(lengths), batch_size, 0)
    assert buckets(np.zeros(0, np.int64), 3, 0) == []


@given(st.lists(st.lists(st.integers(1, 9), max_size=6), min_size=1, max_size=9), st.data())
def test_a_rectangle_holds_the_documents_and_their_lengths(encoded, data) -> None:
    documents = documents_of(encoded)
    rows = np.array(data.draw(st.lists(st.integers(0, len(encoded) - 1), min_size=1)))
    ids, lengths = pad(documents, rows)
    assert ids.dtype == lengths.dtype == np.int64
    assert ids.shape == (len(rows), lengths.max())
    for row, n, line in zip(rows, lengths, ids, strict=True):
        assert line[:n].tolist() == [*encoded[row], 0] == documents[row].tolist()
        assert not line[n:].any()
    np.testing.assert_array_equal(
        documents.take(rows).ids, ids[np.arange(ids.shape[1]) < lengths[:, None]]
    )


@pytest.mark.mirror
@pytest.mark.parametrize("batch_size", [16, 32, 64])
def test_padding_wastes_less_than_a_tenth_of_yahoo(mirror, tmp_path, batch_size: int) -> None:
    shutil.copytree(mirror / "yahoo", tmp_path / "yahoo")
    lengths = load_text(TextOptions("yahoo", root=tmp_path)).train.lengths
    assert waste(lengths, buckets(lengths, batch_size, [0, 1])) < 0.1
