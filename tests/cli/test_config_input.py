"""What is written wrongly in a file, or in --set, is exit code 2 and one sentence."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import pytest

WRONG_FILES = {
    "a date that is none": "data: {toy: {kind: points, train: 2001-99-99}}",
    "a tag": "data: {toy: {kind: points, train: !!int x}}",
    "a long number": "data: {toy: {kind: points, train: " + "9" * 5000 + "}}",
    "a deep nest": "data: {toy: {kind: points, train: " + "[" * 3000 + "}}",
    "a list in itself": "experiments: {e: {models: &m [*m], data: [pinwheel]}}",
    "a mapping in itself": "models: &m {vae: *m}",
    "twice": "models:\n  vae: {}\n  vae: {}",
    "a path that is a number": "data: {toy: {kind: points, path: 5}}",
    "a time": "data: {toy: {kind: points, train: 1:30}}",
    "a list of models": "models: [vae]",
    "an experiment that is a list": "experiments: {e: [1]}",
    "an experiment of numbers": "experiments: {e: {models: [1], data: [pinwheel]}}",
    "a grid that is no list": "experiments: {e: {models: [vae], data: [pinwheel], grid: {a: 1}}}",
    "a kind that is a mapping": "data: {toy: {kind: {a: 1}}}",
    "too many seeds": "experiments: {e: {models: [vae], data: [pinwheel], seeds: 0-999999999}}",
}


@pytest.mark.parametrize("text", WRONG_FILES.values(), ids=WRONG_FILES)
def test_a_wrong_file_is_exit_code_two_and_one_sentence(lid, tmp_path: Path, text: str) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    spec = "e" if "experiments" in text else None
    words = ["sweep", spec] if spec else ["sweep", "-m", "vae", "-d", "toy"]
    done = lid(*words, "-n", "-c", "mine.yaml")
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("lid: ")
    assert len(done.stderr.splitlines()) == 1
    assert len(done.stderr) < 500


def test_experiments_that_take_in_themselves_end(lid, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(
        "experiments: {e: {models: [vae], data: [pinwheel], also: [f]},"
        " f: {models: [vae], data: [digits], also: [e, f]}}"
    )
    done = lid("sweep", "e", "-n", "-c", "mine.yaml", "--json")
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["runs"]) == 2


@pytest.mark.parametrize("name", ["models", "data", "experiments"])
def test_lists_of_odd_files_do_not_fail(lid, tmp_path: Path, name: str) -> None:
    (tmp_path / "mine.yaml").write_text(
        "models: {odd: {family: 5, decoder: {use: 'a:B', knots: 2}}, none: }\n"
        "data: {toy: {kind: points, path: 5}, empty: {}, deep: {kind: [a], root: 3},"
        " own: {use: 'a:C'}}\n"
    )
    done = lid("list", name, "-c", "mine.yaml")
    assert done.returncode == 0, done.stderr
    assert lid("list", name, "-c", "mine.yaml", "--json").returncode == 0


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("train.epochs=!!int x", "is not readable"),
        ("train.epochs=" + "9" * 5000, "at most 40 digits"),
        ("train.epochs=" + "[" * 3000, "nested"),
        ("train.epochs=1:30", "'1:30' is not usable"),
        ("data.path=5", "data.path = 5 is not usable"),
        ("decoder.maps=2", "brenier has it"),
        ("decoder.use=nowhere:Thing", "cannot be imported"),
    ],
)
def test_a_wrong_setting_is_one_sentence(lid, setting: str, told: str) -> None:
    done = lid("train", "-m", "vae", "-d", "pinwheel", "--set", setting, "-n")
    assert done.returncode == 2, done.stderr
    assert told in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert len(done.stderr) < 500


def test_a_number_with_an_exponent_is_a_number(lid) -> None:
    done = lid("show", "config", "-m", "vae", "-d", "pinwheel", "--set", "train.learning_rate=1e-3",
               "--json")  # fmt: skip
    assert json.loads(done.stdout)["config"]["train"]["learning_rate"] == 1e-3


def test_the_help_of_show_names_every_setting(lid) -> None:
    said = lid("show", "config", "--help").stdout
    for key in ("model.family", "decoder.maps", "encoder.hidden", "train.momentum", "data.path"):
        assert key in said


FIGURE = ("ppca", "ppca-2d", "figure2")


@pytest.fixture
def published(tmp_path: Path, repository: Path) -> Path:
    """The runs of one experiment that the repository comes with."""
    folder = tmp_path / "results" / "published" / FIGURE[2]
    shutil.copytree(repository / "results" / "published" / FIGURE[2], folder)
    return folder


def test_sweep_train_and_list_agree_on_what_is_published(lid, published: Path) -> None:
    rows = json.loads(lid("list", "experiments", "--json").stdout)["experiments"]
    (row,) = (row for row in rows if row["experiment"] == FIGURE[2])
    assert (row["runs"], row["done"], row["published"]) == (8, 0, 8)

    plan = json.loads(lid("sweep", FIGURE[2], "-n", "--json").stdout)
    assert plan["states"] == {"published": 8}
    assert {run["state"] for run in plan["runs"]} == {"published"}
    assert {run["run"] for run in plan["runs"]} == {path.name for path in published.iterdir()}
    shown = lid("sweep", FIGURE[2], "-n").stdout
    assert "8 published" in shown
    assert "--again" in shown
    again = json.loads(lid("sweep", FIGURE[2], "-n", "--again", "--json").stdout)
    assert again["states"] == {"new": 8}

    words = ["train", "-m", FIGURE[0], "-d", FIGURE[1], "--experiment", FIGURE[2]]
    words += ["--set", "model.sigma=0.5"]
    plan = json.loads(lid(*words, "-n", "--json").stdout)
    assert plan["state"] == "published"
    assert json.loads(lid(*words, "-n", "--again", "--json").stdout)["state"] == "new"


def test_a_run_that_a_related_experiment_did_is_reported_and_not_repeated(
    lid, tmp_path: Path, repository: Path
) -> None:
    shipped = repository / "results" / "published" / "theorem1"
    plan = json.loads(lid("sweep", "theorem1-training", "--dry-run", "--json").stdout)
    for entry in plan["runs"]:
        shutil.copytree(shipped / entry["run"], tmp_path / "results" / "theorem1" / entry["run"])
    done = lid("sweep", "theorem1-training")
    assert done.returncode == 0
    assert "lid report theorem1 shows the tables" in done.stderr
    number = len(plan["runs"])
    assert done.stdout.splitlines()[0].startswith(f"theorem1-training: {number} runs, ")
    train = ("train", "-m", "gmvae", "-d", "gmvae-two", "--experiment", "theorem1-training")
    single = lid(*train, "--set", "train.epochs=4", "--dry-run")
    assert "done with theorem1; --again" in single.stdout, single
    assert not (tmp_path / "results" / "theorem1-training").exists()


def test_published_runs_are_reported_and_not_repeated(lid, published: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in published.rglob("*")}
    done = lid("sweep", FIGURE[2])
    assert done.returncode == 0, done.stderr
    assert done.stdout == "figure2: 8 runs, 8 published\n"
    assert "--again" in done.stderr
    document = json.loads(lid("sweep", FIGURE[2], "--json").stdout)
    assert {run["status"] for run in document["runs"]} == {"published"}
    assert all(run["evaluation"] for run in document["runs"])
    single = lid("train", "-m", FIGURE[0], "-d", FIGURE[1], "--experiment", FIGURE[2],
                 "--set", "model.sigma=0.5")  # fmt: skip
    assert single.returncode == 0, single.stderr
    assert "--again" in single.stderr
    assert "published/figure2" in single.stdout
    assert {path: path.stat().st_mtime_ns for path in published.rglob("*")} == before
    assert not (published.parents[1] / FIGURE[2]).exists()


CODE = """
import torch
from torch import nn
from lidcli.data.dataset import Dataset
from lidcli.data.registry import load
from lidcli.extend import Decoder, Points

class Line(Decoder):
    slope: float = 2.0

    def build(self, latent, outputs):
        layer = nn.Linear(latent, outputs)
        nn.init.constant_(layer.weight, self.slope)
        return layer

class Half(Points):
    def build(self):
        return load(Points(name="pinwheel", kind="points", train=300, test=150))
"""

MINE = """
models: {line: {decoder: {use: "mine_code:Line", slope: 3.0}}}
data: {half: {use: "mine_code:Half", model: {latent: 2, categories: 5}, encoder: {hidden: 8},
              inference: {hidden: 8}}}
"""


def test_code_of_ones_own_is_trained_swept_and_measured_again(lid, tmp_path: Path) -> None:
    (tmp_path / "mine_code.py").write_text(CODE)
    (tmp_path / "mine.yaml").write_text(MINE)
    common = ["-m", "line", "-d", "half", "--profile", "smoke"]
    done = lid("train", *common, "-c", "mine.yaml", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["config"]["decoder"]["kind"] == "mine_code:Line"
    run = document["run"]
    refused = lid("evaluate", run)
    assert refused.returncode == 2, refused.stderr
    assert "with -c" in refused.stderr
    assert lid("evaluate", run, "-c", "mine.yaml").returncode == 0
    swept = lid("sweep", *common, "-c", "mine.yaml", "--grid", "decoder.slope=1,2", "-w", "1")
    assert swept.returncode == 0, swept.stderr
    assert swept.stdout == "train: 2 runs, 2 complete\n"


def test_the_example_of_the_page_on_configuration_trains(
    lid, tmp_path: Path, repository: Path
) -> None:
    page = (repository / "docs" / "CONFIGURATION.md").read_text(encoding="utf-8")
    for language, name in (("python", "mine.py"), ("yaml", "mine.yaml")):
        (block,) = re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)
        (tmp_path / name).write_text(block)
    done = lid("train", "-m", "residual", "-d", "pinwheel", "-c", "mine.yaml", "--profile", "smoke",
               "--set", "data.train=300", "--set", "data.test=150", "--json")  # fmt: skip
    assert done.returncode == 0, done.stderr
    decoder = json.loads(done.stdout)["config"]["decoder"]
    assert decoder == {"kind": "mine:Residual", "units": 16}


def test_code_in_a_file_that_merely_lies_here_is_not_imported(lid, tmp_path: Path) -> None:
    (tmp_path / "mine_code.py").write_text("open('imported', 'w').close()\n" + CODE)
    (tmp_path / "experiments.yaml").write_text(MINE)
    for words in (
        ["train", "-m", "line", "-d", "half"],
        ["sweep", "-m", "line", "-d", "half"],
        ["show", "config", "-m", "line", "-d", "half"],
    ):
        done = lid(*words)
        assert done.returncode == 2, done.stderr
        assert "nothing named on this command line allows it" in done.stderr
    assert lid("list", "models").returncode == 0
    assert not (tmp_path / "imported").exists()
    named = lid("show", "config", "-m", "line", "-d", "half", "-c", "experiments.yaml")
    assert named.returncode == 0, named.stderr
    assert lid("show", "config", "-m", "line", "-d", "half",
               env={"LID_CONFIG": "experiments.yaml"}).returncode == 0  # fmt: skip


@pytest.mark.timeout(120)
def test_a_configuration_is_a_plain_file_of_a_sensible_size(lid, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    with (tmp_path / "sparse.yaml").open("wb") as file:
        file.truncate(1 << 40)
    (tmp_path / "true.yaml").write_text("models: {odd: {}}")
    (tmp_path / "link.yaml").symlink_to("true.yaml")
    assert lid("list", "models", "-c", "link.yaml").returncode == 0
    for name, told in (
        ("pipe.yaml", "pipe.yaml is a pipe and not a plain file"),
        ("/dev/zero", "/dev/zero is a device and not a plain file"),
        ("sparse.yaml", "sparse.yaml has more than 4 MiB"),
    ):
        done = lid("train", "-m", "vae", "-d", "pinwheel", "-n", "-c", name)
        assert done.returncode == 2, done.stderr
        assert told in done.stderr
        assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "setting",
    ["model.latent", "model.categories", "decoder.hidden", "decoder.layers", "data.test"],
)
def test_a_size_beyond_reason_is_a_wrong_setting(lid, setting: str) -> None:
    done = lid("train", "-m", "vae", "-d", "pinwheel", "-n", "--set", f"{setting}=99999999999999")
    assert done.returncode == 2, done.stderr
    assert f"{setting} = 99999999999999 is not usable" in done.stderr


def test_a_setting_that_does_nothing_beside_the_others_is_exit_code_two(lid) -> None:
    words = ["train", "-m", "vae", "-d", "pinwheel", "-n", "--set", "model.family=continuous"]
    done = lid(*words, "--set", "inference.categorical=collapsed")
    assert done.returncode == 2
    assert done.stderr == (
        "lid: inference.categorical does nothing for model.family = 'continuous'; mixture has it.\n"
    )
