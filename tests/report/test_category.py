"""The claims about a category are answered from several methods on one data set, with errors."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lidcli.report.category import category_table
from lidcli.report.cells import Table
from lidcli.report.collect import collect
from lidcli.report.groups import blocks

SYNTHETIC = runpy.run_path(str(Path(__file__).parent / "synthetic.py"))
add: Callable[..., Any] = SYNTHETIC["add"]
Runs = dict[str, tuple[list[float], list[float]]]
"""LL and MI of c by seed, of each method."""


def claims(results: Path, runs: Runs, **more: Any) -> Table | None:
    for method, (lls, mis) in runs.items():
        for seed, (ll, mi) in enumerate(zip(lls, mis, strict=True)):
            add(results, method, "mnist", experiment="table2", seed=seed, ll=ll, mi=mi, **more)
    (block,) = blocks(collect(results).records)
    return category_table(block)


def answers(results: Path, runs: Runs) -> list[tuple[str, str, str]]:
    table = claims(results, runs)
    assert table is not None
    assert [row.label for row in table.rows] == [
        "vae collapses",
        "lidvae keeps every category",
        "lidvae fits at least as well as vae",
        "lidvae fits as well as the best",
        "of those that do, lidvae has the highest MI",
    ]
    return [(row.cells[0].text, row.cells[0].sd, row.cells[1].text) for row in table.rows]


def test_what_is_claimed_and_measured_is_answered_yes(tmp_path: Path) -> None:
    said = answers(
        tmp_path,
        {
            "vae": ([-110.0, -111.0, -112.0], [0.1, 0.0, 0.2]),
            "skip-vae": ([-100.0, -101.0, -102.0], [1.8, 1.9, 1.7]),
            "lidvae": ([-100.9, -101.8, -102.8], [2.0, 2.1, 1.9]),
        },
    )
    assert said == [
        ("in 3 of 3 runs", "", "yes"),
        ("AU 1.00", "0.00", "yes"),
        ("LL 9.17", "0.03", "yes"),
        ("LL −0.83", "0.03", "yes"),
        ("MI 0.20", "0.00", "yes"),
    ]


def test_what_is_measured_otherwise_is_answered_no(tmp_path: Path) -> None:
    said = answers(
        tmp_path,
        {
            "vae": ([-90.0, -91.0, -92.0], [2.0, 2.1, 2.0]),
            "beta-vae": ([-95.0, -96.0, -97.0], [2.2, 2.2, 2.2]),
            "lidvae": ([-100.9, -101.8, -102.8], [0.2, 2.1, 1.9]),
        },
    )
    assert [answer for *_, answer in said] == ["no"] * 5
    assert said[4][0] == "it does not"


def test_a_collapse_in_some_seeds_and_a_noisy_difference_are_open(tmp_path: Path) -> None:
    said = answers(
        tmp_path,
        {
            "vae": ([-100.0, -101.0, -102.0], [0.0, 1.9, 1.9]),
            "beta-vae": ([-140.0, -141.0, -142.0], [2.2, 2.2, 2.2]),
            "lidvae": ([-100.9, -99.8, -102.8], [1.9, 1.8, 2.0]),
        },
    )
    assert [answer for *_, answer in said] == ["open", "yes", "open", "open", "open"]


def test_who_may_or_may_not_fit_as_well_and_says_more_leaves_it_open(tmp_path: Path) -> None:
    runs = {
        "vae": ([-110.0, -111.0, -112.0], [0.1, 0.0, 0.2]),
        "beta-vae": ([-101.0, -101.4, -101.3], [2.2, 2.2, 2.2]),
        "lidvae": ([-100.0, -100.1, -100.2], [1.9, 1.8, 2.0]),
    }
    assert answers(tmp_path, runs)[4][::2] == ("MI −0.30", "open")
    runs["beta-vae"] = ([-100.0, -100.1, -100.2], [2.2, 2.2, 2.2])
    assert answers(tmp_path / "near", runs)[4][::2] == ("MI −0.30", "no")


def test_where_no_other_fits_as_well_the_information_is_the_highest(tmp_path: Path) -> None:
    said = answers(
        tmp_path,
        {
            "vae": ([-150.0, -151.0], [2.0, 2.0]),
            "beta-vae": ([-140.0, -141.0], [2.2, 2.2]),
            "lidvae": ([-100.0, -101.0], [1.5, 1.5]),
        },
    )
    assert said[4] == ("no other does", "", "yes")


@pytest.mark.parametrize("methods", [("vae", "lidvae"), ("vae", "beta-vae", "skip-vae")])
def test_three_methods_with_an_identifiable_one_are_needed(
    tmp_path: Path, methods: tuple[str, ...]
) -> None:
    assert claims(tmp_path, {name: ([-100.0], [1.0]) for name in methods}) is None


def test_a_grid_has_no_single_answer(tmp_path: Path) -> None:
    runs: Runs = {name: ([-100.0], [1.0]) for name in ("vae", "beta-vae", "lidvae")}
    claims(tmp_path, runs, settings=(("decoder.layers", 5),))
    assert claims(tmp_path, runs) is None


@pytest.mark.parametrize("unit", [0.0, 20.0])
def test_a_density_is_judged_whatever_the_units_of_the_data(tmp_path: Path, unit: float) -> None:
    for method, ll in (("vae", -1.0), ("skip-vae", -3.0), ("lidvae", -1.015)):
        for seed in (0, 1):
            add(tmp_path, method, seed=seed, ll=ll - unit)
    (block,) = blocks(collect(tmp_path).records)
    table = category_table(block)
    assert table is not None
    assert table.rows[3].cells[1].text == "yes"


def test_one_seed_answers_nothing_but_a_lost_category(tmp_path: Path) -> None:
    said = answers(
        tmp_path, {n: ([ll], [2.0]) for n, ll in (("vae", -9), ("beta-vae", -8), ("lidvae", -1))}
    )
    assert [answer for *_, answer in said] == ["open"] * 5


def test_a_category_that_says_next_to_nothing_has_collapsed(tmp_path: Path) -> None:
    said = answers(
        tmp_path,
        {
            "vae": ([-110.0, -111.0], [0.2, 0.21]),
            "skip-vae": ([-100.0, -101.0], [1.8, 1.9]),
            "lidvae": ([-100.0, -101.0], [2.0, 2.1]),
        },
    )
    assert said[0] == ("in 2 of 2 runs", "", "yes")


def test_likelihoods_that_are_not_comparable_answer_nothing(tmp_path: Path) -> None:
    runs: Runs = {"vae": ([-110.0, -111.0], [0.1, 0.2]), "skip-vae": ([-99.0, -98.0], [1.8, 1.9])}
    claims(tmp_path, runs)
    own: Runs = {"lidvae": ([-100.0, -101.0], [2.0, 2.1])}
    table = claims(tmp_path, own, evaluation={"ll_samples": 5000.0})
    assert table is not None
    assert [row.cells[1].text for row in table.rows] == ["yes", "yes", "open", "open", "open"]
    assert not any(row.cells[0].text[:2] in ("LL", "MI") for row in table.rows)
    assert table.units.endswith("LL not compared (S = 500, 5000).")
