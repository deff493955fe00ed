"""The page in a browser: read at any width, light and dark, by keyboard, without a network."""

from __future__ import annotations

import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lidcli.config.read import load_files
from lidcli.report.collect import collect
from lidcli.report.figures.draw import block_sketches, experiment_sketches
from lidcli.report.groups import blocks
from lidcli.report.write import build, write

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SYNTHETIC = runpy.run_path(str(HERE / "synthetic.py"))
BROWSER = runpy.run_path(str(HERE / "browser.py"))
AUDIT = (HERE / "audit.js").read_text(encoding="utf-8")
LARGEST = 3_000_000
TAB, ENTER = ("Tab", 9), ("Enter", 13, "\r")

chromium = pytest.mark.skipif(BROWSER["program"]() is None, reason="no Chromium on this machine")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("results")
    SYNTHETIC["fill"](folder, seeds=2)
    SYNTHETIC["continuous"](folder)
    return folder


@pytest.fixture(scope="module")
def page(results: Path) -> Path:
    known = load_files([ROOT / "experiments.yaml"])
    write(build(collect(results)), results / "report", ["html"], True, known)
    return results / "report" / "report.html"


@pytest.fixture(scope="module")
def chrome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with BROWSER["browser"](tmp_path_factory.mktemp("profile")) as started:
        yield started


@chromium
@pytest.mark.chromium
@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [400, 1600])
def test_nothing_is_faint_or_empty_or_sticks_out(
    chrome: Any, page: Path, width: int, dark: bool
) -> None:
    chrome.open(page, width, dark=dark)
    assert chrome.run(AUDIT) == {"faint": [], "outside": [], "empty": []}
    back = chrome.run("getComputedStyle(document.body).backgroundColor")
    assert (back == "rgb(255, 255, 255)") == (not dark)


@chromium
@pytest.mark.chromium
@pytest.mark.slow
def test_the_keyboard_reaches_the_report_sorts_and_copies(chrome: Any, page: Path) -> None:
    chrome("Browser.grantPermissions", permissions=["clipboardReadWrite"])
    chrome.open(page, 1600)
    focused = "document.activeElement.textContent"
    chrome.press(*TAB)
    assert chrome.run(focused) == "To the report"
    chrome.run("document.querySelector('table.sortable th:nth-child(2) button').focus()")
    column = "[...document.querySelector('table.sortable').tBodies[0].rows].map(r => r.cells[1])"
    before = chrome.run(f"{column}.map(c => c.textContent)")
    chrome.press(*ENTER)
    state = "document.activeElement.closest('th').getAttribute('aria-sort')"
    assert chrome.run(state) == "ascending"
    chrome.press(*ENTER)
    assert chrome.run(state) == "descending"
    after = chrome.run(f"{column}.map(c => c.textContent)")
    assert sorted(after) == sorted(before)
    numbers = [float(text) for text in after if text[:1].isdigit()]
    assert numbers == sorted(numbers, reverse=True)
    chrome.run("document.querySelector('.command button').focus()")
    chrome.press(*ENTER)
    told = "new Promise(r => { const look = () => document.activeElement.textContent === 'Copy'"
    told += " ? setTimeout(look, 50) : r(document.activeElement.textContent); look(); })"
    assert chrome.run(told) in ("Copied", "Press Ctrl+C")


@chromium
@pytest.mark.chromium
@pytest.mark.slow
def test_nothing_is_asked_of_a_network(chrome: Any, page: Path) -> None:
    chrome.requested.clear()
    chrome.open(page, 1600)
    chrome.run("0")
    asked = [url for url in chrome.requested if not url.startswith(("file:", "data:"))]
    assert asked == []


def test_the_best_is_told_without_colour() -> None:
    style = (ROOT / "lidcli" / "report" / "style.css").read_text(encoding="utf-8")
    best = style[style.index("td.best") :].partition("}")[0]
    assert "font-weight: 700" in best


def test_the_page_is_small(page: Path) -> None:
    assert page.stat().st_size < LARGEST


def test_no_panel_of_a_figure_is_empty(results: Path) -> None:
    for name, records in collect(results).experiments().items():
        sketches = [*experiment_sketches(records)]
        sketches += [sketch for block in blocks(records) for sketch in block_sketches(block)]
        for sketch in sketches:
            for axes in sketch.make().axes:
                drawn = axes.has_data() or axes.images or axes.texts
                assert drawn or not (axes.get_visible() and axes.axison), f"{name}: {sketch.name}"
