"""The paper's Figure 1 and Tables 1 and 2 from runs of the mixture, beside its numbers."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lidcli.config.read import load_files
from lidcli.report.collect import collect, read_record
from lidcli.report.figures.draw import Picture, experiment_sketches
from lidcli.report.figures.latents import images
from lidcli.report.groups import blocks
from lidcli.report.tables import block_tables
from lidcli.report.write import build, write

SYNTHETIC = runpy.run_path(str(Path(__file__).parent / "synthetic.py"))
add: Callable[..., Any] = SYNTHETIC["add"]
EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments.yaml"
METHODS = ("vae", "sa-vae", "lagging-vae", "beta-vae", "lidvae", "skip-vae")


def fill(results: Path, layers: tuple[int, ...] = (5, 9)) -> None:
    for method, mi in (("vae", 0.0), ("lidvae", 1.6)):
        add(results, method, experiment="figure1", mi=mi)
        for depth in layers:
            for seed in (0, 1):
                add(
                    results,
                    method,
                    "fashion-mnist",
                    experiment="figure1",
                    seed=seed,
                    ll=-240.0 - seed,
                    mi=mi,
                    settings=(("decoder.layers", depth),),
                )


def test_figure_1_has_points_of_either_model_and_images_by_layers_beside_the_papers(
    tmp_path: Path,
) -> None:
    fill(tmp_path)
    (sketch,) = experiment_sketches(collect(tmp_path).records)
    assert sketch.name == "figure1"
    assert "pinwheel" in sketch.caption
    assert "fashion-mnist by layers" in sketch.caption
    a, b, c, d = sketch.make().axes
    titles = [axes.get_title(loc="left") for axes in (a, b, c, d)]
    assert {axes.get_title() for axes in (a, b, c, d)} == {""}
    assert titles == ["a  vae", "b  lidvae", "c  accuracy (%)", "d  LL (nats)"]
    shades = [len({tuple(p.get_facecolor()[0]) for p in axes.collections}) for axes in (a, b)]
    assert shades == [1, 5], "one category of the classical model, five of the identifiable"
    theirs = {part.get_label(): part.get_offsets()[0].tolist() for part in d.collections}
    assert theirs["vae, the paper's"] == [9.0, -258.8]
    assert theirs["lidvae, the paper's"] == [9.0, -242.3]


def test_its_points_may_be_those_of_a_part_of_the_experiment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Picture, "draw", lambda self: None)
    fill(tmp_path)
    for folder in (tmp_path / "figure1").iterdir():
        if read_record(folder).data == "pinwheel":
            (tmp_path / "figure1-pinwheel").mkdir(exist_ok=True)
            folder.rename(tmp_path / "figure1-pinwheel" / folder.name)
    folder, known = tmp_path / "report", load_files([EXPERIMENTS])
    files = write(build(collect(tmp_path)), folder, [], True, known)
    assert folder / "figures" / "figure1" / "figure1.png" in files


def test_figure_1_needs_points_and_several_depths(tmp_path: Path) -> None:
    fill(tmp_path, layers=(9,))
    assert list(experiment_sketches(collect(tmp_path).records)) == []


@pytest.mark.parametrize(
    ("data", "theirs"),
    [
        ("fashion-mnist", ["0.1", "0.2", "0.9", "−258.8"]),
        ("omniglot", ["0.02", "0.0", "0.1", "−862.1"]),
        ("mnist", ["0.1", "0.1", "0.2", "−108.2"]),
        ("pinwheel", ["0.2", "1.4e-6", "0.002", "−6.2"]),
    ],
)
def test_every_method_of_tables_1_and_2_stands_beside_the_papers(
    tmp_path: Path, data: str, theirs: list[str]
) -> None:
    for method in METHODS:
        add(tmp_path, method, data, experiment="table", ll=-100.0)
    (block,) = blocks(collect(tmp_path).records)
    paper = next(t for t in block_tables(block) if t.name == f"table-{data}-paper")
    assert [row.label for row in paper.rows] == list(METHODS)
    assert [cell.text for cell in paper.rows[0].cells[1::2]] == theirs
    assert [cell.text for cell in paper.rows[-1].cells[1::2]] == ["–"] * 4, "the paper has none"
    assert paper.rows[0].cells[6].text == "−100.0"


def test_the_anchors_own_purity_stands_beside_the_models(tmp_path: Path) -> None:
    said = "Purity, the share of data whose label is the commonest of their category: "
    for seed, purity in enumerate((0.62, 0.64)):
        alone = {"anchor/purity": 0.58}
        add(tmp_path, "lidvae", "mnist", seed=seed, accuracy=purity, evaluation=alone)
    add(tmp_path, "vae", "mnist", accuracy=0.48)
    (block,) = blocks(collect(tmp_path).records)
    assert any(
        remark == f"{said}vae 48.0 %, lidvae 63.0±1.4 %; of the clusters that gave the components'"
        " means, without a model, 58.0 %."
        for remark in block_tables(block)[0].remarks
    )
    other = tmp_path / "other"
    add(other, "vae", "mnist")
    (block,) = blocks(collect(other).records)
    assert not any(said in remark for remark in block_tables(block)[0].remarks)


def test_components_of_images_are_drawn_by_how_common_they_are(tmp_path: Path) -> None:
    add(tmp_path, "lidvae", "digits")
    (block,) = blocks(collect(tmp_path).records)
    group = block.groups[0]
    arrays: dict[str, Any] = SYNTHETIC["images"](0)
    means = np.zeros((3, 64))
    means[1], means[2] = 1.0, 0.25
    arrays["components"] = means
    arrays["q_c"] = np.array([[0.0, 0.9, 0.1], [0.0, 0.8, 0.2]])
    panels = images(group, arrays).axes
    assert [axes.get_title() for axes in panels] == [
        "lidvae: samples",
        "originals above reconstructions",
        "components, the commonest first: 2 of 3 in use",
    ]
    drawn = panels[2].images[0].get_array()
    assert [float(drawn[0, column]) for column in (0, 9, 18)] == [1.0, 0.25, 0.0]
    del arrays["q_c"]
    assert images(group, arrays).axes[2].get_title() == "means of the components"
