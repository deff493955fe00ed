"""What `run.h5` holds, and how much of it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from lidcli.errors import StoreError
from lidcli.store.tensors import read_data, write_array

__all__ = [
    "LARGEST_ARRAY",
    "RECORD_BYTES",
    "RECORD_ITEMS",
    "STATUSES",
    "Array",
    "Contents",
    "Scalars",
    "check_arrays",
    "small",
]

STATUSES = ("running", "complete", "diverged", "interrupted", "failed")
LARGEST_ARRAY = 1_000_000
"""An array of a record has fewer numbers than this."""
RECORD_BYTES = 1 << 28
"""No longer record is read, 256 MiB; half of it is written at most."""
RECORD_ITEMS = 1 << 14
"""A record has at most so many figures, curves, arrays and groups of them."""
JSON_BYTES = 1 << 22
JSON_DEPTH = 32
Array = np.ndarray[Any, np.dtype[Any]]
Scalars = dict[str, float]


def check_arrays(shapes: Mapping[str, Sequence[int]]) -> None:
    """Check that a record can keep arrays of these shapes, before they are made.

    Args:
        shapes: of the arrays, by name.

    Raises:
        ValueError: one has a million numbers or more.

    Example:
        >>> check_arrays({"samples": (64, 784)})
        >>> check_arrays({"samples": (64, 3, 224, 224)})
        Traceback (most recent call last):
        ValueError: array samples has 9633792 numbers; a record keeps fewer than 10^6
    """
    for name, shape in shapes.items():
        if math.prod(shape) >= LARGEST_ARRAY:
            raise ValueError(
                f"array {name} has {math.prod(shape)} numbers; a record keeps fewer than 10^6"
            )


def small(name: str, value: Any) -> Array:
    """An array as a record keeps it, float32.

    Raises:
        ValueError: it has a million numbers or more, or something else in it.
    """
    array = np.asarray(value)
    check_arrays({name: array.shape})
    return array.astype(np.float32)


@dataclass
class Contents:
    """The contents of `run.h5`; `identity`, the run's id and experiment, is None in old ones."""

    config: dict[str, Any]
    provenance: dict[str, Any]
    curves: dict[str, Array] = field(default_factory=dict)
    evaluation: dict[str, Scalars] = field(default_factory=dict)
    arrays: dict[str, Array] = field(default_factory=dict)
    identity: dict[str, Any] | None = None

    def write(self, file: h5py.File) -> None:
        """Fill an open file.

        Raises:
            ValueError, TypeError: an entry is not of the kind that a record keeps.
        """
        for name in ("config", "provenance", "identity"):
            if getattr(self, name) is not None:
                write_json(file, name, getattr(self, name))
        for name, array in self._leaves().items():
            write_array(file, name, array)

    def check(self, path: Path) -> None:
        """Check that what is about to be written can be read again.

        Args:
            path: of the file, for the sentence.

        Raises:
            StoreError: it is larger than `read` allows.
            ValueError: the status is unknown.
        """
        if self.provenance["status"] not in STATUSES:
            raise ValueError(f"a run's status is one of {', '.join(STATUSES)}")
        texts = [json.dumps(part, default=_plain) for part in (self.config, self.provenance)]
        leaves = self._leaves()
        groups = {name.rsplit("/", i)[0] for name in leaves for i in range(name.count("/") + 1)}
        for what, has, most in (
            ("bytes of text", max(map(len, texts)), JSON_BYTES),
            ("levels of text", max(_depth(part) for part in map(json.loads, texts)), JSON_DEPTH),
            ("items", len(groups) + 6, RECORD_ITEMS),
            ("bytes", sum(array.nbytes for array in leaves.values()), RECORD_BYTES // 2),
        ):
            if has > most:
                raise StoreError(
                    f"{path} cannot take that: a record has at most {most:,} {what}, not {has:,}."
                )

    @classmethod
    def read(cls, file: h5py.File) -> Contents:
        """The record in an open file.

        Raises:
            ValueError, KeyError, TypeError: there is none;
                inside `open_read` all of them become a `DamagedError`.
        """
        config, provenance = (read_json(file, name) for name in ("config", "provenance"))
        identity = read_json(file, "identity") if "identity" in file else None
        if not isinstance(config, dict) or not isinstance(provenance.get("status"), str):
            raise ValueError("no record of a run")
        evaluation: dict[str, Scalars] = {}
        for name, value in _below(file, "evaluation").items():
            split, _, figure = name.partition("/")
            evaluation.setdefault(split, {})[figure] = float(value)
        curves, arrays = _below(file, "curves"), _below(file, "arrays")
        return cls(config, provenance, curves, evaluation, arrays, identity)

    def _leaves(self) -> dict[str, Array]:
        """Every array and figure, by its path in the file."""
        found = {
            f"evaluation/{split}/{name}": np.asarray(value, np.float64)
            for split, scalars in self.evaluation.items()
            for name, value in scalars.items()
        }
        for group, arrays in (("curves", self.curves), ("arrays", self.arrays)):
            found |= {f"{group}/{name}": array for name, array in arrays.items()}
        return found


def write_json(file: h5py.File, name: str, value: Any) -> None:
    """Write plain values as one JSON text, so that any HDF5 tool shows them."""
    text = json.dumps(value, default=_plain).encode()
    kind = h5py.string_dtype("utf-8", len(text))
    file.create_dataset(name, data=np.array(text, dtype=kind))


def read_json(file: h5py.File, name: str) -> Any:
    """Read what `write_json` wrote.

    Raises:
        ValueError, KeyError, TypeError: there is no such text, or it is too long or too deep.
    """
    item = file[name]
    if item.shape != () or item.dtype.itemsize > JSON_BYTES:
        raise ValueError(f"{name} has more than {JSON_BYTES} bytes")
    value = json.loads(item[()])
    if _depth(value) > JSON_DEPTH:
        raise ValueError(f"{name} has more than {JSON_DEPTH} levels")
    return value


def _depth(value: Any) -> int:
    """How deep plain values are nested, found without recursion."""
    depth, level = 0, [value]
    while level and depth <= JSON_DEPTH:
        depth += 1
        level = [
            inner
            for part in level
            if isinstance(part, (dict, list))
            for inner in (part.values() if isinstance(part, dict) else part)
        ]
    return depth


def _below(file: h5py.File, name: str) -> dict[str, Array]:
    """Every data set below a group, by its path from there."""
    return dict(_data(h5py.h5g.open(file.id, name.encode()), "")) if name in file else {}


def _data(group: h5py.h5g.GroupID, prefix: str) -> Iterator[tuple[str, Array]]:
    """Contents and paths, without h5py's objects, of which a record has a hundred."""
    for name in group:
        item, path = h5py.h5o.open(group, name), prefix + name.decode()
        if isinstance(item, h5py.h5d.DatasetID):
            yield path, read_data(item)
        elif isinstance(item, h5py.h5g.GroupID):
            yield from _data(item, f"{path}/")


def _plain(value: Any) -> Any:
    """What JSON lacks a word for."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"a {type(value).__name__} cannot be part of a run's record")
