"""A user's .csv: read exactly, or refused with file, line and what was expected."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lidcli.config.sections import Points
from lidcli.data.points import load_csv, read_csv
from lidcli.errors import DataError

ROWS = [f"{i * 0.37:.3f},{-i * i},{'ab'[i % 2]}" for i in range(40)]


def write(tmp_path: Path, lines: list[str], encoding: str = "utf-8") -> Path:
    path = tmp_path / "mine.csv"
    path.write_bytes(("\n".join(lines) + "\n").encode(encoding))
    return path


def config(path: Path, **settings: object) -> Points:
    return Points(name="mine", path=path, **settings)


def test_a_header_and_a_column_of_labels_are_understood(tmp_path) -> None:
    table = read_csv(write(tmp_path, ["x,y,label", *ROWS]), "label")
    assert table.columns == ("x", "y")
    np.testing.assert_array_equal(table.values[:, 1], [-i * i for i in range(40)])
    np.testing.assert_array_equal(table.labels, np.arange(40) % 2)
    assert table.classes == 2


def test_without_a_header_every_column_is_a_dimension(tmp_path) -> None:
    table = read_csv(write(tmp_path, [f"{i},{i % 7}" for i in range(20)]), "label")
    assert table.values.shape == (20, 2)
    assert (table.labels, table.classes) == (None, None)


def test_labels_that_are_numbers_are_in_the_order_of_numbers(tmp_path) -> None:
    lines = ["arm,x", *(f"{(2, 10, 1)[i % 3]},{i}" for i in range(12))]
    table = read_csv(write(tmp_path, lines), "arm")
    np.testing.assert_array_equal(table.labels, np.tile([1, 2, 0], 4))


def test_spreadsheet_habits_are_forgiven(tmp_path) -> None:
    lines = ['"x, in m", y', *(f' "{i}",{i % 4}\r' for i in range(12)), "", ""]
    lines = [line.replace(' "', '"') for line in lines]
    table = read_csv(write(tmp_path, lines, "utf-8-sig"), "label")
    assert table.columns == ("x, in m", "y")
    assert len(table.values) == 12


def test_scaling_is_by_the_training_part_alone(tmp_path) -> None:
    path = write(tmp_path, ["x,y,label", *ROWS])
    data, raw = load_csv(config(path)), load_csv(config(path, standardise=False))
    assert [len(part.x) for part in (data.train, data.valid, data.test)] == [32, 4, 4]
    np.testing.assert_allclose(data.train.x.mean(axis=0, dtype=float), 0, atol=1e-6)
    np.testing.assert_allclose(data.train.x.std(axis=0, dtype=float), 1, atol=1e-6)
    mean, sd = raw.train.x.mean(axis=0), raw.train.x.std(axis=0)
    np.testing.assert_allclose(data.test.x, (raw.test.x - mean) / sd, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(data.test.labels, raw.test.labels)
    assert (data.shape, data.classes, data.stochastic) == ((2,), 2, False)


def test_the_note_gives_the_constant_back_to_the_file_s_units(tmp_path) -> None:
    path = write(tmp_path, ["x,y,label", *ROWS])
    raw = load_csv(config(path, standardise=False))
    _, note = load_csv(config(path)).notes
    constant = -np.log(raw.train.x.astype(float).std(axis=0)).sum()
    assert float(note.split("LL ")[-1].removesuffix(" nats.")) == pytest.approx(constant, abs=1e-3)
    assert len(raw.notes) == 1


NUMBERS = [f"{i},{i % 7}" for i in range(20)]


def changed(line: int, text: str, lines: list[str] = NUMBERS) -> list[str]:
    return [*lines[: line - 1], text, *lines[line:]]


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (changed(7, "nan,1"), "line 7, column 1: expected a finite number, found nan"),
        (changed(7, "1,-inf"), "line 7, column 2: expected a finite number, found -inf"),
        (changed(7, "1,1e39"), "line 7, column 2: expected a finite number, found 1e39"),
        (changed(7, "1,2,3"), "line 7: 3 cells; expected 2 as in line 1"),
        (changed(7, "1"), "line 7: 1 cell; expected 2 as in line 1"),
        (changed(7, "1,two"), "line 7, column 2: expected a number, found 'two'"),
        (changed(7, "1,"), "line 7, column 2: expected a number, found an empty cell"),
        (changed(1, "1,"), "line 1, column 2: expected a number, found an empty cell"),
        (changed(1, "1,y"), "line 1: 'y' stands among numbers"),
        (changed(1, "x,x"), "line 1: expected a different name in every cell"),
        (changed(1, ","), "line 1: expected a different name in every cell"),
        (changed(7, '"1,1'), "expected numbers"),
        ([f"{i},3" for i in range(20)], "column 2 is 3 in every row"),
        (["x,y", *(f"{i};3" for i in range(20))], "line 2: 1 cell; expected 2"),
        (NUMBERS[:9], "holds 9 rows of data; expected 10 at least"),
        (["x,y"], "holds 0 rows of data"),
        ([], "is empty"),
        (["label", *("ab" * 10)], "holds labels only"),
        (["x,label", *(f"{i},{i}" for i in range(20))], "label has 20 different values in 20 rows"),
        (["x,label", *(f"{i},a" for i in range(20))], "label has 1 different values"),
        (
            ["x,label", *(f"{i},{i % 2}" for i in range(20)), "5,"],
            "line 22, label: expected a label",
        ),
    ],
)
def test_a_wrong_file_is_refused_with_its_line(tmp_path, lines, words: str) -> None:
    path = write(tmp_path, lines)
    with pytest.raises(DataError) as caught:
        load_csv(config(path))
    assert words in str(caught.value)
    assert str(caught.value).startswith(str(path))


def test_a_label_that_is_not_there_is_named_with_the_nearest(tmp_path) -> None:
    path = write(tmp_path, ["x,y,kind", *ROWS])
    with pytest.raises(DataError, match="no column 'kinds'; did you mean kind"):
        load_csv(config(path, label="kinds"))
    with pytest.raises(DataError, match="no header"):
        load_csv(config(write(tmp_path, NUMBERS), label="kind"))


def test_a_missing_file_a_folder_and_another_encoding_are_refused(tmp_path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        load_csv(config(tmp_path / "nowhere.csv"))
    with pytest.raises(DataError, match="cannot be read: Is a directory"):
        load_csv(config(tmp_path))
    path = write(tmp_path, ["größe,y", *NUMBERS], "latin-1")
    with pytest.raises(DataError, match="not UTF-8"):
        load_csv(config(path))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(*[st.floats(-1e30, 1e30, allow_subnormal=False)] * 2),
        min_size=10, max_size=30, unique_by=(lambda r: r[0], lambda r: r[1]),
    )
)  # fmt: skip
def test_every_finite_number_comes_back_exactly(tmp_path, rows) -> None:
    table = read_csv(write(tmp_path, [f"{a!r},{b!r}" for a, b in rows]), "label")
    np.testing.assert_array_equal(table.values, np.array(rows))


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=400))
def test_no_bytes_at_all_end_in_anything_but_one_sentence(tmp_path, content: bytes) -> None:
    path = tmp_path / "mine.csv"
    path.write_bytes(content)
    with contextlib.suppress(DataError):
        load_csv(config(path))


def rows_of(*columns: list[str]) -> list[str]:
    return [",".join(cells) for cells in zip(*columns, strict=True)]


def test_labels_beyond_the_integers_of_a_float_stay_apart(tmp_path) -> None:
    names = [str(2**53 + i % 3) for i in range(30)]
    table = read_csv(
        write(tmp_path, ["x,label", *rows_of(list(map(str, range(30))), names)]), "label"
    )
    assert table.classes == 3
    np.testing.assert_array_equal(table.labels, np.arange(30) % 3)


def test_labels_that_are_the_same_number_are_the_same_label(tmp_path) -> None:
    names = [("1", "1.0", "10e-1", "2", "+2", "-3e0")[i % 6] for i in range(60)]
    table = read_csv(
        write(tmp_path, ["x,label", *rows_of(list(map(str, range(60))), names)]), "label"
    )
    assert table.classes == 3
    np.testing.assert_array_equal(table.labels[:6], [1, 1, 1, 2, 2, 0])


@pytest.mark.timeout(20)
@pytest.mark.parametrize("other", ["nan", "inf", "1_0", "1e999999999", "٣"])
def test_odd_labels_are_labels_too(tmp_path, other: str) -> None:
    names = [("1", other)[i % 2] for i in range(30)]
    table = read_csv(
        write(tmp_path, ["x,label", *rows_of(list(map(str, range(30))), names)]), "label"
    )
    assert table.classes == 2
    np.testing.assert_array_equal(table.labels, table.labels[0] ^ (np.arange(30) % 2))


@pytest.mark.parametrize("cell", ["1_0", "1_000.5", "٣", "１"])
def test_what_only_python_calls_a_number_is_none(tmp_path, cell: str) -> None:
    lines = ["x,y", *ROWS_OF_TWO[:5], f"{cell},3", *ROWS_OF_TWO[5:]]
    with pytest.raises(DataError, match=r"line 7, x: expected a number, found"):
        read_csv(write(tmp_path, lines), "label")


ROWS_OF_TWO = [f"{i},{i % 7}" for i in range(20)]


@pytest.mark.parametrize("size", ["e-308", "e-320", "e-160", "e+36", ""])
def test_columns_of_any_size_are_scaled_alike(tmp_path, size: str) -> None:
    cells = [f"{1 + (i * 7) % 40}{size}" for i in range(40)]
    other = [f"{i % 3}" for i in range(40)]
    data = load_csv(config(write(tmp_path, ["x,y", *rows_of(cells, other)])))
    plain = [f"{1 + (i * 7) % 40}" for i in range(40)]
    known = load_csv(config(write(tmp_path, ["x,y", *rows_of(plain, other)])))
    tolerance = 1e-3 if size == "e-320" else 1e-6
    np.testing.assert_allclose(data.train.x, known.train.x, atol=tolerance)
    assert abs(float(data.train.x[:, 0].std()) - 1) < 1e-5
    assert "nan" not in data.notes[1]


@pytest.mark.parametrize("at", range(10))
def test_a_row_too_far_from_all_others_is_refused_and_no_infinity(tmp_path, at: int) -> None:
    cells = [f"1.{i}e-10" for i in range(10)]
    cells[at] = "3e38"
    path = write(tmp_path, ["x,y", *rows_of(cells, list("0123456789"))])
    raw = load_csv(config(path, test_fraction=0.2, standardise=False))
    if raw.train.x.max() > 1e38:
        data = load_csv(config(path, test_fraction=0.2))
        assert all(np.isfinite(part.x).all() for part in (data.train, data.valid, data.test))
    else:
        with pytest.raises(DataError, match=r"x holds 3e\+38, too far from the training part"):
            load_csv(config(path, test_fraction=0.2))


def test_a_column_that_does_not_vary_in_single_precision_is_refused(tmp_path) -> None:
    for cells in ([f"{i}e-300" for i in range(40)], [f"{10**12 + i}" for i in range(40)]):
        path = write(tmp_path, ["x,y", *rows_of(cells, [str(i % 5) for i in range(40)])])
        with pytest.raises(DataError, match=r"x has one value only .* in single precision"):
            load_csv(config(path, standardise=False))
        load_csv(config(path))


@pytest.mark.timeout(20)
def test_a_pipe_or_an_endless_file_is_refused_without_reading(tmp_path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(DataError, match=r"pipe\.csv is not a plain file"):
        load_csv(config(tmp_path / "pipe.csv"))
    with pytest.raises(DataError, match="is not a plain file"):
        load_csv(config(Path("/dev/zero")))
    (tmp_path / "long.csv").write_text("1,2\n")
    os.truncate(tmp_path / "long.csv", 1 << 40)
    with pytest.raises(DataError, match="lid reads files of at most 1 GiB"):
        load_csv(config(tmp_path / "long.csv"))
