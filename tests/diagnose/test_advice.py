"""Advice follows from the verdict."""

from __future__ import annotations

import itertools
import math

import pytest

from lidcli.diagnose.advice import Unit, advice
from lidcli.metrics.verdict import verdict

AU = (0.0, 0.05, 0.5, 0.75, 0.8, 1.0)
NATS = (0.0, 0.01, 0.04, 0.06, 0.1, 0.3, 1.0, 3.0, 8.0)


def said(au: float, mi: float, kl: float, n: int) -> list[str]:
    log_n = math.log(n)
    units = [Unit(k + 1, 0.5 if k < round(20 * au) else 0.0) for k in range(20)]
    scalars = {"kl/z": kl, "mi/z": mi, "log_n": log_n, "au/z": au, "active/z": au}
    return advice(verdict(au, mi, kl, log_n), scalars, units)


@pytest.mark.parametrize("n", [30, 10_000])
@pytest.mark.parametrize("au", AU)
def test_nothing_to_mend_is_said_of_a_good_latent_alone(au: float, n: int) -> None:
    for mi, kl in itertools.combinations_with_replacement(NATS, 2):
        found = verdict(au, mi, kl, math.log(n))
        texts = said(au, mi, kl, n)
        assert texts
        if found.label != "informative" or found.unused_prior:
            assert not any("Nothing to mend" in text or "fill the prior" in text for text in texts)
        if found.unused_prior:
            assert any("KL - MI" in text for text in texts)


def test_active_units_that_tell_nothing_are_told() -> None:
    assert any("its units move" in text for text in said(1.0, 0.04, 0.05, 10_000))


def test_a_good_latent_is_said_to_be_one() -> None:
    assert said(1.0, 2.9, 3.0, 10_000)[0].startswith("Nothing to mend")
