"""`lid report` as a user meets it."""

from __future__ import annotations

import csv
import io
import json
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lidcli.cli.report import _answer
from lidcli.report.collect import collect
from lidcli.report.write import build

Lid = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def synthetic(repository: Path) -> dict[str, Callable[..., Any]]:
    """The writers of runs that no model made."""
    return runpy.run_path(str(repository / "tests" / "report" / "synthetic.py"))


@pytest.fixture
def results(tmp_path: Path, synthetic: dict[str, Callable[..., Any]]) -> Path:
    """Two experiments' runs."""
    folder = tmp_path / "results"
    for seed in range(2):
        synthetic["add"](folder, "gmvae", seed=seed, mi=0.0)
        synthetic["add"](folder, "lidgmvae", seed=seed)
    synthetic["add"](folder, "vae", experiment="other")
    return folder


def test_it_prints_the_tables_and_writes_every_format(lid: Lid, results: Path) -> None:
    done = lid("report", "demo")
    assert done.returncode == 0, done.stderr
    assert "gmvae: collapsed in 2 of 2 runs; lidgmvae: informative in 2 of 2 runs" in " ".join(
        done.stdout.split()
    )
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "\x1b" not in done.stdout
    written = {path.name for path in (results / "report").iterdir()}
    assert written == {"report.md", "report.tex", "runs.csv", "report.html", "figures"}
    assert list((results / "report" / "figures" / "demo").glob("*.png"))
    assert "report.html" in done.stderr


def test_the_last_words_are_as_wide_as_the_terminal(
    results: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "50")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    _answer(build(collect(results)))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 3
    assert max(map(len, lines)) <= 50


def test_terminal_alone_writes_nothing(lid: Lid, results: Path) -> None:
    done = lid("report", "--format", "terminal")
    assert done.returncode == 0
    assert "other" in done.stdout
    assert not (results / "report").exists()


def test_csv_on_stdout_is_the_frame(lid: Lid, results: Path, tmp_path: Path) -> None:
    done = lid("report", "--format", "csv", "--output", "elsewhere")
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert len(rows) == 5
    assert {row["method"] for row in rows} == {"gmvae", "lidgmvae", "vae"}
    assert (tmp_path / "elsewhere" / "runs.csv").read_text() == done.stdout
    assert [path.name for path in (tmp_path / "elsewhere").iterdir()] == ["runs.csv"]


@pytest.mark.parametrize(("kind", "start"), [("markdown", "# lid report"), ("latex", "% Compile")])
def test_text_formats_go_to_stdout(lid: Lid, results: Path, kind: str, start: str) -> None:
    done = lid("report", "--format", kind)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(start)


def test_json_is_one_document(lid: Lid, results: Path) -> None:
    done = lid("report", "demo", "--format", "terminal", "--json")
    document = json.loads(done.stdout)
    assert document["schema_version"] == 1
    (experiment,) = document["experiments"]
    assert experiment["name"] == "demo"
    assert len(experiment["runs"]) == 4
    assert experiment["runs"][0]["evaluation"]["test"]["ll"] == -1.0
    assert experiment["tables"][0]["head"][0] == "method"


def test_no_runs_are_said_and_no_failure(lid: Lid) -> None:
    done = lid("report")
    assert done.returncode == 0
    assert done.stdout == ""
    assert "No runs in results yet; lid sweep demo makes the first." in done.stderr


def test_an_unknown_experiment_names_the_nearest(lid: Lid, results: Path) -> None:
    done = lid("report", "dmo")
    assert done.returncode == 2
    assert "did you mean demo?" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_an_experiment_without_runs_names_the_command(lid: Lid, results: Path) -> None:
    done = lid("report", "pinwheel-depth")
    assert done.returncode == 2
    assert "lid sweep pinwheel-depth" in done.stderr


@pytest.mark.parametrize("whole", [True, False])
def test_an_experiment_is_shown_with_its_parts(
    lid: Lid, tmp_path: Path, synthetic: dict[str, Callable[..., Any]], whole: bool
) -> None:
    """Also where only a part was run."""
    folder = tmp_path / "results"
    synthetic["add"](folder, "gmvae", experiment="demo-pinwheel")
    synthetic["add"](folder, "gmvae", experiment="figure2")
    names = ["demo-pinwheel"]
    if whole:
        synthetic["add"](folder, "vae", experiment="demo")
        names.append("demo")
    done = lid("report", "demo", "--json", "--no-figures")
    assert done.returncode == 0, done.stderr
    shown = [entry["name"] for entry in json.loads(done.stdout)["experiments"]]
    assert sorted(shown) == sorted(names)
    listed = json.loads(lid("list", "runs", "demo", "--json").stdout)["runs"]
    assert {row["run"].partition("/")[0] for row in listed} == set(names)


def test_a_part_without_runs_names_the_whole_that_has_them(
    lid: Lid, tmp_path: Path, synthetic: dict[str, Callable[..., Any]]
) -> None:
    synthetic["add"](tmp_path / "results", "gmvae", experiment="section-2.2")
    done = lid("report", "section-2.2-training")
    assert done.returncode == 2
    assert "lid report section-2.2 shows those of the experiment that takes it in" in done.stderr


def test_a_damaged_run_is_left_out_and_said(lid: Lid, results: Path) -> None:
    victim = next((results / "demo").iterdir()) / "run.h5"
    victim.write_bytes(victim.read_bytes()[:1000])
    done = lid("report", "demo", "--format", "markdown")
    assert done.returncode == 3
    assert victim.parent.name in done.stderr
    assert "Left out" in done.stdout


def test_a_folder_that_cannot_be_written_is_one_sentence(lid: Lid, results: Path) -> None:
    (results / "report").write_text("a file in the way")
    done = lid("report", "demo", "--no-figures")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "Traceback" not in done.stderr


def test_a_table_is_printed_before_it_cannot_be_written(lid: Lid, results: Path) -> None:
    (results / "report").write_text("a file")
    done = lid("report", "--format", "csv")
    assert done.returncode == 1
    assert len(done.stdout.splitlines()) == 6
    assert done.stderr.count("\n") == 1
    assert "report cannot be written: " in done.stderr


def test_a_figure_that_cannot_be_drawn_is_said(
    lid: Lid, results: Path, synthetic: dict[str, Callable[..., Any]]
) -> None:
    synthetic["add"](results, "gmvae", experiment="odd").update(arrays={"category": np.zeros(7)})
    done = lid("report", "odd", "--figures", "--format", "csv")
    assert done.returncode == 0, done.stderr
    assert "warning: odd: no figure pinwheel-c-categories" in done.stderr


def test_reports_need_no_torch(lid: Lid, results: Path, tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('torch was imported')")
    done = lid("report", "demo")
    assert done.returncode == 0, done.stderr
