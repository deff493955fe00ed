"""A report takes a model's word for its latents, and asks no name."""

from __future__ import annotations

import ast
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lidcli.report.collect import collect, read_record
from lidcli.report.facts import StoredFacts, facts_of
from lidcli.report.groups import Block, blocks
from lidcli.report.tables import block_tables
from lidcli.report.write import build, write

ROOT = Path(__file__).resolve().parents[2]
SYNTHETIC = runpy.run_path(str(Path(__file__).parent / "synthetic.py"))
add: Callable[..., Any] = SYNTHETIC["add"]
continuous: Callable[..., Any] = SYNTHETIC["continuous"]
plane: Callable[..., Any] = SYNTHETIC["plane"]
clusters: Callable[..., Any] = SYNTHETIC["clusters"]


def only_block(results: Path) -> Block:
    (block,) = blocks(collect(results).records)
    return block


def test_stored_facts_are_read() -> None:
    stored = {
        "symbol": "w",
        "judged": "c",
        "units": {"c": 5, "w": 2},
        "categories": 5,
        "exact": True,
        "data_form": "image",
    }
    facts = facts_of(stored, ["kl/z"], {}, {})
    assert facts == StoredFacts("w", "c", {"c": 5, "w": 2}, 5, True, "image")
    assert facts.judged_words == "category c"


@pytest.mark.parametrize(
    ("names", "symbol", "judged", "uniform"),
    [
        (["kl/c", "mi/w", "au/w"], "w", "c", True),
        (["kl/z", "mi/z", "kl/joint"], "z", "z", True),
        (["kl/c", "kl/c_se", "kl/joint", "kl/alpha"], "c", "c", False),
        (["ll", "kl/joint"], "", "", False),
        (["kl/s"], "s", "s", True),
    ],
)
def test_without_facts_the_keys_of_the_metrics_tell(
    names: list[str], symbol: str, judged: str, uniform: bool
) -> None:
    settings = {"model.latent": 3, "model.categories": 7}
    facts = facts_of(None, names, settings, {"data_shape": [8, 8]})
    assert (facts.symbol, facts.judged, facts.uniform) == (symbol, judged, uniform)
    assert facts.categories == (7 if judged == "c" else None)
    assert facts.data_form == "image"


@pytest.mark.parametrize("stored", ["z", ["z"], {"symbol": "z", "units": {"z": "many"}}])
def test_facts_that_are_none_leave_a_run_out_in_words(tmp_path: Path, stored: object) -> None:
    add(tmp_path, "vae", provenance={"facts": stored})
    found = collect(tmp_path)
    assert found.records == ()
    assert "no usable record" in found.warnings[0]


def test_the_numbers_of_a_record_with_facts_and_without_are_the_same(tmp_path: Path) -> None:
    add(tmp_path / "with", "gmvae")
    add(tmp_path / "without", "gmvae", provenance={"facts": None})
    one, two = (block_tables(only_block(tmp_path / name)) for name in ("with", "without"))
    assert one == two


def test_models_of_one_judged_latent_share_a_table_whatever_their_families(tmp_path: Path) -> None:
    add(tmp_path, "gmvae")
    add(tmp_path, "gmvae-truth", settings=(("model.family", "two-clusters"),))
    assert only_block(tmp_path).methods == ("gmvae", "gmvae-truth")


def test_a_run_that_failed_at_once_stands_with_its_method(tmp_path: Path) -> None:
    add(tmp_path, "vae", "digits", seed=0)
    continuous(tmp_path, "lidvae")
    for method in ("vae", "lidvae"):
        run = add(tmp_path, method, "digits", seed=1, status="failed", provenance={"facts": None})
        content = type(run).create(tmp_path / "demo" / f"{method}-s1", run.config, run.provenance)
        (run.folder / "run.h5").unlink()
        assert read_record(content.folder).facts.judged == ""
    found = {block.facts.judged: block for block in blocks(collect(tmp_path).records)}
    assert {j: {r.method for r in block.records} for j, block in found.items()} == {
        "c": {"vae"},
        "z": {"lidvae"},
    }


def test_a_family_and_a_latent_that_nobody_knows_are_reported(tmp_path: Path) -> None:
    facts = {"symbol": "s", "judged": "s", "units": {"s": 3}, "data_form": "graph"}
    run = continuous(tmp_path, "mine", facts=facts, evaluation={"kl/s": 2.0, "au/s": 1.0})
    assert read_record(run.folder).facts.judged == "s"
    report = build(collect(tmp_path))
    write(report, tmp_path / "report", ["markdown", "html"], figures=True)
    assert report.warnings == []
    text = (tmp_path / "report" / "report.md").read_text(encoding="utf-8")
    assert "fit and latent s" in text
    assert "KL_s" in text


def test_no_code_of_the_reports_asks_for_a_family_or_a_kind() -> None:
    names = {"mixture", "continuous", "sequential", "ppca", "gmm", "classical", "two-clusters"}
    for path in (ROOT / "lidcli" / "report").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Compare):
                constants = {n.value for n in ast.walk(node) if isinstance(n, ast.Constant)}
                assert not constants & names, f"{path.name}:{node.lineno}"
                asked = {n.attr for n in ast.walk(node) if isinstance(n, ast.Attribute)}
                assert not asked & {"family", "kind"}, f"{path.name}:{node.lineno}"
