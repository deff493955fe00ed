"""Figures 2 to 4 and the plot of Theorem 1, from runs in a results folder."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lidcli.cli.progress import Silent
from lidcli.config.load import load_files, resolve
from lidcli.report.classical import classical_figures
from lidcli.report.collect import Record, collect
from lidcli.report.theorem1 import Unit, rank_correlation, units
from lidcli.store.run import Run
from lidcli.training.lifecycle import execute

ROOT = Path(__file__).resolve().parents[2]
PUBLISHED = ROOT / "results"


def make(results: Path, experiment: str, model: str, data: str, **settings: Any) -> Run:
    known = load_files([ROOT / "experiments.yaml"])
    overrides = [(key.replace("__", "."), value) for key, value in settings.items()]
    config = resolve(known, model=model, data=data, overrides=overrides)
    return execute(config, results, experiment, Silent())


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    for sigma in (1.0, 2.0, 3.0, 4.5):
        make(folder, "planes", "ppca", "ppca-2d", model__sigma=sigma)
    make(folder, "planes", "ppca", "ppca-1d", model__sigma=1.0)
    for model in ("gmm", "gmm-truth", "gmm-shared"):
        for data in ("gmm-single", "gmm-overlapping"):
            make(folder, "weights", model, data, data__train=2000)
    joint = make(folder, "weights", "gmm-shared", "gmm-single", data__train=2001)
    draws = np.random.default_rng(0).beta(5, 5, size=500)
    scalars = {"nuts/alpha/mean": 0.5, "nuts/alpha/sd": 0.15, "nuts/rhat": 1.3}
    joint.update(
        provenance={"converged": False}, evaluation=("train", scalars), arrays={"nuts_alpha": draws}
    )
    return folder


def records(results: Path, name: str) -> list[Record]:
    found = collect(results, [name])
    assert not found.warnings
    return list(found.records)


def figures(rows: Sequence[Record]) -> dict[str, Any]:
    return {name: make() for name, _, make in classical_figures(rows)}


def texts(figure: Any) -> list[str]:
    """Every title and text of a figure."""
    own = [text.get_text() for axes in figure.axes for text in (axes.title, *axes.texts)]
    return [*own, *([figure._suptitle.get_text()] if figure._suptitle else [])]


def test_a_grid_over_sigma_gives_figure_2_and_both_data_sets_figure_3(results: Path) -> None:
    made = figures(records(results, "planes"))
    assert set(made) == {"likelihood-by-sigma-ppca-2d", "latents", "theorem1"}
    assert len(made["likelihood-by-sigma-ppca-2d"].axes) == 3 * 4
    assert len(made["latents"].axes) == 6


def test_figure_2_says_where_a_latent_is_collapsed_and_where_not(results: Path) -> None:
    said = texts(figures(records(results, "planes"))["likelihood-by-sigma-ppca-2d"])
    assert sum("collapsed" in text for text in said) == 3
    assert any("σ = 4.5" in text for text in said)
    (sentence,) = (text for text in said if "collapse from" in text)
    roots = [float(word) for word in sentence.split() if word.replace(".", "").isdigit()][-2:]
    assert roots == pytest.approx([4.02, 2.83], abs=0.01)


def test_the_caption_of_figure_2_corrects_the_paper_s_surface(results: Path) -> None:
    captions = {name: text for name, text, _ in classical_figures(records(results, "planes"))}
    assert "surface of σ = 2 over σ = 1.5" in captions["likelihood-by-sigma-ppca-2d"]
    assert "nearly, not exactly" in captions["latents"]


def test_figure_4_draws_fixed_and_joint_and_marks_what_did_not_converge(results: Path) -> None:
    rows = records(results, "weights")
    marked = [r for r in rows if r.provenance.get("converged") is False]
    joint = replace(marked[0], settings={**marked[0].settings, "inference.joint": True})
    made = figures([*(r for r in rows if r is not marked[0]), joint])
    assert set(made) == {"weight"}
    figure = made["weight"]
    assert len(figure.axes) == 3 * 2
    assert any("not converged" in text for text in texts(figure))
    flat = next(line for line in figure.axes[0].lines if line.get_label() == "equal components")
    assert np.ptp(flat.get_ydata()) < 1e-6


def test_units_of_a_ppca_are_perfectly_ranked(results: Path) -> None:
    found = units(records(results, "planes"))
    assert len(found) == 10
    assert rank_correlation(found) == pytest.approx(1.0)
    assert [u.kl for u in found].count(0.0) == [u.variation for u in found].count(0.0) == 3


def test_the_weight_of_a_mixture_is_no_unit_of_a_datum(results: Path) -> None:
    assert {u.name for u in units(records(results, "weights"))} == {"c"}


def test_values_within_three_standard_errors_of_zero_are_tied(results: Path) -> None:
    record = records(results, "planes")[0]
    metrics = {"kl_unit/z/1": 0.2, "kl_unit/z/1_se": 0.1, "variation/z/1": 5.0}
    (unit,) = units([replace(record, metrics=metrics)])
    assert (unit.kl, unit.variation) == (0.0, 5.0)


def test_rank_correlation_is_spearman_s() -> None:
    rng = np.random.default_rng(0)
    kl, variation = rng.integers(0, 5, 40).astype(float), rng.integers(0, 5, 40).astype(float)
    found = [Unit("r", "m", "z/1", a, b) for a, b in zip(kl, variation, strict=True)]
    from scipy.stats import spearmanr

    assert rank_correlation(found) == pytest.approx(spearmanr(kl, variation)[0])
    assert math.isnan(rank_correlation(found[:1] * 4))


@pytest.mark.skipif(
    not (PUBLISHED / "published" / "theorem1").is_dir(), reason="no published runs here"
)
def test_the_published_runs_show_theorem_1() -> None:
    rows = [r for r in records(PUBLISHED, "theorem1") if r.published and r.complete]
    found = units(rows)
    assert {u.method for u in found} == {"ppca", "gmvae", "lidgmvae"}
    assert rank_correlation(found) >= 0.95
    assert [u.variation for u in found if u.kl == 0.0] == [0.0] * sum(u.kl == 0 for u in found)


@pytest.mark.skipif(
    not (PUBLISHED / "published" / "figure2").is_dir(), reason="no published runs here"
)
def test_figures_2_to_4_are_drawn_from_published_runs(tmp_path: Path) -> None:
    names, options = ("figure2", "figure3", "figure4"), ("--output", str(tmp_path), "-f", "html")
    done = subprocess.run(
        [sys.executable, "-m", "lidcli.cli", "report", *names, "-o", str(PUBLISHED), *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for folder, name in (
        ("figure2", "likelihood-by-sigma-ppca-2d"),
        ("figure3", "latents"),
        ("figure4", "weight"),
    ):
        for suffix in (".png", ".pdf"):
            assert (tmp_path / "figures" / folder / f"{name}{suffix}").stat().st_size > 5000
