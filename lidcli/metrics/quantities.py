"""Every quantity that a record can hold, declared once: its name, unit, direction and bounds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import partial

from lidcli.metrics.quantity import FLOAT32_LOG10, NATS, Quantity

__all__ = [
    "QUANTITIES",
    "declare",
    "headlines",
    "latents",
    "measured",
]

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
    letters, waiting = latents(metrics), list[Quantity]()
    for quantity in [*QUANTITIES.values(), None]:
        if quantity is not None and quantity.latent:
            waiting.append(quantity)
            continue
        for letter in letters:
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
        error=True,
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
        error=True,
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
    _fraction("anchor/purity", "purity of the anchor", error=True, table=""),
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
    _fraction(
        "probe_draw",
        "probe z %",
        words="probe of draws",
        better="higher",
        error=True,
        table="fit",
        factor=100.0,
        decimals=1,
        footnote="probe z: the same of one draw from each posterior, what the latent itself tells:"
        " means of a collapsed latent differ too, by far less than its draws",
    ),
    Quantity(
        "fisher_min",
        "min F",
        lowest=True,
        footnote="min F: smallest eigenvalue of the latent's Fisher information over draws from the"
        " prior, the lowest over seeds",
    ),
    Quantity("fisher_posterior_min", "min F post.", low=0.0, table=""),
    Quantity(
        "slope",
        "slope",
        lowest=True,
        log10=True,
        root=True,
        floor=FLOAT32_LOG10,
        stored=("fisher_min",),
        decimals=1,
        footnote="slope: log10 of √(min F), the smallest slope in the likelihood's own metric, of"
        " what a datum can tell apart rather than of the parameters",
    ),
    Quantity(
        "certificate",
        "cert.",
        words="certificate",
        low=0.0,
        lowest=True,
        log10=True,
        decimals=1,
        footnote="cert.: log10 of the proven lower bound of the map's slope, the lowest over seeds;"
        " of text in Fisher's metric at the unigram distribution, unless decoder.output = joint",
    ),
    Quantity(
        "allowed/mi",
        "MI max",
        words="allowed MI",
        unit=NATS,
        low=0.0,
        footnote="MI max: what the decoder's Fisher information allows an exact posterior on data"
        " from the model, whose KL is its MI",
    ),
    Quantity(
        "allowed/au",
        "AU max",
        words="allowed AU",
        low=0.0,
        high=1.0,
        decimals=2,
        footnote="AU max: units whose posterior mean the same allows a variance of at least 0.01",
    ),
    Quantity("min_singular_value", "s_min", words="smallest slope of the map", low=0.0, table=""),
    Quantity("min_secant", "secant", low=0.0, table=""),
    Quantity("min_descended", "descended", words="slope of the map by descent", low=0.0, table=""),
    Quantity(
        "map_slope",
        "map slope",
        lowest=True,
        log10=True,
        floor=FLOAT32_LOG10,
        stored=("min_singular_value", "min_secant", "min_descended"),
        decimals=1,
        footnote="map slope: log10 of the smallest slope found of the decoder as a map to the"
        " likelihood's parameters (means, log odds), which the likelihood need not see; the lowest"
        " over seeds",
    ),
)
