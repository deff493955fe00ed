"""Figures are drawn from what runs hold, and only from that."""

from __future__ import annotations

import runpy
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lidcli.report.collect import collect
from lidcli.report.figures import Picture, draw, slug
from lidcli.report.groups import blocks
from lidcli.report.panels import matching

SYNTHETIC = runpy.run_path(str(Path(__file__).parent / "synthetic.py"))
add: Callable[..., Any] = SYNTHETIC["add"]


def drawn(results: Path) -> tuple[dict[str, Picture], list[str]]:
    (block,) = blocks(collect(results).records)
    pictures, warnings = draw(block, results / "figures")
    return {picture.name: picture for picture in pictures}, warnings


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
        "pinwheel-mixture-categories",
        "pinwheel-mixture-categories-vae",
        "pinwheel-mixture-categories-beta-vae",
        "pinwheel-mixture-categories-lidvae",
        "pinwheel-mixture-components",
        "pinwheel-mixture-curves",
    }
    for picture in pictures.values():
        assert picture.png.stat().st_size > 10_000
        assert picture.pdf.read_bytes()[:5] == b"%PDF-"
    assert size(pictures["pinwheel-mixture-categories"].png) == (1380, 690)
    assert size(pictures["pinwheel-mixture-categories-vae"].png) == (690, 690)


def test_images_have_samples_and_reconstructions(tmp_path: Path) -> None:
    add(tmp_path, "lidvae", "digits")
    pictures, _ = drawn(tmp_path)
    assert size(pictures["digits-mixture-images-lidvae"].png) == (960, 510)


def test_a_numeric_grid_key_is_drawn_against_the_metrics(tmp_path: Path) -> None:
    for layers in (5, 9):
        for seed in (0, 1):
            add(tmp_path, "gmvae", seed=seed, settings=(("decoder.layers", layers),))
    pictures, _ = drawn(tmp_path)
    assert size(pictures["pinwheel-mixture-by-decoder-layers"].png) == (1215, 390)


def test_a_run_without_arrays_or_curves_is_no_error(tmp_path: Path) -> None:
    add(tmp_path, "gmvae", status="diverged")
    pictures, warnings = drawn(tmp_path)
    assert set(pictures) == {"pinwheel-mixture-curves"}
    assert warnings == []


def test_arrays_of_impossible_shape_are_a_warning(tmp_path: Path) -> None:
    add(tmp_path, "gmvae").update(arrays={"category": np.zeros(7)})
    pictures, warnings = drawn(tmp_path)
    assert "pinwheel-mixture-categories" not in pictures
    assert "pinwheel-mixture-curves" in pictures
    assert "no figure pinwheel-mixture-categories" in warnings[0]


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
