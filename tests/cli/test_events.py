"""`--log tensorboard`: what TensorBoard reads is what the record says, once."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from forked import Server
from small_sweep import SETTINGS, sweep_words

from lidcli.cli.events import Events, check_log
from lidcli.errors import ConfigError
from lidcli.store.run import Run, find_run, find_runs

Wait = Callable[..., None]
Read = Callable[[Path], dict[str, list[tuple[int, float]]]]


@pytest.fixture
def read() -> Read:
    """The scalars of a folder of events, every one that is in its files; skips without a reader."""
    pytest.importorskip("tensorboard", reason="the package tensorboard is not installed")
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
    from tensorboard.util.tensor_util import make_ndarray

    def call(folder: Path) -> dict[str, list[tuple[int, float]]]:
        found: dict[str, list[tuple[int, float]]] = {}
        for path in sorted(folder.glob("*tfevents*")):
            for event in EventFileLoader(str(path)).Load():
                for value in event.summary.value:
                    if not value.tag.startswith("_"):
                        number = float(make_ndarray(value.tensor))
                        found.setdefault(value.tag, []).append((event.step, number))
        return found

    return call


def curve(run: Run, name: str) -> list[tuple[int, float]]:
    steps, values = run.curves["step"], run.curves[name].astype(np.float32)
    return list(zip(steps.astype(int).tolist(), values.tolist(), strict=True))


def put(results: Path, status: str = "interrupted") -> Run:
    run = Run.create(results / "demo" / "abc-s0", {"seed": 0, "train": {"epochs": 9}}, {})
    curves = {"epoch": [1, 2, 3], "step": [10, 20, 30], "seconds": [1, 2, 3]}
    values = {"valid/elbo": [-3.0, -2.0, -1.0]}
    run.update(provenance={"status": status}, curves={**curves, **values})
    return run


def test_without_the_package_the_sentence_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(ConfigError, match=r'pip install "lidcli\[tensorboard\]"'):
        check_log("tensorboard")


def test_a_session_goes_on_after_what_the_record_has_up_to_its_checkpoint(
    read: Read, tmp_path: Path
) -> None:
    events = Events(put(tmp_path).folder)
    assert not events.there()
    for _ in range(2):
        events.begin(20)
        events.epoch({"epoch": 3.0, "step": 30.0, "seconds": 3.0, "valid/elbo": -1.5})
    events.close()
    assert read(events.folder) == {"valid/elbo": [(10, -3.0), (20, -2.0), (30, -1.5)]}


def test_a_complete_run_is_logged_with_its_figures(read: Read, tmp_path: Path) -> None:
    run = put(tmp_path, "complete")
    run.update(evaluation=("test", {"ll": -0.5}))
    events = Events(run.folder)
    events.begin()
    events.close()
    assert read(events.folder)["test/ll"] == [(30, -0.5)]
    assert find_runs(tmp_path) == [run.folder]


def test_the_settings_are_hyperparameters(read: Read, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    events = Events(put(tmp_path).folder)
    events.begin()
    events.close()
    found = EventAccumulator(str(events.folder)).Reload().PluginTagToContent("hparams")
    (content,) = found.values()
    settings = HParamsPluginData.FromString(content).session_start_info.hparams
    assert {name: value.number_value for name, value in settings.items()} == {
        "seed": 0.0,
        "train.epochs": 9.0,
    }


def test_events_that_cannot_be_written_are_said_and_stop_nothing(
    read: Read, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / ".tensorboard").write_text("in the way")
    events = Events(put(tmp_path).folder)
    events.begin()
    events.epoch({"step": 1.0})
    events.close()
    said = capsys.readouterr().err
    assert said == "warning: no more events of abc-s0 (Not a directory)\n"


def test_a_run_killed_and_taken_up_has_every_epoch_once(
    read: Read, server: Server, wait_for: Wait, patience: float, tmp_path: Path
) -> None:
    words = ["train", "-m", "vae", "-d", "pinwheel", *SETTINGS, "--set", "train.epochs=60"]
    process = server.start([*words, "--log", "tensorboard"], tmp_path)
    wait_for(lambda: list(tmp_path.glob("results/train/*/checkpoint.h5")), process)
    process.kill()
    process.communicate()
    process = server.start([*words, "--log", "tensorboard"], tmp_path)
    _, errors = process.communicate(timeout=patience)
    assert process.returncode == 0, errors
    (folder,) = find_runs(tmp_path / "results")
    run, found = Run.open(folder), read(Events(folder).folder)
    assert found["valid/elbo"] == curve(run, "valid/elbo")
    assert found["test/ll"][0][0] == run.provenance["steps"]


def test_a_sweep_logs_each_run_and_those_that_were_done_before(
    read: Read, server: Server, wait_for: Wait, patience: float, tmp_path: Path
) -> None:
    process = server.start(sweep_words(2, "0"), tmp_path)
    _, errors = process.communicate(timeout=patience)
    assert process.returncode == 0, errors
    process = server.start([*sweep_words(100_000, "1"), "--log", "tensorboard"], tmp_path)
    log = tmp_path / "results/.tensorboard/train"
    wait_for(lambda: [p for p in log.glob("*/*tfevents*") if p.stat().st_size > 4000], process)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=patience)
    folder = next(log.iterdir())
    run = Run.open(find_run(tmp_path / "results", folder.name))
    assert read(folder)["valid/elbo"] == curve(run, "valid/elbo")

    process = server.start([*sweep_words(2, "0,2"), "--log", "tensorboard"], tmp_path)
    _, errors = process.communicate(timeout=patience)
    assert process.returncode == 0, errors
    for path in find_runs(tmp_path / "results"):
        run = Run.open(path)
        if run.status == "complete":
            assert read(Events(path).folder)["valid/elbo"] == curve(run, "valid/elbo")
    assert len(os.listdir(log)) == 3
