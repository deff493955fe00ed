"""A kept worker: every run in a process of its own, in the state of a fresh one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lidcli.config.read import load_files, parse_override
from lidcli.config.resolve import resolve
from lidcli.store.lock import held_on_this_machine
from lidcli.store.run import Run
from lidcli.sweep import memory

ROOT = Path(__file__).resolve().parents[2]
SMALL = ["decoder.hidden=8", "encoder.hidden=8", "inference.hidden=8", "data.train=300"]
SMALL += ["data.test=300", "evaluate.samples=4", "evaluate.outer=20", "runtime.threads=1"]
Wait = Callable[..., None]


class Kept:
    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "lidcli.sweep.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            text=True,
            start_new_session=True,
        )

    def order(self, results: Path, *settings: str, seed: int = 0, model: str = "vae") -> Path:
        known = load_files([ROOT / "experiments.yaml"])
        pairs = [parse_override(text) for text in [*SMALL, *settings]]
        config = resolve(known, model=model, data="pinwheel", seed=seed, overrides=pairs)
        job = {"config": config.document(), "results": str(results), "experiment": "demo"}
        job |= {"restart": "", "allowed": [], "argv": ["lid", "sweep"]}
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        return results / "demo" / config.run_id

    def events(self) -> Iterator[dict[str, Any]]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            event = json.loads(line)
            yield event
            if event["event"] == "over":
                return

    def do(self, *arguments: Any, **more: Any) -> tuple[Path, list[dict[str, Any]]]:
        return self.order(*arguments, **more), list(self.events())


@pytest.fixture
def worker() -> Iterator[Kept]:
    kept = Kept()
    yield kept
    kept.process.communicate()


def numbers(folder: Path) -> dict[str, Any]:
    run = Run.open(folder)
    curves = {k: v.tolist() for k, v in run.curves.items() if k != "seconds"}
    arrays = {k: v.tobytes() for k, v in run.arrays.items()}
    known = {key: run.provenance[key] for key in ("weights_sha256", "steps", "threads", "argv")}
    return {"curves": curves, "evaluation": run.evaluation, "arrays": arrays} | known


def pid(folder: Path) -> int:
    return int((folder / ".lock").read_text().split()[0])


ENDLESS = ("train.epochs=100000", "runtime.checkpoint_seconds=0.1")


def test_runs_one_after_another_are_as_in_fresh_processes(
    worker: Kept, tmp_path: Path, wait_for: Wait
) -> None:
    first, said = worker.do(tmp_path / "first", "train.epochs=2")
    assert [event["event"] for event in said][-2:] == ["end", "over"]
    assert said[-1]["code"] == 0
    other, _ = worker.do(tmp_path / "first", "train.epochs=1", model="lidvae", seed=3)
    again, _ = worker.do(tmp_path / "again", "train.epochs=2")
    assert numbers(again) == numbers(first)
    assert len({pid(first), pid(other), pid(again), worker.process.pid}) == 4

    killed = worker.order(tmp_path / "killed", *ENDLESS)
    wait_for((killed / "checkpoint.h5").exists, worker.process)
    os.kill(pid(killed), signal.SIGKILL)
    assert list(worker.events())[-1] == {"event": "over", "code": -signal.SIGKILL}

    told = worker.order(tmp_path / "told", *ENDLESS)
    wait_for((told / "checkpoint.h5").exists, worker.process)
    os.killpg(worker.process.pid, signal.SIGTERM)
    said = list(worker.events())
    assert [event["status"] for event in said if event["event"] == "end"] == ["interrupted"]
    assert said[-1]["event"] == "over"

    last, _ = worker.do(tmp_path / "last", "train.epochs=2")
    assert numbers(last) == numbers(first)


def test_a_run_outlives_its_worker_and_says_how_it_ended(
    worker: Kept, tmp_path: Path, wait_for: Wait
) -> None:
    folder = worker.order(tmp_path, *ENDLESS)
    wait_for((folder / "checkpoint.h5").exists, worker.process)
    worker.process.kill()
    worker.process.wait()
    assert held_on_this_machine(folder)
    os.kill(pid(folder), signal.SIGTERM)
    said = list(worker.events())
    assert said[-1]["status"] == "interrupted"


@pytest.mark.parametrize(
    ("text", "count"), [("nr_free 3\noom_kill 12\n", 12), ("nr_free 3\n", 0), (None, 0)]
)
def test_the_kills_for_memory_are_counted_by_the_system(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str | None, count: int
) -> None:
    if text is not None:
        (tmp_path / "vmstat").write_text(text)
    monkeypatch.setattr(memory, "COUNTS", tmp_path / "vmstat")
    assert memory.kills() == count
