"""Differences of two means over seeds, and what they tell."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import stdev
from typing import Literal

from scipy.special import stdtrit

from lidcli.report.groups import Statistic

__all__ = ["Gap", "Said", "in_all", "kept", "paired", "reach"]

Said = Literal["yes", "no", "open"]
LEVEL = 0.975
"""Of a two-sided interval of 95%."""


def reach(n: int) -> float:
    """Standard errors of a mean of n seeds that its 95% interval reaches to, by Student's t.

    Args:
        n: seeds, at least 1; one tells nothing of others, so that its interval has no end.

    Example:
        >>> [round(reach(n), 1) for n in (1, 2, 3, 10)]
        [inf, 12.7, 4.3, 2.3]
    """
    return float(stdtrit(n - 1, LEVEL)) if n > 1 else math.inf


def in_all(count: int, n: int) -> Said:
    """Whether what is so in some of n runs is so in all.

    Example:
        >>> in_all(3, 3), in_all(0, 3), in_all(1, 3), in_all(1, 1)
        ('yes', 'no', 'open', 'open')
    """
    return "open" if n < 2 or 0 < count < n else "yes" if count else "no"


def kept(found: Statistic | None, least: float) -> Said:
    """Whether no seed is below what is asked for: one seed that is says no, none alone yes."""
    if found is None:
        return "open"
    return "no" if found.lowest < least else "yes" if found.n > 1 else "open"


@dataclass(frozen=True)
class Gap:
    """A mean difference and its standard error, from pairs of runs with the same seed."""

    mean: float
    se: float
    n: int

    def above(self, limit: float) -> Said:
        """Whether it is at or above a limit, open while the limit is within its 95% interval.

        Example:
            >>> Gap(1.0, 0.1, 3).above(0.5), Gap(0.9, 0.1, 3).above(0.5), Gap(1.0, 0.1, 1).above(0)
            ('yes', 'open', 'open')
        """
        if self.n < 2:
            return "open"
        away = reach(self.n) * self.se
        if self.mean - away >= limit:
            return "yes"
        return "no" if self.mean + away < limit else "open"


def paired(one: Statistic, other: Statistic) -> Gap:
    """The difference of two means: by seed where both have the same, several seeds.

    Args:
        one: of which `other` is subtracted.
        other: likewise.

    Example:
        >>> a = Statistic(2.0, 1.0, 0.7, 2, 1.0, {0: 1.0, 1: 3.0})
        >>> b = Statistic(1.0, 1.0, 0.7, 2, 0.0, {0: 0.0, 1: 2.0})
        >>> paired(a, b)
        Gap(mean=1.0, se=0.0, n=2)
    """
    shared = one.by_seed.keys() & other.by_seed.keys()
    if len(shared) > 1 and one.by_seed.keys() == other.by_seed.keys():
        gaps = [one.by_seed[seed] - other.by_seed[seed] for seed in sorted(shared)]
        return Gap(math.fsum(gaps) / len(gaps), stdev(gaps) / math.sqrt(len(gaps)), len(gaps))
    return Gap(one.mean - other.mean, math.hypot(one.se, other.se), min(one.n, other.n))
