"""What tables, figures, the command line and the invariants need to know of a number."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

__all__ = ["ACTIVE", "APART", "FLOAT32_LOG10", "NATS", "Quantity"]

NATS = "nats per datum"
FLOAT32_LOG10 = -6.9
"""log10 of float32's resolution, 2^-23."""
ACTIVE = 0.01
"""Variance over data of the posterior mean from which a unit counts as active."""
APART = 0.25
"""Nats between the estimates of an MI with and without the datum from which both are told."""
TINY = 1e-300


@dataclass(frozen=True)
class Quantity:
    """What tables, figures, the command line and the invariants need to know of a number.

    Args:
        key: name in the run store; with `latent`, followed by a slash and the latent's letter,
            as in `kl/c`.
        head: of a column and of an axis.
        words: of the command line and of sentences; with `latent`, "of c" follows.
        unit: `NATS`, or empty where there is none.
        better: which way is better; none where neither is.
        low: least value, a number.
        high: largest value: a number, or one of the names that `metrics.invariants` resolves,
            `log C`, `LL` and `KL`.
        error: whether its standard error is stored beside it, under the key with `_se`.
        footnote: what a reader of a table must know, without a full stop.
        latent: whether every latent has its own.
        table: `fit`, the first table, where a latent quantity is of the judged latent (of the
            others it is in the second); `inside`, the second; empty for none.
        always: whether its column stands where no run has a value.
        curve: whether its course over training is drawn.
        likelihood: whether it compares only under one likelihood, on the same data.
        lowest: pooled by the lowest over seeds instead of the mean.
        log10: shown as a logarithm, of `key`_log10 where that is stored.
        root: the square root of what is stored, as a slope is of an information.
        floor: least value shown.
        stored: scalars whose smallest it is; none: `key`.
        factor: that a table and a figure multiply it by, 100 for per cent.
        decimals: of a cell; None: by the size of the column's means.
        saturates: the scalar near which an estimate by draws is a lower bound, where there is no
            `key`_above that tells how far it is off.
        beside: the key of a quantity that says the same; where that is stored this one is left out
            of tables and of the command line.

    Example:
        >>> Quantity("fid", "FID", better="lower", low=0).value({"fid": 12.5})
        12.5
    """

    key: str
    head: str
    words: str = ""
    unit: str = ""
    better: Literal["higher", "lower", "none"] = "none"
    low: float | None = None
    high: float | str | None = None
    error: bool = False
    footnote: str = ""
    latent: bool = False
    table: Literal["fit", "inside", ""] = "inside"
    always: bool = False
    curve: bool = False
    likelihood: bool = False
    lowest: bool = False
    log10: bool = False
    root: bool = False
    floor: float | None = None
    stored: tuple[str, ...] = ()
    factor: float = 1.0
    decimals: int | None = None
    saturates: str = ""
    beside: str = ""

    def name(self, latent: str = "") -> str:
        """The key, with its latent where it has one."""
        return f"{self.key}/{latent}" if self.latent else self.key

    def heading(self, latent: str = "") -> str:
        """The head of its column."""
        return f"{self.head}_{latent}" if self.latent else self.head

    def said(self, latent: str = "") -> str:
        """Its words, with its latent where it has one."""
        words = self.words or self.head
        return f"{words} of {latent}" if self.latent else words

    def value(self, metrics: Mapping[str, float], latent: str = "") -> float | None:
        """Its value in an evaluation, as a table shows it but for the factor.

        Args:
            metrics: scalars by the names of the run store.
            latent: whose.

        Returns:
            None where it was not measured or is not finite.
        """
        name = self.name(latent)
        if self.log10 and _finite(metrics.get(f"{name}_log10")):
            value = metrics[f"{name}_log10"]
        else:
            found = [metrics[n] for n in self.stored or (name,) if _finite(metrics.get(n))]
            if not found:
                return None
            value = max(min(found), 0.0) ** 0.5 if self.root else min(found)
            value = math.log10(max(value, TINY)) if self.log10 else value
        return value if self.floor is None else max(value, self.floor)

    def spread(self, metrics: Mapping[str, float], latent: str = "") -> float:
        """Its standard error in an evaluation; 0 where none is stored."""
        error = metrics.get(f"{self.name(latent)}_se")
        return error if error is not None and math.isfinite(error) else 0.0


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
