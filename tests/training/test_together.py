"""Several runs as one batched model: each ends as it would alone."""

from __future__ import annotations

import copy
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lidcli.cli.progress import Silent
from lidcli.config.read import load_files, parse_override
from lidcli.config.resolve import resolve, resolve_loosely
from lidcli.config.run import RunConfig
from lidcli.data.registry import load
from lidcli.errors import DivergedError, Interrupted
from lidcli.models.batch import DenseBatch
from lidcli.store.run import Run
from lidcli.training.build import build
from lidcli.training.device import pick_device
from lidcli.training.lifecycle import execute
from lidcli.training.loop import Trainer
from lidcli.training.several import execute_together
from lidcli.training.signals import StopRequest
from lidcli.training.sources import split_of
from lidcli.training.stackable import but_for_the_seed, obstacle
from lidcli.training.together import Member, step_seconds, train_together

KNOWN = load_files([Path(__file__).resolve().parents[2] / "experiments.yaml"])
SMALL = ("decoder.hidden=8", "encoder.hidden=8", "inference.hidden=8", "data.train=200")
RARELY = ("decoder.layers=9", "runtime.checkpoint_seconds=1000")
FEW = ("data.test=200", "evaluate.samples=4", "evaluate.outer=20")
SLOW = ("decoder.layers=5", "train.learning_rate=0.001", "runtime.checkpoint_seconds=0")


def configuration(*settings: str, model: str = "gmvae", data: str = "pinwheel") -> RunConfig:
    pairs = [parse_override(text) for text in (*SMALL, *SLOW, *settings)]
    return resolve_loosely(KNOWN, model=model, data=data, overrides=pairs).config


def seeds(count: int, *settings: str, **names: str) -> list[RunConfig]:
    config = configuration(*settings, **names)
    return [config.model_copy(update={"seed": seed}) for seed in range(count)]


class Course:
    """A training, the states it saved, and what it is as a member of several."""

    def __init__(
        self, config: RunConfig, stop: StopRequest, dtype: torch.dtype = torch.float32
    ) -> None:
        data, device = load(config.data), config.runtime.device
        torch.manual_seed(config.seed)
        train = split_of(data, "train", config.train.batch_size)  # type: ignore[union-attr]
        self.saved: list[Any] = []
        self.trainer = Trainer(
            config,
            build(config, data).to(pick_device(device), dtype),
            train,
            split_of(data, "valid"),
            observer=Silent(),
            save=lambda state, progress: self.saved.append(copy.deepcopy(state)),
            stop=stop,
        )
        train._x = train._x.to(dtype)
        self.trainer.valid = DenseBatch(self.trainer.valid.x.to(dtype))  # type: ignore[attr-defined]

        self.generators = self.trainer.generators()

    def restore(self, state: Any) -> None:
        self.trainer.restore(copy.deepcopy(state))
        self.generators = self.trainer.generators()

    def member(self) -> Member:
        self.trainer.set_generators(self.generators)
        return Member(self.trainer)

    def numbers(self) -> Tensor:
        state = self.trainer.model.state_dict().values()
        return torch.cat([value.double().flatten() for value in state if value.is_floating_point()])


def alone(configs: list[RunConfig], dtype: torch.dtype = torch.float32) -> list[Course]:
    courses = []
    for config in configs:
        course = Course(config, StopRequest(), dtype)
        course.trainer.run()
        courses.append(course)
    return courses


def together(courses: list[Course]) -> list[Member]:
    members = [course.member() for course in courses]
    train_together(members)
    return members


def far(a: Course, b: Course) -> float:
    return float((a.numbers() - b.numbers()).norm() / a.numbers().norm())


def curves_apart(a: Course, b: Course) -> float:
    ours, theirs = a.trainer.progress.curves, b.trainer.progress.curves
    assert ours.keys() == theirs.keys()
    pairs = zip(ours["valid/elbo"], theirs["valid/elbo"], strict=True)
    return max(abs(x - y) / abs(x) for x, y in pairs)


@pytest.fixture
def default(request: pytest.FixtureRequest) -> Iterator[torch.dtype]:
    """The dtype that torch makes tensors of."""
    torch.set_default_dtype(request.param)
    yield request.param
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("model", ["gmvae", "lidgmvae"])
@pytest.mark.parametrize(
    ("default", "apart"),
    [(torch.float64, 1e-10), (torch.float32, 1e-5)],
    ids=["double", "single"],
    indirect=["default"],
)
def test_after_a_hundred_steps_each_run_of_a_stack_is_the_run_alone(
    default: torch.dtype, model: str, apart: float
) -> None:
    configs = seeds(2, "train.epochs=34", "train.validate_every=17", *RARELY, model=model)
    single = alone(configs, default)
    stacked = [Course(config, StopRequest(), default) for config in configs]
    members = together(stacked)
    assert [member.error for member in members] == [None] * 2
    for ours, theirs in zip(stacked, single, strict=True):
        assert ours.trainer.progress.step == theirs.trainer.progress.step >= 100
        assert far(theirs, ours) < apart
        assert curves_apart(theirs, ours) < apart
        assert ours.trainer.progress.best_epoch == theirs.trainer.progress.best_epoch


@pytest.mark.parametrize(
    "settings",
    [
        ("train.weight_decay=0.1", "train.decoder_rate=3", "train.category_rate=2"),
        ("inference.annealing=cyclical", "inference.annealing_epochs=2", "inference.samples=2"),
        ("inference.categorical=collapsed", "inference.transforms=0", "train.schedule=constant"),
        ("model.family=continuous", "inference.free_bits=3", "train.warmup_epochs=2"),
    ],
    ids=lambda settings: settings[0],
)
def test_every_setting_of_the_optimisation_holds_for_each_run_of_a_stack(
    settings: tuple[str, ...],
) -> None:
    configs = seeds(2, "train.epochs=3", *settings)
    stacked = [Course(config, StopRequest()) for config in configs]
    together(stacked)
    for ours, theirs in zip(stacked, alone(configs), strict=True):
        assert far(theirs, ours) < 1e-5
        assert ours.trainer.progress.step == theirs.trainer.progress.step


def test_bits_are_drawn_by_each_run_itself() -> None:
    configs = seeds(2, "train.epochs=1", data="digits", model="lidvae")
    stacked = [Course(config, StopRequest()) for config in configs]
    together(stacked)
    for ours, theirs in zip(stacked, alone(configs), strict=True):
        assert far(theirs, ours) < 1e-5
        generators = (course.saved[-1]["rng"]["cpu"] for course in (ours, theirs))
        assert torch.equal(*generators)


def test_a_run_goes_on_alone_from_a_checkpoint_of_a_stack_and_back() -> None:
    configs = seeds(3, "train.epochs=4")
    whole = alone(configs)
    stacked = [Course(config, StopRequest()) for config in configs]
    together(stacked)
    half = len(stacked[0].saved) // 2

    single = Course(configs[0], StopRequest())
    single.restore(stacked[0].saved[half])
    single.trainer.run()
    assert far(whole[0], single) < 1e-5

    again = [Course(config, StopRequest()) for config in configs]
    for index, position in enumerate((1, half, half + 3)):
        again[index].restore(whole[index].saved[position])
    places = {course.trainer.progress.step for course in again}
    assert len(places) == 3
    together(again)
    for ours, theirs in zip(again, whole, strict=True):
        assert far(theirs, ours) < 1e-5
        assert curves_apart(theirs, ours) < 1e-5


def test_a_run_that_diverges_leaves_the_others_as_they_are_alone() -> None:
    configs = seeds(3, "train.epochs=3")
    stacked = [Course(config, StopRequest()) for config in configs]
    with torch.no_grad():
        stacked[1].trainer.model.observation.decoder.stages[0].weight[0, 0] = float("nan")
    members = together(stacked)
    error = members[1].error
    assert isinstance(error, DivergedError)
    assert "Step 0: the reconstruction term is not finite" in str(error)
    assert "observation.decoder.stages.0.weight" in str(error)
    assert stacked[1].saved == []
    whole = alone(configs)
    for index in (0, 2):
        assert members[index].error is None
        assert far(whole[index], stacked[index]) < 1e-5


def test_a_run_out_of_patience_leaves_and_the_last_one_goes_on_alone() -> None:
    patient = seeds(2, "train.epochs=6", "train.patience=2")
    stacked = [Course(config, StopRequest()) for config in patient]
    stacked[0].trainer.progress.best = 1e9
    stacked[0].trainer.best = {
        name: value.clone() for name, value in stacked[0].trainer.model.state_dict().items()
    }
    members = together(stacked)
    assert [member.error for member in members] == [None, None]
    assert stacked[0].trainer.progress.epoch == 2
    assert stacked[1].trainer.progress.epoch > 2
    assert far(alone(patient[1:])[0], stacked[1]) < 1e-5


def test_a_signal_stops_every_run_after_a_checkpoint_of_its_own() -> None:
    configs = seeds(3, "train.epochs=50")
    with StopRequest() as stop:
        stacked = [Course(config, stop) for config in configs]
        members = [course.member() for course in stacked]
        os.kill(os.getpid(), signal.SIGTERM)
        train_together(members)
    for member, course in zip(members, stacked, strict=True):
        assert isinstance(member.error, Interrupted)
        assert course.saved[-1]["progress"]["step"] == 0
    torch.manual_seed(7)
    again = [Course(config, StopRequest()) for config in seeds(3, "train.epochs=1")]
    for course, old in zip(again, stacked, strict=True):
        course.restore(old.saved[-1])
    together(again)
    for ours, theirs in zip(again, alone(seeds(3, "train.epochs=1")), strict=True):
        assert far(theirs, ours) < 1e-5


@pytest.mark.parametrize("shared", [True, False], ids=["faster", "slower"])
def test_steps_are_shared_by_themselves_only_where_that_is_measured_to_be_faster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared: bool
) -> None:
    seconds = {"alone": 1.0, "together": 0.5 if shared else 0.9}
    monkeypatch.setattr("lidcli.training.several.step_seconds", lambda trainers: seconds)
    configs = seeds(2, "train.epochs=2", "runtime.threads=1", *FEW)
    ends = execute_together(configs, tmp_path, "x", [Silent(), Silent()], measured=True)
    for config, run in zip(configs, ends, strict=True):
        other = execute(config, tmp_path / "alone", "x", Silent())
        assert isinstance(run, Run)
        assert run.provenance["stack_seconds"] == seconds
        assert run.provenance["stacked"] == (2 if shared else 1)
        bits = run.provenance["weights_sha256"] == other.provenance["weights_sha256"]
        assert bits is not shared
        assert run.evaluation["test"]["ll"] == pytest.approx(
            other.evaluation["test"]["ll"], rel=1e-2
        )


def test_steps_that_diverge_are_left_to_each_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverge(trainers: object) -> dict[str, float]:
        raise DivergedError("the loss is not finite")

    monkeypatch.setattr("lidcli.training.several.step_seconds", diverge)
    configs = seeds(2, "train.epochs=1", *FEW)
    for run in execute_together(configs, tmp_path, "x", [Silent(), Silent()], measured=True):
        assert isinstance(run, Run)
        assert (run.status, run.provenance["stacked"]) == ("complete", 1)


def test_both_ways_of_a_step_are_timed() -> None:
    courses = [Course(config, StopRequest()) for config in seeds(2)]
    found = step_seconds([course.trainer for course in courses])
    assert set(found) == {"alone", "together"}
    assert min(found.values()) > 0


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        (("inference.kind=lagging",), "inference.kind = lagging"),
        (("inference.kind=semi-amortized",), "inference.kind = semi-amortized"),
        (("inference.categorical=sampled",), "sampled"),
        (("train.optimiser=rmsprop",), "rmsprop"),
    ],
)
def test_what_cannot_be_stacked_says_why(settings: tuple[str, ...], why: str) -> None:
    reason = obstacle(configuration(*settings))
    assert reason is not None
    assert why in reason


def test_text_is_trained_one_by_one() -> None:
    reason = obstacle(resolve(KNOWN, model="svae", data="synthetic"))
    assert reason is not None
    assert reason.startswith("text")


def test_runs_of_one_stack_differ_in_their_seed_and_in_where_they_compute() -> None:
    one, other = seeds(2)
    elsewhere = configuration("runtime.threads=2")
    assert but_for_the_seed(one) == but_for_the_seed(other) == but_for_the_seed(elsewhere)
    assert but_for_the_seed(one) != but_for_the_seed(seeds(1, "train.epochs=3")[0])


@pytest.mark.cuda
def test_a_stack_on_a_gpu_takes_each_run_where_it_goes_alone(cuda: torch.device) -> None:
    configs = seeds(2, "train.epochs=2", f"runtime.device={cuda}")
    stacked = [Course(config, StopRequest()) for config in configs]
    together(stacked)
    for ours, theirs in zip(stacked, alone(configs), strict=True):
        assert far(theirs, ours) < 1e-4
