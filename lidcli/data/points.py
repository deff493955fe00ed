"""A user's points: a `.csv` file of numbers, with a header and a column of labels or without."""

from __future__ import annotations

import contextlib
import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lidcli.config.sections import Points
from lidcli.data.dataset import Dataset, Split, fingerprint
from lidcli.data.files import LARGEST_FILE, check_plain
from lidcli.data.splits import split
from lidcli.errors import DataError
from lidcli.names import nearest

__all__ = ["CsvTable", "load_csv", "read_csv", "read_numbers"]

SMALLEST_TABLE = 10
LARGEST_VALUE = float(np.finfo(np.float32).max)
DEFAULT_LABEL = Points.model_fields["label"].default


@dataclass(frozen=True)
class CsvTable:
    """The contents of a file: values (N, D) float64, labels (N,) and their number."""

    columns: tuple[str, ...]
    values: NDArray[np.float64]
    labels: NDArray[np.int64] | None
    classes: int | None


def load_csv(config: Points) -> Dataset:
    """Points from a `.csv` file, shifted and scaled by the training part alone.

    Args:
        config: `path` names the file, `label` its column of labels (any text; used in the
            evaluation only), `standardise` says whether to scale.

    Raises:
        ConfigError: more data asked for than there are.
        DataError: the file is not as expected, named with its line.
    """
    assert config.path is not None
    table = read_csv(config.path, config.label)
    rows = split(config, len(table.values), None)
    notes = [
        f"{config.name}: no published split; a random {config.test_fraction:.0%} of"
        f" {len(table.values):,} points is the test set (split seed {config.split_seed})."
    ]
    values = table.values
    if config.standardise:
        values, log_scale = _standardise(config.path, table, rows.train)
        notes.append(
            f"{config.name}: standardised by the training part; LL in the file's own units ="
            f" LL {-log_scale:+.3f} nats."
        )
    single = values[rows.train].astype(np.float32)
    flat = single.min(axis=0) == single.max(axis=0)
    if flat.any():
        raise DataError(
            f"{config.path}: {table.columns[int(flat.argmax())]} has one value only in the training"
            " part in single precision; expected a column that varies, or data.standardise: true."
        )
    parts = [
        Split(
            values[chosen].astype(np.float32),
            None if table.labels is None else table.labels[chosen],
        )
        for chosen in (rows.train, rows.valid, rows.test)
    ]
    return Dataset(
        name=config.name,
        form="points",
        train=parts[0],
        valid=parts[1],
        test=parts[2],
        shape=(values.shape[1],),
        classes=table.classes,
        stochastic=False,
        sha256=fingerprint(*parts),
        notes=tuple(notes),
    )


def _standardise(
    path: Path, table: CsvTable, train: NDArray[np.int64]
) -> tuple[NDArray[np.float64], float]:
    """Values of mean 0 and sd 1 in the training part, and the sum of the logs of the sds.

    Columns are first brought to the size of 1 by a power of two, which rounds nothing, so that
    squares neither overflow nor vanish.
    """
    known = table.values[train]
    flat = known.min(axis=0) == known.max(axis=0)
    if flat.any():
        raise DataError(
            f"{path}: {table.columns[int(flat.argmax())]} has one value only in the"
            " training part; expected a column that varies, or data.standardise: false."
        )
    power = np.frexp(np.abs(known).max(axis=0))[1]
    with np.errstate(over="ignore"):
        values = np.ldexp(table.values, -power)
        known = values[train]
        scale = known.std(axis=0)
        values = (values - known.mean(axis=0)) / scale
    far = ~(np.abs(values) <= LARGEST_VALUE)
    if far.any():
        row, column = np.argwhere(far)[0]
        raise DataError(
            f"{path}: {table.columns[column]} holds {table.values[row, column]:g}, too far from"
            " the training part to be scaled by it; expected numbers of one size, or"
            " data.standardise: false."
        )
    return values, float((np.log(scale) + power * np.log(2)).sum())


def read_csv(path: Path, label: str | None) -> CsvTable:
    """Read a file of comma-separated numbers.

    The first line is a header if none of its cells is a number.

    Args:
        path: the file, UTF-8.
        label: the header's name for the labels. `label` itself may be missing.

    Raises:
        DataError: file, line and what was expected.
    """
    lines = _lines(path)
    columns, header = _header(path, lines[0])
    body = lines[1:] if header else lines
    at = _label_column(path, columns, header, label)
    if len(body) < SMALLEST_TABLE:
        raise DataError(
            f"{path} holds {len(body)} rows of data; expected {SMALLEST_TABLE} at least."
        )
    kept = [i for i in range(len(columns)) if i != at]
    if not kept:
        raise DataError(f"{path} holds labels only; expected columns of numbers.")
    values = _values(path, lines[0][0], columns, body, kept)
    names = [] if at is None else [_name(path, n, columns[at], cells[at]) for n, cells in body]
    chosen = tuple(columns[i] for i in kept)
    _refuse_constant(path, chosen, values)
    labels, classes = _classes(path, names, columns[at]) if at is not None else (None, None)
    return CsvTable(chosen, values, labels, classes)


def read_numbers(path: Path) -> NDArray[np.float64]:
    """The numbers (N, D) of a file of comma-separated ones, below a header or not.

    Args:
        path: the file, UTF-8.

    Raises:
        DataError: file, line and what was expected.
    """
    lines = _lines(path)
    columns, header = _header(path, lines[0])
    body = lines[1:] if header else lines
    if not body:
        raise DataError(f"{path} holds no data below its header.")
    return _values(path, lines[0][0], columns, body, range(len(columns)))


def _values(
    path: Path,
    first: int,
    columns: tuple[str, ...],
    body: Sequence[tuple[int, list[str]]],
    kept: Sequence[int],
) -> NDArray[np.float64]:
    """The numbers of some columns, every line as long as the first."""
    values = np.empty((len(body), len(kept)))
    for row, (line, cells) in enumerate(body):
        if len(cells) != len(columns):
            raise DataError(
                f"{path}, line {line}: {_cells(len(cells))}; expected {len(columns)} as in line"
                f" {first}."
            )
        values[row] = [_number(path, line, columns[i], cells[i]) for i in kept]
    return values


def _refuse_constant(path: Path, columns: tuple[str, ...], values: NDArray[np.float64]) -> None:
    constant = values.min(axis=0) == values.max(axis=0)
    if constant.any():
        column = int(constant.argmax())
        raise DataError(
            f"{path}: {columns[column]} is {values[0, column]:g} in every row; expected a"
            " column that varies. Leave it out."
        )


def _lines(path: Path) -> list[tuple[int, list[str]]]:
    """The cells of every line that is not blank, one at least, with its number."""
    check_plain(path, LARGEST_FILE)
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream, strict=True)
            found = [
                (reader.line_num, [cell.strip() for cell in cells]) for cells in reader if cells
            ]
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; data.path must name a .csv file.") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text; expected numbers and commas.") from error
    except csv.Error as error:
        raise DataError(
            f"{path}, line {reader.line_num}: {error}; expected numbers and commas."
        ) from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error
    if not found:
        raise DataError(f"{path} is empty; expected rows of numbers.")
    return found


def _value(cell: str) -> float:
    """The number in a cell; what only Python reads as one, `1_0` or other digits, is none."""
    if "_" in cell or not cell.isascii():
        raise ValueError(cell)
    return float(cell)


def _is_number(cell: str) -> bool:
    try:
        _value(cell)
    except ValueError:
        return False
    return True


def _header(path: Path, first: tuple[int, list[str]]) -> tuple[tuple[str, ...], bool]:
    """Column names, and whether the first line gives them."""
    line, cells = first
    numbers = [_is_number(cell) for cell in cells]
    if all(numbers) or (any(numbers) and not all(cells)):
        return tuple(f"column {i + 1}" for i in range(len(cells))), False
    if any(numbers):
        odd = cells[numbers.index(False)]
        raise DataError(
            f"{path}, line {line}: {odd!r} stands among numbers; expected numbers only, or a"
            " header of names."
        )
    if len(set(cells)) != len(cells) or not all(cells):
        raise DataError(f"{path}, line {line}: expected a different name in every cell.")
    return tuple(cells), True


def _label_column(
    path: Path, columns: tuple[str, ...], header: bool, label: str | None
) -> int | None:
    named = columns if header else ()
    if label is None or (label == DEFAULT_LABEL and label not in named):
        return None
    if not header:
        raise DataError(f"{path} has no header; expected one that names the label {label!r}.")
    if label not in named:
        raise DataError(f"{path} has no column {label!r}; {nearest(label, named)}")
    return named.index(label)


def _number(path: Path, line: int, column: str, cell: str) -> float:
    try:
        value = _value(cell)
    except ValueError:
        found = repr(cell) if cell else "an empty cell"
        raise DataError(
            f"{path}, line {line}, {column}: expected a number, found {found}."
        ) from None
    if not math.isfinite(value) or abs(value) > LARGEST_VALUE:
        raise DataError(f"{path}, line {line}, {column}: expected a finite number, found {cell}.")
    return value


def _name(path: Path, line: int, column: str, cell: str) -> str:
    if not cell:
        raise DataError(f"{path}, line {line}, {column}: expected a label, found none.")
    return cell


def _classes(path: Path, names: list[str], column: str) -> tuple[NDArray[np.int64], int]:
    """Labels numbered in rising order, as exact numbers where all are."""
    keys: list[Any] = names
    if all(map(_is_number, names)):
        with contextlib.suppress(InvalidOperation):
            exact = [Decimal(name) for name in names]
            keys = exact if all(map(Decimal.is_finite, exact)) else names
    values = sorted(set(keys))
    if not 2 <= len(values) <= len(names) // 2:
        raise DataError(
            f"{path}: {column} has {len(values)} different values in {len(names)} rows; expected"
            " a label of some rows each. Name another with data.label, or none with null."
        )
    place = {key: i for i, key in enumerate(values)}
    return np.array([place[key] for key in keys], np.int64), len(values)


def _cells(count: int) -> str:
    return f"{count} cell" if count == 1 else f"{count} cells"
