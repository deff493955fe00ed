"""`lid sweep` as a user meets it, in real processes."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from forked import Server

from lidcli.store.run import Run, find_runs

SMALL = [
    *(
        "--set",
        "decoder.hidden=8",
        "--set",
        "encoder.hidden=8",
        "--set",
        "inference.hidden=8",
        "--set",
        "data.train=300",
    ),
    *("--set", "data.test=300", "--set", "evaluate.samples=4", "--set", "evaluate.outer=20"),
    *("--set", "train.learning_rate=0.001", "--set", "train.batch_size=100"),
]
ENDLESS = ["--set", "train.epochs=100000", "--set", "runtime.checkpoint_seconds=0.2"]
Lid = Callable[..., "subprocess.CompletedProcess[str]"]
Wait = Callable[..., None]


def lock_is_held(folder: Path) -> bool:
    import fcntl

    with open(folder / ".lock") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_a_grid_is_run_once_reported_and_not_repeated(lid: Lid, tmp_path: Path) -> None:
    words = ["sweep", "-m", "vae,lidvae", "-d", "pinwheel", "--grid", "decoder.layers=5",
             "--seeds", "0", "--workers", "2", "--set", "train.epochs=1", *SMALL]  # fmt: skip
    done = lid(*words)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "train: 2 runs, 2 complete\n"
    assert "sweep train: 2 runs (2 new)\ndevice cpu, 2 workers of 1 thread\n" in done.stderr
    assert "complete    lidvae pinwheel layers=5 seed 0:" in done.stderr
    stamps = [path.stat().st_mtime_ns for path in tmp_path.rglob("*.h5")]

    again = lid(*words, "--json")
    assert again.returncode == 0
    assert again.stderr == ""
    document = json.loads(again.stdout)
    assert document["schema_version"] == 1
    assert document["command"] == "sweep"
    assert [run["status"] for run in document["runs"]] == ["complete"] * 2
    assert [run["state"] for run in document["runs"]] == ["done"] * 2
    assert {"ll", "elbo", "kl/c"} <= set(document["runs"][0]["evaluation"]["test"])
    assert [path.stat().st_mtime_ns for path in tmp_path.rglob("*.h5")] == stamps

    single = lid("train", "-m", "vae", "-d", "pinwheel", "--set", "train.epochs=1", *SMALL,
                 "--set", "decoder.layers=5", "-o", "single", "--json")  # fmt: skip
    assert json.loads(single.stdout)["run"] == document["runs"][0]["run"]
    assert json.loads(single.stdout)["evaluation"] == document["runs"][0]["evaluation"]


def test_a_run_that_fails_is_listed_and_the_others_are_done(lid: Lid) -> None:
    done = lid("sweep", "-m", "vae", "-d", "mnist,pinwheel", "--set", "train.epochs=1",
               "-w", "1", "-q", *SMALL)  # fmt: skip
    assert done.returncode == 3
    assert done.stdout == "train: 2 runs, 1 complete, 1 failed\n"
    assert done.stderr.startswith("failed vae mnist seed 0 (results/train/")
    assert "lid fetch mnist" in done.stderr
    assert done.stderr.endswith("lid: 1 of 2 runs failed.\n")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_after_checkpoints_and_the_same_command_goes_on(
    lid: Lid, server: Server, wait_for: Wait, patience: float, tmp_path: Path, signum: int
) -> None:
    words = ["sweep", "-m", "vae", "-d", "pinwheel", "--seeds", "0-2", "-w", "2", *SMALL, *ENDLESS]
    process = server.start(words, tmp_path)
    results = tmp_path / "results" / "train"
    wait_for(lambda: len(list(results.glob("*/checkpoint.h5"))) == 2, process)
    process.send_signal(signum)
    output, errors = process.communicate(timeout=patience)
    assert process.returncode == 128 + signum, errors
    assert output == "train: 3 runs, 2 interrupted, 1 waiting\n"
    assert errors.endswith("the same command continues the run.\n")
    runs = [Run.open(folder) for folder in find_runs(tmp_path / "results")]
    assert [run.status for run in runs] == ["interrupted"] * 2
    assert all(run.load_checkpoint()[0]["progress"]["step"] > 0 for run in runs)
    plan = lid(*words, "-n")
    assert plan.returncode == 0
    assert plan.stdout.startswith("sweep train: 3 runs (1 new, 2 partial)\n")


def test_workers_of_a_killed_sweep_stop_after_a_checkpoint(
    server: Server, wait_for: Wait, tmp_path: Path
) -> None:
    words = ["sweep", "-m", "vae", "-d", "pinwheel", "-w", "1", *SMALL, *ENDLESS]
    process = server.start(words, tmp_path)
    results = tmp_path / "results" / "train"
    wait_for(lambda: list(results.glob("*/checkpoint.h5")), process)
    folder = next(results.iterdir())
    assert lock_is_held(folder)
    process.kill()
    process.communicate()
    wait_for(lambda: not lock_is_held(folder))
    assert Run.open(folder).status == "interrupted"


def test_a_killed_worker_is_a_failed_run_and_goes_on_exactly(
    lid: Lid, server: Server, wait_for: Wait, patience: float, tmp_path: Path
) -> None:
    words = ["sweep", "-m", "vae", "-d", "pinwheel", "-w", "1", "-q", "--retries", "0", *SMALL,
             "--set", "train.epochs=80"]  # fmt: skip
    process = server.start([*words, "--set", "runtime.checkpoint_seconds=0"], tmp_path)
    results = tmp_path / "results" / "train"
    wait_for(lambda: list(results.glob("*/checkpoint.h5")), process)
    folder = next(results.iterdir())
    os.kill(int((folder / ".lock").read_text().split()[0]), signal.SIGKILL)
    output, errors = process.communicate(timeout=patience)
    assert process.returncode == 3, errors
    assert output == "train: 1 run, 1 failed\n"
    assert "killed by SIGKILL" in errors
    assert f"({folder.relative_to(tmp_path)})\n  lid train --model vae --data pinwheel" in errors
    assert Run.open(folder).status == "failed"

    assert lid(*words).returncode == 0
    assert lid(*words, "-o", "whole").returncode == 0
    whole = Run.open(next((tmp_path / "whole" / "train").iterdir()))
    assert Run.open(folder).evaluation == whole.evaluation
    assert Run.open(folder).provenance["steps"] == whole.provenance["steps"]


def test_when_the_time_is_up_the_same_command_goes_on(lid: Lid, tmp_path: Path) -> None:
    words = ["sweep", "-m", "vae", "-d", "pinwheel", "-w", "1", "-q", *SMALL, *ENDLESS]
    told = "The time of --max-time is up with 1 of 1 runs left; the same command"
    for more, goes_on in ([], " goes on."), (["--restart"], " without --restart goes on."):
        done = lid(*words, "--max-time", "0.5s", *more)
        assert done.returncode == 124, done.stderr
        assert f"{told}{goes_on}" in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["train", "sweep"])
def test_with_restart_the_command_that_goes_on_is_the_one_without(
    lid: Lid, server: Server, wait_for: Wait, patience: float, tmp_path: Path, command: str
) -> None:
    words = [command, "-m", "vae", "-d", "pinwheel", "--restart", *SMALL, *ENDLESS]
    process = server.start(words, tmp_path)
    wait_for(lambda: list((tmp_path / "results").rglob("checkpoint.h5")), process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=patience)
    assert process.returncode == 130, errors
    assert errors.endswith("; the same command without --restart continues the run.\n")


def test_a_run_in_other_hands_is_skipped_and_said(
    lid: Lid, server: Server, wait_for: Wait, patience: float, tmp_path: Path
) -> None:
    words = ["sweep", "-m", "vae", "-d", "pinwheel", "-w", "1", *SMALL, *ENDLESS]
    first = server.start(words, tmp_path)
    wait_for(lambda: list((tmp_path / "results").rglob("checkpoint.h5")), first)
    second = lid(*words)
    waiting = server.start([*words, "--wait"], tmp_path)
    time.sleep(2)
    assert waiting.poll() is None
    first.send_signal(signal.SIGTERM)
    first.communicate(timeout=patience)
    folder = next((tmp_path / "results" / "train").iterdir())
    wait_for(lambda: lock_is_held(folder), waiting)
    waiting.send_signal(signal.SIGTERM)
    output, _ = waiting.communicate(timeout=patience)
    assert (waiting.returncode, output) == (143, "train: 1 run, 1 interrupted\n")
    assert second.returncode == 3, second.stderr
    assert second.stdout == "train: 1 run, 1 locked\n"
    assert "1 of 1 runs are in the hands of another process; --wait waits" in second.stderr
    assert "skipped vae pinwheel seed 0: Run" in second.stderr
    assert "is being worked on by process" in second.stderr


def test_the_plan_and_the_printed_commands_name_the_same_runs(lid: Lid) -> None:
    words = ["sweep", "pinwheel-depth", "--seeds", "0-1", "--shard", "1/4", *SMALL]
    plan = lid(*words, "-n", "--json")
    assert plan.returncode == 0, plan.stderr
    runs = json.loads(plan.stdout)["runs"]
    assert len(runs) == 3
    commands = lid(*words, "--print-commands").stdout.splitlines()
    document = json.loads(lid(*words, "--print-commands", "--json").stdout)
    assert document["commands"] == commands
    assert len(commands) == 3
    assert commands[0].startswith("lid train --model gmvae --data pinwheel --seed 0 --experiment")
    shown = lid(*shlex.split(commands[-1])[1:], "-n", "--json")
    assert Path(json.loads(shown.stdout)["folder"]).name == runs[-1]["run"]


def test_printed_commands_do_again_what_the_sweep_would(lid: Lid) -> None:
    words = ["sweep", "digits-depth", "--seeds", "0", "--shard", "1/6", "--print-commands"]
    for flag in ("--again", "--restart"):
        for line in lid(*words, flag).stdout.splitlines():
            assert line.split().count(flag) == 1


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["pinwheel-dept"], "Unknown experiment 'pinwheel-dept'; did you mean pinwheel-depth?"),
        (["demo", "-m", "vae"], "Name an experiment, or --model, --data and --grid, not both."),
        (["-m", "vae"], "Name an experiment, or both --model and --data."),
        (["-m", "veo", "-d", "pinwheel"], "Unknown model 'veo'; did you mean vae?"),
        (["demo", "--shard", "3/2"], "--shard is written i/n, from 1/n to n/n, not '3/2'."),
        (["demo", "--seeds", "a"], "Seeds are written like 0-4 or 0,3,7, not 'a'."),
        (
            ["-m", "vae", "-d", "digits", "--seeds", ""],
            "Seeds are written like 0-4 or 0,3,7, not ''",
        ),
        (["-m", "vae", "-d", "digits", "--grid", "decoder.layers"], "--grid takes key=value,value"),
        (
            ["-m", "vae", "-d", "digits", *["--grid", "decoder.layers=5"] * 2],
            "--grid decoder.layers stands twice",
        ),
        (
            [
                "-m",
                "vae",
                "-d",
                "digits",
                "--grid",
                "decoder.layers=5",
                "--set",
                "decoder.layers=9",
            ],
            "decoder.layers is set to one value, and the grid of train goes over others.",
        ),
        (["digits-depth", "--set", "decoder.layers=9"], "the grid of digits-depth goes over"),
        (["-m", "vae", "-d", "digits", "--grid", "decoder.layer=5"], "did you mean decoder.layers"),
        (["-m", "lidvae", "-d", "digits", "--grid", "decoder.layers=6"], "use 5 or 7"),
        (["demo", "--max-time", "2"], "A time is written like 2h, 90m, 1h30m or 45s, not '2'."),
        (["demo", "--retries", "-1"], "-1 is not in the range x>=0"),
        (["demo", "--workers", "0"], "0 is not in the range x>=1"),
        (["demo", "--device", "cuda"], "--device cuda"),
    ],
)
def test_wrong_words_are_one_sentence_before_any_work(
    lid: Lid, tmp_path: Path, words: list[str], sentence: str
) -> None:
    if "cuda" in words:
        import torch

        if torch.cuda.is_available():
            pytest.skip("there is a GPU here")
    done = lid("sweep", *words)
    assert done.returncode == 2, done.stderr
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "results").exists()


def test_a_folder_in_which_nothing_can_be_written_is_one_sentence_before_any_work(
    lid: Lid, tmp_path: Path
) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "train").write_text("no folder")
    done = lid("sweep", "-m", "vae", "-d", "pinwheel", *SMALL)
    assert done.returncode == 1
    assert done.stdout == ""
    (sentence,) = done.stderr.splitlines()
    assert sentence.startswith("lid: ")
    assert "results/train" in sentence
