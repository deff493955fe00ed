"""Names that are short and still tell settings apart."""

from __future__ import annotations

from pathlib import Path

from lidcli.config.plan import plan_grid
from lidcli.config.read import load_files
from lidcli.names import short_keys
from lidcli.sweep.queue import survey

ROOT = Path(__file__).resolve().parents[1]


def test_keys_that_end_alike_keep_their_section() -> None:
    assert short_keys(["decoder.layers", "encoder.hidden", "decoder.hidden"]) == {
        "decoder.layers": "layers",
        "encoder.hidden": "encoder.hidden",
        "decoder.hidden": "decoder.hidden",
    }


def test_labels_of_a_sweep_tell_two_numbers_of_samples_apart(tmp_path: Path) -> None:
    grid = {"inference.samples": [1], "evaluate.samples": [4]}
    plan = plan_grid(
        load_files([ROOT / "experiments.yaml"]),
        "train",
        models=["vae"],
        data=["digits"],
        grid=grid,
        seeds=[0],
    )
    (job,) = survey(plan, tmp_path, list(grid))
    assert job.label == "vae digits inference.samples=1 evaluate.samples=4 seed 0"
