"""The claims are answered by paired differences, and left open within their 95% interval."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lidcli.config.read import load_files
from lidcli.config.resolve import resolve
from lidcli.report.claims import answers, claims_table, pairs
from lidcli.report.collect import collect, read_record
from lidcli.report.command import train_command
from lidcli.report.figures.allowance import Point, allowance, informations, variances
from lidcli.report.figures.draw import block_sketches, experiment_sketches
from lidcli.report.gaps import Gap, paired
from lidcli.report.groups import Block, Statistic, blocks
from lidcli.store.run import Run

ROOT = Path(__file__).resolve().parents[2]
SYNTHETIC = runpy.run_path(str(Path(__file__).parent / "synthetic.py"))
add: Callable[..., Any] = SYNTHETIC["add"]
PUBLISHED = ROOT / "results" / "published"


def by_depth(results: Path, classical: float, own: dict[int, float]) -> Block:
    """Two models by depth and seed: the classical one collapsed, with its LL; the other's LL."""
    for layers, ll in own.items():
        for seed in (0, 1, 2):
            grid = (("decoder.layers", layers),)
            add(results, "gmvae", ll=classical + seed, mi=0.0, seed=seed, settings=grid)
            add(results, "lidgmvae", ll=ll + seed, seed=seed, settings=grid)
    (block,) = blocks(collect(results).records)
    return block


def statistic(**by_seed: float) -> Statistic:
    values = {int(name[1:]): value for name, value in by_seed.items()}
    mean = sum(values.values()) / len(values)
    return Statistic(mean, 1.0, 0.5, len(values), min(values.values()), values)


def test_seeds_that_are_the_same_are_paired() -> None:
    gap = paired(statistic(s0=1.0, s1=5.0), statistic(s0=0.0, s1=3.8))
    assert (gap.mean, gap.n) == (pytest.approx(1.1), 2)
    assert gap.se == pytest.approx(0.1)


def test_other_seeds_add_their_errors() -> None:
    gap = paired(statistic(s0=1.0, s1=5.0), statistic(s2=0.0, s3=3.8))
    assert gap.se == pytest.approx(0.5**0.5)


@pytest.mark.parametrize(
    ("mean", "said"), [(1.0, "yes"), (0.9, "open"), (0.1, "open"), (0.0, "no")]
)
def test_an_answer_of_three_seeds_is_open_within_four_errors_of_the_limit(
    mean: float, said: str
) -> None:
    assert Gap(mean, 0.1, 3).above(0.5) == said


@pytest.mark.parametrize("n", [2, 3, 5, 10])
def test_seeds_that_differ_by_chance_alone_are_told_apart_once_in_twenty(n: int) -> None:
    noise = np.random.default_rng(n).normal(size=(4000, n))
    told = [
        Gap(float(row.mean()), float(row.std(ddof=1) / n**0.5), n).above(0.0) != "open"
        for row in noise
    ]
    assert np.mean(told) == pytest.approx(0.05, abs=0.015)


@pytest.mark.parametrize(("active", "said"), [(1.6, "open"), (0.0, "no")])
def test_one_run_each_tells_a_lost_unit_and_no_more_and_the_sentence_says_so(
    tmp_path: Path, active: float, said: str
) -> None:
    for method, ll in (("vae", -3.0), ("lidvae", -1.0)):
        add(tmp_path, method, ll=ll, mi=active, settings=(("decoder.layers", 5),))
        add(tmp_path, method, ll=ll, mi=active, settings=(("decoder.layers", 9),))
    (block,) = blocks(collect(tmp_path).records)
    table = claims_table(block)
    assert table is not None
    assert [table.rows[-1].cells[i].text for i in (2, 4, 6, 8)] == ["open", said, "open", "open"]
    assert "in one run each" in answers([block])[0]


def test_the_claims_are_answered_at_every_depth(tmp_path: Path) -> None:
    block = by_depth(tmp_path, -3.0, {5: -3.6, 9: -2.0})
    table = claims_table(block)
    assert table is not None
    rows = {row.label: [cell.text for cell in row.cells] for row in table.rows}
    assert rows["5"] == ["3", "0.00", "yes", "1.00", "yes", "−0.60", "no", "−0.60", "no"]
    assert rows["9"] == ["3", "0.00", "yes", "1.00", "yes", "0.00", "yes", "1.00", "yes"]
    assert [rows["every"][i] for i in (2, 4, 6, 8)] == ["yes", "yes", "no", "no"]


def test_the_answer_names_the_deepest_with_its_numbers(tmp_path: Path) -> None:
    (sentence,) = answers([by_depth(tmp_path, -3.0, {5: -3.6, 9: -2.0})])
    assert sentence == (
        "pinwheel at 9 layers: gmvae collapsed in 3 of 3 runs (AU_c 0.00, MI_c 0.00), the"
        " identifiable lidgmvae collapsed in 0 of 3 runs (AU_c 1.00, MI_c 1.60);"
        " lidgmvae's LL is higher by 1.00 ± 0.00 nats (−1.00 against −2.00)."
    )


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"evaluation": {"ll_samples": 5000.0}}, "S = 500, 5000"),
        ({"provenance": {"data_sha256": "cd" * 32}}, "different data"),
        ({"settings": (("likelihood.kind", "bernoulli"),)}, "different likelihoods"),
    ],
)
def test_likelihoods_that_are_not_comparable_are_compared_nowhere(
    tmp_path: Path, change: dict[str, Any], why: str
) -> None:
    for layers in (5, 9):
        for seed in (0, 1, 2):
            grid = (("decoder.layers", layers),)
            own = {"ll": -1.0 + seed, "seed": seed}
            add(tmp_path, "vae", ll=-2.0 + seed, mi=0.0, seed=seed, settings=grid)
            add(
                tmp_path,
                "lidvae",
                **own,
                **change | {"settings": grid + change.get("settings", ())},
            )
    (block,) = blocks(collect(tmp_path).records)
    assert answers([block])[0].endswith(f"; LL not compared ({why}).")
    table = claims_table(block)
    assert table is not None
    assert f"LL not compared ({why})." in table.units
    for row in table.rows:
        assert [row.cells[i].text for i in (6, 8)] == ["open", "open"]
        assert not any("1.00" in row.cells[i].text for i in (5, 7))


def test_without_both_models_there_is_no_claim(tmp_path: Path) -> None:
    for layers in (5, 9):
        add(tmp_path, "gmvae", settings=(("decoder.layers", layers),))
    (block,) = blocks(collect(tmp_path).records)
    assert pairs(block) == []
    assert claims_table(block) is None
    assert answers([block]) == []
    assert "glance" not in {sketch.name for sketch in block_sketches(block)}


def test_the_picture_has_lines_for_both_and_images_of_the_deepest(tmp_path: Path) -> None:
    for layers in (5, 9):
        for method in ("vae", "lidvae"):
            add(tmp_path, method, "digits", settings=(("decoder.layers", layers),))
    (block,) = blocks(collect(tmp_path).records)
    (sketch,) = (sketch for sketch in block_sketches(block) if sketch.name == "glance")
    lines, levels, *strips = sketch.make().axes
    assert [line.get_label() for line in lines.lines] == ["vae", "lidvae"]
    assert len(levels.lines) == 2
    assert [len(strip.images) for strip in strips] == [1, 1, 1]


def test_an_allowance_stands_beside_what_was_measured(tmp_path: Path) -> None:
    allowed = {"allowed/variance/w/1": 0.5, "allowed/variance/w/2": 0.01, "allowed/mi": 3.0}
    run = add(tmp_path, "gmvae", evaluation=allowed)
    run.update(arrays={"w_variance": np.array([0.4, 0.02])})
    records = [read_record(run.folder)]
    found = variances(records)
    assert [(p.allowed, pytest.approx(p.measured)) for p in found] == [(0.5, 0.4), (0.01, 0.02)]
    assert [point.beyond for point in found] == [False, True]
    assert informations(records) == [Point("gmvae", 3.0, 2.2)]
    assert "allowance" in {sketch.name for sketch in experiment_sketches(records)}


@pytest.mark.parametrize("largest", [0.9, 4.1, 9.0, 60.0, 99.0])
def test_an_allowance_says_what_its_axes_measure_however_near_its_values_are(
    largest: float,
) -> None:
    figure = allowance([Point("vae", 0.8, 0.8), Point("lidvae", largest, 0.85)], [])
    figure.canvas.draw()
    (axes,) = figure.axes
    for axis, (low, high) in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
        labels = [
            tick.label1.get_text()
            for tick in axis.get_major_ticks()
            if low <= tick.get_loc() <= high
        ]
        assert len([text for text in labels if text]) >= 2


@pytest.mark.parametrize("experiment", ["digits-depth", "theorem1"])
def test_a_published_run_has_a_command_of_its_own(experiment: str) -> None:
    known = load_files([ROOT / "experiments.yaml"])
    for folder in sorted((PUBLISHED / experiment).iterdir())[::6]:
        record = read_record(folder)
        line = train_command(record, known)
        assert line.startswith(f"lid train -m {record.method} -d {record.data} --seed")
        assert "evaluate.samples=100" in line or record.method == "ppca"
        other = replace(record, config={**record.config, "method": "nobody"})
        assert train_command(other, known) == f"lid sweep {experiment}"
        assert train_command(record, None) == f"lid sweep {experiment}"


def test_the_command_of_a_run_names_the_files_of_its_model(tmp_path: Path) -> None:
    mine = tmp_path / "my models.yaml"
    mine.write_text("models: {narrow: {family: mixture, decoder: {hidden: 16}}}\n")
    known = load_files([ROOT / "experiments.yaml", mine], trusted=[mine])
    config = resolve(known, model="narrow", data="digits")
    run = Run.create(tmp_path / "results" / "train" / config.run_id, config.document(), {})
    line = train_command(read_record(run.folder), known)
    assert line == f"lid train -c '{mine}' -m narrow -d digits --seed 0"


def test_the_published_runs_by_depth_answer_the_claims() -> None:
    records = collect(ROOT / "results", ["digits-depth"]).records
    (block,) = blocks([record for record in records if record.published])
    table = claims_table(block)
    assert table is not None
    assert [table.rows[-1].cells[i].text for i in (2, 4, 6, 8)] == ["yes"] * 4
