"""What a model said of itself when it was measured; of older records, what their numbers show."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from lidcli.metrics.quantities import latents

__all__ = ["StoredFacts", "facts_of"]


@dataclass(frozen=True)
class StoredFacts:
    """A model's own words on its latents and data.

    Args:
        symbol: letter of the latent that the decoder sees, z or w; c where there is no other.
        judged: letter of the latent that the verdict is of; empty where nobody knows.
        units: how many units each latent has.
        categories: C, or None without a category.
        exact: whether the posterior is the exact one.
        data_form: points, image or text; empty where nobody knows.
        uniform: whether the category's prior is uniform, so that its KL is at most log C.
        summed: whether evaluation sums the category exactly, so that the KL of w is given it.
    """

    symbol: str = ""
    judged: str = ""
    units: Mapping[str, int] = field(default_factory=dict)
    categories: int | None = None
    exact: bool = False
    data_form: str = ""
    uniform: bool = True
    summed: bool = False

    @property
    def categorical(self) -> bool:
        """Whether the judged latent is a category."""
        return self.judged == "c"

    @property
    def judged_words(self) -> str:
        """The judged latent in words, `category c` or `latent z`."""
        return f"{'category' if self.categorical else 'latent'} {self.judged or 'unknown'}"


def facts_of(
    stored: Any,
    names: Iterable[str],
    settings: Mapping[str, Any],
    provenance: Mapping[str, Any],
) -> StoredFacts:
    """The facts of a record.

    Args:
        stored: `facts` of its provenance; where there are none they are told from the rest.
        names: of its scalars and validation curves, `kl/c` among them where c was measured.
        settings: dotted keys.
        provenance: for the shape and the classes of the data.

    Raises:
        TypeError: facts that are no mapping.
        ValueError: facts of other types than said.

    Example:
        >>> facts_of(None, ["ll", "kl/c", "kl/w"], {"model.latent": 2}, {}).symbol
        'w'
    """
    summed = settings.get("inference.categorical") in ("explicit", "sampled")
    if stored is None:
        return replace(_told(names, settings, provenance), summed=summed)
    if not isinstance(stored, Mapping):
        raise TypeError("facts are no mapping")
    categories = stored.get("categories")
    symbol, judged = str(stored.get("symbol", "")), str(stored.get("judged", ""))
    return StoredFacts(
        symbol=symbol,
        judged=judged or symbol,
        units={str(k): int(v) for k, v in dict(stored.get("units") or {}).items()},
        categories=None if categories is None else int(categories),
        exact=bool(stored.get("exact", False)),
        data_form=str(stored.get("data_form", "")),
        uniform=bool(stored.get("uniform", judged != symbol or judged != "c")),
        summed=summed,
    )


def _told(
    names: Iterable[str], settings: Mapping[str, Any], provenance: Mapping[str, Any]
) -> StoredFacts:
    """StoredFacts from the keys of what was measured: a stored `kl/c` means that c is judged."""
    names = [n for n in names if n.partition("/")[0] in ("au", "kl", "mi")]
    found = latents(names)
    symbol = next((x for x in found if x != "c"), "")
    judged = "c" if "c" in found else symbol
    counts = [settings.get("model.categories"), provenance.get("classes")]
    categories = _positive(counts) if judged == "c" else None
    units = {symbol: settings.get("model.latent"), "c": categories}
    return StoredFacts(
        symbol=symbol or judged,
        judged=judged,
        units={k: n for k, n in units.items() if k and isinstance(n, int)},
        categories=categories,
        data_form=_form(provenance.get("data_shape")),
        uniform=bool(symbol),
    )


def _positive(counts: Iterable[Any]) -> int | None:
    """The first that is a number of something."""
    return next((n for n in counts if isinstance(n, int) and n > 0), None)


def _form(shape: Any) -> str:
    """The form of data of a stored shape, points or image; empty where none was stored."""
    if not isinstance(shape, list):
        return ""
    return "image" if len(shape) > 1 else "points"
