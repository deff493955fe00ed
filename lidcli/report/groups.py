"""Runs that differ by their seed alone, and what their seeds say together."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from lidcli.report.collect import Record, finite, varying

__all__ = ["METHODS", "Block", "Group", "Statistic", "blocks", "grid_text"]

METHODS = (
    "ppca",
    "gmm",
    "vae",
    "gmvae",
    "svae",
    "sa-vae",
    "lagging-vae",
    "beta-vae",
    "lidvae",
    "lidgmvae",
    "lidsvae",
)
"""The paper's order of rows; other methods follow by name."""


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


@dataclass(frozen=True)
class Group:
    """The runs of one row: one method at one point of the grid."""

    method: str
    grid: tuple[tuple[str, Any], ...]
    records: tuple[Record, ...]

    @property
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
        return ", ".join([self.method, *(grid_text(key, value) for key, value in self.grid)])

    def statistic(self, name: str) -> Statistic | None:
        """Pool one evaluation number over the complete runs.

        Args:
            name: of the run store, for example `ll`.

        Returns:
            None where no run has a finite value.
        """
        rows = [r.metrics for r in self.used if finite(r.metrics.get(name))]
        values = [row[name] for row in rows]
        if not values:
            return None
        n, mean = len(values), math.fsum(values) / len(values)
        if n == 1:
            own = rows[0].get(f"{name}_se", 0.0)
            return Statistic(mean, None, own if finite(own) else 0.0, n, mean)
        sd = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
        return Statistic(mean, sd, sd / math.sqrt(n), n, min(values))

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
    """The groups of one experiment that share data and family: one table."""

    experiment: str
    data: str
    kind: str
    family: str
    keys: tuple[str, ...]
    groups: tuple[Group, ...]

    @property
    def records(self) -> list[Record]:
        """All of its runs."""
        return [record for group in self.groups for record in group.records]

    @property
    def symbol(self) -> str:
        """Name of the continuous latent."""
        return "w" if self.family == "mixture" else "z"

    @property
    def judged(self) -> str:
        """The latent that AU, KL and MI of the main columns are of."""
        return "c" if self.family == "mixture" else "z"

    @property
    def methods(self) -> tuple[str, ...]:
        """Its methods, in order."""
        return tuple(dict.fromkeys(group.method for group in self.groups))

    @property
    def entropy(self) -> float | None:
        """The data's own entropy in nats per datum, where all runs know the same."""
        stored = [
            r.provenance.get("data_entropy") or r.metrics.get("entropy") for r in self.records
        ]
        found = {float(v) for v in stored if isinstance(v, int | float) and finite(v)}
        return found.pop() if len(found) == 1 else None

    @property
    def categories(self) -> int | None:
        """C, where all runs share it."""
        stored = [
            r.settings.get("model.categories") or r.provenance.get("classes") for r in self.records
        ]
        found = {value for value in stored if isinstance(value, int) and value > 0}
        return found.pop() if len(found) == 1 else None


def _made(record: Record) -> str:
    return str(record.provenance.get("finished") or record.provenance.get("started") or "")


def grid_text(key: str, value: Any) -> str:
    """A grid point in few characters.

    Example:
        >>> grid_text("decoder.layers", 9)
        'layers 9'
    """
    return f"{key.rpartition('.')[2]} {value}"


def blocks(records: Iterable[Record]) -> list[Block]:
    """Sort runs into tables and rows.

    Args:
        records: of any experiments.

    Returns:
        A block for each experiment, data and family. Its grid keys are the settings in which runs
        of one method differ. A grid point that another method has, and this one by all its own
        points should, is a group without runs.
    """
    sorted_in: dict[tuple[str, str, str], list[Record]] = {}
    for record in records:
        sorted_in.setdefault((record.experiment, record.data, record.family), []).append(record)
    return [_block(key, rows) for key, rows in sorted_in.items()]


def _block(key: tuple[str, str, str], records: Sequence[Record]) -> Block:
    methods = sorted({r.method for r in records}, key=_method_order)
    own = {name: [r for r in records if r.method == name] for name in methods}
    found = {k for rows in own.values() for k in varying(rows)}
    keys = tuple(k for k in varying(records) if k in found)
    cells: dict[str, dict[str, list[Record]]] = {}
    points: dict[str, tuple[Any, ...]] = {}
    for name, rows in own.items():
        for record in rows:
            point = tuple(record.settings.get(k) for k in keys)
            points[repr(point)] = point
            cells.setdefault(name, {}).setdefault(repr(point), []).append(record)
    groups = []
    for name in methods:
        wanted = set(cells[name])
        for other in methods:
            if wanted <= set(cells[other]):
                wanted = wanted | set(cells[other])
        for text in sorted(wanted, key=lambda t: [_order(v) for v in points[t]]):
            grid = tuple(zip(keys, points[text], strict=True))
            groups.append(Group(name, grid, tuple(cells[name].get(text, ()))))
    experiment, data, family = key
    return Block(experiment, data, records[0].kind, family, keys, tuple(groups))


def _method_order(name: str) -> tuple[int, str]:
    return (METHODS.index(name) if name in METHODS else len(METHODS)), name


def _order(value: Any) -> tuple[int, float, str]:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return 1, 0.0, str(value)
    return 0, float(value), ""
