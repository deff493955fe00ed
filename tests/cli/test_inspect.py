"""`lid list` and `lid show` as a user meets them."""

from __future__ import annotations

import json
import runpy
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from lidcli.config.plan import plan_experiment
from lidcli.config.read import load_files
from lidcli.store.run import Run

Lid = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(tmp_path: Path, repository: Path) -> Any:
    """One finished run below the default results folder."""
    synthetic = runpy.run_path(str(repository / "tests" / "report" / "synthetic.py"))
    return synthetic["add"](tmp_path / "results", "lidvae", ll=-0.9125)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("models", "lidvae"), ("data", "pinwheel"), ("experiments", "pinwheel-depth")],
)
def test_lists_name_what_there_is(lid: Lid, name: str, expected: str) -> None:
    done = lid("list", name)
    assert done.returncode == 0, done.stderr
    assert expected in [line.split()[0] for line in done.stdout.splitlines()]
    document = json.loads(lid("list", name, "--json").stdout)
    assert expected in [row[name.rstrip("s")] for row in document[name]]


def test_data_say_whether_their_files_are_here(lid: Lid, tmp_path: Path) -> None:
    rows = {row["data"]: row for row in json.loads(lid("list", "data", "--json").stdout)["data"]}
    assert rows["pinwheel"]["here"] == "made"
    assert rows["mnist"]["here"] == "fetch"
    assert rows["pinwheel"]["classes"] == 5


def test_files_that_stand_in_for_the_published_ones_are_named_so(lid: Lid, tmp_path: Path) -> None:
    def here() -> dict[str, str]:
        rows = json.loads(lid("list", "data", "--json").stdout)["data"]
        return {row["data"]: row["here"] for row in rows}

    folder = tmp_path / "data" / "yahoo"
    folder.mkdir(parents=True)
    (folder / "yahoo.valid.txt").touch()
    assert here()["yahoo"] == "fetch"
    (folder / "yahoo.test.txt").touch()
    assert here()["yahoo"] == "stand-in"
    (folder / "yahoo.train.txt").touch()
    assert here()["yahoo"] == "yes"
    assert here()["omniglot"] == "fetch"
    (tmp_path / "data" / "omniglot").mkdir()
    (tmp_path / "data" / "omniglot" / "chardata.mat").touch()
    assert here()["omniglot"] == "yes"


def test_experiments_count_what_is_done(lid: Lid, tmp_path: Path, repository: Path) -> None:
    config = plan_experiment(load_files([repository / "experiments.yaml"]), "demo").runs[0]
    made = Run.create(tmp_path / "results" / "demo" / config.run_id, config.document(), {})
    made.update(provenance={"status": "complete"})
    rows = json.loads(lid("list", "experiments", "--json").stdout)["experiments"]
    assert {row["experiment"]: (row["runs"], row["done"]) for row in rows}["demo"] == (14, 1)


def test_runs_are_listed_with_their_verdict(lid: Lid, run: Any) -> None:
    line = lid("list", "runs").stdout.splitlines()[1].split()
    assert line == [
        f"demo/{run.folder.name}", "lidvae", "pinwheel", "complete", "-0.9125", "informative"
    ]  # fmt: skip
    assert lid("list", "runs", "demo").returncode == 0


def test_no_runs_is_said_and_no_failure(lid: Lid) -> None:
    done = lid("list", "runs")
    assert (done.returncode, done.stdout) == (0, "")
    assert "No runs." in done.stderr


@pytest.mark.parametrize(("arguments", "hint"), [(("runs", "dmo"), "demo"), (("model",), "models")])
def test_unknown_names_get_the_nearest(
    lid: Lid, run: Any, arguments: tuple[str, ...], hint: str
) -> None:
    done = lid("list", *arguments)
    assert done.returncode == 2
    assert f"did you mean {hint}?" in done.stderr


@pytest.mark.parametrize("form", ["prefix", "id", "path", "file"])
def test_show_finds_a_run_by_id_or_path(lid: Lid, run: Any, form: str) -> None:
    target = {
        "prefix": run.folder.name[:6],
        "id": run.folder.name,
        "path": str(run.folder),
        "file": str(run.folder / "run.h5"),
    }[form]
    done = lid("show", target)
    assert done.returncode == 0, done.stderr
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert f"demo/{run.folder.name}: lidvae on pinwheel" in lines
    assert "ll -0.9125 ± 0.004 nats" in lines
    assert "au/c 1 fraction" in lines
    assert "verdict informative: MI 1.60" in lines
    assert "git_commit: 0123456789abcdef" in lines
    assert "kind: brenier" in lines


def test_show_counts_the_units_of_a_latent(lid: Lid, tmp_path: Path, repository: Path) -> None:
    synthetic = runpy.run_path(str(repository / "tests" / "report" / "synthetic.py"))
    measured = {f"fisher/w/{unit}": 1.0 for unit in (10, 1, 2)} | {"allowed/variance/w/11": 0.5}
    made = synthetic["add"](tmp_path / "results", "lidvae", evaluation=measured)
    lines = lid("show", made.folder.name).stdout.splitlines()
    shown = [line for line in lines if line.startswith(("  fisher/w", "  allowed/variance"))]
    assert [line.split()[0] for line in shown] == [
        "allowed/variance/w/11", "fisher/w/1", "fisher/w/2", "fisher/w/10"
    ]  # fmt: skip
    assert len({len(line.split("slope")[0].rstrip()) for line in shown}) == 1


def test_show_as_a_document_holds_everything(lid: Lid, run: Any) -> None:
    document = json.loads(lid("show", run.folder.name, "--json").stdout)
    assert document["config"]["method"] == "lidvae"
    assert document["provenance"]["verdict"] == "informative"
    assert document["evaluation"]["test"]["ll_se"] == 0.004


def test_show_names_the_nearest_run(lid: Lid, run: Any) -> None:
    done = lid("show", run.folder.name[:-1] + "9")
    assert done.returncode == 1
    assert run.folder.name in done.stderr


def test_show_config_resolves_a_run(lid: Lid) -> None:
    arguments = ("show", "config", "-m", "lidvae", "-d", "pinwheel")
    done = lid(*arguments, "--set", "decoder.layers=13", "--seed", "3")
    assert done.returncode == 0, done.stderr
    config = yaml.safe_load(done.stdout)
    assert config["decoder"]["layers"] == 13
    assert config["model"]["family"] == "mixture"
    assert config["seed"] == 3
    assert done.stdout.splitlines()[0].endswith("-s3")
    document = json.loads(lid(*arguments, "--json").stdout)
    assert document["config"]["decoder"]["kind"] == "brenier"


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (("config",), "--model and --data"),
        (("config", "-m", "lidvea", "-d", "pinwheel"), "did you mean lidvae?"),
        (("config", "-m", "lidvae", "-d", "pinwheel", "--set", "decoder.layer=9"), "layers"),
        (("abc", "-m", "lidvae"), "lid show config"),
        (("abc", "--seed", "3"), "lid show config"),
    ],
)
def test_show_refuses_what_makes_no_sense(lid: Lid, arguments: tuple[str, ...], hint: str) -> None:
    done = lid("show", *arguments)
    assert done.returncode == 2
    assert hint in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", [("report",), ("list",), ("list", "runs"), ("show",)])
def test_every_command_has_help(lid: Lid, command: tuple[str, ...]) -> None:
    done = lid(*command, "-h")
    assert done.returncode == 0
    assert "Usage:" in done.stdout
