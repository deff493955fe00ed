"""The answer in words: collapsed, partly collapsed or informative."""

from __future__ import annotations

import math
from typing import NamedTuple

__all__ = ["Verdict", "verdict"]


class Verdict(NamedTuple):
    """What the numbers say, and the numbers that decide it."""

    label: str
    unused_prior: bool
    reason: str


def verdict(
    au: float, mi: float, kl: float, most: float = math.inf, above: float | None = None
) -> Verdict:
    """Judge one latent by its active units, mutual information and KL.

    Args:
        au: active units, 0 to 1.
        mi: nats per datum.
        kl: nats per datum.
        most: nats that the estimate of MI can reach, log N of N data.
        above: an estimate of the MI that is too high rather than too low, where there is one.

    Returns:
        `collapsed` if AU < 0.1 or MI < 0.05, `informative` if AU >= 0.8 and MI is at least half of
        what it could show, the KL or `most`, else `partly collapsed`; `unused_prior` where that,
        or the KL where `above` is known, exceeds the MI at most by more than half of it: everything
        sits in one corner of the latent space.

    Example:
        >>> verdict(1.0, 1.6, 1.6).label
        'informative'
    """
    shown = min(kl, most)
    half = "KL / 2" if kl <= most else "log N / 2"
    if au < 0.1:
        label, reason = "collapsed", f"AU {au:.2f} < 0.1"
    elif mi < 0.05:
        label, reason = "collapsed", f"MI {round(mi, 3) + 0.0:.3f} < 0.05 nats"
    elif au < 0.8:
        label, reason = "partly collapsed", f"AU {au:.2f} < 0.8"
    elif mi >= 0.5 * shown:
        label, reason = (
            "informative",
            f"AU {au:.2f} >= 0.8 and MI {mi:.2f} >= {half} = {shown / 2:.2f}",
        )
    else:
        label, reason = "partly collapsed", f"MI {mi:.2f} < {half} = {shown / 2:.2f}"
    used = kl <= 1.5 * above if above is not None else shown <= 1.5 * mi
    return Verdict(label, not used and shown > 0.05, reason)
