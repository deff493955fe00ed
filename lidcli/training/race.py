"""Ways of doing a step, timed in turns on a run's own steps."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping
from typing import TypeVar

__all__ = ["WORTH", "race"]

WORTH = 1.15
"""What costs something in return has to be this much faster."""
BUDGET = 1.0
ROUNDS = 12
K = TypeVar("K", bound=Hashable)


def race(ways: Mapping[K, Callable[[int], object]]) -> dict[K, float]:
    """Mean seconds of a step done in several ways, after a first one of each.

    By the clock on the wall, so that what else the machine does counts, and in turns, so that it
    hits all alike.

    Args:
        ways: each does the step of a round, counted from 0.

    Example:
        >>> sorted(race({"one": lambda index: None, "other": lambda index: None}))
        ['one', 'other']
    """
    spent = dict.fromkeys(ways, 0.0)
    names = list(ways)
    rounds = -1
    while rounds < ROUNDS and sum(spent.values()) < BUDGET:
        for name in names if rounds % 2 else reversed(names):
            started = time.perf_counter()
            ways[name](rounds + 1)
            spent[name] += (time.perf_counter() - started) * (rounds >= 0)
        rounds += 1
    return {name: seconds / rounds for name, seconds in spent.items()}
