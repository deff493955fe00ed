"""Stacks of a sweep: which runs share a model, and that each is a run like any other after it."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from forked import Server
from small_sweep import statuses, sweep_words

from lidcli.config.plan import plan_grid
from lidcli.config.read import load_files
from lidcli.store.lock import exclusive
from lidcli.store.run import Run, find_runs
from lidcli.sweep.queue import Job, survey
from lidcli.sweep.stacks import MOST, notes, stacks
from lidcli.training.race import WORTH

ROOT = Path(__file__).resolve().parents[2]
Lid = Callable[..., "subprocess.CompletedProcess[str]"]
Wait = Callable[..., None]
STACK = ("--stack", "seeds")


def jobs(folder: Path, models: str = "vae,lidvae", seeds: int = 3) -> list[Job]:
    known = load_files([ROOT / "experiments.yaml"])
    kinds = models.split(",")
    plan = plan_grid(known, "demo", models=kinds, data=["digits"], grid={}, seeds=range(seeds))
    return survey(plan, folder)


def shape(parts: list[list[Job]]) -> list[list[tuple[str, int]]]:
    return [[(job.config.method, job.config.seed) for job in part] for part in parts]


def test_runs_that_differ_in_their_seed_alone_are_one_list(tmp_path: Path) -> None:
    found = shape(stacks(jobs(tmp_path), 2))
    assert found == [[(model, seed) for seed in range(3)] for model in ("vae", "lidvae")]


@pytest.mark.parametrize(
    ("seeds", "workers", "lengths"),
    [(10, 1, [10]), (10, 2, [5, 5]), (10, 4, [3, 3, 2, 2]), (3, 8, [1, 1, 1])],
)
def test_one_kind_of_run_is_divided_among_the_workers(
    tmp_path: Path, seeds: int, workers: int, lengths: list[int]
) -> None:
    found = stacks(jobs(tmp_path, "vae", seeds), workers)
    assert [len(part) for part in found] == lengths
    assert [job.config.seed for part in found for job in part] == list(range(seeds))


def test_a_stack_has_a_largest_size(tmp_path: Path) -> None:
    found = stacks(jobs(tmp_path, "vae", 2 * MOST + 1), 1)
    assert max(len(part) for part in found) <= MOST


def test_what_cannot_be_stacked_is_alone_and_one_sentence_says_why(tmp_path: Path) -> None:
    mixed = jobs(tmp_path, "vae,lagging-vae", 2)
    assert [len(part) for part in stacks(mixed, 1)] == [2, 1, 1]
    assert len(notes(mixed)) == 1
    assert notes(mixed)[0].startswith("one by one: inference.kind = lagging")


def test_a_stack_leaves_for_each_run_what_it_leaves_alone(lid: Lid, tmp_path: Path) -> None:
    done = lid(*sweep_words(3), *STACK, "-w", "1", "-o", "together", "--json")
    assert done.returncode == 0, done.stderr
    assert lid(*sweep_words(3), "-w", "1", "-o", "alone").returncode == 0
    ours, theirs = (
        {run.run_id: run for run in map(Run.open, find_runs(tmp_path / name))}
        for name in ("together", "alone")
    )
    assert ours.keys() == theirs.keys()
    for run_id, run in ours.items():
        other = theirs[run_id]
        assert (run.status, other.status) == ("complete", "complete")
        assert (run.provenance["stacked"], other.provenance["stacked"]) == (3, 1)
        assert run.provenance["sessions"][0]["stacked"] == 3
        assert run.config == other.config
        for name in ("train/elbo", "valid/elbo"):
            np.testing.assert_allclose(run.curves[name], other.curves[name], rtol=1e-5)
        found, wanted = run.evaluation["test"], other.evaluation["test"]
        assert found.keys() == wanted.keys()
        assert found["ll"] == pytest.approx(wanted["ll"], rel=1e-4)
        assert run.load_weights().keys() == other.load_weights().keys()


def test_a_sweep_that_measures_says_so_and_keeps_what_it_measured(lid: Lid, tmp_path: Path) -> None:
    words = [*sweep_words(2, "0-1"), "--stack", "auto", "-w", "1", "-o", "results"]
    done = lid(*words)
    assert done.returncode == 0, done.stderr
    assert "one model where that is faster" in done.stderr
    for run in map(Run.open, find_runs(tmp_path / "results")):
        seconds = run.provenance["stack_seconds"]
        assert set(seconds) == {"alone", "together"}
        assert min(seconds.values()) > 0
        faster = seconds["together"] * WORTH <= seconds["alone"]
        assert run.provenance["stacked"] == (2 if faster else 1)


def test_a_sigterm_saves_every_run_of_a_stack(
    server: Server, wait_for: Wait, tmp_path: Path
) -> None:
    sweep = server.start([*sweep_words(100_000), *STACK, "-w", "1", "-o", "results"], tmp_path)
    wait_for(lambda: len(list(tmp_path.rglob("checkpoint.prev.h5"))) == 3, sweep)
    sweep.send_signal(signal.SIGTERM)
    assert sweep.wait() == 143
    assert statuses(tmp_path / "results") == ["interrupted"] * 3
    folders = find_runs(tmp_path / "results")
    steps = [Run.open(folder).load_checkpoint()[0]["progress"]["step"] for folder in folders]
    assert min(steps) > 0


def test_a_run_in_other_hands_and_one_that_is_done_leave_the_stack_to_the_others(
    lid: Lid, tmp_path: Path
) -> None:
    assert lid(*sweep_words(2, "0"), "-w", "1", "-o", "results").returncode == 0
    words = sweep_words(2, "0-3")
    plan = lid(*words, *STACK, "-w", "1", "-o", "results", "-n", "--json")
    assert '"stack": "seeds"' in plan.stdout
    first = next(iter(find_runs(tmp_path / "results")))
    other = first.with_name(first.name.replace("-s0", "-s1"))
    other.mkdir()
    with exclusive(other):
        done = lid(*words, *STACK, "-w", "1", "-o", "results")
    assert done.returncode == 3
    assert "1 of 4 runs are in the hands of another process" in done.stderr
    assert sorted(statuses(tmp_path / "results")) == ["complete"] * 3


def test_a_run_whose_checkpoint_is_damaged_fails_by_itself(lid: Lid, tmp_path: Path) -> None:
    words = [*sweep_words(2), *STACK, "-w", "1", "-o", "results", "--retries", "0"]
    assert lid(*words).returncode == 0
    broken = next(iter(find_runs(tmp_path / "results")))
    for name in ("checkpoint.h5", "checkpoint.prev.h5"):
        (broken / name).write_bytes(b"no HDF5")
    for folder in find_runs(tmp_path / "results"):
        Run.open(folder).update(provenance={"status": "interrupted"})
    done = lid(*words)
    assert done.returncode == 3
    assert "1 of 3 runs failed" in done.stderr
    assert sorted(statuses(tmp_path / "results")) == ["complete", "complete", "failed"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--stack", "seeds", "--engine", "slurm"], "--stack does nothing for --engine slurm"),
        (["--stack", "models"], "'models' is not one of 'seeds', 'auto'"),
    ],
)
def test_a_stack_that_cannot_be_is_one_sentence(lid: Lid, words: list[str], sentence: str) -> None:
    done = lid(*sweep_words(1), *words)
    assert done.returncode == 2
    assert sentence in " ".join(done.stderr.split())
