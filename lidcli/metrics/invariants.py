"""What every correct evaluation satisfies, from the bounds that the quantities declare."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from lidcli.metrics.quantities import measured
from lidcli.metrics.quantity import Quantity

__all__ = ["ROUNDING", "SLACK", "broken_invariants"]

SLACK = 4.0
"""Standard errors by which a Monte-Carlo invariant may be missed."""
ROUNDING = 1e-4
"""Rounding of an exact invariant, of likelihoods relative to the LL."""
LOOSENESS = 1e-2
"""Relative rounding of a slope measured beside its certificate."""


class _Limit(NamedTuple):
    """A bound of one quantity in one evaluation: its value, its own error, and words for it."""

    value: float
    slack: float
    words: str
    paired: bool = False


def broken_invariants(scalars: Mapping[str, float], categories: int | None) -> list[str]:
    """What no correct evaluation can show, in words; empty when all is well.

    Bounds declared with a quantity are held to rounding, and where draws are involved to four
    standard errors. What is said of a category is a sum, without draws. The mutual information of
    w is held to the joint KL: in the explicit posterior the KL of w is conditional on c, and what
    w tells of x through c is no part of it.

    Args:
        scalars: an evaluation under the names of the run store, quantities that users declare
            among them.
        categories: C under a uniform prior, or None: then no bound of log C is held.

    Example:
        >>> broken_invariants({"elbo": -1.0, "ll": -2.0}, None)
        ['ELBO exceeds LL']
    """
    found: list[str] = []
    for quantity, letter, _ in measured(scalars):
        found += _beyond(quantity, letter, scalars, categories)
    return [*found, *_relations(scalars)]


def _beyond(
    quantity: Quantity, letter: str, scalars: Mapping[str, float], categories: int | None
) -> Iterator[str]:
    """The declared bounds that a quantity is beyond."""
    value = scalars[quantity.name(letter)]
    own = 0.0 if letter == "c" else SLACK * quantity.spread(scalars, letter)
    low, high = quantity.low, quantity.high
    if (low, high) == (0.0, 1.0):
        if not -ROUNDING <= value <= 1 + ROUNDING:
            yield f"{quantity.name(letter)} = {value} is no fraction"
        return
    if low is not None and not value >= low - own - ROUNDING:
        under = "is negative" if low == 0 else f"= {value:.6g} is below {low:g}"
        yield f"{quantity.said(letter)} {under}"
    limit = _limit(high, letter, scalars, categories)
    if limit is not None:
        slack = limit.slack if limit.paired else limit.slack + own + ROUNDING
        if not value <= limit.value + slack:
            yield f"{quantity.said(letter)} exceeds {limit.words}"


def _limit(
    high: float | str | None, letter: str, scalars: Mapping[str, float], categories: int | None
) -> _Limit | None:
    """A declared upper bound in numbers; None where the evaluation does not hold what it needs."""
    if isinstance(high, int | float):
        return _Limit(high, 0.0, f"{high:g}")
    if high == "log C" and letter == "c" and categories is not None:
        return _Limit(math.log(categories), 0.0, "log C")
    if high == "KL":
        return _kl_limit(letter, scalars)
    if high == "LL" and "ll" in scalars:
        half = scalars.get("ll_half", scalars["ll"])
        return _Limit(half, ROUNDING * abs(scalars["ll"]), "LL", paired=True)
    return None


def _kl_limit(letter: str, scalars: Mapping[str, float]) -> _Limit | None:
    """The KL that bounds a latent's mutual information, where it was measured."""
    if letter == "c":
        return _Limit(scalars["kl/c"], 0.0, "its KL") if "kl/c" in scalars else None
    if "kl/joint" not in scalars:
        return None
    return _Limit(scalars["kl/joint"], SLACK * _error(scalars, "kl/joint"), "the joint KL")


def _relations(scalars: Mapping[str, float]) -> Iterator[str]:
    """Invariants between numbers that are no quantity's bound."""
    s = scalars
    if "ll_half" in s and not s["ll_half"] <= s["ll"] + ROUNDING * abs(s["ll"]):
        yield "LL falls as draws are added"
    if "kl/joint" in s and not s["kl/joint"] >= -SLACK * _error(s, "kl/joint") - ROUNDING:
        yield "the joint KL is negative"
    least = s.get("certificate", 0.0) * (1 - LOOSENESS) - 1e-5
    if not s.get("min_secant", math.inf) >= least:
        yield "a measured slope is below the certificate"


def _error(scalars: Mapping[str, float], name: str) -> float:
    return scalars.get(f"{name}_se", 0.0)
