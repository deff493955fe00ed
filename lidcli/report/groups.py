"""Runs that differ by their seed alone, and what their seeds say together."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from lidcli.metrics.quantities import QUANTITIES
from lidcli.metrics.quantity import Quantity
from lidcli.names import short_keys
from lidcli.report.collect import Record, finite, varying
from lidcli.report.facts import StoredFacts
from lidcli.report.paper import method_order

__all__ = ["Block", "Group", "Limit", "Statistic", "blocks"]


@dataclass(frozen=True)
class Statistic:
    """Mean and standard deviation over seeds, and the mean's standard error.

    With one seed sd is None and the error is the run's own Monte-Carlo error (0 if it has none).
    """

    mean: float
    sd: float | None
    se: float
    n: int
    lowest: float
    by_seed: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Limit:
    """What the data set a quantity: its value, its standard error where it was estimated, words."""

    value: float
    words: str
    se: float | None = None


@dataclass(frozen=True)
class Group:
    """The runs of one row: one method at one point of the grid."""

    method: str
    grid: tuple[tuple[str, Any], ...]
    records: tuple[Record, ...]

    @cached_property
    def used(self) -> list[Record]:
        """The complete runs, which enter the means: of one seed the newest alone."""
        newest: dict[int, Record] = {}
        for record in self.records:
            known = newest.get(record.seed)
            if record.complete and (known is None or _made(record) > _made(known)):
                newest[record.seed] = record
        return list(newest.values())

    @property
    def label(self) -> str:
        """Method and grid point in words."""
        names = short_keys(key for key, _ in self.grid)
        return ", ".join([self.method, *(f"{names[key]} {value}" for key, value in self.grid)])

    def statistic(self, quantity: Quantity, latent: str = "") -> Statistic | None:
        """Pool a quantity over the complete runs.

        Args:
            quantity: declared.
            latent: whose.

        Returns:
            None where no run has a finite value.
        """
        own = {r.seed: v for r in self.used if (v := quantity.value(r.metrics, latent)) is not None}
        if not own:
            return None
        values = list(own.values())
        n, mean = len(values), math.fsum(values) / len(values)
        if n == 1:
            (only,) = (r for r in self.used if r.seed in own)
            return Statistic(mean, None, quantity.spread(only.metrics, latent), n, mean, own)
        sd = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
        return Statistic(mean, sd, sd / math.sqrt(n), n, min(values), own)

    def verdicts(self) -> dict[str, int]:
        """How many complete runs have each verdict, the commonest first."""
        counts: dict[str, int] = {}
        for record in self.used:
            if record.verdict:
                counts[record.verdict] = counts.get(record.verdict, 0) + 1
        return dict(sorted(counts.items(), key=lambda item: -item[1]))

    @property
    def representative(self) -> Record | None:
        """The complete run of the lowest seed: a choice that looks at no result."""
        return min(self.used, key=lambda record: record.seed, default=None)


@dataclass(frozen=True)
class Block:
    """The groups of one experiment that share data and judged latent: one table."""

    experiment: str
    data: str
    keys: tuple[str, ...]
    groups: tuple[Group, ...]

    @cached_property
    def records(self) -> list[Record]:
        """All of its runs."""
        return [record for group in self.groups for record in group.records]

    @cached_property
    def used(self) -> list[Record]:
        """Those that enter the means of its rows."""
        return [record for group in self.groups for record in group.used]

    @cached_property
    def draws(self) -> list[int]:
        """The numbers S of draws that the importance-weighted bounds are of."""
        stored = (r.metrics.get("ll_samples") for r in self.used)
        return sorted({int(s) for s in stored if s is not None and finite(s)})

    @cached_property
    def unlike(self) -> list[str]:
        """In what its runs differ so that their likelihoods share no scale."""
        own = [(r, r.settings.get("model.likelihood")) for r in self.used]
        seen = {
            "splits": {record.split for record in self.used},
            "data": {str(r.provenance.get("data_sha256")) for r in self.used},
            "likelihoods": {str(r.settings.get("likelihood.kind", old)) for r, old in own},
        }
        return [what for what, values in seen.items() if len(values - {"None"}) > 1]

    @property
    def uncompared(self) -> str:
        """That LL and ELBO of its rows may not be compared, and why; empty where they may."""
        why = [f"different {what}" for what in self.unlike]
        why += [f"S = {', '.join(map(str, self.draws))}"] if len(self.draws) > 1 else []
        return f"LL not compared ({'; '.join(why)})" if why else ""

    def likelihood(self, group: Group) -> Statistic | None:
        """The LL of one of its rows, None where those of its rows may not be compared."""
        return None if self.uncompared else group.statistic(QUANTITIES["ll"])

    @cached_property
    def facts(self) -> StoredFacts:
        """What its runs say of their latents and data, the measured ones first."""
        ordered = sorted(self.records, key=lambda r: not (r.complete and r.facts.judged))
        return ordered[0].facts

    @property
    def latents(self) -> tuple[str, ...]:
        """Letters of its latents, the judged one first."""
        return tuple(dict.fromkeys((self.facts.judged, self.facts.symbol)))

    @property
    def methods(self) -> tuple[str, ...]:
        """Its methods, in order."""
        return tuple(dict.fromkeys(group.method for group in self.groups))

    @cached_property
    def entropy(self) -> float | None:
        """The data's own entropy in nats per datum, where all runs know the same."""
        stored = [
            r.provenance.get("data_entropy") or r.metrics.get("entropy") for r in self.records
        ]
        found = {float(v) for v in stored if isinstance(v, int | float) and finite(v)}
        return found.pop() if len(found) == 1 else None

    @cached_property
    def categories(self) -> int | None:
        """C, where all runs share it."""
        found = {r.facts.categories for r in self.records if r.facts.judged}
        return found.pop() if len(found) == 1 else None

    @cached_property
    def generator(self) -> Mapping[str, float] | None:
        """Entropy and information of the distribution that drew the data, and their errors.

        Of a run that stored none, what another one stored of the same data.
        """
        stored = self._ceilings()
        first = stored[0]
        if not isinstance(first, Mapping) or any(other != first for other in stored):
            return None
        read = {k: float(v) for k, v in first.items() if isinstance(v, int | float) and finite(v)}
        return read if read.keys() >= GENERATOR else None

    def _ceilings(self) -> list[Any]:
        """What each run's record, or another's of the same data, says of their generator."""
        names = [r.provenance.get("data_sha256") for r in self.records]
        data = [name if isinstance(name, str) else None for name in names]
        told = [r.provenance.get("ceiling") for r in self.records]
        pairs = list(zip(data, told, strict=True))
        known: dict[str | None, Any] = {
            name: ceiling for name, ceiling in pairs if name and ceiling is not None
        }
        return [known.get(name) if ceiling is None else ceiling for name, ceiling in pairs]

    def ceiling(self, quantity: Quantity, latent: str = "") -> Limit | None:
        """What the data set a quantity, known of all runs: their entropy, log C, or their MI."""
        generator = self.generator or {}
        if quantity.key in ("ll", "nll") and self.entropy is not None:
            sign, words = (-1, "−entropy") if quantity.key == "ll" else (1, "entropy")
            return Limit(sign * self.entropy, f"{words} of the data", generator.get("entropy_se"))
        if quantity.key == "mi" and latent == self.facts.judged and generator:
            return Limit(generator["information"], "the generator's", generator["information_se"])
        return self._log_c(quantity) if latent == "c" else None

    def _log_c(self, quantity: Quantity) -> Limit | None:
        """The bound of a category's MI, and under uniform priors of its KL."""
        if self.categories is None:
            return None
        bounded = {"mi"} | ({"kl"} if all(r.facts.uniform for r in self.records) else set())
        return Limit(math.log(self.categories), "log C") if quantity.key in bounded else None

    def redundant(self, quantity: Quantity) -> bool:
        """Whether another quantity that its runs have says the same."""
        other = QUANTITIES.get(quantity.beside)
        return other is not None and any(group.statistic(other) for group in self.groups)


GENERATOR = {"entropy", "entropy_se", "information", "information_se"}


def _made(record: Record) -> str:
    return str(record.provenance.get("finished") or record.provenance.get("started") or "")


def blocks(records: Iterable[Record]) -> list[Block]:
    """Sort runs into tables and rows.

    Args:
        records: of any experiments.

    Returns:
        A block for each experiment, data and judged latent; a run that failed before it showed its
        latents stands with the others of its method. The grid keys of a block are the settings in
        which runs of one method differ. A grid point that another method has, and this one by all
        its own points should, is a group without runs.
    """
    records = list(records)
    sorted_in: dict[tuple[str, str, str], list[Record]] = {}
    for record in records:
        judged = record.facts.judged or _neighbour(record, records)
        sorted_in.setdefault((record.experiment, record.data, judged), []).append(record)
    return [_block(rows) for _, rows in sorted(sorted_in.items(), key=lambda item: item[0][:2])]


def _neighbour(record: Record, records: Iterable[Record]) -> str:
    """The judged latent of the runs that a run without one belongs to."""
    place = record.experiment, record.data
    others = [r for r in records if (r.experiment, r.data) == place and r.facts.judged]
    ordered = sorted(others, key=lambda r: r.method != record.method)
    return ordered[0].facts.judged if ordered else ""


def _block(records: Sequence[Record]) -> Block:
    methods = sorted({r.method for r in records}, key=method_order)
    keys = _grid_keys(records)
    cells: dict[str, dict[str, list[Record]]] = {name: {} for name in methods}
    points: dict[str, tuple[Any, ...]] = {}
    for record in records:
        point = tuple(record.settings.get(k) for k in keys)
        points[repr(point)] = point
        cells[record.method].setdefault(repr(point), []).append(record)
    groups = []
    for name in methods:
        for text in sorted(_expected(name, cells), key=lambda t: [_order(v) for v in points[t]]):
            grid = tuple(zip(keys, points[text], strict=True))
            groups.append(Group(name, grid, tuple(cells[name].get(text, ()))))
    return Block(records[0].experiment, records[0].data, keys, tuple(groups))


def _grid_keys(records: Sequence[Record]) -> tuple[str, ...]:
    """The settings in which runs of one method differ."""
    own: dict[str, list[Record]] = {}
    for record in records:
        own.setdefault(record.method, []).append(record)
    found = {key for rows in own.values() for key in varying(rows)}
    return tuple(key for key in varying(records) if key in found)


def _expected(method: str, cells: Mapping[str, Mapping[str, Any]]) -> set[str]:
    """The grid points that a method has, and those of the methods that have all of its own."""
    wanted = set(cells[method])
    for others in cells.values():
        if wanted <= set(others):
            wanted |= set(others)
    return wanted


def _order(value: Any) -> tuple[int, float, str]:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return 1, 0.0, str(value)
    return 0, float(value), ""
