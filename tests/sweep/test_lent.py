"""Runs that a sweep lends to nodes without its results folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from lidcli.store import lease
from lidcli.store.lock import exclusive
from lidcli.sweep.lent import Lent

RECORD = {"run.h5": b"record"}


def taken_over(folder: Path) -> None:
    """Another machine's lease stands where this process's was."""
    path = folder / ".lease"
    path.write_bytes(lease.Lease("theirs", 7, "other", "other/boot", 120.0).bytes())


def test_a_run_that_was_taken_over_is_not_written(tmp_path: Path) -> None:
    folder, lent = tmp_path / "run", Lent()
    lent.lend(folder)
    taken_over(folder)
    said = lent.store(folder, RECORD)
    assert said is not None
    assert "was taken over by process 7 on other" in said
    assert not (folder / "run.h5").exists()
    lent.close()
    assert lease.read(folder) is not None


def test_a_full_disk_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(folder: Path, files: dict[str, bytes]) -> None:
        raise OSError(28, "No space left on device")

    folder, lent = tmp_path / "run", Lent()
    lent.lend(folder)
    monkeypatch.setattr("lidcli.sweep.lent.write_files", full)
    assert lent.store(folder, RECORD) == f"{folder} cannot be written: No space left on device"
    lent.close()


def test_what_another_process_holds_is_not_lent(tmp_path: Path) -> None:
    lent = Lent()
    with exclusive(tmp_path):
        said = lent.lend(tmp_path)
    assert isinstance(said, str)
    assert "is being worked on" in said
    assert tmp_path not in lent


def test_nothing_is_stored_of_a_run_that_is_not_lent(tmp_path: Path) -> None:
    lent = Lent()
    assert lent.store(tmp_path, RECORD) is None
    assert not list(tmp_path.iterdir())
