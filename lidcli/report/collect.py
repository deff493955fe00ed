"""Every run under `results/`, as records and as one tidy frame."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lidcli.errors import StoreError
from lidcli.metrics.own import declare_stored
from lidcli.report.aside import ahead
from lidcli.report.facts import StoredFacts, facts_of
from lidcli.report.values import Seen, check_values, clean, settled

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

    from lidcli.store.index import Index

    Array = npt.NDArray[np.floating[Any]]
    Curves = Mapping[str, Array]

__all__ = ["Collection", "Record", "collect", "flatten", "frame", "read_record", "varying"]

Tree = dict[str, Any]
NOT_SETTINGS = ("method", "seed", "data.name", "data.root", "data.path", "runtime.")


@dataclass(frozen=True)
class Record:
    """One run, read once: what was asked, where it was made, what was measured."""

    folder: Path
    experiment: str
    published: bool
    config: Tree
    settings: dict[str, Any]
    provenance: Tree
    status: str
    split: str
    metrics: dict[str, float]
    other_splits: dict[str, dict[str, float]]
    curves: Curves
    facts: StoredFacts = field(default_factory=StoredFacts)
    held: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Shapes of the arrays in the file, which `arrays` reads."""
    few: Mapping[str, Array] = field(default_factory=dict)
    """The smallest of them."""

    @property
    def run_id(self) -> str:
        """The folder's name."""
        return str(clean(self.folder.name))

    @property
    def method(self) -> str:
        """What --model named."""
        return str(self.config["method"])

    @property
    def data(self) -> str:
        """Name of the data."""
        return str(self.config["data"]["name"])

    @property
    def seed(self) -> int:
        """Seed of the run."""
        return int(self.config["seed"])

    @property
    def complete(self) -> bool:
        """Whether the run ended well and was measured: only such runs enter a mean."""
        return self.status == "complete" and bool(self.metrics)

    @property
    def evaluation(self) -> dict[str, dict[str, float | None]]:
        """The figures of every split, None where one is not finite: JSON has no word for those."""
        splits = {self.split: self.metrics, **self.other_splits}
        return {
            split: {name: v if finite(v) else None for name, v in scalars.items()}
            for split, scalars in splits.items()
            if scalars
        }

    @property
    def verdict(self) -> str:
        """The stored verdict, or nothing."""
        return str(self.provenance.get("verdict") or "")

    def setting(self, name: str, default: Any = None) -> Any:
        """The setting of a name, whichever section it is in."""
        found = (v for k, v in self.settings.items() if k.rpartition(".")[2] == name)
        return next(found, default)

    def arrays(self) -> dict[str, Array]:
        """Its arrays for figures, without those that are not finite; none where it is damaged."""
        import numpy as np

        from lidcli.store.run import Run

        try:
            stored = Run.open(self.folder).arrays
        except StoreError:
            return {}
        return {name: a for name, a in stored.items() if a.ndim and np.isfinite(a).all()}

    def texts(self, key: str) -> list[str]:
        """A list of sentences of the provenance."""
        value = self.provenance.get(key) or []
        return [str(part) for part in value] if isinstance(value, list) else [str(value)]


@dataclass(frozen=True)
class Collection:
    """The runs of a report, in order, and what could not be read."""

    records: tuple[Record, ...]
    warnings: tuple[str, ...]

    def experiments(self) -> dict[str, list[Record]]:
        """The records by experiment."""
        out: dict[str, list[Record]] = {}
        for record in self.records:
            out.setdefault(record.experiment, []).append(record)
        return out


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested mapping as dotted keys.

    Example:
        >>> flatten({"decoder": {"layers": 9}})
        {'decoder.layers': 9}
    """
    out: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            out |= flatten(value, f"{prefix}{key}.")
        else:
            out[sys.intern(f"{prefix}{key}")] = value
    return out


def varying(records: Iterable[Record]) -> list[str]:
    """Settings that differ among the records that have them; paths, seed and runtime are none.

    Args:
        records: any number of them.

    Returns:
        Dotted keys, in the order of the configuration.
    """
    first: dict[str, Any] = {}
    differ: set[str] = set()
    compared: dict[tuple[str, int], Any] = {}
    for record in records:
        for name, part in record.config.items():
            if (name, id(part)) in compared:
                continue
            compared[name, id(part)] = part
            for key, value in flatten({name: part}).items():
                if repr(first.setdefault(key, value)) != repr(value):
                    differ.add(key)
    return [key for key in first if key in differ and not key.startswith(NOT_SETTINGS)]


def read_record(
    folder: Path,
    index: Index | None = None,
    seen: Seen | None = None,
    digest: str | None = None,
) -> Record:
    """One run's record.

    Args:
        folder: results/<experiment>/<run-id>.
        index: of many records.
        seen: parts that this record may share with others, as `settled` keeps them.
        digest: of the record, where its bytes were checked just now.

    Raises:
        StoreError: the files are damaged, or hold no configuration of a run.
    """
    from lidcli.store.index import Index

    try:
        run = (index or Index(None)).summary(folder, digest)
        config, provenance = settled(run.config, seen), settled(run.provenance, seen)
        check_values(config, provenance)
        declare_stored(provenance.get("quantities", []))
        evaluation = {
            clean(split): {clean(name): float(value) for name, value in scalars.items()}
            for split, scalars in run.evaluation.items()
        }
        settings = flatten(config)
        wanted = settings.get("evaluate.split", "test")
        split = wanted if wanted in evaluation else next(iter(evaluation), str(wanted))
        curves = {clean(name): curve for name, curve in run.curves.items()}
        names = [name for scalars in evaluation.values() for name in scalars]
        names += [name.removeprefix("valid/") for name in curves]
        record = Record(
            folder=folder,
            experiment=clean(folder.parent.name),
            published=folder.parent.parent.name == "published",
            config=config,
            settings=settings,
            provenance=provenance,
            status=str(clean(run.status)),
            split=split,
            metrics=evaluation.pop(split, {}),
            other_splits=evaluation,
            curves=curves,
            facts=facts_of(provenance.get("facts"), names, settings, provenance),
            held={clean(name): shape for name, shape in run.shapes.items()},
            few={clean(name): array for name, array in run.few.items()},
        )
        _ = record.method, record.data, record.seed
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise StoreError(f"{folder} holds no usable record of a run ({error!r}).") from error
    return record


def collect(results: Path, experiments: Sequence[str] = ()) -> Collection:
    """Read every run of some experiments, or of all.

    A run that is there twice, under `results/` and under `results/published/`, counts once: the
    finished one, and of two finished ones the local.

    Args:
        results: folder of the runs.
        experiments: names of its subfolders; none means all.

    Returns:
        Records by experiment, data, method and seed, and a sentence for every run left out.
    """
    from lidcli.store.index import MANY, Index, record_digest
    from lidcli.store.run import find_runs

    kept: dict[tuple[str, str], Record] = {}
    warnings: list[str] = []
    found = find_runs(results, experiments)
    shipped = [results / "published" / path.parent.name / path.name for path in found]
    present = (path for path in shipped if (path / "run.h5").is_file())
    folders = list(dict.fromkeys([*found, *present]))
    with ahead(record_digest, folders if len(folders) >= MANY else ()) as checked:
        index, seen = Index.of(len(folders)), Seen()
        for folder, digest in zip_longest(folders, checked):
            try:
                record = read_record(folder, index, seen, digest)
            except StoreError as error:
                warnings.append(clean(f"Left out: {error}"))
                continue
            key = (record.experiment, record.run_id)
            if key not in kept or _rank(record) > _rank(kept[key]):
                kept[key] = record
    records = sorted(kept.values(), key=_order)
    return Collection(tuple(records), tuple(warnings))


def _order(record: Record) -> tuple[str, str, str, str, int, str]:
    r = record
    return r.experiment, r.data, r.facts.judged, r.method, r.seed, r.run_id


def _rank(record: Record) -> tuple[bool, bool]:
    return record.complete, not record.published


def frame(records: Sequence[Record]) -> pd.DataFrame:
    """One row a run: identity, status, settings that vary, every evaluation number, provenance.

    Args:
        records: of any experiments.

    Returns:
        A frame whose metric columns bear the names of the run store; those of another split than
        `split` are prefixed with it.
    """
    import pandas as pd

    keys = [k for k in varying(records) if k not in ("data.kind", "model.family")]
    rows = []
    for r in records:
        row = _identity(r) | {key: r.settings.get(key) for key in keys}
        row |= {"split": r.split, **r.metrics}
        for split, scalars in r.other_splits.items():
            row |= {f"{split}/{name}": value for name, value in scalars.items()}
        rows.append(row | _origin(r))
    table: pd.DataFrame = pd.DataFrame(rows)
    return table


def _identity(r: Record) -> dict[str, Any]:
    """The first columns of a run: which it is, and how it ended."""
    texts = [text for key in ("verdict_notes", "checks", "data_notes") for text in r.texts(key)]
    return {
        "experiment": r.experiment,
        "run": r.run_id,
        "data": r.data,
        "kind": str(r.settings.get("data.kind", "")),
        "family": str(r.settings.get("model.family", "")),
        "judged": r.facts.judged,
        "method": r.method,
        "seed": r.seed,
        "status": r.status,
        "message": str(r.provenance.get("message") or ""),
        "published": r.published,
        "verdict": r.verdict,
        "verdict_reason": str(r.provenance.get("verdict_reason") or ""),
        "unused_prior": bool(r.provenance.get("unused_prior", False)),
        "notes": "; ".join(texts),
    }


def _origin(r: Record) -> dict[str, Any]:
    """The last columns of a run: what it cost, and of which code and data it is."""
    row: dict[str, Any] = {}
    for key in ("parameters", "epochs_done", "wall_seconds", "peak_memory_mb", "device"):
        value = r.provenance.get(key)
        row[key] = value.get("total") if isinstance(value, dict) else value
    for key in ("git_commit", "git_dirty", "data_sha256", "data_entropy", "started"):
        row[key] = r.provenance.get(key)
    return row


def finite(value: float | None) -> bool:
    """Whether there is a number."""
    return value is not None and math.isfinite(value)
