"""The index saves parsing and is never trusted over a record."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np
import pytest

from lidcli.errors import StoreError
from lidcli.store import index as module
from lidcli.store.find import state
from lidcli.store.hdf5 import DamagedError
from lidcli.store.index import Index, Summary
from lidcli.store.run import Run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    run = Run.create(tmp_path / "demo" / "abc-s0", {"seed": 0, "data": {"name": "x"}}, {})
    run.update(
        provenance={"notes": ["ü", None, 1.5]},
        curves={"valid/elbo": [-3.0, float("nan"), 0.1 + 0.2]},
        evaluation=("test", {"ll": -1.25, "bad": float("inf")}),
        arrays={"points": np.zeros((3, 2)), "pictures": np.zeros((300, 2))},
    )
    return run


def same(a: Summary, b: Summary) -> bool:
    arrays = ("curves", "few")
    told = [
        {key: value for key, value in vars(one).items() if key not in arrays}
        | {
            (key, name): (array.dtype, array.shape, array.tobytes())
            for key in arrays
            for name, array in vars(one)[key].items()
        }
        for one in (a, b)
    ]
    return bool(told[0] == told[1])


def unread(folder: Path) -> None:
    raise AssertionError(f"{folder} was parsed")


def test_what_is_kept_is_what_the_record_says(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = Index(None).summary(run.folder)
    index = Index(tmp_path / "cache" / "index")
    first = index.summary(run.folder)
    monkeypatch.setattr(module.Run, "open", unread)
    assert same(first, plain)
    assert (first.few.keys(), first.shapes["pictures"]) == ({"points"}, (300, 2))
    assert same(index.summary(run.folder), plain)
    assert same(Index(tmp_path / "cache" / "index").summary(run.folder), plain)
    assert index.status(run.folder) == "running"
    assert state(run.folder, index) == "partial"


def test_a_record_that_changed_is_read_again_whatever_its_time_and_place(
    run: Run, tmp_path: Path
) -> None:
    index = Index(tmp_path / "index")
    assert index.status(run.folder) == "running"
    run.update(provenance={"status": "complete"})
    assert index.status(run.folder) == "complete"
    assert state(run.folder, index) == "done"


def test_bytes_that_were_checked_are_not_checked_twice(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = Index(tmp_path / "index")
    digest = module.record_digest(run.folder)
    plain = index.summary(run.folder, digest)
    monkeypatch.setattr(module, "record_digest", unread)
    assert same(index.summary(run.folder, digest), plain)


def test_a_record_that_changed_after_it_was_checked_is_read_and_not_kept_under_the_other_s_name(
    run: Run, tmp_path: Path
) -> None:
    index = Index(tmp_path / "index")
    digest = module.record_digest(run.folder)
    run.update(provenance={"status": "complete"})
    assert index.summary(run.folder, digest).status == "complete"
    with sqlite3.connect(tmp_path / "index") as file:
        assert file.execute("SELECT count(*) FROM record").fetchone() == (0,)
    file.close()


def test_arrays_of_any_shape_are_kept_bit_for_bit(run: Run, tmp_path: Path) -> None:
    run.update(
        arrays={"none": np.zeros((0, 3)), "one": np.float32(-0.0), "odd": np.arange(3, dtype="i1")},
        curves={"valid/empty": [], "valid/ll": [float("inf"), 1e-320]},
    )
    index = Index(tmp_path / "index")
    plain = Index(None).summary(run.folder)
    assert same(index.summary(run.folder), plain)
    assert same(Index(tmp_path / "index").summary(run.folder), plain)


def test_a_record_that_was_damaged_since_is_named(run: Run, tmp_path: Path) -> None:
    index = Index(tmp_path / "index")
    index.summary(run.folder)
    path = run.folder / "run.h5"
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    with pytest.raises(DamagedError, match="damaged"):
        index.summary(run.folder)
    path.unlink()
    with pytest.raises(StoreError, match="is not a run"):
        index.status(run.folder)


def test_a_record_in_another_run_s_folder_is_refused_from_the_index_too(
    run: Run, tmp_path: Path
) -> None:
    index = Index(tmp_path / "index")
    index.summary(run.folder)
    other = run.folder.parent / "def-s0"
    other.mkdir()
    (other / "run.h5").write_bytes((run.folder / "run.h5").read_bytes())
    with pytest.raises(StoreError, match="is the record of run abc-s0 and not of def-s0"):
        index.summary(other)


@pytest.mark.parametrize("what", ["not a database", "other rows", "other numbers", "a folder"])
def test_an_index_that_is_no_use_is_made_anew_or_done_without(
    run: Run, tmp_path: Path, what: str
) -> None:
    path = tmp_path / "index"
    if what == "a folder":
        path.mkdir()
    elif what == "not a database":
        path.write_bytes(b"nonsense" * 1000)
    else:
        index = Index(path)
        index.summary(run.folder)
        with sqlite3.connect(path) as file:
            column = "numbers = zeroblob(length(numbers))" if "numb" in what else "body = x'00'"
            file.execute(f"UPDATE record SET {column}")
        file.close()
    assert same(Index(path).summary(run.folder), Index(None).summary(run.folder))


@pytest.mark.parametrize("column", ["status = 'complete'", "run = 'def-s0'", "status = 'runninf'"])
def test_a_row_that_was_changed_is_not_believed(run: Run, tmp_path: Path, column: str) -> None:
    path = tmp_path / "index"
    Index(path).summary(run.folder)
    with sqlite3.connect(path) as file:
        file.execute(f"UPDATE record SET {column}")
    file.close()
    assert Index(path).status(run.folder) == "running"
    assert same(Index(path).summary(run.folder), Index(None).summary(run.folder))


def test_few_runs_need_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LID_CACHE", str(tmp_path))
    assert Index.of(module.MANY - 1).path is None
    assert Index.of(module.MANY).path == tmp_path / module.NAME
