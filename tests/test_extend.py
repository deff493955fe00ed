"""What users add in a file of their own: docs/EXTEND.md as written, and a toy of every section."""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from lidcli.store.run import Run

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "EXTEND.md").read_text(encoding="utf-8")
FENCE = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
QUICK = ["--set", "train.epochs=1", "--set", "data.train=200", "--set", "data.test=50"]
QUICK += ["--set", "evaluate.samples=4", "--set", "evaluate.outer=20"]

Lid = Callable[..., "CompletedProcess[str]"]


def blocks(language: str) -> list[str]:
    """The fenced blocks of a language, in order."""
    return [text for found, text in FENCE.findall(PAGE) if found == language]


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """A folder with the two files that the page shows."""
    (tmp_path / "mine.py").write_text("\n\n".join(blocks("python")))
    (shown,) = blocks("yaml")
    (tmp_path / "mine.yaml").write_text(shown)
    return tmp_path


def run(lid: Lid, words: list[str]) -> CompletedProcess[str]:
    done = lid(*words)
    assert done.returncode == 0, f"lid {shlex.join(words)}\n{done.stderr}"
    return done


def rows(lid: Lid, experiment: str) -> list[dict[str, str]]:
    """The runs of an experiment, as the report's csv has them."""
    done = run(lid, ["report", experiment, "--format", "csv", "--no-figures"])
    return list(csv.DictReader(io.StringIO(done.stdout)))


@pytest.mark.slow
def test_the_commands_of_the_page_work_with_its_files(lid: Lid, page: Path) -> None:
    (commands,) = blocks("sh")
    for line in commands.splitlines():
        words = shlex.split(line)[1:]
        if words[0] == "sweep":
            words += ["--seeds", "0", "-w", "1"]
        done = run(lid, [*words, *(QUICK if words[0] in ("train", "sweep") else [])])
        if words[0] == "list":
            assert {"residual", "controlled"} <= set(re.findall(r"[\w-]+", done.stdout))
        if words[0] == "report":
            assert "RMSE" in done.stdout
            for name in ("vae", "lidvae", "residual", "controlled"):
                assert re.search(rf"\b{name}\b", done.stdout), name
    found = rows(lid, "rings")
    assert {row["method"] for row in found} == {"vae", "lidvae", "residual", "controlled"}
    assert all(row["status"] == "complete" and float(row["rmse"]) > 0 for row in found)
    blocks_of = {row["decoder.blocks"] for row in rows(lid, "train")}
    assert blocks_of == {"4", "2"}


def test_the_examples_are_as_short_as_the_page_says() -> None:
    decoder, method, *_ = blocks("python")
    assert len([line for line in decoder.splitlines() if line.strip()]) <= 30
    assert len([line for line in method.splitlines() if line.strip()]) <= 40


def test_a_wrong_value_of_ones_own_setting_is_one_sentence(lid: Lid, page: Path) -> None:
    words = ["train", "-m", "residual", "-d", "rings", "-c", "mine.yaml"]
    done = lid(*words, "--set", "decoder.blocks=-1")
    assert done.returncode == 2
    assert "decoder.blocks = -1" in done.stderr
    done = lid(*words, "--set", "decoder.block=3")
    assert done.returncode == 2
    assert "decoder.blocks" in done.stderr


TOYS = """
import math

import numpy as np
import torch
from torch import nn

from lidcli.data.dataset import Dataset, Split, fingerprint
from lidcli.extend import (
    Amortized, Data, Decoder, Encoder, Likelihood, Model, Quantity, Training, metric,
)
from lidcli.metrics.estimate import Estimate
from lidcli.models import likelihoods, priors
from lidcli.training.updates import Joint


class LaplacePrior(priors.Prior):
    def log_prob(self, z):
        return -(z.abs() + math.log(2)).sum(-1)

    def sample(self, n):
        sign = torch.rand(n, self.latent) - 0.5
        return -sign.sign() * torch.log1p(-2 * sign.abs())


class LaplaceNoise(likelihoods.Likelihood):
    def log_prob(self, x, parameters):
        return -((x - parameters).abs() + math.log(2)).sum(-1)

    def mean(self, parameters):
        return parameters

    def sample(self, parameters):
        return parameters + torch.distributions.Laplace(0.0, 1.0).sample(parameters.shape)


class Features(nn.Linear):
    def forward(self, x):
        return super().forward(x.x).tanh()


class ToyModel(Model):
    family: str = "toys:ToyModel"
    latent: int = 2

    def build(self, data):
        return LaplacePrior(self.latent)


class ToyDecoder(Decoder):
    kind: str = "toys:ToyDecoder"

    def build(self, latent, outputs):
        return nn.Linear(latent, outputs)


class ToyLikelihood(Likelihood):
    kind: str = "toys:ToyLikelihood"

    def build(self):
        return LaplaceNoise()


class ToyEncoder(Encoder):
    kind: str = "toys:ToyEncoder"
    width: int = 7

    def build(self, data):
        inputs = data.train.x.shape[1]
        return lambda: Features(inputs, self.width), self.width


class Doubled(Joint):
    def step(self, x, step, more):
        super().step(x, step, more)
        return super().step(more(), step, more)


class ToyMethod(Amortized):
    kind: str = "toys:ToyMethod"

    def update(self, training, model, batches, guard):
        return Doubled(self, training, model, batches, guard)


class ToyTraining(Training):
    optimiser: str = "toys:ToyTraining"

    def build(self, parameters):
        return torch.optim.SGD(parameters, lr=self.learning_rate)


class ToyData(Data):
    kind: str = "toys:ToyData"

    def build(self):
        rng = np.random.default_rng(self.split_seed)
        parts = [
            Split(rng.normal(size=(size, 3)).astype(np.float32), None)
            for size in (self.train or 200, 50, self.test or 50)
        ]
        return Dataset(self.name, "points", *parts, (3,), None, False, fingerprint(*parts))


@metric(Quantity("spread", "spread", words="spread", low=0, error=True, table="fit"))
def toy_metric(model, x, labels):
    assert labels is None
    return Estimate(x.x.std().item(), 0.25)


@metric(Quantity("wrong", "wrong", low=0))
def negative(model, x, labels):
    return -1


def no_metric(model, x, labels):
    return 1.0
"""
LINES = {
    "model": 'toy-model: {use: "toys:ToyModel"}',
    "decoder": 'toy-decoder: {decoder: {use: "toys:ToyDecoder"}}',
    "likelihood": 'toy-likelihood: {likelihood: {use: "toys:ToyLikelihood"}}',
    "encoder": 'toy-encoder: {encoder: {use: "toys:ToyEncoder", width: 5}}',
    "inference": 'toy-method: {inference: {use: "toys:ToyMethod"}}',
    "train": 'toy-training: {train: {use: "toys:ToyTraining"}}',
}
"""One line of YAML for a toy of each section."""
DATA = """toy-data:
    use: "toys:ToyData"
    model: {latent: 2, categories: 3}
    decoder: {hidden: 16}
    encoder: {hidden: 16}
    inference: {hidden: 16}
"""
METRIC = 'set: {evaluate: {metrics: ["toys:toy_metric"]}}'


@pytest.fixture
def toys(tmp_path: Path) -> Path:
    """A folder with the toys, and an experiment of all of them."""
    (tmp_path / "toys.py").write_text(TOYS)
    names = [line.partition(":")[0] for line in LINES.values()]
    text = ["models:", *(f"  {line}" for line in LINES.values()), "data:", f"  {DATA}"]
    text += ["experiments:", "  toys:", f"    models: [{', '.join(names)}]"]
    text += ["    data: [toy-data]", f"    {METRIC}"]
    (tmp_path / "toys.yaml").write_text("\n".join(text))
    return tmp_path


@pytest.mark.slow
def test_a_toy_is_one_class_and_one_line_and_is_listed_trained_swept_and_reported(
    lid: Lid, toys: Path
) -> None:
    names = [line.partition(":")[0] for line in LINES.values()]
    with_code = ["-c", "toys.yaml"]
    listed = run(lid, ["list", "models", *with_code]).stdout
    assert all(name in listed for name in names)
    assert "toy-data" in run(lid, ["list", "data", *with_code]).stdout
    assert "toys" in run(lid, ["list", "experiments", *with_code]).stdout
    words = ["train", "-m", "toy-method", "-d", "toy-data", *with_code, *QUICK, "--json"]
    words += ["--set", "evaluate.metrics=[toys:toy_metric]"]
    document = json.loads(run(lid, words).stdout)
    assert document["evaluation"]["test"]["spread_se"] == 0.25
    run(lid, ["sweep", "toys", *with_code, *QUICK, "-w", "1"])
    found = rows(lid, "toys")
    assert {row["method"] for row in found} == set(names)
    assert all(row["status"] == "complete" for row in found)
    assert all(0.5 < float(row["spread"]) < 2 for row in found)
    shown = run(lid, ["report", "toys", "--no-figures"]).stdout
    assert "spread" in shown
    assert all(name in shown for name in names)


def test_a_metric_is_measured_of_classical_models_too(lid: Lid, toys: Path) -> None:
    words = ["train", "-m", "ppca", "-d", "toy-data", "-c", "toys.yaml", *QUICK[2:6], "--json"]
    document = json.loads(run(lid, [*words, "--set", "evaluate.metrics=[toys:toy_metric]"]).stdout)
    assert document["evaluation"]["train"]["spread"] > 0.5


def test_what_is_no_metric_is_one_sentence_and_a_wrong_value_a_broken_check(
    lid: Lid, toys: Path
) -> None:
    words = ["train", "-m", "vae", "-d", "toy-data", "-c", "toys.yaml", *QUICK]
    for name, told in (
        ("toys:no_metric", "no function with @metric"),
        ("toys:absent", "cannot be imported: AttributeError"),
    ):
        done = lid(*words, "--set", f"evaluate.metrics=[{name}]")
        assert done.returncode == 2
        assert told in done.stderr
        assert "Traceback" not in done.stderr
        assert not (toys / "results").exists()
    done = run(lid, [*words, "--set", "evaluate.metrics=[toys:negative]", "--json"])
    assert json.loads(done.stdout)["provenance"]["checks"] == ["wrong is negative"]


OBSERVED = """
import torch
from torch import nn

from lidcli.extend import Decoder
from lidcli.models.batch import DenseBatch
from lidcli.models.observations import Observation


class Laplace(Observation):
    def __init__(self, latent, outputs):
        super().__init__()
        self.decoder = nn.Linear(latent, outputs)

    def log_prob(self, x, z):
        return torch.distributions.Laplace(self.decoder(z), 1.0).log_prob(x.x).sum(-1)

    def sample(self, z):
        return DenseBatch(torch.distributions.Laplace(self.decoder(z), 1.0).sample())


class Robust(Decoder):
    kind: str = "observed:Robust"

    def observation(self, config, data):
        return Laplace(config.model.latent, data.train.x[0].size)
"""


@pytest.mark.parametrize("data", ["pinwheel", "digits"])
def test_a_run_of_an_observation_of_one_s_own_keeps_the_pictures_that_it_can_draw(
    lid: Lid, tmp_path: Path, data: str
) -> None:
    (tmp_path / "observed.py").write_text(OBSERVED)
    (tmp_path / "observed.yaml").write_text(
        "models: {robust: {decoder: {use: 'observed:Robust'}, model: {latent: 2}}}\n"
    )
    run(lid, ["train", "-m", "robust", "-d", data, "-c", "observed.yaml", *QUICK])
    (record,) = (tmp_path / "results").glob("*/*/run.h5")
    arrays = Run.open(record.parent).arrays
    assert "samples" in arrays
    assert "reconstructions" not in arrays
    run(lid, ["report", "train"])


LINEAR = """
from torch import nn

from lidcli.extend import Decoder, Quantity, metric


class Linear(Decoder):
    kind: str = "lines:Linear"

    def build(self, latent, outputs):
        return nn.Linear(latent, outputs)


@metric(Quantity("seven", "7"))
def seven(model, x, labels):
    return 7.0
"""


@pytest.fixture
def lines(tmp_path: Path) -> list[str]:
    """The words of a run with code of the user's, which lies in a file."""
    (tmp_path / "lines.py").write_text(LINEAR)
    (tmp_path / "lines.yaml").write_text(
        "models: {line: {decoder: {use: 'lines:Linear'}, evaluate: {metrics: ['lines:seven']}}}\n"
    )
    return ["-m", "line", "-d", "pinwheel", "-c", "lines.yaml", *QUICK]


CHANGED = "lines.py is not the one this run was"


def test_edited_code_is_said_of_a_finished_run_and_measures_none_that_it_did_not_make(
    lid: Lid, lines: list[str], tmp_path: Path
) -> None:
    run(lid, ["train", *lines])
    (folder,) = (tmp_path / "results" / "train").iterdir()
    assert set(Run.open(folder).provenance["code_sha256"]) == {"lines:Linear", "lines:seven"}
    assert "lines.py" not in run(lid, ["train", *lines]).stderr
    run(lid, ["evaluate", folder.name, "-c", "lines.yaml"])
    before = (folder / "run.h5").read_bytes()
    (tmp_path / "lines.py").write_text(
        LINEAR.replace("latent, outputs)\n", "latent, outputs, 0)\n")
    )
    for words in (["train", *lines], ["sweep", *lines, "-w", "1"]):
        told = run(lid, words).stderr
        assert "lines.py is not the one" in told
        assert told.count("--restart makes") == 1
    refused = lid("evaluate", folder.name, "-c", "lines.yaml")
    assert refused.returncode == 4
    assert refused.stderr.endswith(f"{CHANGED} started with; restore it, or use --restart.\n")
    assert (folder / "run.h5").read_bytes() == before
    assert "lines.py" not in run(lid, ["train", *lines, "--restart"]).stderr
    assert "lines.py" not in run(lid, ["train", *lines]).stderr


def test_a_run_goes_on_with_the_code_that_it_was_started_with_and_no_other(
    lid: Lid, lines: list[str], tmp_path: Path
) -> None:
    run(lid, ["train", *lines])
    (folder,) = (tmp_path / "results" / "train").iterdir()
    record = Run.open(folder)
    known = record.provenance["code_sha256"]
    other = {**known, "lines:Linear": "0" * 64}
    record.update(provenance={"status": "interrupted", "code_sha256": other})
    refused = lid("train", *lines)
    assert refused.returncode == 4
    assert refused.stderr.endswith(f"{CHANGED} started with; restore it, or use --restart.\n")
    for fine in ({}, {**known, "lines:seven": "0" * 64}):
        record.update(provenance={"status": "interrupted", "code_sha256": fine})
        run(lid, ["train", *lines])
        assert Run.open(folder).provenance["code_sha256"] == known


def test_a_metric_that_was_edited_is_measured_anew(
    lid: Lid, lines: list[str], tmp_path: Path
) -> None:
    (tmp_path / "metrics.py").write_text(LINEAR)
    lines = [*lines, "--set", "evaluate.metrics=[metrics:seven]"]
    run(lid, ["train", *lines])
    (folder,) = (tmp_path / "results" / "train").iterdir()
    (tmp_path / "metrics.py").write_text(LINEAR.replace("7.0", "8.0"))
    assert "metrics.py is not the one" in run(lid, ["train", *lines]).stderr
    (tmp_path / "more.yaml").write_text("defaults: {evaluate: {metrics: ['metrics:seven']}}\n")
    with_code = ["-c", "lines.yaml", "-c", "more.yaml"]
    run(lid, ["evaluate", folder.name, *with_code])
    assert Run.open(folder).evaluation["test"]["seven"] == 8.0
    assert "metrics.py" not in run(lid, ["train", *lines]).stderr


WRONG_DECODERS = {
    "wide": ("nn.Linear(latent, outputs + 1)", "makes (2, 3) of latents (2, 2); the data need"),
    "no module": ("lambda z: z", "builds a function, and no torch.nn.Module."),
    "other input": ("nn.Linear(latent + 1, outputs)", "fails on latents (2, 2): RuntimeError: "),
}


@pytest.mark.parametrize(("made", "sentence"), WRONG_DECODERS.values(), ids=WRONG_DECODERS)
def test_a_decoder_that_does_not_fit_is_told_before_any_training(
    lid: Lid, tmp_path: Path, made: str, sentence: str
) -> None:
    (tmp_path / "wrong.py").write_text(
        "from torch import nn\nfrom lidcli.extend import Decoder\n\n\nclass Wrong(Decoder):\n"
        f"    def build(self, latent, outputs):\n        return {made}\n"
    )
    (tmp_path / "wrong.yaml").write_text("models: {w: {decoder: {use: 'wrong:Wrong'}}}")
    done = lid("train", "-m", "w", "-d", "pinwheel", "-c", "wrong.yaml", "-n")
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert sentence in line


LATE = """
import sys

from torch import nn

from lidcli.extend import Amortized, Decoder, Quantity, metric


class Net(nn.Linear):
    calls = 0

    def forward(self, z):
        self.calls += 1
        if self.calls > 6 and self.how == "raise":
            raise KeyError("late")
        if self.calls > 6 and self.how == "exit":
            sys.exit(4)
        print("seven" if self.calls == 7 else "")
        return super().forward(z)


class Late(Decoder):
    how: str = ""

    def build(self, latent, outputs):
        if self.how == "early":
            sys.exit(5)
        print("built")
        net = Net(latent, outputs)
        net.how = self.how
        return net


class Nothing(Amortized):
    def update(self, *made):
        return None


@metric(Quantity("late", "late", better="none"))
def late(model, x, labels):
    raise KeyError("metric")
"""


@pytest.fixture
def late(tmp_path: Path) -> list[str]:
    """The words of a run with a decoder that goes wrong when it is told to."""
    (tmp_path / "late.py").write_text(LATE)
    (tmp_path / "late.yaml").write_text(
        "models:\n  late: {decoder: {use: 'late:Late'}}\n"
        "  nothing: {inference: {use: 'late:Nothing'}}\n"
        "  unmeasured: {evaluate: {metrics: ['late:late']}}\n"
    )
    return ["train", "-d", "pinwheel", "-c", "late.yaml", *QUICK]


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["-m", "late", "--set", "decoder.how=early"], 2, "Late.build failed: SystemExit: 5"),
        (["-m", "late", "--set", "decoder.how=raise"], 1, "late.py, line 15, in forward"),
        (["-m", "late", "--set", "decoder.how=exit"], 1, "in forward): SystemExit: 4."),
        (["-m", "nothing"], 1, "a defect of lid or of late:Late or of late:Nothing"),
        (["-m", "unmeasured"], 2, "late:late failed: KeyError: 'metric'"),
    ],
)
def test_code_of_ones_own_that_fails_late_is_named(
    lid: Lid, late: list[str], words: list[str], code: int, told: str
) -> None:
    done = lid(*late, *words, "-q")
    assert done.returncode == code, done.stderr
    assert told in done.stderr.splitlines()[-1]


def test_what_code_of_ones_own_prints_does_not_break_a_document(lid: Lid, late: list[str]) -> None:
    done = lid(*late, "-m", "late", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["command"] == "train"
    assert "built" in done.stderr
    assert "seven" in done.stderr
