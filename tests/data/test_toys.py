"""The pinwheel's density and draws, and the digits."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lidcli.config.sections import Image, Points
from lidcli.data.dataset import Dataset
from lidcli.data.toys import PINWHEEL_ENTROPY, digits, pinwheel, pinwheel_log_density


def pinwheel_config(**settings: object) -> Points:
    return Points(name="pinwheel", **settings)


@pytest.fixture(scope="module")
def wheel() -> Dataset:
    return pinwheel(pinwheel_config())


@pytest.fixture(scope="module")
def integrated() -> tuple[float, float]:
    """Mass and entropy of the density, by the trapezoid rule over the plane."""
    axis = np.arange(-3.0, 3.0, 0.03)
    plane = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    log_p = pinwheel_log_density(plane)
    inside = np.isfinite(log_p)
    p = np.exp(log_p[inside]) * 0.03**2
    return float(p.sum()), float(-(p * log_p[inside]).sum())


def test_the_density_integrates_to_one(integrated) -> None:
    assert integrated[0] == pytest.approx(1, abs=1e-5)


def test_the_entropy_is_0_849_nats(integrated) -> None:
    assert integrated[1] == pytest.approx(PINWHEEL_ENTROPY, abs=5e-4)


def test_the_entropy_is_the_mean_surprise_of_draws(wheel) -> None:
    log_p = pinwheel_log_density(wheel.test.x)
    standard_error = log_p.std() / math.sqrt(len(log_p))
    assert abs(-log_p.mean() - PINWHEEL_ENTROPY) < 3 * standard_error
    assert wheel.entropy == PINWHEEL_ENTROPY


def test_the_pooled_population_sd_is_one(wheel) -> None:
    pooled = np.concatenate([wheel.train.x, wheel.valid.x, wheel.test.x])
    second_moment = (pooled**2).mean(axis=1)
    standard_error = second_moment.std() / math.sqrt(len(pooled))
    assert abs(second_moment.mean() - 1) < 3 * standard_error


def test_each_label_is_one_arm_turned_by_a_fifth_of_a_circle(wheel) -> None:
    x, labels = wheel.test.x.astype(float), wheel.test.labels
    for arm in range(5):
        turn = 2 * math.pi * arm / 5
        back = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
        first = (x[labels == arm] @ back.T).mean(axis=0)
        np.testing.assert_allclose(first, x[labels == 0].mean(axis=0), atol=0.06)


def test_sizes_are_those_of_the_paper_and_a_tenth_is_held_out(wheel) -> None:
    assert [len(part.x) for part in (wheel.train, wheel.valid, wheel.test)] == [4500, 500, 5000]
    assert set(wheel.test.labels) == set(range(5))
    assert (wheel.shape, wheel.classes, wheel.stochastic) == ((2,), 5, False)
    assert wheel.notes == ()


def test_the_data_are_the_same_every_time_and_on_every_machine(wheel) -> None:
    assert pinwheel(pinwheel_config()).sha256 == wheel.sha256
    np.testing.assert_allclose(wheel.test.x[0], [-0.1884619, -1.0479369], rtol=1e-6)


def test_fewer_draws_are_the_beginning_of_more(wheel) -> None:
    few = pinwheel(pinwheel_config(train=300, test=70))
    assert [len(part.x) for part in (few.train, few.valid, few.test)] == [270, 30, 70]
    np.testing.assert_array_equal(few.test.x, wheel.test.x[:70])
    all_points = {tuple(x) for x in np.concatenate([wheel.train.x, wheel.valid.x])}
    assert {tuple(x) for x in few.train.x} <= all_points


def test_another_split_seed_draws_other_points_of_the_same_population(wheel) -> None:
    other = pinwheel(pinwheel_config(split_seed=1))
    for mine, theirs in ((wheel.train, other.train), (wheel.test, other.test)):
        assert {tuple(x) for x in mine.x}.isdisjoint({tuple(x) for x in theirs.x})
    log_p = pinwheel_log_density(other.test.x)
    assert abs(log_p.mean() + PINWHEEL_ENTROPY) < 5 * log_p.std() / np.sqrt(len(log_p))


def test_a_density_is_asked_for_points_of_the_plane_only() -> None:
    with pytest.raises(ValueError, match=r"\(N, 2\)"):
        pinwheel_log_density(np.zeros((4, 3)))


def digits_config(**settings: object) -> Image:
    return Image(name="digits", **settings)


def test_digits_are_intensities_in_training_and_fixed_bits_in_evaluation() -> None:
    data = digits(digits_config())
    assert sum(len(part.x) for part in (data.train, data.valid, data.test)) == 1797
    assert (len(data.test.x), len(data.valid.x)) == (180, 162)
    assert (data.shape, data.classes, data.stochastic) == ((8, 8), 10, True)
    assert set(np.unique(data.train.x)) == {np.float32(i / 16) for i in range(17)}
    assert set(np.unique(data.valid.x)) == {0, 1} == set(np.unique(data.test.x))
    assert digits(digits_config()).sha256 == data.sha256


def test_the_bits_have_the_intensities_as_their_means() -> None:
    bits, grey = digits(digits_config()), digits(digits_config(binarise=False))
    expected, variance = grey.test.x, grey.test.x * (1 - grey.test.x)
    error = (bits.test.x - expected).mean() / math.sqrt(variance.sum()) * expected.size
    assert abs(error) < 3
    assert (bits.test.x[expected == 0] == 0).all()
    assert (bits.test.x[expected == 1] == 1).all()


def test_digits_can_stay_grey() -> None:
    data = digits(digits_config(binarise=False))
    assert not data.stochastic
    assert len(np.unique(data.test.x)) == 17
    np.testing.assert_array_equal(data.test.labels, digits(digits_config()).test.labels)
