"""What a sweep has to do is read off the results folder."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lidcli.config.load import load_files, parse_override, resolve
from lidcli.config.plan import Plan, plan_grid
from lidcli.errors import ConfigError
from lidcli.store.run import Run
from lidcli.sweep.queue import (
    count,
    note_failure,
    parse_shard,
    settled,
    shard,
    state,
    survey,
    train_command,
)

ROOT = Path(__file__).resolve().parents[2]
KNOWN = load_files([ROOT / "experiments.yaml"])


@pytest.fixture
def plan() -> Plan:
    grid: dict[str, list[Any]] = {"decoder.layers": [5, 9], "decoder.activation": ["smooth"]}
    return plan_grid(
        KNOWN,
        "grid",
        models=["vae", "lidvae"],
        data=["pinwheel"],
        grid=grid,
        seeds=[0, 1],
        overrides=[("train.epochs", 7)],
    )


def put(results: Path, plan: Plan, index: int, status: str, message: str = "") -> Path:
    config = plan.runs[index]
    folder = results / plan.experiment / config.run_id
    Run.create(folder, config.document(), {}).update(
        provenance={"status": status, "message": message}
    )
    return folder


def test_every_run_starts_as_new_and_is_labelled_by_what_sets_it_apart(
    tmp_path: Path, plan: Plan
) -> None:
    jobs = survey(plan, tmp_path, ["decoder.layers"])
    assert [job.state for job in jobs] == ["new"] * 8
    assert jobs[0].label == "vae pinwheel layers=5 seed 0"
    assert jobs[-1].label == "lidvae pinwheel layers=9 seed 1"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("complete", "done"),
        ("running", "partial"),
        ("interrupted", "partial"),
        ("failed", "partial"),
        ("diverged", "diverged"),
    ],
)
def test_a_run_stands_where_its_record_says(
    tmp_path: Path, plan: Plan, status: str, expected: str
) -> None:
    put(tmp_path, plan, 3, status, "Loss is nan.")
    jobs = survey(plan, tmp_path)
    assert [job.state for job in jobs] == ["new"] * 3 + [expected] + ["new"] * 4
    assert all(job.state == "new" for job in survey(plan, tmp_path, restart=True))
    outcome = settled(jobs[3])
    if expected == "partial":
        assert outcome is None
    else:
        assert outcome is not None
        assert outcome.status == status
        assert ("--restart" in outcome.message) == (status == "diverged")


def test_a_damaged_record_is_work_to_do_and_not_an_error(tmp_path: Path, plan: Plan) -> None:
    folder = put(tmp_path, plan, 0, "complete")
    (folder / "run.h5").write_bytes(b"half")
    assert state(folder) == "partial"


@given(st.lists(st.integers(), max_size=30), st.integers(1, 9))
def test_the_shards_together_are_the_whole_and_nearly_equal(items: list[int], n: int) -> None:
    numbered = list(enumerate(items))
    parts = [shard(numbered, f"{i}/{n}") for i in range(1, n + 1)]
    assert sorted(x for part in parts for x in part) == numbered
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("text", ["0/3", "4/3", "1", "a/b", "1/0", "-1/3", "1/3/5", ""])
def test_a_shard_that_does_not_exist_is_a_configuration_error(text: str) -> None:
    with pytest.raises(ConfigError, match="i/n"):
        parse_shard(text)


def test_counts_leave_out_what_there_is_none_of() -> None:
    assert count(["a", "b", "a"], ["b", "c", "a"]) == "1 b, 2 a"
    assert count([], ["a"]) == "none"


def test_a_printed_command_names_exactly_its_run(plan: Plan) -> None:
    shared = ["--results", "my results", "--set", "train.epochs=7"]
    for config in plan.runs:
        words = shlex.split(
            train_command(config, None, ["decoder.layers", "decoder.activation"], shared)
        )
        assert words[:2] == ["lid", "train"]
        pairs = dict(zip(words[2::2], words[3::2], strict=True))
        settings = [words[i + 1] for i, word in enumerate(words) if word == "--set"]
        again = resolve(
            KNOWN,
            model=pairs["--model"],
            data=pairs["--data"],
            seed=int(pairs["--seed"]),
            overrides=[parse_override(text) for text in settings],
        )
        assert again.run_id == config.run_id
        assert pairs["--results"] == "my results"


@pytest.mark.parametrize("value", [None, True, "null", "1e3", "a, b", 0.1, 3])
def test_a_value_in_a_printed_command_is_read_back_as_it_is(value: Any) -> None:
    from lidcli.sweep.queue import _written

    assert parse_override(f"a.b={_written(value)}")[1] == value


def test_a_lost_worker_is_noted_unless_the_run_goes_on_elsewhere(
    tmp_path: Path, plan: Plan
) -> None:
    folder = put(tmp_path, plan, 0, "running")
    with Run.open(folder).lock():
        note_failure(folder, "lost")
    assert Run.open(folder).status == "running"
    note_failure(folder, "lost")
    assert Run.open(folder).provenance["message"] == "lost"
    assert Run.open(folder).status == "failed"
    note_failure(tmp_path / "nowhere", "lost")
