"""Figures 2 to 4 and the plot of Theorem 1, from runs in a results folder."""

from __future__ import annotations

import math
import runpy
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lidcli.report.collect import Record, collect
from lidcli.report.figures.draw import experiment_sketches
from lidcli.report.figures.theorem1 import Unit, rank_correlation, units

ROOT = Path(__file__).resolve().parents[2]
PUBLISHED = ROOT / "results"
SYNTHETIC = runpy.run_path(str(Path(__file__).parent / "synthetic.py"))
plane: Callable[..., Any] = SYNTHETIC["plane"]
clusters: Callable[..., Any] = SYNTHETIC["clusters"]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    for sigma in (1.0, 2.0, 3.0, 4.5):
        plane(folder, "ppca-2d", sigma)
    plane(folder, "ppca-1d", 1.0)
    for data in ("gmm-single", "gmm-overlapping"):
        for theta in ("ml", "truth", "shared"):
            clusters(folder, data, theta)
    clusters(folder, "gmm-single", "ml", joint=True)
    return folder


def records(results: Path, name: str) -> list[Record]:
    found = collect(results, [name])
    assert not found.warnings
    return list(found.records)


def figures(rows: Sequence[Record]) -> dict[str, Any]:
    return {sketch.name: sketch.make() for sketch in experiment_sketches(rows)}


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
    assert roots == pytest.approx([4.0, 2.83], abs=0.01)


def test_the_caption_of_figure_2_corrects_the_paper_s_surface(results: Path) -> None:
    captions = {s.name: s.caption for s in experiment_sketches(records(results, "planes"))}
    assert "surface of σ = 2 over σ = 1.5" in captions["likelihood-by-sigma-ppca-2d"]
    assert "nearly, not exactly" in captions["latents"]


def test_figure_4_draws_fixed_and_joint_and_marks_what_did_not_converge(results: Path) -> None:
    made = figures(records(results, "weights"))
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
        [sys.executable, "-m", "lidcli", "report", *names, "-o", str(PUBLISHED), *options],
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
