"""What a table says, number by number."""

from __future__ import annotations

import math
import runpy
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lidcli.metrics.quantities import QUANTITIES, declare
from lidcli.metrics.quantity import Quantity
from lidcli.report.cells import Row, Table
from lidcli.report.collect import collect
from lidcli.report.groups import Block, blocks
from lidcli.report.tables import block_tables, headline

SYNTHETIC = runpy.run_path(str(Path(__file__).parent / "synthetic.py"))
add: Callable[..., Any] = SYNTHETIC["add"]
continuous: Callable[..., Any] = SYNTHETIC["continuous"]
plane: Callable[..., Any] = SYNTHETIC["plane"]
clusters: Callable[..., Any] = SYNTHETIC["clusters"]


@pytest.fixture
def fid() -> Iterator[None]:
    """A metric of a user's own."""
    declare(
        Quantity("fid", "FID", better="lower", low=0.0, table="fit", footnote="FID: of 64 samples")
    )
    yield
    del QUANTITIES["fid"]


def only_block(results: Path) -> Block:
    (block,) = blocks(collect(results).records)
    return block


def tables(results: Path) -> list[Table]:
    return block_tables(only_block(results))


def row(table: Table, *label: str) -> dict[str, Any]:
    """Cells by column of the row that begins with these texts."""
    for candidate in table.rows:
        texts = (candidate.label, *(cell.text for cell in candidate.cells))
        if texts[: len(label)] == label:
            return dict(zip(table.head[1:], candidate.cells, strict=True))
    raise AssertionError(f"no row {label}")


def notes_of(table: Table, label: str) -> list[str]:
    found: Row = next(r for r in table.rows if r.label == label)
    return [table.notes[i - 1] for i in found.notes]


def test_a_cell_is_mean_and_sample_sd_over_seeds(tmp_path: Path) -> None:
    values = [-1.0, -1.1, -0.7, -0.9, -1.2]
    for seed, ll in enumerate(values):
        add(tmp_path, "gmvae", seed=seed, ll=ll)
    cell = row(tables(tmp_path)[0], "gmvae")["LL"]
    assert cell.text == f"−{-statistics.mean(values):.3f}"
    assert cell.sd == f"{statistics.stdev(values):.3f}"
    assert row(tables(tmp_path)[0], "gmvae")["n"].text == "5"


def test_one_seed_has_no_sd_and_is_marked(tmp_path: Path) -> None:
    add(tmp_path, "gmvae")
    table = tables(tmp_path)[0]
    assert row(table, "gmvae")["LL"].sd == ""
    assert notes_of(table, "gmvae") == ["Fewer than 5 seeds."]


def test_the_best_is_bold_and_so_is_what_cannot_be_told_from_it(tmp_path: Path) -> None:
    for seed in range(5):
        jitter = 0.01 * (seed - 2)
        add(tmp_path, "vae", seed=seed, ll=-1.000 + jitter)
        add(tmp_path, "beta-vae", seed=seed, ll=-1.005 - jitter)
        add(tmp_path, "lidvae", seed=seed, ll=-1.500 + jitter)
    table = tables(tmp_path)[0]
    bold = {name: row(table, name)["LL"].bold for name in ("vae", "beta-vae", "lidvae")}
    assert bold == {"vae": True, "beta-vae": True, "lidvae": False}


def test_kl_and_au_are_never_bold_and_a_lone_row_neither(tmp_path: Path) -> None:
    add(tmp_path, "vae", ll=-1.0)
    assert not any(cell.bold for cell in row(tables(tmp_path)[0], "vae").values())
    add(tmp_path, "lidvae", ll=-2.0)
    cells = row(tables(tmp_path)[0], "vae")
    assert cells["LL"].bold
    assert not cells["KL_c"].bold
    assert not cells["AU_c"].bold


def test_ll_of_different_sample_sizes_is_not_compared(tmp_path: Path) -> None:
    add(tmp_path, "vae", ll=-1.0)
    add(tmp_path, "lidvae", ll=-2.0, evaluation={"ll_samples": 50.0})
    table = tables(tmp_path)[0]
    assert not row(table, "vae")["LL"].bold
    assert any("S = 50, 500" in text for text in table.remarks)


def test_likelihoods_or_data_that_differ_are_not_compared(tmp_path: Path) -> None:
    add(tmp_path, "vae", ll=-1.0)
    add(tmp_path, "lidvae", ll=-2.0, provenance={"data_sha256": "cd" * 32})
    table = tables(tmp_path)[0]
    assert not row(table, "vae")["LL"].bold
    assert any("different data" in text for text in table.remarks)


def test_a_grid_point_that_one_method_lacks_is_a_dash(tmp_path: Path) -> None:
    for layers in (5, 9):
        add(tmp_path, "gmvae", settings=(("decoder.layers", layers),))
    add(tmp_path, "lidgmvae", settings=(("decoder.layers", 5),))
    table = tables(tmp_path)[0]
    assert table.head[:3] == ("method", "layers", "n")
    empty = row(table, "lidgmvae", "9")
    assert {empty[name].text for name in ("n", "AU_c", "KL_c", "MI_c", "LL", "verdict")} == {"–"}


def test_values_of_methods_that_share_none_are_not_crossed(tmp_path: Path) -> None:
    add(tmp_path, "vae")
    for beta in (0.1, 0.2):
        add(tmp_path, "beta-vae", settings=(("inference.beta", beta),))
    labels = [r.label for r in tables(tmp_path)[0].rows]
    assert labels == ["vae", "beta-vae", "beta-vae", "ceiling"]


def test_runs_that_ended_badly_are_counted_and_not_averaged(tmp_path: Path) -> None:
    for seed in range(5):
        bad = seed == 3
        add(
            tmp_path,
            "gmvae",
            seed=seed,
            ll=-9.0 if bad else -1.0,
            status="diverged" if bad else "complete",
        )
    table = tables(tmp_path)[0]
    assert row(table, "gmvae")["LL"].text == "−1.000"
    assert row(table, "gmvae")["n"].text == "4"
    assert "gmvae: 1 of 5 runs diverged (seed 3), not in the means." in notes_of(table, "gmvae")


def test_a_value_that_is_not_finite_is_left_out_and_said(tmp_path: Path) -> None:
    for seed in range(5):
        value = math.nan if seed == 0 else 2.0
        add(tmp_path, "gmvae", seed=seed, evaluation={"kl/w": value})
    first, inner = tables(tmp_path)[:2]
    assert row(inner, "gmvae")["KL_w"].text == "2.00"
    assert "Not finite in some run, and left out: kl/w." in notes_of(first, "gmvae")


def test_the_ceilings_stand_below_their_columns(tmp_path: Path) -> None:
    add(tmp_path, "gmvae")
    ceiling = row(tables(tmp_path)[0], "ceiling")
    assert ceiling["LL"].text == "−0.849"
    assert ceiling["MI_c"].text == f"{math.log(5):.2f}"
    assert ceiling["AU_c"].text == ""


def test_units_and_sample_size_are_said(tmp_path: Path) -> None:
    add(tmp_path, "gmvae")
    for table in tables(tmp_path):
        assert "nats per datum" in table.units
    assert any("S = 500 samples" in text for text in tables(tmp_path)[0].remarks)


def test_saturated_information_is_flagged(tmp_path: Path) -> None:
    add(tmp_path, "gmvae", evaluation={"mi/w": math.log(5000) - 0.4})
    inner = tables(tmp_path)[1]
    assert row(inner, "gmvae")["MI_w"].mark == "†"
    assert any("log N" in text for text in inner.remarks)


@pytest.mark.parametrize(("above", "mark"), [(3.2, ""), (3.3, "†"), (99.0, "†")])
def test_information_that_the_data_do_not_settle_is_flagged(
    tmp_path: Path, above: float, mark: str
) -> None:
    told = {"mi/w": 3.0, "mi_above/w": above, "kl/w": 9.0, "kl/joint": 10.0}
    add(tmp_path, "gmvae", evaluation=told)
    assert row(tables(tmp_path)[1], "gmvae")["MI_w"].mark == mark


def test_certificate_and_slope_are_the_lowest_over_seeds(tmp_path: Path) -> None:
    for seed, value in enumerate((-1.0, -8.0)):
        add(
            tmp_path,
            "lidgmvae",
            seed=seed,
            evaluation={"certificate_log10": value, "min_secant": 10.0**value},
        )
    cells = row(tables(tmp_path)[1], "lidgmvae")
    assert (cells["cert."].text, cells["cert."].mark) == ("−8.0", "‡")
    assert (cells["map slope"].text, cells["map slope"].mark) == ("−6.9", "‡")


def test_slope_is_in_the_metric_of_the_likelihood(tmp_path: Path) -> None:
    """A map of slope 0.035 whose smallest Fisher information is 2e-5 has the slope 0.0045."""
    seen = {"fisher_min": 2e-5, "min_singular_value": 0.035}
    continuous(tmp_path, "lidvae", evaluation=seen)
    continuous(tmp_path, "vae", evaluation={"fisher_min": -1e-12, "min_singular_value": 0.5})
    inner = tables(tmp_path)[1]
    shown = {head: cell.text for head, cell in row(inner, "lidvae").items()}
    assert (shown["slope"], shown["map slope"], shown["min F"]) == ("−2.3", "−1.5", "0.000")
    assert row(inner, "vae")["slope"].mark == "‡"
    assert "slope: log10 of √(min F), the smallest slope in the likelihood's own" in inner.units
    assert "map slope: log10 of the smallest slope found of the decoder as a map" in inner.units


def test_budgets_that_differ_between_methods_are_said(tmp_path: Path) -> None:
    add(tmp_path, "vae", settings=(("train.epochs", 10),))
    add(tmp_path, "lidvae", settings=(("train.epochs", 99),))
    remarks = tables(tmp_path)[0].remarks
    assert "The methods differ in train.epochs: vae 10; lidvae 99." in remarks


def test_components_that_are_free_for_one_method_and_fixed_for_another_are_said(
    tmp_path: Path,
) -> None:
    add(tmp_path, "vae", settings=(("model.means", "free"), ("model.scale", 0.5)))
    add(tmp_path, "lidvae", settings=(("model.means", "fixed"), ("model.scale", 0.3)))
    remarks = tables(tmp_path)[0].remarks
    assert "The methods differ in model.means: vae free; lidvae fixed." in remarks
    assert "The methods differ in model.scale: vae 0.5; lidvae 0.3." in remarks
    assert not [text for text in remarks if "model.family" in text]


def test_settings_of_decoder_and_inference_that_two_methods_share_are_said(tmp_path: Path) -> None:
    own = {
        "vae": (("decoder.hidden", 16),),
        "beta-vae": (("decoder.hidden", 16),),
        "lidvae": (("decoder.hidden", 8), ("decoder.c", 1.0)),
        "skip-vae": (("decoder.hidden", 16), ("decoder.c", 0.3), ("decoder.rank", 4)),
    }
    for method, settings in own.items():
        add(tmp_path, method, settings=settings)
    said = [text for text in tables(tmp_path)[0].remarks if text.startswith("The methods differ")]
    assert said == [
        "The methods differ in decoder.hidden: vae 16; beta-vae 16; lidvae 8; skip-vae 16.",
        "The methods differ in decoder.c: lidvae 1.0; skip-vae 0.3.",
    ]
    add(tmp_path, "narrow", settings=(("inference.beta", 0.5),))
    (told,) = (text for text in tables(tmp_path)[0].remarks if "inference.beta" in text)
    assert "beta-vae 0.2; " in told
    assert "narrow 0.5" in told


def test_a_posterior_that_costs_more_than_an_encoder_says_what(tmp_path: Path) -> None:
    refined = (("inference.steps", 5), ("inference.amortized_epochs", 12))
    inner = (("inference.inner", 20), ("inference.aggressive_epochs", 2))
    for seed in (0, 1):
        add(tmp_path, "vae", seed=seed)
        add(tmp_path, "sa-vae", seed=seed, settings=refined)
        add(tmp_path, "lagging-vae", seed=seed, settings=inner)
    told = [
        "sa-vae: 5 refinements of each datum's posterior, in training after 12 of 20 epochs.",
        "lagging-vae: up to 20 updates of the encoder before one of the decoder, in at most 2 of"
        " 20 epochs.",
    ]
    assert [text for text in tables(tmp_path)[0].remarks if "-vae: " in text] == told
    add(tmp_path, "sa-vae", settings=(*refined[:1], ("inference.amortized_epochs", 0)))
    own = [text for text in tables(tmp_path)[0].remarks if text.startswith("sa-vae: ")]
    assert own == []


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (("inference.steps", "inference.amortized_epochs"), "posterior, in all epochs."),
        (("inference.inner", "inference.aggressive_epochs"), "decoder, while MI rises."),
    ],
)
def test_a_posterior_of_the_usual_budget_says_that(
    tmp_path: Path, settings: tuple[str, str], said: str
) -> None:
    add(tmp_path, "vae")
    usual = None if "aggressive" in settings[1] else 0
    add(tmp_path, "other", settings=((settings[0], 20), (settings[1], usual)))
    (told,) = (text for text in tables(tmp_path)[0].remarks if text.startswith("other: "))
    assert told.endswith(said)


def test_data_notes_checks_and_unused_priors_become_footnotes(tmp_path: Path) -> None:
    facts = {"data_notes": ["own split"], "checks": ["ELBO exceeds LL"], "unused_prior": True}
    add(tmp_path, "gmvae", provenance=facts)
    table = tables(tmp_path)[0]
    assert "Data: own split." in table.remarks
    said = " ".join(notes_of(table, "gmvae"))
    assert "ELBO exceeds LL" in said
    assert "Unused prior in 1 of 1 runs" in said


def test_a_seed_run_twice_counts_once(tmp_path: Path) -> None:
    add(tmp_path, "gmvae", ll=-5.0, settings=(("data.path", "old.csv"),))
    add(tmp_path, "gmvae", ll=-1.0, provenance={"started": "2027-01-01T00:00:00+00:00"})
    table = tables(tmp_path)[0]
    assert row(table, "gmvae")["LL"].text == "−1.000"
    assert any("the newest count" in text for text in notes_of(table, "gmvae"))


def test_ours_stand_beside_the_papers(tmp_path: Path) -> None:
    for layers in (5, 9):
        add(tmp_path, "lidgmvae", ll=-layers / 10, settings=(("decoder.layers", layers),))
    paper = tables(tmp_path)[2]
    texts = [[cell.text for cell in r.cells] for r in paper.rows if r.label == "lidgmvae"]
    assert len(texts) == 1, "only the depth of the paper"
    assert texts[0][-2:] == ["−0.900", "−6.5"]
    assert paper.rows[1].label == "sa-vae"
    assert paper.rows[1].cells[0].text == "–"
    assert any("entropy of q(c|x)" in text for text in paper.remarks)


def test_settings_unlike_the_papers_are_marked(tmp_path: Path) -> None:
    add(tmp_path, "gmvae", settings=(("decoder.layers", 5),))
    paper = tables(tmp_path)[2]
    assert notes_of(paper, "gmvae") == ["decoder.layers is 5; the paper's is 9."]


def test_data_the_paper_lacks_have_no_such_table(tmp_path: Path) -> None:
    add(tmp_path, "vae", "digits")
    assert len(tables(tmp_path)) == 2


def test_continuous_models_have_a_table_of_their_own(tmp_path: Path) -> None:
    add(tmp_path, "vae", "digits")
    continuous(tmp_path)
    found = {block.facts.judged: block for block in blocks(collect(tmp_path).records)}
    assert set(found) == {"c", "z"}
    table = block_tables(found["z"])[0]
    assert table.title == "digits: fit and latent z"
    assert "KL_z" in table.head
    assert "KL_c" not in table.head
    assert row(table, "vae")["KL_z"].text == "6.00"


def test_a_mixture_without_a_latent_below_shows_its_category(tmp_path: Path) -> None:
    clusters(tmp_path, "gmm-overlapping", "ml")
    clusters(tmp_path, "gmm-overlapping", "shared")
    main, inner = tables(tmp_path)
    assert main.title == "gmm-overlapping: fit and category c"
    cells = row(main, "gmm-ml")
    assert [cells[head].text for head in ("AU_c", "KL_c", "MI_c")] == ["1.00", "0.42", "0.41"]
    assert not any(head.endswith("_z") for table in (main, inner) for head in table.head)
    assert row(main, "ceiling")["MI_c"].text == "0.69"
    assert row(main, "ceiling")["KL_c"].text == "", "the KL to fitted weights has no such bound"


def test_a_ppca_has_no_word_on_w(tmp_path: Path) -> None:
    plane(tmp_path, "ppca-2d", 1.0)
    for table in tables(tmp_path):
        said = " ".join((table.title, table.units, *table.head, *table.remarks, *table.notes))
        assert "KL_w" not in said
        assert "of c" not in said
    assert "KL_z" in tables(tmp_path)[0].head


def test_words_on_a_column_stand_only_below_it(tmp_path: Path) -> None:
    add(tmp_path, "gmvae")
    assert "cert." not in tables(tmp_path)[1].units
    add(tmp_path, "lidgmvae")
    inner = tables(tmp_path)[1]
    assert "cert." in inner.head
    assert "cert.: log10" in inner.units
    assert "KL_w is of w given c" in inner.units


@pytest.mark.parametrize(
    ("key", "head", "place"),
    [("active/z", "act._z", 0), ("fisher_min", "min F", 1), ("probe", "probe %", 0)],
)
def test_a_column_stands_only_where_a_record_has_a_value(
    tmp_path: Path, key: str, head: str, place: int
) -> None:
    continuous(tmp_path)
    assert head not in tables(tmp_path)[place].head
    continuous(tmp_path, "lidvae", evaluation={key: 0.25})
    table = tables(tmp_path)[place]
    assert row(table, "vae")[head].text == "–"
    assert row(table, "lidvae")[head].text in ("0.25", "25.0")


def test_a_quantity_that_a_user_declares_has_a_column(tmp_path: Path, fid: None) -> None:
    for method, value in (("vae", 12.0), ("lidvae", 3.0)):
        continuous(tmp_path, method, evaluation={"fid": value})
    table = tables(tmp_path)[0]
    assert row(table, "lidvae")["FID"].text == "3.00"
    assert row(table, "lidvae")["FID"].bold
    assert not row(table, "vae")["FID"].bold
    assert "FID: of 64 samples" in table.units


def test_bold_is_no_prize_for_noise(tmp_path: Path) -> None:
    scatter = [0.6, 0.5, 0.4, 0.2, -1.7]
    noisy = [0.888 + 0.151 * t / statistics.stdev(scatter) for t in scatter]
    for seed in range(5):
        jitter = 1e-5 * (seed - 2)
        add(tmp_path, "gmvae", seed=seed, accuracy=0.999 + jitter)
        add(tmp_path, "lidgmvae", seed=seed, accuracy=0.997 - jitter)
        add(tmp_path, "vae", seed=seed, accuracy=noisy[seed])
    table = tables(tmp_path)[0]
    cells = {name: row(table, name)["acc. %"] for name in ("gmvae", "lidgmvae", "vae")}
    assert {name: cell.text for name, cell in cells.items()} == {
        "gmvae": "99.9",
        "lidgmvae": "99.7",
        "vae": "88.8",
    }
    assert cells["vae"].sd == "15.1"
    assert [name for name, cell in cells.items() if cell.bold] == ["gmvae"]
    assert [name for name, cell in cells.items() if cell.mark == "~"] == ["vae"]
    assert "Bold: the best mean" in table.units
    assert any(text.startswith("~ not best") for text in table.remarks)


def test_what_prints_as_the_best_is_as_bold(tmp_path: Path) -> None:
    for seed in range(5):
        jitter = 1e-6 * seed
        add(tmp_path, "gmvae", seed=seed, ll=-1.0 + jitter)
        add(tmp_path, "lidgmvae", seed=seed, ll=-1.0001 + jitter)
    table = tables(tmp_path)[0]
    assert {row(table, name)["LL"].text for name in ("gmvae", "lidgmvae")} == {"−1.000"}
    assert row(table, "lidgmvae")["LL"].bold


def test_seeds_that_two_methods_share_are_compared_pair_by_pair(tmp_path: Path) -> None:
    for seed in range(5):
        add(tmp_path, "gmvae", seed=seed, ll=-1.0 - 0.1 * seed)
        add(tmp_path, "lidgmvae", seed=seed, ll=-1.05 - 0.1 * seed + 0.001 * (-1) ** seed)
        add(tmp_path, "vae", seed=seed + 10, ll=-1.05 - 0.1 * seed)
    table = tables(tmp_path)[0]
    assert row(table, "gmvae")["LL"].bold
    assert not row(table, "lidgmvae")["LL"].bold, "worse by 0.05 with every seed"
    assert row(table, "vae")["LL"].bold, "other seeds, and well within the best's own error"


def test_words_on_bold_stand_only_where_something_is(tmp_path: Path) -> None:
    add(tmp_path, "gmvae")
    assert not any("Bold" in table.units for table in tables(tmp_path))


@pytest.mark.parametrize("seeds", [1, 3])
def test_the_headline_counts_verdicts(tmp_path: Path, seeds: int) -> None:
    for seed in range(seeds):
        add(tmp_path, "vae", seed=seed, mi=0.0)
    (sentence,) = headline([only_block(tmp_path)])
    plural = "s" if seeds > 1 else ""
    assert sentence == f"pinwheel — vae: collapsed in {seeds} of {seeds} run{plural}."
