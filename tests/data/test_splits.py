"""Splits: disjoint, complete, and the same for every run."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lidcli.config.sections import Points
from lidcli.data.dataset import Split, fingerprint
from lidcli.data.splits import split
from lidcli.errors import ConfigError, DataError


def config(**settings: object) -> Points:
    return Points(name="mine", **settings)


@given(
    count=st.integers(10, 300),
    seed=st.integers(0, 5),
    valid=st.floats(0.01, 0.6),
    test=st.floats(0.15, 0.6),
)
def test_parts_are_disjoint_and_together_everything(count, seed, valid, test) -> None:
    parts = split(config(split_seed=seed, valid_fraction=valid, test_fraction=test), count, None)
    together = np.concatenate([parts.train, parts.valid, parts.test])
    assert sorted(together) == list(range(count))
    assert min(map(len, (parts.train, parts.valid, parts.test))) >= 1


def test_a_published_test_set_is_kept_whole_and_in_order() -> None:
    parts = split(config(), 50, 20)
    assert sorted(np.concatenate([parts.train, parts.valid])) == list(range(50))
    np.testing.assert_array_equal(parts.test, np.arange(20))


def test_the_subset_is_drawn_before_validation_is_held_out() -> None:
    parts = split(config(train=40, test=7), 100, 20)
    assert (len(parts.train), len(parts.valid), len(parts.test)) == (36, 4, 7)
    assert len({*parts.train, *parts.valid}) == 40
    assert max(parts.train) > 40


def test_the_test_part_does_not_depend_on_how_much_is_trained_on() -> None:
    few, many = (split(config(train=n), 100, None).test for n in (20, 90))
    np.testing.assert_array_equal(few, many)


def test_the_split_is_the_same_every_time_and_another_with_another_seed() -> None:
    first, again, other = (split(config(split_seed=s), 100, None) for s in (3, 3, 4))
    np.testing.assert_array_equal(first.train, again.train)
    assert set(first.test) != set(other.test)


@pytest.mark.parametrize(("key", "there"), [("train", 90), ("test", 10)])
def test_asking_for_more_than_there_is_is_refused(key: str, there: int) -> None:
    with pytest.raises(ConfigError, match=rf"data\.{key} = 91, but mine has {there}"):
        split(config(**{key: 91}), 100, None)


def test_a_split_that_leaves_nothing_to_train_on_is_refused() -> None:
    with pytest.raises(DataError, match="too few"):
        split(config(valid_fraction=0.99), 10, None)


def test_a_split_that_leaves_one_datum_to_test_with_is_refused() -> None:
    words = "mine has too few data to split: 10 leave 8 for training and 1 for the test; 2 of each"
    with pytest.raises(DataError, match=words):
        split(config(), 10, None)
    with pytest.raises(DataError, match="and 1 for the test"):
        split(config(), 100, 1)


def test_the_fingerprint_sees_values_labels_and_shapes() -> None:
    x = np.arange(6, dtype=np.float32)
    parts = [
        Split(x.reshape(2, 3), None),
        Split(x.reshape(3, 2), None),
        Split(x.reshape(2, 3) + 1, None),
        Split(x.reshape(2, 3), np.array([0, 1])),
        Split(x.reshape(2, 3), np.array([1, 0])),
    ]
    assert len({fingerprint(part) for part in parts}) == len(parts)
