"""Figures are drawn from what runs hold, and only from that."""

from __future__ import annotations

import runpy
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lidcli.metrics.quantities import QUANTITIES, declare
from lidcli.metrics.quantity import Quantity
from lidcli.report.collect import collect
from lidcli.report.figures.curves import by_key, curves
from lidcli.report.figures.draw import Picture, block_sketches, pictures, slug
from lidcli.report.figures.latents import matching
from lidcli.report.figures.style import colours, legend, new, palette
from lidcli.report.groups import blocks

SYNTHETIC = runpy.run_path(str(Path(__file__).parent / "synthetic.py"))
add: Callable[..., Any] = SYNTHETIC["add"]
continuous: Callable[..., Any] = SYNTHETIC["continuous"]


def drawn(results: Path) -> tuple[dict[str, Picture], list[str]]:
    (block,) = blocks(collect(results).records)
    made = {picture: picture.draw() for picture in pictures(block, results / "figures")}
    failures = [text for text in made.values() if text is not None]
    return {picture.name: picture for picture, text in made.items() if text is None}, failures


def size(png: Path) -> tuple[int, int]:
    content = png.read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", content[16:24])
    return width, height


def test_points_have_a_panel_a_model_and_a_figure_of_all(tmp_path: Path) -> None:
    for method in ("vae", "beta-vae", "lidvae"):
        add(tmp_path, method)
    pictures, warnings = drawn(tmp_path)
    assert warnings == []
    assert set(pictures) == {
        "pinwheel-c-categories",
        "pinwheel-c-categories-vae",
        "pinwheel-c-categories-beta-vae",
        "pinwheel-c-categories-lidvae",
        "pinwheel-c-components",
        "pinwheel-c-curves",
    }
    for picture in pictures.values():
        assert picture.png.stat().st_size > 10_000
        assert picture.pdf.read_bytes()[:5] == b"%PDF-"
    assert size(pictures["pinwheel-c-categories"].png) == (1380, 690)
    assert size(pictures["pinwheel-c-categories-vae"].png) == (690, 690)


def test_images_have_samples_and_reconstructions(tmp_path: Path) -> None:
    add(tmp_path, "lidvae", "digits")
    pictures, _ = drawn(tmp_path)
    assert size(pictures["digits-c-images-lidvae"].png) == (960, 510)


def test_a_numeric_grid_key_is_drawn_against_the_metrics(tmp_path: Path) -> None:
    for layers in (5, 9):
        for seed in (0, 1):
            add(tmp_path, "gmvae", seed=seed, settings=(("decoder.layers", layers),))
    pictures, _ = drawn(tmp_path)
    assert size(pictures["pinwheel-c-by-decoder-layers"].png) == (1620, 390)


def test_curves_have_a_panel_for_what_was_recorded_and_no_other(tmp_path: Path) -> None:
    continuous(tmp_path)
    (block,) = blocks(collect(tmp_path).records)
    axes = curves(block).axes
    assert all(one.lines for one in axes)
    assert [one.get_title() for one in axes] == [
        "ELBO (nats) (dotted: training)",
        "AU of z",
        "KL of z (nats)",
    ]


def test_curves_of_a_mixture_have_four_panels(tmp_path: Path) -> None:
    add(tmp_path, "gmvae")
    (block,) = blocks(collect(tmp_path).records)
    axes = curves(block).axes
    assert len(axes) == 4
    assert all(one.lines for one in axes)


def test_of_many_runs_some_have_a_line_and_the_mean_is_of_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(4):
        add(tmp_path, "gmvae", seed=seed)
    (block,) = blocks(collect(tmp_path).records)
    whole = curves(block).axes[0].lines
    monkeypatch.setattr("lidcli.report.figures.curves.THIN", 2)
    some = curves(block).axes[0].lines
    assert len(some) < len(whole)
    means = [[y for line in lines if line.get_linewidth() == 1.6 for y in line.get_ydata()]
             for lines in (whole, some)]  # fmt: skip
    assert means[0] == means[1]


def test_a_quantity_of_a_user_is_drawn_against_the_grid(tmp_path: Path) -> None:
    for layers in (5, 9):
        grid = (("decoder.layers", layers),)
        add(tmp_path, "gmvae", settings=grid, evaluation={"fid": float(layers)})
    declare(Quantity("fid", "FID", better="lower", table="fit"))
    try:
        (block,) = blocks(collect(tmp_path).records)
        titles = [axes.get_title() for axes in by_key(block, "decoder.layers").axes]
    finally:
        del QUANTITIES["fid"]
    assert titles == ["LL (nats)", "AU of c", "MI of c (nats)", "accuracy (%)", "FID"]


def test_a_dial_over_decades_is_drawn_in_logarithms_with_what_is_allowed(tmp_path: Path) -> None:
    for epsilon in (0.01, 0.1, 1.0):
        grid = (("decoder.inverse_lipschitz", epsilon),)
        measured = {"mi/z": 1.5, "allowed/mi": 2 + epsilon}
        told = {"facts": {"symbol": "z", "judged": "z", "units": {"z": 2}}}
        add(tmp_path, "lidvae", settings=grid, evaluation=measured, provenance=told)
    (block,) = blocks(collect(tmp_path).records)
    panels = {axes.get_title(): axes for axes in by_key(block, "decoder.inverse_lipschitz").axes}
    mi = panels["MI of z (nats)"]
    assert mi.get_xscale() == "log"
    assert [text.get_text() for text in mi.get_xticklabels()] == ["0.01", "0.1", "1"]
    (allowed,) = (line for line in mi.lines if line.get_label() == "lidvae, allowed")
    assert [*allowed.get_ydata()] == [2.01, 2.1, 3.0]


@pytest.mark.parametrize("count", [1, 10, 11, 50])
def test_no_two_categories_have_one_colour(count: int) -> None:
    shades = {colour for colour, _ in palette(range(count)).values()}
    assert len(shades) == count
    assert len(set(colours(count))) == count


def test_a_category_below_ten_has_the_colour_of_its_number_in_every_figure() -> None:
    assert palette([3])[3] == palette(range(10))[3]
    assert len({colour for colour, _ in palette([-1, 3, 400]).values()}) == 3


def test_more_than_ten_categories_are_drawn_in_as_many_colours(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x, names = rng.normal(size=(130, 2)), np.arange(130) % 13
    add(tmp_path, "gmvae").update(
        arrays={"x": x, "labels": names, "category": names, "w_mean": x, "samples": x}
    )
    (block,) = blocks(collect(tmp_path).records)
    (sketch,) = (s for s in block_sketches(block) if s.name == "categories")
    truth = sketch.make().axes[0]
    shades = {tuple(part.get_facecolor()[0][:3]) for part in truth.collections}
    assert len(shades) == 13


def test_a_run_without_arrays_or_curves_is_no_error(tmp_path: Path) -> None:
    add(tmp_path, "gmvae", status="diverged")
    pictures, warnings = drawn(tmp_path)
    assert set(pictures) == {"pinwheel-c-curves"}
    assert warnings == []


def test_arrays_of_impossible_shape_are_a_warning(tmp_path: Path) -> None:
    add(tmp_path, "gmvae").update(arrays={"category": np.zeros(7)})
    pictures, warnings = drawn(tmp_path)
    assert "pinwheel-c-categories" not in pictures
    assert "pinwheel-c-curves" in pictures
    assert "no figure pinwheel-c-categories" in warnings[0]


def test_colours_follow_the_labels_whatever_the_categories_are_called() -> None:
    labels = np.array([0.0, 0, 1, 1, 2, 2])
    category = (labels.astype(int) + 1) % 3
    assert matching(category, labels)[category].tolist() == labels.tolist()


def test_a_category_that_no_datum_has_takes_the_label_that_is_left() -> None:
    category, labels = np.array([2, 2, 0, 0]), np.array([0.0, 0, 1, 2])
    assert matching(category, labels)[[2, 0]].tolist() in ([0, 1], [0, 2])
    assert sorted(matching(category, labels)) == [0, 1, 2]


@pytest.mark.parametrize("text", ["../../etc/passwd", "a b/c", "…", ""])
def test_a_file_name_never_leaves_its_folder(text: str) -> None:
    assert set(slug(text)) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert slug(text)


def test_a_legend_is_no_wider_than_its_figure() -> None:
    figure, ((axes,),) = new(1, 1, 4.0, 3.0)
    for index in range(6):
        axes.plot([0, 1], [0, index], label=f"a model with a long name, number {index}")
    legend(figure, [axes])
    assert 0 < figure.legends[0].get_window_extent().width <= figure.bbox.width
