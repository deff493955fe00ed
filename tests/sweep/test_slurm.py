"""The Slurm engine against stand-ins for Slurm's commands, whose answers the test writes down."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lidcli.config.plan import plan_grid
from lidcli.config.read import load_files
from lidcli.errors import ConfigError, LidError
from lidcli.store.run import Run
from lidcli.sweep import slurm
from lidcli.sweep.engines import Request, make_engine
from lidcli.sweep.orders import environment
from lidcli.sweep.queue import Job, Outcome, survey

ROOT = Path(__file__).resolve().parents[2]

STAND_IN = """#!{python}
import os, pathlib, sys
place = pathlib.Path({place!r})
name = pathlib.Path(sys.argv[0]).name
with open(place / "calls", "a") as calls:
    print(name, *sys.argv[1:], file=calls)
answer = place / f"{{name}}.answer"
text = answer.read_text() if answer.exists() else ""
if text.startswith("!"):
    sys.exit(text[1:])
for number in range(1, 1000):
    later = place / f"{{name}}.{{number}}"
    if later.exists():
        text = later.read_text()
        later.unlink()
        break
print(text, end="")
"""


class Heard:
    """A watcher that writes everything down."""

    def __init__(self) -> None:
        self.said: list[tuple[Any, ...]] = []

    def started(self, job: Job, slot: int) -> None:
        self.said.append(("started", job.config.seed, slot))

    def event(self, job: Job, slot: int, event: dict[str, Any]) -> None:
        self.said.append((event["event"], job.config.seed, slot))

    def finished(self, outcome: Outcome, slot: int | None) -> None:
        self.said.append((outcome.status, outcome.job.config.seed, slot))

    def again(self, outcome: Outcome, slot: int) -> None:
        self.said.append(("again", outcome.job.config.seed, slot))

    def stopping(self, running: int) -> None:
        self.said.append(("stopping", running))


class Cluster:
    """Slurm's commands on the path, and what they answer."""

    def __init__(self, place: Path, results: Path) -> None:
        self.place, self.results = place, results
        place.mkdir()
        for name in ("sbatch", "squeue", "scontrol", "scancel"):
            path = place / name
            path.write_text(STAND_IN.format(python=sys.executable, place=str(place)))
            path.chmod(0o755)
        self.answer("sbatch", "12\n")
        self.answer("squeue", "")

    def answer(self, name: str, text: str) -> None:
        """What a command prints; it fails with what stands after `!`."""
        (self.place / f"{name}.answer").write_text(text)

    def queue(self, *answers: str) -> None:
        """What squeue prints in its first calls."""
        for number, text in enumerate(answers, 1):
            (self.place / f"squeue.{number}").write_text(text)

    def calls(self, name: str) -> list[str]:
        path = self.place / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        return [line for line in lines if line.split()[0] == name]

    def array(self) -> Path:
        """The folder of the only array."""
        (path,) = self.results.glob("demo/.slurm/*/")
        return path

    def say(self, task: int, seed: int, *events: dict[str, Any]) -> None:
        """Write what a task would say of a run."""
        orders = json.loads((self.array() / "orders.json").read_text())
        (run,) = (o["run"] for t in orders for o in t if o["config"]["seed"] == seed)
        with open(self.array() / f"{task}.out", "a") as file:
            for event in events:
                file.write(json.dumps({**event, "run_id": run}) + "\n")


Sweep = Callable[..., tuple[list[Outcome], int | None]]
BEGUN = {"event": "begun"}


def end(status: str, message: str = "") -> dict[str, Any]:
    return {"event": "end", "status": status, "message": message, "seconds": 2.0}


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    made = Cluster(tmp_path / "bin", tmp_path / "results")
    monkeypatch.setenv("PATH", f"{made.place}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(slurm, "POLL", 0.0)
    return made


def jobs_of(results: Path, runs: int) -> list[Job]:
    known = load_files([ROOT / "experiments.yaml"])
    plan = plan_grid(known, "demo", models=["vae"], data=["pinwheel"], grid={}, seeds=range(runs))
    return survey(plan, results)


@pytest.fixture
def sweep(cluster: Cluster) -> Sweep:
    def call(
        runs: int = 2, watcher: Heard | None = None, **wishes: Any
    ) -> tuple[list[Outcome], int | None]:
        jobs = jobs_of(cluster.results, runs)
        request = Request("demo", cluster.results, todo=runs, **wishes)
        return make_engine("slurm", request).run(jobs, watcher or Heard())

    return call


def statuses(outcomes: list[Outcome]) -> list[str]:
    return [outcome.status for outcome in outcomes]


def at_look(cluster: Cluster, monkeypatch: pytest.MonkeyPatch, *acts: Callable[[], None]) -> None:
    """Do one act before each look at the tasks."""
    waiting = list(acts)
    look = slurm._Following.look

    def act_and_look(self: Any) -> None:
        if waiting:
            waiting.pop(0)()
        look(self)

    monkeypatch.setattr(slurm._Following, "look", act_and_look)


def name(cluster: Cluster) -> str:
    return f"lid-{cluster.array().name}"


def test_an_array_has_a_task_a_run_and_is_put_back_into_the_queue_when_preempted(
    cluster: Cluster, sweep: Sweep
) -> None:
    wishes = {"workers": 2, "threads": 3, "memory": 2**30, "device": "cuda", "detach": True}
    outcomes, ended = sweep(5, sbatch=("--partition=long", "--no-requeue"), **wishes)
    assert statuses(outcomes) == ["submitted"] * 5
    assert ended is None
    words = cluster.calls("sbatch")[0].split()
    own = ["--array=1-5%2", "--cpus-per-task=3", "--requeue", "--mem=1024M", "--gres=gpu:1"]
    own += ["--open-mode=append", "--signal=B:USR1@60", f"--job-name={name(cluster)}"]
    for option in own:
        assert option in words
    assert words[-3:-1] == ["--partition=long", "--no-requeue"]
    orders = json.loads((cluster.array() / "orders.json").read_text())
    assert [[order["config"]["seed"] for order in task] for task in orders] == [
        [0], [1], [2], [3], [4]
    ]  # fmt: skip
    assert orders[0][0]["config"]["runtime"]["threads"] == 3
    script = Path(words[-1]).read_text()
    assert "exec env OMP_NUM_THREADS=3 " in script
    assert script.endswith(" $SLURM_ARRAY_TASK_ID\n")


def test_more_runs_than_an_array_may_have_tasks_share_tasks(
    cluster: Cluster, sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurm, "LARGEST", 3)
    sweep(7, detach=True)
    orders = json.loads((cluster.array() / "orders.json").read_text())
    assert [len(task) for task in orders] == [3, 2, 2]
    assert sorted(o["config"]["seed"] for task in orders for o in task) == list(range(7))


def test_what_tasks_say_is_heard_and_an_array_of_which_all_is_done_leaves_nothing(
    cluster: Cluster, sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = {"event": "step", "done": 1, "total": 2}
    at_look(
        cluster,
        monkeypatch,
        lambda: cluster.queue(f"{name(cluster)} 1 RUNNING\n{name(cluster)} 2 PENDING\n"),
        lambda: (cluster.say(1, 0, BEGUN, step, end("complete")),
                 cluster.queue(f"{name(cluster)} 2 RUNNING\n")),
        lambda: cluster.say(2, 1, BEGUN, end("complete")),
    )  # fmt: skip
    heard = Heard()
    outcomes, ended = sweep(2, heard)
    assert statuses(outcomes) == ["complete", "complete"]
    assert ended is None
    assert heard.said == [
        ("started", 0, 0), ("step", 0, 0), ("complete", 0, 0), ("started", 1, 1), ("complete", 1, 1)
    ]  # fmt: skip
    assert not list(cluster.results.glob("demo/.slurm/*"))


def test_a_run_that_stops_and_is_requeued_is_not_over(
    cluster: Cluster, sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_look(
        cluster,
        monkeypatch,
        lambda: (cluster.say(1, 0, BEGUN, end("interrupted")),
                 cluster.queue(f"{name(cluster)} 1 PENDING\n")),
        lambda: cluster.say(1, 0, BEGUN, end("complete")),
    )  # fmt: skip
    heard = Heard()
    outcomes, _ = sweep(1, heard)
    assert statuses(outcomes) == ["complete"]
    assert heard.said == [("started", 0, 0), ("complete", 0, 0)]


@pytest.mark.parametrize(
    ("state", "hint"),
    [("OUT_OF_MEMORY", "--memory"), ("TIMEOUT", "--time"), ("NODE_FAIL", "node was lost")],
)
def test_a_task_that_ends_without_a_word_is_a_failed_run_and_says_what_to_change(
    cluster: Cluster, sweep: Sweep, monkeypatch: pytest.MonkeyPatch, state: str, hint: str
) -> None:
    cluster.answer("scontrol", f"JobId=12 ArrayTaskId=1 JobState={state} Reason=None\n")
    at_look(cluster, monkeypatch, lambda: cluster.say(1, 0, BEGUN))
    outcomes, _ = sweep(1)
    assert outcomes[0].failed
    assert state in outcomes[0].message
    assert hint in outcomes[0].message
    assert cluster.calls("scontrol") == ["scontrol --oneliner show job 12_1"]


def test_a_task_that_never_wrote_anything_asks_whether_the_folder_is_shared(
    cluster: Cluster, sweep: Sweep
) -> None:
    outcomes, _ = sweep(1)
    assert outcomes[0].failed
    assert "every node sees" in outcomes[0].message


def test_the_same_command_follows_what_is_queued_and_submits_only_the_rest(
    cluster: Cluster, sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep(2, detach=True)
    first = name(cluster)
    for number in (1, 2):
        cluster.say(number, number - 1, BEGUN, end("complete"))
    cluster.queue(f"{first} 1 RUNNING\n{first} 2 PENDING\n")
    outcomes, _ = sweep(3, detach=True)
    assert statuses(outcomes) == ["submitted"] * 3
    one, two = cluster.calls("sbatch")
    assert "--array=1-2 " in one
    assert "--array=1-1 " in two


def test_arrays_that_slurm_has_no_more_are_forgotten(cluster: Cluster, sweep: Sweep) -> None:
    sweep(2, detach=True)
    old = cluster.array()
    sweep(2, detach=True)
    assert len(cluster.calls("sbatch")) == 2
    assert cluster.array() != old


def test_a_signal_cancels_what_was_submitted_here(
    cluster: Cluster, sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_look(
        cluster,
        monkeypatch,
        lambda: (cluster.say(1, 0, BEGUN),
                 cluster.queue(*[f"{name(cluster)} 1 RUNNING\n{name(cluster)} 2 PENDING\n"] * 2),
                 os.kill(os.getpid(), signal.SIGINT)),
        lambda: cluster.say(1, 0, end("interrupted")),
    )  # fmt: skip
    heard = Heard()
    outcomes, ended = sweep(2, heard)
    assert ended == signal.SIGINT
    assert statuses(outcomes) == ["interrupted", "waiting"]
    assert cluster.calls("scancel") == [f"scancel --name={name(cluster)}"]
    assert ("stopping", 1) in heard.said


def test_a_signal_leaves_the_array_of_an_earlier_sweep_alone(
    cluster: Cluster, sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep(2, detach=True)
    cluster.answer("squeue", f"{name(cluster)} 1 RUNNING\n{name(cluster)} 2 PENDING\n")
    at_look(cluster, monkeypatch, lambda: os.kill(os.getpid(), signal.SIGINT))
    outcomes, ended = sweep(2)
    assert ended == signal.SIGINT
    assert statuses(outcomes) == ["waiting", "waiting"]
    assert not cluster.calls("scancel")
    assert len(cluster.calls("sbatch")) == 1


def test_the_first_failure_cancels_the_others_if_asked_to(
    cluster: Cluster, sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_look(
        cluster,
        monkeypatch,
        lambda: (cluster.say(1, 0, BEGUN, end("failed", "It failed.")),
                 cluster.queue(f"{name(cluster)} 2 PENDING\n")),
    )  # fmt: skip
    outcomes, ended = sweep(2, fail_fast=True)
    assert ended is None
    assert statuses(outcomes) == ["failed", "waiting"]
    assert len(cluster.calls("scancel")) == 1


def test_a_controller_that_does_not_answer_for_a_while_is_waited_for(
    cluster: Cluster, sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away() -> None:
        cluster.answer("squeue", "!slurm_load_jobs error: Unable to contact slurm controller")

    def back() -> None:
        cluster.answer("squeue", "")
        cluster.say(1, 0, BEGUN, end("complete"))

    at_look(cluster, monkeypatch, away, lambda: None, back)
    assert statuses(sweep(1)[0]) == ["complete"]


def test_finished_runs_are_not_submitted_again(cluster: Cluster, sweep: Sweep) -> None:
    job = jobs_of(cluster.results, 2)[0]
    Run.create(job.folder, {}, {}).update(provenance={"status": "complete"})
    outcomes, _ = sweep(2, detach=True)
    assert statuses(outcomes) == ["complete", "submitted"]
    assert "--array=1-1 " in cluster.calls("sbatch")[0]
    outcomes, _ = sweep(1)
    assert statuses(outcomes) == ["complete"]
    assert not cluster.calls("squeue")


def test_restart_is_the_task_s_own_so_that_what_slurm_refuses_costs_nothing(
    cluster: Cluster, sweep: Sweep
) -> None:
    job = jobs_of(cluster.results, 1)[0]
    Run.create(job.folder, {}, {}).update(provenance={"status": "complete"})
    cluster.answer("sbatch", "!sbatch: error: invalid partition specified: long")
    with pytest.raises(LidError, match="refused the array"):
        sweep(1, detach=True, restart=True)
    assert Run.open(job.folder).status == "complete"
    cluster.answer("sbatch", "12\n")
    outcomes, _ = sweep(1, detach=True, restart=True)
    assert statuses(outcomes) == ["submitted"]
    assert Run.open(job.folder).status == "complete"
    orders = json.loads((cluster.array() / "orders.json").read_text())
    assert orders[0][0]["restart"] == cluster.array().name
    cluster.answer("squeue", f"{name(cluster)} 1 PENDING\n")
    assert statuses(sweep(1, detach=True)[0]) == ["submitted"]
    assert len(cluster.calls("sbatch")) == 2
    Run.open(job.folder).update(provenance={"restarted": cluster.array().name})
    assert statuses(sweep(1, detach=True)[0]) == ["complete"]


def test_what_slurm_refuses_is_one_sentence_in_its_words(cluster: Cluster, sweep: Sweep) -> None:
    cluster.answer("sbatch", "!sbatch: error: invalid partition specified: long")
    with pytest.raises(LidError, match=r"refused the array: invalid partition specified: long\.$"):
        sweep(1)
    assert not list(cluster.results.glob("demo/.slurm/*"))


def test_without_sbatch_the_sentence_says_where_to_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="no sbatch here"):
        make_engine("slurm", Request("demo", tmp_path, 1))


TINY = {
    "train.epochs": 2,
    "decoder.hidden": 8,
    "encoder.hidden": 8,
    "inference.hidden": 8,
    "data.train": 300,
    "data.test": 300,
    "evaluate.samples": 4,
    "evaluate.outer": 20,
    "train.batch_size": 100,
}


def start_task(cluster: Cluster, index: int, epochs: int = 2) -> tuple[subprocess.Popen[str], Path]:
    """A task of a submitted array, as Slurm starts it, and its run's folder."""
    known = load_files([ROOT / "experiments.yaml"])
    overrides = list({**TINY, "train.epochs": epochs, "runtime.checkpoint_seconds": 0.1}.items())
    plan = plan_grid(known, "demo", models=["vae"], data=["pinwheel"], grid={}, seeds=[0],
                     overrides=overrides)  # fmt: skip
    jobs = survey(plan, cluster.results)
    make_engine("slurm", Request("demo", cluster.results, 1, detach=True)).run(jobs, Heard())
    variables = {"SLURM_ARRAY_JOB_ID": "12", "SLURM_ARRAY_TASK_ID": str(index)}
    process = subprocess.Popen(
        [sys.executable, "-m", "lidcli.sweep.slurm_task", str(cluster.array()), str(index)],
        env=os.environ | environment(1) | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    return process, jobs[0].folder


def test_a_task_does_its_run_and_says_how_it_ended(cluster: Cluster, patience: float) -> None:
    process, folder = start_task(cluster, 1)
    output, errors = process.communicate(timeout=patience)
    assert process.returncode == 0, errors
    events = [json.loads(line) for line in output.splitlines()]
    assert events[0] == {"event": "begun", "run_id": folder.name}
    assert events[-1]["status"] == "complete"
    assert Run.open(folder).status == "complete"


@pytest.mark.parametrize("index", [0, 2])
def test_a_task_out_of_range_is_one_sentence(cluster: Cluster, patience: float, index: int) -> None:
    process, folder = start_task(cluster, index)
    output, errors = process.communicate(timeout=patience)
    assert process.returncode == 2
    assert errors.endswith(f"has tasks 1 to 1, and there is no task {index}.\n")
    assert errors.count("\n") == 1
    assert output == ""
    assert not folder.exists()


@pytest.mark.parametrize(
    ("signum", "requeued"),
    [(signal.SIGTERM, []), (signal.SIGUSR1, ["scontrol requeue 12_1"])],
)
def test_a_task_that_is_stopped_even_twice_saves_and_is_requeued_where_its_time_was_over(
    cluster: Cluster,
    wait_for: Callable[..., None],
    patience: float,
    signum: int,
    requeued: list[str],
) -> None:
    process, folder = start_task(cluster, 1, epochs=100_000)
    wait_for((folder / "checkpoint.h5").exists, process)
    for _ in range(2):
        process.send_signal(signum)
    output, errors = process.communicate(timeout=patience)
    assert process.returncode == 143, errors
    assert "Traceback" not in errors
    assert json.loads(output.splitlines()[-1])["status"] == "interrupted"
    assert Run.open(folder).status == "interrupted"
    assert cluster.calls("scontrol") == requeued
