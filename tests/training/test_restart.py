"""A run that is begun anew loses what there was of it once, however often it is started."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lidcli.cli.progress import Silent
from lidcli.config.read import load_files, parse_override
from lidcli.config.resolve import resolve
from lidcli.config.run import RunConfig
from lidcli.errors import Interrupted
from lidcli.store.run import Run
from lidcli.training.lifecycle import execute
from lidcli.training.several import execute_together

ROOT = Path(__file__).resolve().parents[2]
SMALL = ["decoder.hidden=4", "encoder.hidden=4", "inference.hidden=4", "data.train=200"]
SMALL += ["data.test=50", "evaluate.samples=4", "evaluate.outer=20", "train.epochs=2"]


@pytest.fixture
def config() -> RunConfig:
    pairs = [parse_override(text) for text in [*SMALL, "runtime.checkpoint_seconds=0"]]
    known = load_files([ROOT / "experiments.yaml"])
    return resolve(known, model="vae", data="pinwheel", overrides=pairs)


class Stopping(Silent):
    def step(self, done: int, total: int) -> None:
        if done == 2:
            os.kill(os.getpid(), 15)


def sessions(run: Run) -> int:
    return len(run.provenance["sessions"])


def test_what_there_is_is_discarded_at_the_first_start_and_not_when_it_goes_on(
    config: RunConfig, tmp_path: Path
) -> None:
    execute(config, tmp_path, "demo", Silent())
    with pytest.raises(Interrupted):
        execute(config, tmp_path, "demo", Stopping(), restart="one")
    run = execute(config, tmp_path, "demo", Silent(), restart="one")
    assert sessions(run) == 2
    again = execute(config, tmp_path, "demo", Silent(), restart="one")
    assert sessions(again) == 2
    assert sessions(execute(config, tmp_path, "demo", Silent(), restart="two")) == 1


def test_so_it_is_in_a_stack(config: RunConfig, tmp_path: Path) -> None:
    for word, expected in (("", 1), ("one", 1), ("one", 1), ("two", 1)):
        before = (tmp_path / "demo" / config.run_id / "checkpoint.h5").exists()
        (run,) = execute_together([config], tmp_path, "demo", [Silent()], restart=word)
        assert isinstance(run, Run)
        assert sessions(run) == expected
        assert run.provenance.get("restarted", "") == word
        assert before or word == ""


def test_a_checkpoint_without_a_record_is_discarded_too(config: RunConfig, tmp_path: Path) -> None:
    done = execute(config, tmp_path, "demo", Silent())
    (done.folder / "run.h5").unlink()
    with pytest.raises(Interrupted):
        execute(config, tmp_path, "demo", Stopping(), restart="one")
    tree, _ = Run.open(done.folder).load_checkpoint()
    assert tree["progress"]["step"] == 2
