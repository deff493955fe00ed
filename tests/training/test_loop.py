"""The training loop: it learns, resumes exactly, guards against NaN, obeys signals."""

from __future__ import annotations

import copy
import os
import signal
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lidcli.cli.progress import Silent
from lidcli.config.read import load_files, parse_override
from lidcli.config.resolve import resolve
from lidcli.config.run import RunConfig
from lidcli.config.sections import Adam, Amortized, RMSprop
from lidcli.data.registry import load
from lidcli.errors import ConfigError, DivergedError, Interrupted
from lidcli.inference.objective import kl_weight, objective
from lidcli.metrics.information import continuous_mi
from lidcli.metrics.likelihood import bounds
from lidcli.models.batch import Batch, DenseBatch
from lidcli.models.latent import LatentModel
from lidcli.sweep.received import received
from lidcli.training.build import build
from lidcli.training.device import pick_device
from lidcli.training.lifecycle import execute
from lidcli.training.loop import Progress, Trainer
from lidcli.training.optimisers import groups, learning_rate
from lidcli.training.signals import StopRequest
from lidcli.training.sources import split_of

ROOT = Path(__file__).resolve().parents[2]


class Watcher:
    def __init__(self) -> None:
        self.records: list[dict[str, float]] = []

    def start(self, facts: dict[str, Any]) -> None: ...
    def step(self, done: int, total: int) -> None: ...
    def evaluating(self, split: str) -> None: ...
    def epoch(self, record: dict[str, float]) -> None:
        self.records.append(record)


def configuration(*settings: str, model: str = "vae", data: str = "pinwheel") -> RunConfig:
    small = ["decoder.hidden=16", "encoder.hidden=16", "inference.hidden=16"]
    small += ["decoder.layers=5", "data.train=400"]
    known = load_files([ROOT / "experiments.yaml"])
    pairs = [parse_override(text) for text in [*small, *settings]]
    return resolve(known, model=model, data=data, overrides=pairs)


def trainer(config: RunConfig, stop: StopRequest | None = None) -> tuple[Trainer, list[Any]]:
    data = load(config.data)
    torch.manual_seed(config.seed)
    saved: list[Any] = []
    made = Trainer(
        config,
        build(config, data),
        split_of(data, "train", config.train.batch_size),
        split_of(data, "valid"),
        observer=Watcher(),
        save=lambda state, progress: saved.append(copy.deepcopy(state)),
        stop=stop or StopRequest(),
    )
    return made, saved


def same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a if k != "seconds")
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


@pytest.mark.parametrize("model", ["vae", "lidvae", "beta-vae"])
@pytest.mark.parametrize("data", ["pinwheel", "digits"])
def test_training_raises_the_validation_elbo(model: str, data: str) -> None:
    made, _ = trainer(configuration("train.epochs=8", model=model, data=data))
    made.run()
    elbo = made.progress.curves["valid/elbo"]
    assert max(elbo) > elbo[0]
    assert np.isfinite(elbo).all()


@pytest.mark.parametrize("categorical", ["explicit", "collapsed"])
@pytest.mark.parametrize("optimiser", ["adam", "rmsprop"])
@pytest.mark.parametrize("data", ["pinwheel", "digits"])
def test_a_training_taken_up_from_any_checkpoint_ends_in_the_same_bits(
    categorical: str, optimiser: str, data: str
) -> None:
    config = configuration(
        "train.epochs=3",
        f"inference.categorical={categorical}",
        f"train.optimiser={optimiser}",
        "runtime.checkpoint_seconds=0",
        data=data,
    )
    whole, states = trainer(config)
    whole.run()
    assert len(states) > 8
    for state in states[1::5]:
        torch.manual_seed(12345)
        again, _ = trainer(config)
        again.restore(copy.deepcopy(state))
        again.run()
        assert same(again.state(), whole.state())


def test_every_setting_of_the_decoder_reaches_its_maps() -> None:
    config = configuration(
        "decoder.sharpness=3", "decoder.inverse_lipschitz=0.1", "decoder.activation=smooth",
        "decoder.gain=0.7", model="lidvae",
    )  # fmt: skip
    decoder = build(config, load(config.data)).observation.decoder
    assert {g.icnn.sharpness for g in decoder.maps} == {3.0}
    assert {g.inverse_lipschitz for g in decoder.maps} == {0.1}
    assert {g.gain for g in decoder.maps} == {0.7}


def test_the_weights_of_the_best_validation_are_taken_up_at_the_end() -> None:
    made, _ = trainer(configuration("train.epochs=6", "train.learning_rate=0.05"))
    made.run()
    progress = made.progress
    assert progress.best_epoch == int(np.argmax(progress.curves["valid/elbo"]))
    assert same(made.model.state_dict(), made.best)


def test_patience_stops_a_training_that_no_longer_improves() -> None:
    made, _ = trainer(
        configuration("train.epochs=500", "train.patience=3", "train.learning_rate=0.05")
    )
    made.run()
    assert made.progress.epoch < 500
    assert made.progress.epoch - 1 - made.progress.best_epoch == 3


def test_a_value_that_is_not_finite_names_the_step_the_term_and_the_tensor() -> None:
    made, saved = trainer(configuration("train.epochs=3"))
    epoch = made.batches
    original, calls = made.step, []

    def poisoned(x: Batch) -> torch.Tensor:
        calls.append(0)
        if len(calls) == epoch + 1:
            with torch.no_grad():
                made.model.observation.decoder.stages[0].weight[0, 0] = float("nan")
        return original(x)

    made.step = poisoned
    with pytest.raises(DivergedError) as caught:
        made.run()
    text = str(caught.value)
    assert f"Step {epoch}:" in text
    assert "reconstruction" in text
    assert "observation.decoder.stages.0.weight" in text
    assert all(torch.isfinite(v).all() for s in saved for v in s["model"].values())


def test_a_signal_stops_after_a_checkpoint() -> None:
    with StopRequest() as stop:
        made, saved = trainer(configuration("train.epochs=50"), stop)
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(Interrupted) as caught:
            made.run()
    assert caught.value.exit_code == 143
    assert saved[-1]["progress"]["step"] == 1


@pytest.mark.parametrize(
    ("model", "measure"),
    [
        ("vae", "bounds"),
        ("lagging-vae", "bounds"),
        ("lagging-vae", "information.continuous_mi"),
    ],
)
def test_a_signal_during_a_validation_ends_it_and_the_next_session_validates_first(
    monkeypatch: pytest.MonkeyPatch, model: str, measure: str
) -> None:
    config = configuration("train.epochs=3", "model.family=continuous", model=model)
    whole, states = trainer(config)
    whole.run()
    originals = {"bounds": bounds, "information.continuous_mi": continuous_mi}
    calls = []

    def interrupted(*arguments: Any) -> Any:
        calls.append(len(arguments))
        if len(calls) == 2:
            torch.rand(7)
            os.kill(os.getpid(), signal.SIGTERM)
            raise AssertionError("went on after a signal")
        return originals[measure](*arguments)

    monkeypatch.setattr(f"lidcli.training.loop.{measure}", interrupted)
    with StopRequest() as stop:
        made, saved = trainer(config, stop)
        with pytest.raises(Interrupted):
            made.run()
    assert len(made.progress.curves["valid/elbo"]) == 1
    assert saved[-1]["progress"]["batch"] == made.batches
    torch.manual_seed(12345)
    again, final = trainer(config)
    again.restore(saved[-1])
    again.run()
    assert same(final[-1]["model"], states[-1]["model"])
    curves, wanted = dict(again.progress.curves), dict(whole.progress.curves)
    assert curves.pop("seconds") != wanted.pop("seconds")
    assert curves == wanted


def test_the_second_signal_does_not_wait() -> None:
    with StopRequest() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.signum == signal.SIGINT
        with pytest.raises(Interrupted) as caught:
            os.kill(os.getpid(), signal.SIGINT)
    assert caught.value.exit_code == 130


def test_a_sigterm_that_a_scheduler_sends_twice_is_one_and_a_later_one_is_meant(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [50.0]
    monkeypatch.setattr("lidcli.training.signals.time.monotonic", lambda: now[0])
    with received() as noted:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGTERM)
        assert noted == [signal.SIGTERM]
    with StopRequest() as stop:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGTERM)
        assert stop.signum == signal.SIGTERM
        now[0] += 2.5
        with pytest.raises(Interrupted):
            os.kill(os.getpid(), signal.SIGTERM)


def test_grey_images_are_binarised_afresh_each_epoch_and_reproducibly() -> None:
    made, _ = trainer(configuration(data="digits"))

    def epoch() -> torch.Tensor:
        return torch.cat([batch.x for batch in made.train.epoch(made._generator())])

    first = epoch()
    assert len(first) == len(made.train)
    assert set(first.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(first, epoch())
    made.progress = Progress(epoch=1)
    assert not torch.equal(first.mean(0), epoch().mean(0))


def test_annealing_ramps_the_weight_of_the_kl_to_beta() -> None:
    linear = Amortized(beta=0.5, annealing="linear", annealing_epochs=10)
    assert [kl_weight(linear, e) for e in (0, 5, 10, 50)] == [0, 0.25, 0.5, 0.5]
    cyclical = Amortized(annealing="cyclical", annealing_epochs=10)
    assert [kl_weight(cyclical, e) for e in (0, 2.5, 5, 9, 10)] == [0, 0.5, 1, 1, 0]


def test_free_bits_leave_a_small_kl_unpenalised_and_the_elbo_as_it_is() -> None:
    config = configuration()
    data = load(config.data)
    model: LatentModel = build(config, data)
    x = DenseBatch(torch.from_numpy(data.train.x[:50]))
    torch.manual_seed(0)
    plain = objective(model, x, Amortized(), 1.0)
    torch.manual_seed(0)
    free = objective(model, x, Amortized(free_bits=1e6), 1.0)
    assert free.loss.item() == pytest.approx(1e6 - plain.reconstruction.item())
    assert torch.equal(free.elbo, plain.elbo)


def test_the_learning_rate_warms_up_and_falls_to_zero() -> None:
    config = Adam(epochs=10, learning_rate=1.0, warmup_epochs=1)
    rates = [learning_rate(config, step, 10) for step in range(101)]
    assert rates[0] < rates[9] <= 1
    assert max(rates) == pytest.approx(1)
    assert rates[100] == pytest.approx(0)
    assert all(a >= b for a, b in pairwise(rates[10:]))


def test_optimisers_are_those_of_the_configuration() -> None:
    config = configuration()
    model = build(config, load(config.data))
    assert isinstance(Adam().build(groups(model, 1.0)), torch.optim.Adam)
    rms = RMSprop(momentum=0.5).build(groups(model, 1.0))
    assert isinstance(rms, torch.optim.RMSprop)
    assert rms.defaults["momentum"] == 0.5


def test_the_decoder_may_learn_at_a_rate_of_its_own() -> None:
    made, _ = trainer(configuration("train.epochs=1", "train.decoder_rate=10"))
    made.step(made.valid.rows(slice(0, 50)))
    decoder, rest = made.update.optimiser.param_groups
    assert decoder["lr"] == pytest.approx(10 * rest["lr"])
    known = {id(p) for group in made.update.optimiser.param_groups for p in group["params"]}
    assert known == {id(p) for p in made.model.parameters()}


def test_a_run_flushes_numbers_too_small_to_be_fast_and_leaves_no_trace(tmp_path: Path) -> None:
    def kept() -> bool:
        return bool((torch.full((1000,), 1e-39) * torch.ones(1000)).any())

    class Probe(Silent):
        def evaluating(self, split: str) -> None:
            assert not kept()

    settings = ["train.epochs=0", "evaluate.samples=2", "evaluate.outer=2", "data.test=50"]
    execute(configuration(*settings), tmp_path, "small", Probe())
    assert kept()


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "mps"])
def test_a_device_that_is_not_here_is_named(name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        pick_device(name)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (["inference.kind=nuts", "model.family=mixture"], "nuts"),
        (["likelihood.kind=bernoulli"], "gaussian"),
    ],
)
def test_settings_that_do_not_fit_each_other_are_refused(settings: list[str], told: str) -> None:
    known = load_files([ROOT / "experiments.yaml"])
    with pytest.raises(ConfigError, match=told):
        resolve(known, model="vae", data="pinwheel", overrides=map(parse_override, settings))


def test_settings_that_do_not_fit_the_data_are_refused() -> None:
    config = configuration("decoder.kind=brenier", "model.latent=3")
    with pytest.raises(ConfigError, match="latent"):
        build(config, load(config.data))
