"""How many threads a run computes on: measured on its own steps, and kept."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from lidcli.cli.progress import Silent
from lidcli.config.read import load_files, parse_override
from lidcli.config.resolve import resolve
from lidcli.config.run import RunConfig
from lidcli.errors import DivergedError, Interrupted
from lidcli.store.run import Run
from lidcli.training import race, threads
from lidcli.training.lifecycle import evaluate_run, execute

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def kept() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


class Machine:
    """A clock that a step moves on by as much as its threads deserve."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seconds: dict[int, float]) -> None:
        self.now, self.threads, self.seconds, self.steps = 0.0, 0, seconds, 0
        monkeypatch.setattr(race.time, "perf_counter", lambda: self.now)
        monkeypatch.setattr(threads.torch, "set_num_threads", self.set)

    def set(self, count: int) -> None:
        self.threads = count

    def step(self, index: int) -> None:
        self.steps += 1
        self.now += self.seconds[self.threads]


@pytest.mark.parametrize(
    ("seconds", "best"),
    [
        ({1: 1.0, 2: 0.6, 4: 0.4, 6: 0.3}, 6),
        ({1: 1.0, 2: 0.6, 4: 0.55, 6: 0.1}, 2),
        ({1: 1.0, 2: 0.95, 4: 0.1, 6: 0.1}, 1),
        ({1: 1.0, 2: 9.0}, 1),
        ({1: 0.01, 2: 0.006, 3: 0.004}, 3),
    ],
)
def test_threads_are_doubled_while_that_makes_a_step_clearly_faster(
    monkeypatch: pytest.MonkeyPatch, seconds: dict[int, float], best: int
) -> None:
    machine = Machine(monkeypatch, seconds)
    count, measured = threads.choose(machine.step, max(seconds))
    assert count == best
    assert measured == {n: pytest.approx(seconds[n]) for n in measured}


def test_a_long_step_is_timed_once_with_each_number(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, {1: 60.0, 2: 59.0})
    assert threads.choose(machine.step, 2)[0] == 1
    assert machine.steps == 4


def configuration(*settings: str, model: str = "vae") -> RunConfig:
    small = ["decoder.hidden=96", "encoder.hidden=96", "inference.hidden=16", "data.train=200"]
    small += ["data.test=100", "evaluate.samples=4", "evaluate.outer=10", "train.epochs=2"]
    pairs = [parse_override(text) for text in [*small, *settings]]
    return resolve(
        load_files([ROOT / "experiments.yaml"]), model=model, data="pinwheel", overrides=pairs
    )


def rehearsing(monkeypatch: pytest.MonkeyPatch, count: int) -> list[int]:
    """Let a rehearsal take its steps and then name a number; the number of rehearsals."""
    calls: list[int] = []

    def choose(step: Any, most: int) -> tuple[int, dict[int, float]]:
        for index in range(6):
            step(index)
        calls.append(most)
        return count, {1: 2.0, most: 1.0}

    monkeypatch.setattr(threads, "choose", choose)
    return calls


def numbers(run: Run) -> dict[str, Any]:
    curves = {k: v.tolist() for k, v in run.curves.items() if k != "seconds"}
    return {"weights": run.provenance["weights_sha256"], "curves": curves, **run.evaluation}


@pytest.mark.parametrize("model", ["vae", "lidvae", "lagging-vae"])
@pytest.mark.parametrize("count", [1, 3])
def test_a_run_that_measured_has_the_bits_of_one_that_was_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, count: int, model: str
) -> None:
    torch.set_num_threads(4)
    calls = rehearsing(monkeypatch, count)
    found = execute(configuration(model=model), tmp_path / "found", "demo", Silent())
    assert calls == [4]
    assert found.provenance["threads"] == count
    assert found.provenance["thread_seconds"] == {"1": 2.0, "4": 1.0}
    torch.set_num_threads(4)
    told = configuration(f"runtime.threads={count}", model=model)
    other = execute(told, tmp_path / "told", "demo", Silent())
    assert calls == [4]
    assert numbers(other) == numbers(found)


def test_a_later_session_and_evaluation_keep_the_number(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    calls = rehearsing(monkeypatch, 3)
    torch.set_num_threads(4)
    config = configuration("runtime.checkpoint_seconds=0")

    class Stopping(Silent):
        def step(self, done: int, total: int) -> None:
            if done == 2:
                os.kill(os.getpid(), 15)

    with pytest.raises(Interrupted):
        execute(config, tmp_path / "parts", "demo", Stopping())
    torch.set_num_threads(2)
    again = execute(config, tmp_path / "parts", "demo", Silent())
    assert torch.get_num_threads() == 3
    assert again.provenance["threads"] == 3
    torch.set_num_threads(2)
    evaluate_run(again, config)
    assert torch.get_num_threads() == 3
    torch.set_num_threads(4)
    whole = execute(config, tmp_path / "whole", "demo", Silent())
    assert numbers(whole) == numbers(again)
    assert calls == [4, 4]


def test_a_rehearsal_that_diverges_is_no_failure(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def choose(step: Any, most: int) -> None:
        raise DivergedError("nan")

    monkeypatch.setattr(threads, "choose", choose)
    torch.set_num_threads(2)
    run = execute(configuration(), tmp_path, "demo", Silent())
    assert (run.status, run.provenance["threads"]) == ("complete", 1)


def test_one_thread_and_a_closed_form_are_not_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    calls = rehearsing(monkeypatch, 1)
    torch.set_num_threads(1)
    execute(configuration(), tmp_path, "demo", Silent())
    torch.set_num_threads(2)
    known = load_files([ROOT / "experiments.yaml"])
    classical = resolve(known, model="ppca", data="ppca-1d")
    assert execute(classical, tmp_path, "demo", Silent()).provenance["threads"] == 2
    assert calls == []


@pytest.mark.parametrize(("given", "expected"), [(None, "passive"), ("active", "active")])
def test_waiting_threads_sleep_unless_the_user_has_said_otherwise(
    given: str | None, expected: str
) -> None:
    script = (
        "import json, os, sys\nsys.argv = ['lid', '--version']\n"
        "from lidcli.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print(json.dumps([os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules]))\n"
    )
    environment = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"}
    environment |= {"OMP_WAIT_POLICY": given} if given else {}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout.splitlines()[-1]) == [expected, False]
