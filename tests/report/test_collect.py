"""Runs become records and one frame, and nothing is lost in silence."""

from __future__ import annotations

import io
import runpy
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lidcli.errors import StoreError
from lidcli.report.collect import collect, frame, read_record, varying
from lidcli.report.values import clean
from lidcli.store.run import Run

SYNTHETIC = runpy.run_path(str(Path(__file__).parent / "synthetic.py"))
add: Callable[..., Any] = SYNTHETIC["add"]
fill: Callable[..., None] = SYNTHETIC["fill"]


def publish(results: Path, run: Run) -> Path:
    """Move a run to where the repository ships runs."""
    target = results / "published" / run.folder.parent.name / run.folder.name
    shutil.copytree(run.folder, target)
    shutil.rmtree(run.folder)
    return target


def test_every_run_is_a_row(tmp_path: Path) -> None:
    fill(tmp_path, seeds=2)
    table = frame(collect(tmp_path).records)
    assert len(table) == 3 * 2 * 2 + 6
    assert set(table["experiment"]) == {"demo", "pinwheel-depth"}
    assert {"ll", "ll_se", "kl/c", "decoder.layers", "verdict", "wall_seconds"} <= set(table)


def test_settings_that_all_runs_share_are_no_columns(tmp_path: Path) -> None:
    for layers in (5, 9):
        add(tmp_path, "gmvae", settings=(("decoder.layers", layers),))
    records = collect(tmp_path).records
    assert varying(records) == ["decoder.layers"]
    assert "train.epochs" not in frame(records)


def test_sections_with_the_same_contents_are_told_apart(tmp_path: Path) -> None:
    for layers in (5, 9):
        add(tmp_path, "gmvae", settings=(("decoder.layers", layers),))
    records = collect(tmp_path).records
    small, large = {"hidden": 8}, {"hidden": 16}
    pair = [
        replace(record, config={"decoder": small, "encoder": encoder})
        for record, encoder in zip(records, (small, large), strict=True)
    ]
    assert varying(pair) == ["encoder.hidden"]


def test_csv_gives_the_frame_back(tmp_path: Path) -> None:
    fill(tmp_path, seeds=2)
    table = frame(collect(tmp_path).records)
    back = pd.read_csv(io.StringIO(table.to_csv(index=False)))
    assert list(back.columns) == list(table.columns)
    np.testing.assert_array_equal(back["ll"].to_numpy(), table["ll"].to_numpy())
    assert list(back["run"]) == list(table["run"])


def test_other_splits_keep_their_name(tmp_path: Path) -> None:
    run = add(tmp_path, "gmvae", ll=-1.0)
    run.update(evaluation=("train", {"ll": -0.5}))
    row = frame(collect(tmp_path).records).iloc[0]
    assert (row["split"], row["ll"], row["train/ll"]) == ("test", -1.0, -0.5)


def test_a_damaged_run_is_left_out_and_named(tmp_path: Path) -> None:
    add(tmp_path, "gmvae", seed=0)
    bad = add(tmp_path, "gmvae", seed=1).folder / "run.h5"
    content = bytearray(bad.read_bytes())
    content[len(content) // 2] ^= 255
    bad.write_bytes(bytes(content))
    found = collect(tmp_path)
    assert [record.seed for record in found.records] == [0]
    assert len(found.warnings) == 1
    assert bad.parent.name in found.warnings[0]


def test_a_record_without_a_configuration_is_left_out_and_named(tmp_path: Path) -> None:
    Run.create(tmp_path / "demo" / "empty-s0", {}, {})
    found = collect(tmp_path)
    assert found.records == ()
    assert "empty-s0" in found.warnings[0]
    with pytest.raises(StoreError, match="no usable record"):
        read_record(tmp_path / "demo" / "empty-s0")


def test_a_local_run_wins_over_its_published_twin(tmp_path: Path) -> None:
    shipped = publish(tmp_path, add(tmp_path, "gmvae", ll=-2.0))
    add(tmp_path, "gmvae", ll=-1.0)
    (record,) = collect(tmp_path).records
    assert record.metrics["ll"] == -1.0
    assert not record.published
    shutil.rmtree(tmp_path / "demo")
    (record,) = collect(tmp_path).records
    assert record.metrics["ll"] == -2.0
    assert record.published
    assert record.folder == shipped


@pytest.mark.parametrize("trouble", ["unfinished", "damaged"])
def test_a_published_run_stands_in_for_a_local_one_that_is(tmp_path: Path, trouble: str) -> None:
    publish(tmp_path, add(tmp_path, "gmvae", ll=-2.0))
    local = add(tmp_path, "gmvae", status="interrupted")
    if trouble == "damaged":
        (local.folder / "run.h5").write_bytes(b"nothing")
    found = collect(tmp_path)
    assert [record.metrics["ll"] for record in found.records] == [-2.0]
    assert len(found.warnings) == (trouble == "damaged")


def test_only_the_experiments_asked_for_are_read(tmp_path: Path) -> None:
    fill(tmp_path, seeds=1)
    assert set(collect(tmp_path, ["demo"]).experiments()) == {"demo"}


def test_nothing_is_found_where_nothing_is(tmp_path: Path) -> None:
    assert collect(tmp_path / "absent").records == ()
    assert frame([]).empty


def test_a_strangers_texts_cannot_steer_a_terminal(tmp_path: Path) -> None:
    add(tmp_path, "gmvae", provenance={"message": "\x1b[2Jgone\u202e\r", "verdict": "\x07fine"})
    (record,) = collect(tmp_path).records
    assert record.provenance["message"] == "[2Jgone"
    assert record.verdict == "fine"
    assert clean({"a\x1b": ["b\n\tc"]}) == {"a": ["b  c"]}
