"""The local engine keeps going whatever its workers do; a stub stands in for the training."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lidcli.config.plan import plan_grid
from lidcli.config.read import load_files
from lidcli.store.lease import Lease
from lidcli.store.run import Run
from lidcli.sweep import pool
from lidcli.sweep.local import run_local, slots, usable_cores
from lidcli.sweep.queue import Job, Outcome, survey

ROOT = Path(__file__).resolve().parents[2]

STUB = """
import json, os, signal, sys, time
place, kept = os.environ["STUB"], bool(os.environ.get("KEPT"))
def say(event, **more):
    os.write(1, (json.dumps({"event": event, **more}) + "\\n").encode())
def end(status, message="", **more):
    say("end", status=status, message=message, seconds=0.0, **more)
    if kept:
        raise Over
    sys.exit()
class Over(Exception):
    pass
def work(job):
    seed = job["config"]["seed"]
    pairs = dict(pair.split(":") for pair in os.environ["WHAT"].split(",") if pair)
    what = pairs.get(str(seed), "ok")
    began = os.path.join(place, f"began-{seed}")
    before = os.path.exists(began)
    with open(began, "w") as file:
        file.write(json.dumps([job["config"]["runtime"], job["restart"],
            {k: v for k, v in os.environ.items() if "THREADS" in k}]))
    with open(os.path.join(place, f"told-{seed}"), "a") as file:
        file.write(json.dumps([seed, job["restart"]]) + "\\n")
    with open(os.path.join(place, f"pid-{seed}"), "w") as pid:
        pid.write(str(os.getpid()))
    if what == "fail":
        end("failed", "It failed.")
    if what == "never":
        end("failed", "It cannot.", lasting=True)
    if what == "once" and not before:
        print("in vain", file=sys.stderr, flush=True)
        end("failed", "It failed.")
    if what == "over":
        return say("over", code=-9)
    if what == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "crash":
        raise SystemExit("no such thing")
    if what in ("wait", "stubborn"):
        def stop(signum, frame):
            open(os.path.join(place, f"signals-{seed}"), "a").write(f"{signum} ")
            if what == "wait":
                end("interrupted", "Stopped after a checkpoint.")
        signal.signal(signal.SIGINT, stop)
        signal.signal(signal.SIGTERM, stop)
        open(os.path.join(place, f"ready-{seed}"), "w").close()
        say("start", steps=10)
        while True:
            time.sleep(0.01)
    say("step", done=1, total=2)
    end("complete")
for line in sys.stdin:
    try:
        work(json.loads(line))
    except Over:
        say("over", code=0)
"""


class Recorder:
    def __init__(self, on_event: Callable[[], None] = lambda: None) -> None:
        self.running = 0
        self.most = 0
        self.events: list[dict[str, Any]] = []
        self.stops: list[int] = []
        self.repeated: list[str] = []
        self.on_event = on_event

    def started(self, job: Job, slot: int) -> None:
        self.running += 1
        self.most = max(self.most, self.running)

    def event(self, job: Job, slot: int, event: dict[str, Any]) -> None:
        self.events.append(event)
        self.on_event()

    def again(self, outcome: Outcome, slot: int) -> None:
        self.running -= 1
        self.repeated.append(outcome.status)

    def finished(self, outcome: Outcome, slot: int | None) -> None:
        self.running -= slot is not None

    def stopping(self, running: int) -> None:
        self.stops.append(running)


Sweep = Callable[..., tuple[list[Outcome], int | None]]
Wait = Callable[..., None]


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sweep:
    (tmp_path / "stub_worker.py").write_text(STUB)
    monkeypatch.setattr(pool, "WORKER", "stub_worker")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("STUB", str(tmp_path))

    def call(
        what: str = "", runs: int = 4, devices: int = 2, watcher: Any = None, **more: Any
    ) -> tuple[list[Outcome], int | None]:
        monkeypatch.setenv("WHAT", what)
        known = load_files([ROOT / "experiments.yaml"])
        plan = plan_grid(
            known, "demo", models=["vae"], data=["pinwheel"], grid={}, seeds=range(runs)
        )
        return run_local(
            survey(plan, tmp_path / "results"),
            results=tmp_path / "results",
            experiment="demo",
            devices=["cpu"] * devices,
            threads=more.pop("threads", 1),
            watcher=watcher or Recorder(),
            **more,
        )

    return call


def pids(folder: Path) -> list[int]:
    return [int(path.read_text()) for path in sorted(folder.glob("pid-*"))]


def statuses(outcomes: list[Outcome]) -> list[str]:
    return [outcome.status for outcome in outcomes]


def test_all_runs_are_done_as_many_at_a_time_as_there_are_slots(sweep: Sweep) -> None:
    watcher = Recorder()
    outcomes, ended = sweep(runs=5, devices=2, watcher=watcher)
    assert statuses(outcomes) == ["complete"] * 5
    assert ended is None
    assert watcher.most == 2
    assert watcher.running == 0
    assert watcher.events == [{"event": "step", "done": 1, "total": 2}] * 5


def test_every_worker_has_its_threads_and_its_device(sweep: Sweep, tmp_path: Path) -> None:
    sweep(runs=1, threads=3)
    runtime, _, variables = json.loads((tmp_path / "began-0").read_text())
    assert runtime["threads"] == 3
    assert runtime["device"] == "cpu"
    assert {variables[name] for name in pool.THREAD_VARIABLES} == {"3"}


def test_runs_that_fail_or_vanish_do_not_stop_the_others(sweep: Sweep) -> None:
    outcomes, ended = sweep("0:fail,1:kill,2:crash", runs=5)
    assert statuses(outcomes) == ["failed", "failed", "failed", "complete", "complete"]
    assert ended is None
    assert outcomes[0].message == "It failed."
    assert "killed by SIGKILL (out of memory, perhaps)" in outcomes[1].message
    assert "ended with code 1: no such thing" in outcomes[2].message


def test_a_worker_is_kept_from_run_to_run_and_replaced_when_it_is_lost(
    sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEPT", "1")
    outcomes, _ = sweep("2:kill,4:fail,5:over", runs=8, devices=1)
    ok, lost = "complete", "failed"
    assert statuses(outcomes) == [ok, ok, lost, ok, lost, lost, ok, ok]
    first, later = pids(tmp_path)[0], pids(tmp_path)[3]
    assert pids(tmp_path) == [first] * 3 + [later] * 5
    assert first != later
    assert "killed by SIGKILL" in outcomes[2].message
    assert "killed by SIGKILL" in outcomes[5].message
    for pid in (first, later):
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_failed_run_is_tried_again_after_the_others_and_keeps_its_checkpoint(
    sweep: Sweep, tmp_path: Path
) -> None:
    watcher = Recorder()
    outcomes, _ = sweep("0:once,1:fail", runs=3, devices=1, watcher=watcher, retries=2)
    assert statuses(outcomes) == ["complete", "failed", "complete"]
    assert watcher.repeated == ["failed"] * 3
    assert watcher.running == 0
    assert outcomes[1].last_line == ""
    for path in tmp_path.glob("began-*"):
        path.unlink()
    words = set()
    for _ in range(2):
        (tmp_path / "began-0").unlink(missing_ok=True)
        outcomes, _ = sweep("0:once", runs=1, retries=1, restart=True)
        assert statuses(outcomes) == ["complete"]
        told = [line[1] for line in map(json.loads, (tmp_path / "told-0").open())][-2:]
        assert told[0] == told[1] != ""
        words.add(told[0])
    assert len(words) == 2


def test_what_would_only_fail_again_is_not_tried_again(sweep: Sweep) -> None:
    watcher = Recorder()
    outcomes, _ = sweep("0:never", runs=1, watcher=watcher, retries=5)
    assert statuses(outcomes) == ["failed"]
    assert watcher.repeated == []


def test_each_run_has_a_log_of_its_own(
    sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEPT", "1")
    outcomes, _ = sweep("0:once,1:fail", runs=2, devices=1)
    assert [outcome.last_line for outcome in outcomes] == ["in vain", ""]


def test_a_process_killed_for_memory_is_said_with_what_to_change(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = iter(range(10))
    monkeypatch.setattr(pool, "kills", lambda: next(counts))
    outcomes, _ = sweep("0:kill", runs=1)
    assert "killed because memory ran out: fewer workers (-w)" in outcomes[0].message
    assert "runtime.batch" in outcomes[0].message


def test_when_the_time_is_up_runs_stop_after_a_checkpoint_and_no_other_begins(
    sweep: Sweep, tmp_path: Path
) -> None:
    watcher = Recorder()
    both = [tmp_path / f"ready-{seed}" for seed in (0, 1)]

    class Clock(float):
        """Is up as soon as both runs wait."""

        def __le__(self, now: object) -> bool:
            return all(path.exists() for path in both)

    outcomes, ended = sweep("0:wait,1:wait", runs=3, watcher=watcher, until=Clock(0))
    assert statuses(outcomes) == ["interrupted", "interrupted", "waiting"]
    assert ended is None
    assert watcher.stops == [2]
    assert [(tmp_path / f"signals-{i}").read_text() for i in (0, 1)] == ["15 ", "15 "]


def test_a_run_that_another_machine_has_needs_no_worker(sweep: Sweep, tmp_path: Path) -> None:
    jobs: list[Job] = [outcome.job for outcome in sweep(runs=2)[0]]
    far = Lease("them", 7, "node7", "node7/boot", 60.0)
    jobs[0].folder.mkdir(parents=True)
    (jobs[0].folder / ".lease").write_bytes(far.bytes())
    outcomes, _ = sweep(runs=2)
    assert statuses(outcomes) == ["locked", "complete"]
    assert "is being worked on by process 7 on node7" in outcomes[0].message


def test_the_record_of_a_vanished_run_says_so(sweep: Sweep, tmp_path: Path) -> None:
    jobs: list[Job] = [outcome.job for outcome in sweep(runs=1)[0]]
    Run.create(jobs[0].folder, {}, {})
    sweep("0:kill", runs=1)
    assert Run.open(jobs[0].folder).status == "failed"
    assert "SIGKILL" in Run.open(jobs[0].folder).provenance["message"]


def test_finished_and_diverged_runs_need_no_worker(sweep: Sweep, tmp_path: Path) -> None:
    jobs = [outcome.job for outcome in sweep(runs=3)[0]]
    for job, status in zip(jobs, ["complete", "diverged", "interrupted"], strict=True):
        Run.create(job.folder, {}, {}).update(provenance={"status": status})
    for path in tmp_path.glob("began-*"):
        path.unlink()
    assert statuses(sweep(runs=3)[0]) == ["complete", "diverged", "complete"]
    assert [path.name for path in tmp_path.glob("began-*")] == ["began-2"]
    sweep(runs=3, restart=True)
    assert len(list(tmp_path.glob("began-*"))) == 3


def test_the_first_failure_stops_the_others_if_asked_to(sweep: Sweep) -> None:
    outcomes, ended = sweep("0:wait,1:wait,2:fail", runs=6, devices=3, fail_fast=True)
    assert statuses(outcomes) == ["interrupted"] * 2 + ["failed"] + ["waiting"] * 3
    assert ended is None


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_passed_on_once_and_no_run_is_begun_after_it(
    sweep: Sweep, tmp_path: Path, signum: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    watcher, later = Recorder(), list[int]()

    def stop_when_both_wait() -> None:
        if len(watcher.events) == 2:
            os.kill(os.getpid(), signum)

    watcher.on_event = stop_when_both_wait
    before = signal.signal(signum, lambda number, frame: later.append(number))
    try:
        outcomes, ended = sweep("0:wait,1:wait", runs=4, watcher=watcher)
        assert later == []
        monkeypatch.setattr("lidcli.training.signals.ECHO_SECONDS", 0.0)
        signal.raise_signal(signum)
        assert later == [signum]
    finally:
        signal.signal(signum, before)
    assert statuses(outcomes) == ["interrupted", "interrupted", "waiting", "waiting"]
    assert ended == signum
    assert watcher.stops == [2]
    assert [(tmp_path / f"signals-{i}").read_text() for i in (0, 1)] == [f"{signum:d} "] * 2


def test_a_third_signal_ends_workers_that_will_not_stop(
    sweep: Sweep, wait_for: Wait, tmp_path: Path
) -> None:
    signals = tmp_path / "signals-0"

    def insist() -> None:
        wait_for((tmp_path / "ready-0").exists)
        for heard in ("2 ", "2 2 "):
            os.kill(os.getpid(), signal.SIGINT)
            wait_for(lambda heard=heard: signals.exists() and signals.read_text() == heard)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=insist)
    thread.start()
    outcomes, ended = sweep("0:stubborn", runs=1)
    thread.join()
    assert ended == signal.SIGINT
    assert statuses(outcomes) == ["interrupted"]
    assert signals.read_text() == "2 2 "


def test_an_error_in_the_sweep_itself_leaves_no_process_behind(
    sweep: Sweep, wait_for: Wait, tmp_path: Path
) -> None:
    def fail() -> None:
        wait_for(lambda: all((tmp_path / f"ready-{seed}").exists() for seed in (0, 1)))
        raise KeyError("in the display")

    with pytest.raises(KeyError):
        sweep("0:wait,1:stubborn", runs=2, watcher=Recorder(fail))
    for seed in (0, 1):
        with pytest.raises(ProcessLookupError):
            os.kill(int((tmp_path / f"pid-{seed}").read_text()), 0)


def test_the_default_is_a_worker_for_every_core_and_a_gpu_takes_as_many_as_allowed() -> None:
    assert slots("cpu", 0, workers=None, threads=1, per_gpu=1) == ["cpu"] * usable_cores()
    assert slots("cpu", 0, workers=None, threads=10_000, per_gpu=1) == ["cpu"]
    assert slots("cuda", 2, workers=None, threads=1, per_gpu=2) == ["cuda:0", "cuda:1"] * 2
    assert slots("cuda:1", 2, workers=None, threads=1, per_gpu=3) == ["cuda:1"] * 3
    assert slots("cuda", 2, workers=1, threads=1, per_gpu=3) == ["cuda:0"]
