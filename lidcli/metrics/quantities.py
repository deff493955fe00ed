"""Every quantity that a record can hold, declared once: its name, unit, direction and bounds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

__all__ = [
    "FLOAT32_LOG10",
    "NATS",
    "QUANTITIES",
    "Quantity",
    "declare",
    "headlines",
    "latents",
    "measured",
]

NATS = "nats per datum"
FLOAT32_LOG10 = -6.9
"""log10 of float32's resolution, 2^-23."""
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
        floor: least value shown.
        stored: scalars whose smallest it is; none: `key`.
        factor: that a table and a figure multiply it by, 100 for per cent.
        decimals: of a cell; None: by the size of the column's means.
        saturates: the scalar near which an estimate by draws is a lower bound.
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
            value = math.log10(max(min(found), TINY)) if self.log10 else min(found)
        return value if self.floor is None else max(value, self.floor)

    def spread(self, metrics: Mapping[str, float], latent: str = "") -> float:
        """Its standard error in an evaluation; 0 where none is stored."""
        error = metrics.get(f"{self.name(latent)}_se")
        return error if error is not None and math.isfinite(error) else 0.0


QUANTITIES: dict[str, Quantity] = {}
"""The declared quantities by key, in the order of tables and of the command line."""


def declare(*quantities: Quantity) -> None:
    """Add quantities to the registry.

    Args:
        quantities: any number of them.

    Raises:
        ValueError: a key is taken, or is no plain name.

    Example:
        >>> declare(Quantity("fid", "FID", better="lower", low=0.0, table="fit"))
        >>> QUANTITIES.pop("fid").better
        'lower'
    """
    for quantity in quantities:
        if quantity.key in QUANTITIES:
            raise ValueError(f"a quantity {quantity.key!r} is declared already")
        if not quantity.key or latents([quantity.key]) or quantity.key.endswith(("/", "_se")):
            raise ValueError(f"{quantity.key!r} is no name of a quantity: no latent, no _se")
        QUANTITIES[quantity.key] = quantity


def latents(names: Iterable[str]) -> list[str]:
    """The letters of the latents that some names of scalars speak of, the category first."""
    found = {name.partition("/")[2].removesuffix("_se") for name in names}
    return sorted((x for x in found if len(x) == 1), key=lambda x: (x != "c", x))


def measured(metrics: Mapping[str, float]) -> Iterator[tuple[Quantity, str, str]]:
    """Declared quantities that an evaluation holds, in order, those of one latent together.

    Args:
        metrics: scalars by the names of the run store.

    Returns:
        Each with its latent (empty where it has none) and its key.
    """
    waiting: list[Quantity] = []
    for quantity in [*QUANTITIES.values(), None]:
        if quantity is not None and quantity.latent:
            waiting.append(quantity)
            continue
        for letter in latents(metrics):
            for own in waiting:
                if own.name(letter) in metrics:
                    yield own, letter, own.name(letter)
        waiting = []
        if quantity is not None and quantity.key in metrics:
            yield quantity, "", quantity.key


def headlines(metrics: Mapping[str, float]) -> list[tuple[str, str, str]]:
    """What the command line prints of an evaluation: label, key and unit of each quantity.

    Args:
        metrics: scalars by the names of the run store.

    Example:
        >>> headlines({"ll": -1.0, "ll_se": 0.1, "kl/c": 1.5, "n": 100.0})
        [('LL', 'll', 'nats'), ('KL of c', 'kl/c', 'nats')]
    """
    return [
        (quantity.said(letter), key, quantity.unit.removesuffix(" per datum"))
        for quantity, letter, key in measured(metrics)
        if quantity.words and quantity.beside not in metrics
    ]


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


_likelihood = partial(Quantity, unit=NATS, error=True, likelihood=True)
_fraction = partial(Quantity, low=0.0, high=1.0)

declare(
    _likelihood("ll", "LL", words="LL", better="higher", table="fit", always=True, beside="nll"),
    _likelihood(
        "nll",
        "NLL",
        words="NLL",
        better="lower",
        table="fit",
        footnote="NLL: the negative log-likelihood",
    ),
    Quantity(
        "ppl",
        "PPL",
        error=True,
        words="perplexity",
        better="lower",
        low=1.0,
        table="fit",
        likelihood=True,
        footnote="PPL: perplexity, the exponential of the NLL of a token",
    ),
    _likelihood("elbo", "ELBO", words="ELBO", better="higher", high="LL", always=True, curve=True),
    _likelihood("reconstruction", "rec.", words="reconstruction", table="", beside="nll"),
    _fraction(
        "au",
        "AU",
        words="AU",
        latent=True,
        table="fit",
        always=True,
        curve=True,
        decimals=2,
        footnote="AU is a fraction of units",
    ),
    _fraction(
        "active",
        "act.",
        words="active dimensions",
        latent=True,
        table="fit",
        decimals=2,
        footnote="act.: eigenvalues of the covariance of posterior means of at least 0.01, a"
        " fraction of dimensions that no rotation of the latent changes",
    ),
    Quantity(
        "kl",
        "KL",
        words="KL",
        unit=NATS,
        high="log C",
        error=True,
        latent=True,
        table="fit",
        always=True,
        curve=True,
    ),
    Quantity(
        "mi",
        "MI",
        words="MI",
        unit=NATS,
        better="higher",
        low=0.0,
        high="KL",
        error=True,
        latent=True,
        table="fit",
        always=True,
        curve=True,
        saturates="log_n",
    ),
    Quantity(
        "mi_gaussian",
        "MI_G",
        unit=NATS,
        low=0.0,
        high="KL",
        error=True,
        latent=True,
        footnote="MI_G: MI with a Gaussian of the aggregate's moments in place of the aggregate",
    ),
    Quantity(
        "perplexity",
        "perpl.",
        low=1.0,
        latent=True,
        decimals=1,
        footnote="perpl.: categories in use (exp of the entropy of mean q(c|x))",
    ),
    _fraction(
        "accuracy",
        "acc. %",
        words="accuracy",
        better="higher",
        error=True,
        table="fit",
        factor=100.0,
        decimals=1,
        footnote="acc.: one-to-one matching of categories and labels",
    ),
    _fraction("purity", "purity", error=True, table=""),
    _fraction("nmi", "NMI", table=""),
    _fraction(
        "probe",
        "probe %",
        words="probe",
        better="higher",
        error=True,
        table="fit",
        factor=100.0,
        decimals=1,
        footnote="probe: accuracy of a linear classifier of posterior means",
    ),
    Quantity(
        "fisher_min",
        "min F",
        lowest=True,
        footnote="min F: smallest eigenvalue of the latent's Fisher information over draws from the"
        " prior, the lowest over seeds",
    ),
    Quantity(
        "certificate",
        "cert.",
        words="certificate",
        low=0.0,
        lowest=True,
        log10=True,
        decimals=1,
        footnote="cert.: log10 of the proven lower bound of the decoder's slope, the lowest over"
        " seeds",
    ),
    Quantity(
        "allowed/mi",
        "MI max",
        words="allowed MI",
        unit=NATS,
        low=0.0,
        footnote="MI max: what the decoder's Fisher information allows an exact posterior on data"
        " from the model",
    ),
    Quantity("min_singular_value", "s_min", words="smallest slope", low=0.0, table=""),
    Quantity("min_secant", "secant", low=0.0, table=""),
    Quantity("min_descended", "descended", words="slope by descent", low=0.0, table=""),
    Quantity(
        "slope",
        "slope",
        lowest=True,
        log10=True,
        floor=FLOAT32_LOG10,
        stored=("min_singular_value", "min_secant", "min_descended"),
        decimals=1,
        footnote="slope: log10 of the smallest slope found, the lowest over seeds",
    ),
)
