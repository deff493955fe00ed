"""What a sweep has to do is read off the results folder."""

from __future__ import annotations

import shlex
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lidcli.config.plan import Plan, plan_experiment, plan_grid
from lidcli.config.read import load_files, parse_override
from lidcli.config.resolve import resolve, resolve_loosely
from lidcli.config.run import RunConfig
from lidcli.errors import ConfigError
from lidcli.store.lease import Lease, Watch
from lidcli.store.run import Run
from lidcli.sweep.queue import (
    await_others,
    count,
    elsewhere,
    note_failure,
    parse_duration,
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
    grid: dict[str, list[Any]] = {"decoder.layers": [5, 9], "decoder.activation": ["leaky"]}
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


def run_of(command: str) -> tuple[dict[str, str], RunConfig]:
    """The options of a printed command, and the run that it does."""
    words = shlex.split(command)
    assert words[:2] == ["lid", "train"]
    pairs = dict(zip(words[2::2], words[3::2], strict=True))
    settings = [words[i + 1] for i, word in enumerate(words) if word == "--set"]
    config = resolve(
        KNOWN,
        model=pairs["--model"],
        data=pairs["--data"],
        experiment=pairs.get("--experiment"),
        seed=int(pairs["--seed"]),
        overrides=[parse_override(text) for text in settings],
    )
    return pairs, config


def test_a_printed_command_names_exactly_its_run(plan: Plan) -> None:
    for config in plan.runs:
        base = resolve(KNOWN, model=config.method, data=config.data.name, seed=config.seed)
        shared = ["--results", "my results"]
        command = train_command(config, base, None, shared, ["train.epochs=7", "decoder.maps=2"])
        pairs, again = run_of(command)
        assert again.run_id == config.run_id
        assert pairs["--results"] == "my results"


def test_a_printed_command_leaves_out_what_is_idle_for_its_run() -> None:
    ramp = ["inference.annealing=linear", "inference.annealing_epochs=5"]
    for settings, said in ((ramp, 2), (ramp[1:], 0)):
        config, unused = resolve_loosely(
            KNOWN, model="vae", data="pinwheel", overrides=map(parse_override, settings)
        )
        assert len(unused) == (said == 0)
        command = train_command(config, config, None, [], settings)
        assert command.count("--set") == said
        assert run_of(command)[1].run_id == config.run_id


def test_a_printed_command_of_a_run_that_was_taken_in_names_exactly_it() -> None:
    for config in plan_experiment(KNOWN, "theorem1").runs:
        command = train_command(config, None, "theorem1", [])
        assert run_of(command)[1].run_id == config.run_id


def test_a_published_run_is_not_repeated_unless_it_is_asked_for(tmp_path: Path, plan: Plan) -> None:
    put(tmp_path / "published", plan, 2, "complete")
    put(tmp_path / "published", plan, 3, "interrupted")
    states = ["new", "new", "published", "new", "new", "new", "new", "new"]
    jobs = survey(plan, tmp_path)
    assert [job.state for job in jobs] == states
    assert jobs[2].folder == tmp_path / "published" / "grid" / plan.runs[2].run_id
    outcome = settled(jobs[2])
    assert outcome is not None
    assert (outcome.status, outcome.failed) == ("published", False)
    for word in ("again", "restart"):
        job = survey(plan, tmp_path, **{word: True})[2]
        assert (job.state, job.folder) == ("new", tmp_path / "grid" / plan.runs[2].run_id)
        assert settled(job) is None
    put(tmp_path, plan, 2, "interrupted")
    assert survey(plan, tmp_path)[2].state == "partial"


def test_a_run_published_with_another_experiment_is_new_for_this_one(
    tmp_path: Path, plan: Plan
) -> None:
    folder = put(tmp_path / "published", plan, 2, "complete")
    folder.parent.rename(folder.parent.with_name("another"))
    assert {job.state for job in survey(plan, tmp_path)} == {"new"}


def test_a_run_that_a_related_experiment_has_is_not_repeated(tmp_path: Path, plan: Plan) -> None:
    """What is left undone there is this one's own to do."""
    related = replace(plan, related=("part",))
    published = put(tmp_path / "published", plan, 2, "complete")
    published.parent.rename(published.parent.with_name("part"))
    for index, status in ((0, "complete"), (1, "interrupted")):
        put(tmp_path, plan, index, status)
    (tmp_path / plan.experiment).rename(tmp_path / "part")
    jobs = survey(related, tmp_path)
    assert [job.state for job in jobs[:4]] == ["done", "new", "published", "new"]
    assert [job.folder.parent.name for job in jobs[:3]] == ["part", plan.experiment, "part"]
    outcome = settled(jobs[0])
    assert outcome is not None
    assert outcome.status == "complete"
    assert {job.state for job in survey(related, tmp_path, again=True)} == {"new"}


@pytest.mark.parametrize("name", ["theorem1-training", "section-2.2-training", "section-2.2"])
def test_what_is_published_with_the_whole_is_published_for_its_parts(name: str) -> None:
    known = load_files([ROOT / "experiments.yaml"])
    jobs = survey(plan_experiment(known, name), ROOT / "results")
    assert {job.folder.parent.parent.name for job in jobs} == {"published"}


def test_the_demo_trains_every_one_of_its_runs(tmp_path: Path) -> None:
    """Its report is of what it trained, though other experiments publish the same runs."""
    known = load_files([ROOT / "experiments.yaml"])
    jobs = survey(plan_experiment(known, "demo"), ROOT / "results")
    assert "published" not in {job.folder.parent.parent.name for job in jobs}


def test_others_are_awaited_until_one_of_their_runs_is_free(tmp_path: Path, plan: Plan) -> None:
    put(tmp_path, plan, 0, "running")
    jobs = survey(plan, tmp_path)[:1]
    with Run.open(jobs[0].folder).lock():
        assert not await_others(jobs, False)
    assert await_others(jobs, True)


def test_a_run_of_a_dead_machine_is_free_after_its_silence_and_of_a_live_one_is_not(
    tmp_path: Path, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = [put(tmp_path, plan, index, "running") for index in (0, 1)]
    jobs = survey(plan, tmp_path)[:2]
    far = Lease("them", 7, "node7", "node7/boot", 60.0)
    for folder in folders:
        (folder / ".lease").write_bytes(far.bytes())
    clock, beats = [0.0], iter(range(1, 1000))

    def sleep(seconds: float) -> None:
        clock[0] += seconds
        (folders[0] / ".lease").write_bytes(replace(far, beat=next(beats)).bytes())

    monkeypatch.setattr(time, "sleep", sleep)
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    watch = Watch()
    assert await_others(jobs, False, watch=watch)
    assert 60 <= clock[0] <= 62
    assert [elsewhere(job) is None for job in jobs] == [False, True]
    assert not await_others(jobs[:1], False, watch=watch)
    assert not await_others(jobs[:1], True, until=clock[0] + 30, watch=watch)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("2h", 7200), ("90m", 5400), ("1h30m", 5400), ("45s", 45), ("1.5d", 129600)],
)
def test_times_are_written_with_their_units(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "2", "h", "2 h", "-1h", "0s", "2h!", "1e3s", "2H", "9" * 400 + "d"]
)
def test_a_time_that_is_none_is_one_sentence(text: str) -> None:
    with pytest.raises(ConfigError, match="A time is written like 2h"):
        parse_duration(text)


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
