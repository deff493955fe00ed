"""What a number is, is said once, and everything that shows or checks it reads it there."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Iterator

import pytest

from lidcli.metrics.invariants import broken_invariants
from lidcli.metrics.quantities import QUANTITIES, declare, headlines, measured
from lidcli.metrics.quantity import Quantity

GOOD = {
    "elbo": -2.0,
    "ll": -1.0,
    "ll_half": -1.5,
    "kl/joint": 1.0,
    "kl/joint_se": 0.01,
    "mi/c": 0.5,
    "kl/c": 0.6,
    "mi/w": 0.7,
    "mi/w_se": 0.01,
    "kl/w": 0.4,
    "au/c": 1.0,
    "active/w": 0.5,
    "certificate": 0.2,
    "certificate_log10": math.log10(0.2),
    "min_secant": 0.3,
    "fisher_min": 0.1,
    "accuracy": 0.9,
    "ppl": 60.0,
}


@pytest.fixture
def fid() -> Iterator[None]:
    """A metric of a user's own, in one line."""
    declare(Quantity("fid", "FID", words="FID", better="lower", low=0.0, high=500.0))
    yield
    del QUANTITIES["fid"]


def test_what_is_right_breaks_no_invariant() -> None:
    assert broken_invariants(GOOD, 2) == []
    assert broken_invariants({}, None) == []


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("elbo", 0.0, "ELBO exceeds LL"),
        ("ll_half", -0.5, "LL falls"),
        ("kl/joint", -0.5, "the joint KL is negative"),
        ("mi/c", -0.1, "MI of c is negative"),
        ("mi/c", 0.65, "MI of c exceeds its KL"),
        ("kl/c", 0.8, "KL of c exceeds log C"),
        ("mi/w", 2.0, "MI of w exceeds the joint KL"),
        ("mi/w", -1.0, "MI of w is negative"),
        ("mi/w", math.nan, "MI of w"),
        ("au/c", 1.5, "au/c = 1.5 is no fraction"),
        ("active/w", -0.1, "no fraction"),
        ("accuracy", 1.1, "no fraction"),
        ("min_secant", 0.1, "below the certificate"),
        ("certificate", -0.1, "certificate is negative"),
        ("ppl", 0.5, "perplexity = 0.5 is below 1"),
    ],
)
def test_broken_invariants_are_named(name: str, value: float, told: str) -> None:
    assert any(told in text for text in broken_invariants(GOOD | {name: value}, 2))


def test_draws_are_given_four_standard_errors_and_sums_none() -> None:
    joint = GOOD["kl/joint"] + 4 * GOOD["kl/joint_se"]
    assert broken_invariants(GOOD | {"mi/w": joint + 0.039}, 2) == []
    assert broken_invariants(GOOD | {"mi/w": joint + 0.041}, 2) != []
    assert broken_invariants(GOOD | {"mi/c": 0.61, "mi/c_se": 1.0}, 2) != []


def test_log_c_binds_only_where_the_prior_is_uniform() -> None:
    assert broken_invariants(GOOD | {"kl/c": 0.9}, None) == []


def test_a_metric_of_a_user_is_printed_and_held_to_its_bounds(fid: None) -> None:
    assert ("FID", "fid", "") in headlines({"ll": -1.0, "fid": 3.0})
    assert broken_invariants({"fid": -1.0}, None) == ["FID is negative"]
    assert broken_invariants({"fid": 501.0}, None) == ["FID exceeds 500"]
    assert broken_invariants({"fid": 3.0}, None) == []


@pytest.mark.parametrize("key", ["ll", "kl/c", "", "fid_se"])
def test_a_key_is_declared_once_and_is_a_plain_name(key: str) -> None:
    with pytest.raises(ValueError, match=r"declared already|no name"):
        declare(Quantity(key, "head"))


def test_the_quantities_of_a_latent_stand_together_the_category_first() -> None:
    labels = [label for label, _, _ in headlines(GOOD)]
    assert labels == [
        "LL",
        "perplexity",
        "ELBO",
        "AU of c",
        "KL of c",
        "MI of c",
        "active dimensions of w",
        "KL of w",
        "MI of w",
        "accuracy",
        "certificate",
    ]


def test_every_headline_has_its_unit() -> None:
    units = {key: unit for _, key, unit in headlines(GOOD)}
    assert units["ll"] == units["kl/c"] == "nats"
    assert units["au/c"] == units["accuracy"] == ""


def test_the_weight_of_a_whole_data_set_is_no_latent_of_a_datum() -> None:
    assert list(measured({"kl/alpha": 3.0, "kl/joint": 1.0, "ll_samples": 500.0})) == []


def test_a_logarithm_is_read_where_it_is_stored_and_taken_where_it_is_not() -> None:
    certificate, slope = QUANTITIES["certificate"], QUANTITIES["map_slope"]
    assert certificate.value({"certificate": 0.0, "certificate_log10": -400.0}) == -400.0
    assert certificate.value({"certificate": 0.01}) == pytest.approx(-2.0)
    assert slope.value({"min_singular_value": 0.1, "min_secant": 1.0}) == pytest.approx(-1.0)
    assert slope.value({"min_singular_value": 0.0}) == -6.9
    assert slope.value({"min_singular_value": math.nan}) is None


def test_the_slope_is_the_root_of_the_smallest_information() -> None:
    slope = QUANTITIES["slope"]
    assert slope.value({"fisher_min": 1e-4}) == pytest.approx(-2.0)
    assert slope.value({"fisher_min": -1e-9}) == -6.9
    assert slope.value({"min_singular_value": 0.1}) is None


def test_declarations_and_invariants_need_no_torch() -> None:
    code = (
        "import sys, lidcli.metrics.invariants, lidcli.metrics.quantities\n"
        "assert not {'torch', 'numpy'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
