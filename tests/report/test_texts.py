"""What a report says of text: its columns, the generator's row, sentences and words."""

from __future__ import annotations

import json
import math
import runpy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from lidcli.report.cells import Table
from lidcli.report.collect import collect, read_record
from lidcli.report.groups import blocks
from lidcli.report.paper import alias
from lidcli.report.tables import block_tables, headline
from lidcli.report.texts import Texts, texts_of
from lidcli.report.write import build, text_of, write

SYNTHETIC = runpy.run_path(str(Path(__file__).parent / "synthetic.py"))
save: Callable[..., Any] = SYNTHETIC["write"]

CEILING = {"entropy": 52.376, "entropy_se": 0.167, "information": 3.964, "information_se": 0.039}
TEXTS = {
    "reconstructions": [["a <b>bold</b> plan </s>", "another & more </s>"]],
    "samples": ["<script>alert(1)</script>", "two"],
    "interpolation": ["from", "to"],
    "words": [{"raises": ["up", "over"], "lowers": ["<i>"]}, {"raises": [], "lowers": ["down"]}],
}


def add(
    results: Path,
    method: str,
    *,
    data: str = "synthetic",
    seed: int = 0,
    nll: float = 60.0,
    texts: Any = TEXTS,
    ceiling: Mapping[str, float] | None = CEILING,
) -> Any:
    """One run of text, as training and evaluation would write it."""
    latent = method != "lm"
    measured = {
        "elbo": -nll - 0.5 * latent,
        "ll": -nll,
        "ll_se": 0.3,
        "nll": nll,
        "nll_se": 0.3,
        "ppl": math.exp(nll / 11),
        "ppl_se": 4.0,
        "reconstruction": -nll,
        "kl/joint": 1.2 * latent,
        "n": 2000.0,
        "tokens": 22000.0,
        "log_n": math.log(2000),
    }
    if latent:
        measured |= {"kl/z": 1.2, "mi/z": 1.1, "au/z": 0.8, "probe": 0.75, "ll_samples": 50.0}
        measured |= {"fisher_min": 0.02, "allowed/mi": 2.5, "allowed/au": 1.0}
    if method.startswith("lid"):
        measured |= {"certificate": 0.04, "certificate_log10": -1.4}
    facts = {"symbol": "z", "judged": "z", "units": {"z": 2 * latent}, "data_form": "text"}
    verdict = "informative" if latent else "no latent"
    config = {
        "method": method,
        "seed": seed,
        "data": {"name": data, "kind": "text", "root": "data", "max_length": None},
        "model": {"family": "sequential" if latent else "language"},
        "train": {"epochs": 14},
        "evaluate": {"split": "test", "samples": 50},
    }
    told = {
        "status": "complete",
        "facts": facts,
        "verdict": verdict,
        "data_entropy": None if ceiling is None else ceiling["entropy"],
        "ceiling": ceiling,
        "texts": texts,
    }
    return save(results, config, "text", provenance=told, evaluation=("test", measured))


def tables(results: Path) -> list[Table]:
    (block,) = blocks(collect(results).records)
    return block_tables(block)


def column(table: Table, head: str) -> dict[str, str]:
    place = table.head.index(head) - 1
    return {row.label: row.cells[place].text for row in table.rows}


def test_the_columns_of_text(tmp_path: Path) -> None:
    for method in ("svae", "lidsvae", "lm"):
        add(tmp_path, method)
    fit, inside, *_ = tables(tmp_path)
    assert set(fit.head[2:-1]) == {"NLL", "PPL", "KL_z", "MI_z", "AU_z", "probe %"}
    assert set(inside.head[2:]) == {"ELBO", "min F", "slope", "cert.", "MI max", "AU max"}
    assert column(inside, "MI max") == {"svae": "2.50", "lidsvae": "2.50", "lm": "–"}
    assert column(inside, "cert.")["lidsvae"] == "−1.4"


def test_the_lower_nll_is_the_better(tmp_path: Path) -> None:
    for seed in range(2):
        add(tmp_path, "svae", seed=seed, nll=60.0 + 0.01 * seed)
        add(tmp_path, "lidsvae", seed=seed, nll=58.0 + 0.01 * seed)
    fit = tables(tmp_path)[0]
    place = fit.head.index("NLL") - 1
    assert {row.label: row.cells[place].bold for row in fit.rows if not row.quiet} == {
        "svae": False,
        "lidsvae": True,
    }


def test_a_language_model_has_dashes_and_no_word_of_it(tmp_path: Path) -> None:
    add(tmp_path, "svae")
    add(tmp_path, "lm")
    fit = tables(tmp_path)[0]
    (row,) = (row for row in fit.rows if row.label == "lm")
    shown = dict(zip(fit.head[1:], (cell.text for cell in row.cells), strict=True))
    assert all(shown[head] == "–" for head in ("KL_z", "MI_z", "AU_z", "probe %", "verdict"))
    assert shown["NLL"] == "60.00"
    said = " ".join([*fit.notes, *fit.remarks, *headline(blocks(collect(tmp_path).records))])
    assert "no latent" not in said
    assert "lm" not in said
    assert "NLL: importance-weighted bound with S = 50 samples" in said
    assert "not compared" not in said


def test_of_language_models_alone_there_is_no_verdict_to_count(tmp_path: Path) -> None:
    add(tmp_path, "lm")
    assert headline(blocks(collect(tmp_path).records)) == []


def test_the_generator_has_a_row_of_its_own(tmp_path: Path) -> None:
    add(tmp_path, "svae")
    fit = tables(tmp_path)[0]
    assert fit.rows[-1].label == "generator"
    last = dict(zip(fit.head[1:], fit.rows[-1].cells, strict=True))
    assert (last["NLL"].text, last["NLL"].sd) == ("52.376", "0.167")
    assert (last["MI_z"].text, last["MI_z"].sd) == ("3.96", "0.04")
    assert not last["PPL"].text
    assert any("no model's expected NLL is below it" in text for text in fit.remarks)


@pytest.mark.parametrize("other", [None, {**CEILING, "entropy": 50.0}, {"entropy": "x"}])
def test_a_generator_that_not_all_runs_share_has_none(tmp_path: Path, other: Any) -> None:
    add(tmp_path, "svae")
    run = add(tmp_path, "lidsvae")
    run.update(provenance={"ceiling": other, "data_entropy": 50.0})
    assert all(row.label != "generator" for row in tables(tmp_path)[0].rows)


def test_a_run_that_stored_no_generator_has_that_of_the_same_data(tmp_path: Path) -> None:
    add(tmp_path, "svae").update(provenance={"data_sha256": "a1", "ceiling": None})
    add(tmp_path, "lidsvae").update(provenance={"data_sha256": "a1"})
    assert tables(tmp_path)[0].rows[-1].label == "generator"


@pytest.mark.parametrize("forged", [["a1"], {}, 5])
def test_a_record_whose_data_have_no_name_is_no_failure(tmp_path: Path, forged: Any) -> None:
    add(tmp_path, "svae").update(provenance={"data_sha256": forged, "ceiling": None})
    add(tmp_path, "lidsvae").update(provenance={"data_sha256": forged})
    assert tables(tmp_path)[0].rows[-1].label != "generator"


def test_ours_stand_beside_the_papers_rows(tmp_path: Path) -> None:
    ours = ["svae", "lidsvae", "sa-vae", "lagging-vae", "beta-vae", "skip-svae", "lm"]
    for method in ours:
        add(tmp_path, method)
    paper = tables(tmp_path)[2]
    place = len(paper.head) - 2
    printed = {row.label: row.cells[place].text for row in paper.rows}
    assert printed == {
        "svae": "−46.5",
        "sa-vae": "−40.2",
        "lagging-vae": "−40.0",
        "beta-vae": "−39.9",
        "lidsvae": "−40.3",
        "skip-svae": "–",
        "lm": "–",
    }
    assert any("share no scale" in text for text in paper.remarks)
    assert alias("skip-vae") == "skip-vae"


def test_documents_that_are_cut_are_marked_beside_the_papers(tmp_path: Path) -> None:
    run = add(tmp_path, "svae", data="yahoo", ceiling=None)
    cut = {**run.config["data"], "max_length": 60}
    config = {**run.config, "data": cut, "decoder": {"kind": "lstm", "hidden": 128}}
    for path in tmp_path.rglob("run.h5"):
        path.unlink()
    save(
        tmp_path,
        config,
        "text",
        provenance=run.provenance,
        evaluation=("test", run.evaluation["test"]),
    )
    assert tables(tmp_path)[2].notes == (
        "data.max_length is 60; the paper's is none.",
        "decoder.hidden is 128; the paper's is 1024.",
    )


def test_the_page_shows_the_lowest_seed_of_each_method_and_nobodys_markup(tmp_path: Path) -> None:
    for method in ("svae", "lidsvae"):
        for seed in (1, 2):
            add(tmp_path, method, seed=seed)
    write(build(collect(tmp_path)), tmp_path / "report", ["html"], False)
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert page.count("<h4>Samples from the prior</h4>") == 2
    assert page.count("<summary>svae, seed 1</summary>") == 1
    assert page.count("<script") == 1, "the page's own"
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "a &lt;b&gt;bold&lt;/b&gt; plan &lt;/s&gt;<br><em>another &amp; more" in page
    assert "<td>up, over</td><td>&lt;i&gt;</td>" in page
    assert "alert" not in text_of(build(collect(tmp_path)), "markdown")


def test_texts_are_read_as_far_as_they_are_whole(tmp_path: Path) -> None:
    whole = texts_of(read_record(add(tmp_path, "svae").folder))
    assert whole is not None
    assert json.loads(json.dumps(whole.document())) == TEXTS
    odd = {"samples": ["good", 3, None], "words": ["x", {"raises": 1}], "reconstructions": [[1, 2]]}
    found = texts_of(read_record(add(tmp_path, "svae", seed=1, texts=odd).folder))
    assert found == Texts(samples=("good",), words=(((), ()),))
    for nothing in (None, "text", [], {"samples": "text"}):
        run = add(tmp_path, "svae", seed=2, texts=nothing)
        run.update(provenance={"texts": nothing})
        assert texts_of(read_record(run.folder)) is None


def claims(results: Path) -> dict[str, tuple[str, str]]:
    """What is measured and answered of each claim about the latent."""
    table = tables(results)[-1]
    assert table.title == "synthetic: what is claimed of the latent"
    return {row.label: (row.cells[0].text, row.cells[1].text) for row in table.rows}


def test_the_claims_about_a_latent_of_text_are_answered(tmp_path: Path) -> None:
    for seed in range(3):
        for method, nll in (("lm", 60.2), ("svae", 60.0), ("skip-svae", 60.1), ("lidsvae", 59.0)):
            run = add(tmp_path, method, seed=seed, nll=nll + 0.01 * seed)
            if method == "lidsvae":
                measured = {**run.evaluation["test"], "au/z": 1.0, "mi/z": 1.15, "probe": 0.8}
                run.update(evaluation=("test", measured))
            elif method == "svae":
                told = {**run.evaluation["test"], "mi/z": 0.0, "probe": 0.65}
                run.update(evaluation=("test", told), provenance={"verdict": "collapsed"})
    assert claims(tmp_path) == {
        "svae collapses": ("in 3 of 3 runs", "yes"),
        "lidsvae keeps its units": ("AU 1.00", "yes"),
        "lidsvae fits at least as well as svae": ("LL 1.00", "yes"),
        "lidsvae fits as well as the best": ("LL 0.00", "yes"),
        "of those that do, lidsvae has the highest MI": ("no other does", "yes"),
        "its MI is at least 0.7 of its KL": ("0.96 at least", "yes"),
        "lidsvae's probe is 10 points above svae's": ("probe 15.00", "yes"),
    }


def test_a_latent_whose_kl_misses_its_prior_is_answered_no(tmp_path: Path) -> None:
    for seed in range(2):
        for method in ("svae", "skip-svae", "lidsvae"):
            run = add(tmp_path, method, seed=seed)
            run.update(evaluation=("test", {**run.evaluation["test"], "mi/z": 0.6}))
    said = claims(tmp_path)
    assert said["its MI is at least 0.7 of its KL"] == ("0.50 at least", "no")
    assert said["lidsvae keeps its units"] == ("AU 0.80", "no")


def test_two_methods_of_text_have_no_table_of_claims(tmp_path: Path) -> None:
    add(tmp_path, "svae")
    add(tmp_path, "lidsvae")
    assert not any("claimed" in table.title for table in tables(tmp_path))
