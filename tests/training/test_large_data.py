"""Data and models of many numbers train to the end: what a record keeps of them is bounded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lidcli.metrics.pictures import NUMBERS
from lidcli.store.record import LARGEST_ARRAY
from lidcli.store.run import Run

ENTRIES = """\
data:
  scans: {kind: image, path: scans.npz}
  table: {kind: points, path: table.csv}
"""
TINY = [
    "decoder.hidden=8", "encoder.hidden=8", "encoder.layers=1", "model.latent=2",
    "train.epochs=1", "evaluate.samples=2", "evaluate.outer=4",
]  # fmt: skip


@pytest.fixture
def entries(tmp_path: Path) -> Path:
    (tmp_path / "mine.yaml").write_text(ENTRIES)
    return tmp_path


def train(lid, folder: Path, model: str, data: str, *settings: str) -> Run:
    given = [word for setting in settings for word in ("--set", setting)]
    done = lid("train", "-m", model, "-d", data, "-c", "mine.yaml", *given)
    assert done.returncode == 0, done.stderr
    (record,) = (folder / "results").glob("*/*/run.h5")
    return Run.open(record.parent)


def test_decoded_components_of_many_categories_are_kept_as_far_as_a_record_goes(
    lid, entries
) -> None:
    rng = np.random.default_rng(0)
    np.savez(entries / "scans.npz", x=rng.random((60, 64, 64)))
    more = ("model.family=mixture", "model.categories=250", "inference.hidden=8")
    run = train(lid, entries, "vae", "scans", *TINY, *more)
    assert run.status == "complete"
    kept = run.arrays["components"]
    assert kept.shape == (NUMBERS // 4096, 4096)
    assert run.arrays["prior_means"].shape == (250, 2)


@pytest.mark.parametrize("model", ["vae", "ppca"])
def test_points_of_510_columns_are_kept_as_far_as_a_record_goes(lid, entries, model) -> None:
    rng = np.random.default_rng(0)
    np.savetxt(entries / "table.csv", rng.normal(size=(4200, 510)), delimiter=",", fmt="%.3f")
    more = {
        "vae": [*TINY, "inference.hidden=8", "model.categories=2"],
        "ppca": ["model.latent=505", "data.test_fraction=0.5"],
    }[model]
    run = train(lid, entries, model, "table", *more)
    assert run.status == "complete"
    assert max(array.size for array in run.arrays.values()) <= NUMBERS


def test_data_that_no_record_keeps_are_refused_before_training(lid, entries) -> None:
    side = int(np.sqrt(LARGEST_ARRAY))
    np.savez(entries / "scans.npz", x=np.random.default_rng(0).random((16, side, side)))
    given = [word for setting in TINY for word in ("--set", setting)]
    done = lid("train", "-m", "vae", "-d", "scans", "-c", "mine.yaml", *given)
    assert done.returncode == 4, done.stderr
    assert "The data of scans are too large: " in done.stderr
    assert not (entries / "results").exists()


@pytest.mark.parametrize("model", ["vae", "lidvae"])
def test_images_of_fifteen_thousand_pixels_train_to_the_end(lid, entries, model) -> None:
    rng = np.random.default_rng(0)
    np.savez(entries / "scans.npz", x=rng.random((400, 125, 125)))
    family = ("model.family=continuous", "inference.hidden=8")
    run = train(lid, entries, model, "scans", *TINY, *family)
    assert run.status == "complete"
    assert run.evaluation["test"]["min_singular_value"] >= 0
