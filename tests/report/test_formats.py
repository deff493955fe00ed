"""The same table in every format, and nobody's text read as markup."""

from __future__ import annotations

import base64
import hashlib
import re
import runpy
import shutil
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from lidcli.report.cells import Cell, Row, Table
from lidcli.report.collect import collect
from lidcli.report.groups import blocks
from lidcli.report.render import latex_document, latex_text, markdown, terminal
from lidcli.report.tables import block_tables
from lidcli.report.write import build, text_of, write

ROOT = Path(__file__).resolve().parents[2]
SYNTHETIC = runpy.run_path(str(Path(__file__).parent / "synthetic.py"))
add: Callable[..., Any] = SYNTHETIC["add"]
fill: Callable[..., None] = SYNTHETIC["fill"]

EVIL = "<script>alert(1)</script> & | \\input{x} $ % _ ^ ~ # [link](http://x) `y` é 漢"
TABLE = Table(
    name="t",
    title="A title",
    head=("method", "n", "MI_c", "LL", "verdict"),
    rows=(
        Row(
            "vae",
            (Cell("5"), Cell("0.01", "0.00"), Cell("−1.50", "0.02"), Cell("5 collapsed")),
            (1,),
        ),
        Row("lidvae", (Cell("5"), Cell("1.58", "0.01", True), Cell(), Cell("5 informative"))),
    ),
    units="Nats.",
    notes=("A footnote.",),
    remarks=("A remark.",),
)


class Reader(HTMLParser):
    """Tags that are open, every attribute, and the text."""

    VOID = frozenset({"meta", "img", "br", "hr", "link", "input"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def read_page(results: Path, figures: bool = False) -> Reader:
    write(build(collect(results)), results / "report", ["html"], figures)
    reader = Reader()
    reader.feed((results / "report" / "report.html").read_text(encoding="utf-8"))
    reader.close()
    return reader


def shown(table: Table, width: int = 80, stars: bool = True) -> str:
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(terminal(table, width, stars))
    return console.export_text()


def test_markdown_has_as_many_cells_in_every_line() -> None:
    lines = [line for line in markdown(TABLE).splitlines() if line.startswith("|")]
    assert len(lines) == 4
    assert {line.count("|") for line in lines} == {6}
    assert "**1.58±0.01**" in lines[3]
    assert "vae <sup>1</sup>" in lines[2]
    assert re.fullmatch(r"\| :-+ (\| -+: )+\|", lines[1])


def test_markdown_escapes_what_it_would_read() -> None:
    text = markdown(Table("t", EVIL, ("a", "b"), (Row(EVIL, (Cell(EVIL),)),), EVIL, (EVIL,)))
    assert "<script>" not in text
    assert "[link](" not in text
    assert {
        line.replace("\\|", "").count("|") for line in text.splitlines() if line[:1] == "|"
    } == {3}


def test_markdown_lines_of_text_stay_below_a_hundred_columns(tmp_path: Path) -> None:
    fill(tmp_path, seeds=2)
    text = text_of(build(collect(tmp_path)), "markdown")
    prose = [line for line in text.splitlines() if not line.startswith(("|", "- ", "    "))]
    assert max(map(len, prose)) <= 100


def test_latex_is_balanced_and_escaped() -> None:
    text = latex_document([TABLE])
    assert text.count(r"\begin{") == text.count(r"\end{") + text.count(r"% \end{") - 1
    for rule in (r"\toprule", r"\midrule", r"\bottomrule"):
        assert text.count(rule) == 1
    assert r"MI$_c$" in text
    assert r"\textbf{\boldmath 1.58 $\pm$ 0.01}" in text
    assert latex_text("a_b & 50% of {x}") == r"a\_b \& 50\% of \{x\}"


def pdflatex(folder: Path, text: str) -> tuple[int, str]:
    """Compile x.tex: the exit status, and the log."""
    (folder / "x.tex").write_text(text, encoding="utf-8")
    done = subprocess.run(
        ["pdflatex", "-interaction=batchmode", "-halt-on-error", "x.tex"],
        cwd=folder,
        capture_output=True,
        check=False,
    )
    return done.returncode, (folder / "x.log").read_text(errors="replace")


@pytest.fixture
def latex(tmp_path: Path) -> Path:
    """A folder to compile in, where pdflatex and the packages of our preamble are installed."""
    if shutil.which("pdflatex") is None:
        pytest.skip("there is no pdflatex")
    preamble, _, _ = latex_document([TABLE]).partition(r"\begin{document}")
    folder = tmp_path / "latex"
    folder.mkdir()
    status, log = pdflatex(folder, preamble + "\\begin{document}x\\end{document}\n")
    missing = re.search(r"File `(\S+)' not found", log)
    if status and missing:
        pytest.skip(f"pdflatex lacks {missing[1]}")
    return folder


def test_latex_compiles_as_it_is(latex: Path, tmp_path: Path) -> None:
    fill(tmp_path, seeds=2)
    odd = Table("odd", EVIL, ("a", "b_c"), (Row(EVIL, (Cell(EVIL, bold=True),)),), EVIL, (EVIL,))
    made = [t for b in blocks(collect(tmp_path).records) for t in block_tables(b)]
    every = "".join(chr(i) for i in range(32, 0x250))
    strange = Table("strange", every, ("a",), (), every, ())
    status, log = pdflatex(latex, latex_document([*made, odd, strange]))
    assert status == 0, log[-2000:]
    assert (latex / "x.pdf").stat().st_size > 10_000


def test_a_terminal_of_80_columns_shows_every_table(tmp_path: Path) -> None:
    fill(tmp_path, seeds=3)
    for block in blocks(collect(tmp_path).records):
        for table in block_tables(block):
            text = shown(table)
            assert "…" not in text
            assert max(map(len, text.splitlines())) <= 80
            assert len(text.splitlines()) >= len(table.rows) + 3


def test_a_narrow_terminal_gets_the_concise_notation() -> None:
    assert "1.58±0.01*" in shown(TABLE, 80)
    assert "1.58(1)*" in shown(TABLE, 36)
    assert "5I" in shown(TABLE)
    assert "I informative, C collapsed" in shown(TABLE)


def test_a_table_wider_than_the_terminal_is_folded_and_every_part_names_its_rows() -> None:
    heads = tuple(f"column{i}" for i in range(12))
    rows = tuple(
        Row(f"method-{j}", (Cell("9"), *(Cell(f"{i}{j}.25", "0.50") for i in range(12))))
        for j in range(2)
    )
    text = shown(Table("t", "t", ("method", "layers", *heads), rows, "Nats.", (), keys=2), 50)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 50
    parts = [line for line in text.splitlines() if line.startswith("method ")]
    assert len(parts) > 1
    assert all(line.split()[1] == "layers" for line in parts)
    assert text.count("method-0") == text.count("method-1") == len(parts)
    assert [word for line in parts for word in line.split()[2:]] == list(heads)
    assert all(f"{i}{j}.25(50)" in text for i in range(12) for j in range(2))


@pytest.mark.parametrize("width", [40, 60, 80])
def test_rows_whose_grid_is_too_wide_are_numbered_and_told_once(width: int) -> None:
    keys = ("inverse_lipschitz", "learning_rate", "free_bits", "batch_size", "warmup_epochs")
    heads = tuple(f"column{i}" for i in range(6))
    rows = tuple(
        Row(
            method,
            (*map(Cell, ("0.02", rate, "0.0", "100", "1.0")), *(Cell(f"−{i}.25") for i in heads)),
            (1,),
        )
        for method in ("vae", "lidvae")
        for rate in ("0.001", "0.002")
    )
    rows += (Row("ceiling", (*[Cell("")] * 5, *(Cell("0.5") for _ in heads)), quiet=True),)
    head = ("method", *keys, *heads)
    text = shown(Table("t", "A title", head, rows, "Nats.", ("A note.",), keys=6), width)
    lines = text.splitlines()
    assert "…" not in text
    assert max(map(len, lines)) <= width
    for number, method, rate in ((1, "vae", "0.001"), (4, "lidvae", "0.002")):
        told = f"{number} {method}¹, inverse_lipschitz 0.02, learning_rate {rate}, free_bits 0.0,"
        assert " ".join(text.split()).count(told) == 1
    assert "5 ceiling" in lines
    parts = [line for line in lines if line.startswith("row ")]
    assert [word for line in parts for word in line.split()[1:]] == list(heads)
    for number in "12345":
        numbered = [line for line in lines if re.match(rf"{number} +[−0-9]", line)]
        assert len(numbered) == len(parts)


def test_a_long_name_of_a_method_is_never_cut() -> None:
    name = "a-model-with-a-very-long-name-that-says-everything-of-it"
    table = Table("t", "t", ("method", "LL"), (Row(name, (Cell("−123.45", "0.12"),)),), "", ())
    text = shown(table, 60)
    assert name in text
    assert "−123.45±0.12" in text


def test_an_sd_of_other_precision_is_never_made_concise() -> None:
    table = Table("t", "t", ("a", "b"), (Row("x", (Cell("6.2", "0.05"),)),), "", ())
    assert "6.2±0.05" in shown(table, 8)


def test_terminal_markup_of_a_stranger_is_only_text() -> None:
    table = Table("t", "[bold]t[/]", ("a", "b"), (Row("[red]x", (Cell("[blink]"),)),), "[/]", ())
    assert "[red]x" in shown(table)


def test_the_page_is_well_formed_and_needs_nothing_from_elsewhere(tmp_path: Path) -> None:
    for layers in (5, 9):
        add(tmp_path, "lidgmvae", settings=(("decoder.layers", layers),))
    add(tmp_path, "vae", "digits", experiment="other")
    page = read_page(tmp_path, figures=True)
    assert page.open == []
    assert {tag for tag, _ in page.seen}.isdisjoint({"link", "iframe", "object", "base"})
    (script,) = (attributes for tag, attributes in page.seen if tag == "script")
    assert script == {}
    images = [attributes["src"] or "" for tag, attributes in page.seen if tag == "img"]
    assert len(images) == 8
    assert all(source.startswith("data:image/png;base64,") for source in images)
    for tag, attributes in page.seen:
        assert not any(name.startswith("on") for name in attributes), tag
        assert (attributes.get("href") or "#").startswith("#")
    text = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert "http://" not in text
    assert "https://" not in text
    assert "url(" not in text
    assert "@import" not in text


def test_a_page_that_would_grow_too_large_links_its_largest_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for layers in (5, 9):
        add(tmp_path, "lidgmvae", settings=(("decoder.layers", layers),))
    whole = [a for tag, a in read_page(tmp_path, figures=True).seen if tag == "img"]
    sizes = sorted(len(base64.b64decode((a["src"] or "").partition(",")[2])) for a in whole)
    monkeypatch.setattr("lidcli.report.embedded.EMBEDDED", sum(sizes[:-2]))
    page = read_page(tmp_path, figures=True)
    links = [a["href"] or "" for tag, a in page.seen if tag == "a"]
    files = [link for link in links if not link.startswith("#")]
    assert len(files) == 2
    assert all((tmp_path / "report" / link).is_file() for link in files)
    assert len([tag for tag, _ in page.seen if tag == "img"]) == len(whole) - 2
    assert page.open == []


def test_the_page_answers_first_and_folds_the_rest(tmp_path: Path) -> None:
    fill(tmp_path, seeds=2)
    page = read_page(tmp_path)
    assert "gmvae: collapsed in 6 of 6 runs" in page.text
    assert "lid sweep pinwheel-depth" in page.text
    runs = [a for tag, a in page.seen if tag == "details" and a.get("class") == "run"]
    assert len(runs) == 18
    for word in ("configuration", "provenance", "evaluation, test split", "the loss is not finite"):
        assert word in page.text


def test_of_very_many_runs_the_page_has_the_settings_of_the_first_and_a_line_for_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lidcli.report.html.DETAILED", 1)
    names = [add(tmp_path, "gmvae", seed=seed).folder.name for seed in range(3)]
    page = read_page(tmp_path)
    runs = [a for tag, a in page.seen if tag == "details" and a.get("class") == "run"]
    assert len(runs) == 1
    assert all(name in page.text for name in names)
    assert "The settings of the others are shown by lid show RUN." in page.text


def test_the_page_is_the_same_from_the_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = add(tmp_path, "vae")
    run.update(provenance={"first": [1], "second": [1]})

    def page() -> str:
        folder = tmp_path / "report"
        write(build(collect(tmp_path)), folder, ["html"], figures=False)
        return (folder / "report.html").read_text(encoding="utf-8")

    plain = page()
    monkeypatch.setattr("lidcli.store.index.MANY", 1)
    monkeypatch.setenv("LID_CACHE", str(tmp_path / "cache"))
    assert [page(), page()] == [plain, plain]


def test_a_run_of_a_stranger_injects_no_markup(tmp_path: Path) -> None:
    payload = '"><img src=x onerror=alert(1)><script>alert(2)</script>'
    facts = dict.fromkeys(("message", "verdict", "verdict_reason", "device"), payload)
    lists = {key: [payload] for key in ("data_notes", "checks", "argv")}
    run = add(tmp_path, "gmvae", provenance={**facts, **lists, payload: payload})
    run.update(evaluation=("test", {'<script>alert("metric")': 1.0}))
    config = run.config | {"method": payload}
    config["data"] = config["data"] | {"name": "../../" + payload}
    stranger = type(run).create(tmp_path / "<script>x" / "y-s0", config, run.provenance)
    stranger.update(
        evaluation=("test", run.evaluation["test"]), arrays=run.arrays, curves=run.curves
    )
    page = read_page(tmp_path, figures=True)
    assert page.open == []
    assert [tag for tag, _ in page.seen].count("script") == 1
    (policy,) = (a["content"] or "" for _, a in page.seen if "http-equiv" in a)
    script = (ROOT / "lidcli" / "report" / "page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy.endswith(f"script-src 'sha256-{digest}'")
    assert not any("onerror" in attributes for _, attributes in page.seen)
    inside = tmp_path / "report"
    assert all(inside in path.parents for path in tmp_path.rglob("*.png"))
    lines = text_of(build(collect(tmp_path)), "markdown").splitlines()
    assert not [line for line in lines if "<script>" in line and not line.startswith("    ")]


def test_warnings_are_listed(tmp_path: Path) -> None:
    (add(tmp_path, "gmvae").folder / "run.h5").write_bytes(b"x" * 2000)
    add(tmp_path, "lidgmvae")
    report = build(collect(tmp_path))
    assert "Left out" in read_page(tmp_path).text
    assert "Left out" in text_of(report, "markdown")
