"""`lid train` and `lid evaluate` through a real process."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from forked import Command, Server

from lidcli.store.lease import Lease
from lidcli.store.run import Run

QUICK = [
    *("--profile", "smoke"),
    *("--set", "decoder.hidden=16", "--set", "inference.hidden=16", "--set", "data.train=600"),
    *("--set", "encoder.hidden=16"),
    *("--set", "decoder.layers=5", "--set", "evaluate.samples=4", "--set", "data.test=150"),
]


def only_run(results: Path) -> Path:
    (record,) = results.rglob("run.h5")
    return record.parent


@pytest.mark.parametrize("model", ["vae", "beta-vae", "lidvae", "gmvae", "lidgmvae"])
@pytest.mark.parametrize("data", ["pinwheel", "digits"])
def test_every_model_trains_on_every_small_data_set(lid, tmp_path, model: str, data: str) -> None:
    done = lid("train", "-m", model, "-d", data, *QUICK, "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["schema_version"] == 1
    assert document["provenance"]["status"] == "complete"
    assert document["provenance"]["checks"] == []
    scalars = document["evaluation"]["test"]
    assert {"elbo", "ll", "kl/c", "mi/c", "au/c", "kl/w", "mi/w", "accuracy"} <= set(scalars)
    assert ("certificate" in scalars) == model.startswith("lid")


@pytest.mark.parametrize("categorical", ["explicit", "collapsed"])
def test_both_treatments_of_the_category_train(lid, categorical: str) -> None:
    done = lid(
        "train", "-m", "lidvae", "-d", "pinwheel", *QUICK,
        "--set", f"inference.categorical={categorical}", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["provenance"]["checks"] == []


def test_the_continuous_family_is_one_setting_away(lid) -> None:
    done = lid(
        "train", "-m", "lidvae", "-d", "digits", *QUICK,
        "--set", "model.family=continuous", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    scalars = json.loads(done.stdout)["evaluation"]["test"]
    assert {"kl/z", "mi/z", "au/z"} <= set(scalars)
    assert "kl/c" not in scalars


def test_a_finished_run_is_reported_not_repeated_and_restart_discards_it(lid, tmp_path) -> None:
    first = lid("train", "-m", "vae", "-d", "pinwheel", *QUICK)
    assert first.returncode == 0, first.stderr
    assert "LL" in first.stdout
    folder = only_run(tmp_path / "results")
    stamp = (folder / "run.h5").stat().st_mtime_ns
    second = lid("train", "-m", "vae", "-d", "pinwheel", *QUICK)
    assert second.returncode == 0
    assert second.stdout == first.stdout
    assert (folder / "run.h5").stat().st_mtime_ns == stamp
    again = lid("train", "-m", "vae", "-d", "pinwheel", *QUICK, "--restart")
    assert again.returncode == 0
    assert (folder / "run.h5").stat().st_mtime_ns != stamp
    assert again.stdout == first.stdout


def test_everything_printed_fits_in_eighty_columns(lid) -> None:
    done = lid("train", "-m", "lidvae", "-d", "pinwheel", *QUICK)
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_a_dry_run_prints_the_plan_and_writes_nothing(lid, tmp_path) -> None:
    done = lid("train", "-m", "lidvae", "-d", "pinwheel", *QUICK, "-n")
    assert done.returncode == 0, done.stderr
    for word in ("new", "device", "parameters", "folder"):
        assert word in done.stdout
    assert not (tmp_path / "results").exists()


def test_evaluate_measures_again_from_the_weights(lid, tmp_path) -> None:
    assert lid("train", "-m", "vae", "-d", "pinwheel", *QUICK).returncode == 0
    folder = only_run(tmp_path / "results")
    before = Run.open(folder).evaluation["test"]
    same = lid("evaluate", folder.name[:6], "--json")
    assert same.returncode == 0, same.stderr
    assert Run.open(folder).evaluation["test"] == pytest.approx(before)
    other = lid("evaluate", str(folder), "--split", "valid", "--samples", "9", "--json")
    assert other.returncode == 0, other.stderr
    assert Run.open(folder).evaluation["valid"]["ll_samples"] == 9
    assert lid("evaluate", "zzzz").returncode in (1, 2)


Start = Callable[..., Command]


@pytest.fixture
def start(server: Server, tmp_path: Path) -> Start:
    """Start a run of some epochs with a checkpoint every 50 ms: start("results")."""

    def begin(results: str, *more: str) -> Command:
        words = [
            *("train", "-m", "lidvae", "-d", "pinwheel", *QUICK, "-o", results),
            *("--set", "train.epochs=12", "--set", "runtime.threads=1"),
            *("--set", "runtime.checkpoint_seconds=0.05", *more),
        ]
        return server.start(words, tmp_path)

    return begin


def contents(folder: Path) -> dict[str, object]:
    """Everything a run determined, without clocks."""
    run = Run.open(folder)
    tree, warnings = run.load_checkpoint()
    assert not warnings
    tree["progress"].pop("seconds")
    tree["progress"]["curves"].pop("seconds")
    curves = {k: v.tolist() for k, v in run.curves.items() if k != "seconds"}
    arrays = {k: v.tobytes() for k, v in run.arrays.items()}
    return {"tree": plain(tree), "curves": curves, "evaluation": run.evaluation, "arrays": arrays}


def plain(tree: object) -> object:
    if isinstance(tree, dict):
        return {k: plain(v) for k, v in tree.items()}
    if isinstance(tree, list | tuple):
        return [plain(v) for v in tree]
    return tree.numpy().tobytes() if hasattr(tree, "numpy") else tree


def saved(results: Path) -> int:
    """A number that changes with every checkpoint, and none before the first."""
    files = list(results.rglob("checkpoint.h5"))
    with contextlib.suppress(FileNotFoundError):
        return files[0].stat().st_mtime_ns if files else 0
    return 0


def test_twenty_kills_at_random_moments_end_in_the_bits_of_a_run_never_killed(
    start, wait_for, patience, tmp_path
) -> None:
    """A kill comes up to 50 ms after the run has begun, or after a checkpoint of its own."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    child = start("whole")
    _, said = child.communicate(timeout=patience)
    assert child.returncode == 0, said
    chance, kills = random.Random(0), 0
    while kills < 20:
        before = saved(killed)
        child = start("killed")
        if kills:
            wait_for(lambda c=child, b=before: c.poll() is not None or saved(killed) not in (0, b))
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(chance.uniform(0, 0.05))
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
            kills += 1
        _, said = child.communicate()
        if child.returncode != -signal.SIGKILL:
            # It came to its end: that result stands, and a fresh copy takes the next kills.
            assert child.returncode == 0, said
            assert contents(only_run(killed)) == contents(only_run(whole))
            shutil.rmtree(killed)
        for file in killed.rglob("*.h5"):
            with h5py.File(file, "r", locking=False):
                pass
    last = start("killed")
    _, said = last.communicate(timeout=patience)
    assert last.returncode == 0, said
    assert contents(only_run(killed)) == contents(only_run(whole))


@pytest.mark.parametrize(
    ("signals", "code"),
    [([signal.SIGINT], 130), ([signal.SIGTERM], 143), ([signal.SIGTERM, signal.SIGTERM], 143)],
    ids=["Ctrl-C", "SIGTERM", "SIGTERM as Slurm sends it, twice"],
)
def test_a_signal_saves_exits_with_its_code_and_the_next_call_goes_on(
    lid, start, wait_for, patience, tmp_path, signals: list[int], code: int
) -> None:
    child = start("results", "--set", "train.epochs=100000")
    wait_for(lambda: list((tmp_path / "results").rglob("checkpoint.h5")), child)
    folder = only_run(tmp_path / "results")
    for signum in signals:
        child.send_signal(signum)
        time.sleep(0.05)
    _, said = child.communicate(timeout=patience)
    assert child.returncode == code
    assert "Traceback" not in said
    run = Run.open(folder)
    assert run.status == "interrupted"
    steps = run.load_checkpoint()[0]["progress"]["step"]
    assert steps > 0
    shown = lid(
        "train", "-m", "lidvae", "-d", "pinwheel", *QUICK, "--set", "train.epochs=100000",
        "-n", "--set", "runtime.threads=1",
    )  # fmt: skip
    assert "partial" in shown.stdout


def test_two_processes_on_one_run_do_not_race(start, wait_for, patience, tmp_path) -> None:
    first = start("results", "--set", "train.epochs=100000")
    wait_for(lambda: list((tmp_path / "results").rglob("checkpoint.h5")), first)
    second = start("results", "--set", "train.epochs=100000")
    _, said = second.communicate(timeout=patience)
    first.kill()
    first.communicate()
    assert second.returncode == 1
    assert str(first.pid) in said
    assert "Traceback" not in said


def test_a_run_of_another_machine_says_at_once_that_it_may_take_a_while(lid, tmp_path) -> None:
    words = ["train", "-m", "vae", "-d", "pinwheel", *QUICK]
    folder = tmp_path / json.loads(lid(*words, "-n", "--json").stdout)["folder"]
    folder.mkdir(parents=True)
    dead = Lease("them", 7, "node7", "node7/boot", 2.0)
    (folder / ".lease").write_bytes(dead.bytes())
    done = lid(*words)
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith(
        "1 run is held by process 7 on node7; looking, for up to 2 s, whether that still works\n"
    )


def damage(path: Path, at: float) -> None:
    raw = bytearray(path.read_bytes())
    raw[int(at * len(raw))] ^= 0x10
    path.write_bytes(bytes(raw))


def test_a_damaged_checkpoint_falls_back_to_the_one_before(lid, start, wait_for, tmp_path) -> None:
    child = start("results", "--set", "train.epochs=100000")
    wait_for(lambda: list((tmp_path / "results").rglob("checkpoint.prev.h5")), child)
    child.send_signal(signal.SIGTERM)
    child.communicate()
    folder = only_run(tmp_path / "results")
    newest = folder / "checkpoint.h5"
    newest.write_bytes(newest.read_bytes()[: newest.stat().st_size // 2])
    tree, warnings = Run.open(folder).load_checkpoint()
    assert tree is not None
    assert warnings
    (folder / "checkpoint.prev.h5").write_bytes(b"nothing")
    done = lid("evaluate", str(folder))
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 2


BAD = [
    (["-m", "lidve", "-d", "pinwheel"], 2, "did you mean lidvae?"),
    (["-m", "vae", "-d", "pinwhel"], 2, "did you mean pinwheel?"),
    (["-m", "vae", "-d", "pinwheel", "--set", "decoder.layer=3"], 2, "decoder.layers"),
    (["-m", "vae", "-d", "pinwheel", "--set", "train.epochs=x"], 2, "train.epochs"),
    (["-m", "vae", "-d", "pinwheel", "--set", "train.epochs"], 2, "key=value"),
    (["-m", "lidvae", "-d", "pinwheel", "--set", "decoder.layers=6"], 2, "use 5 or 7"),
    (["-m", "lidvae", "-d", "pinwheel", "--set", "model.latent=3"], 2, "latent"),
    (["-m", "vae", "-d", "pinwheel", "--profile", "smok"], 2, "did you mean smoke?"),
    (["-m", "vae", "-d", "pinwheel", "--seed", "-1"], 2, "--seed"),
    (["-m", "vae", "-d", "pinwheel", "-c", "none.yaml"], 2, "none.yaml"),
    (["-m", "vae"], 2, "--data"),
    (["-m", "vae", "-d", "mnist"], 4, "lid fetch mnist"),
    (["-m", "vae", "-d", "pinwheel", "--device", "tpu"], 2, "tpu"),
]


@pytest.mark.parametrize(("arguments", "code", "told"), BAD, ids=lambda v: str(v)[-40:])
def test_bad_input_gets_one_sentence_and_its_exit_code(
    lid, tmp_path, arguments: list[str], code: int, told: str
) -> None:
    done = lid("train", *arguments)
    assert done.returncode == code, done.stderr
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.rglob("run.h5"))


def test_an_unreadable_yaml_names_file_and_line(lid, tmp_path) -> None:
    (tmp_path / "broken.yaml").write_text("models:\n  vae: [\n")
    done = lid("train", "-m", "vae", "-d", "pinwheel", "-c", "broken.yaml")
    assert done.returncode == 2
    assert "broken.yaml, line" in done.stderr


def test_a_gpu_that_is_not_here_is_named(lid) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    done = lid("train", "-m", "vae", "-d", "pinwheel", "--device", "cuda")
    assert done.returncode == 2
    assert "no usable GPU" in done.stderr


def test_a_results_folder_that_is_a_file_is_named(lid, tmp_path) -> None:
    (tmp_path / "results").write_text("not a folder")
    done = lid("train", "-m", "vae", "-d", "pinwheel", *QUICK)
    assert done.returncode in (1, 2)
    assert "results" in done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "results").read_text() == "not a folder"


def test_a_results_folder_that_cannot_be_written_is_named(lid, tmp_path) -> None:
    if os.geteuid() == 0:
        folder = Path("/proc/lid")
    else:
        folder = tmp_path / "locked"
        folder.mkdir(mode=0o500)
    done = lid("train", "-m", "vae", "-d", "pinwheel", *QUICK, "-o", str(folder))
    assert done.returncode == 1
    assert str(folder) in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture
def small_disk(tmp_path: Path):
    """A file system of one MiB, where this process may mount one."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(folder)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip("this process may not mount a file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=False)


def test_a_full_disk_is_one_sentence_and_loses_nothing(lid, tmp_path, small_disk) -> None:
    arguments = ["train", "-m", "vae", "-d", "pinwheel", *QUICK, "-o", str(small_disk)]
    first = lid(*arguments)
    if first.returncode == 0:
        folder = only_run(small_disk)
        kept = Run.open(folder).evaluation
        (small_disk / "filler").write_bytes(
            b"x" * max(0, shutil.disk_usage(small_disk).free - 20_000)
        )
        first = lid("evaluate", str(folder), "--split", "valid", "--samples", "4")
        assert Run.open(folder).evaluation.get("test") == kept["test"]
    assert first.returncode == 1
    assert "Traceback" not in first.stderr
    assert "space" in first.stderr.lower() or "full" in first.stderr.lower()
    for file in small_disk.rglob("*.h5"):
        with h5py.File(file, "r", locking=False):
            pass


def test_a_diverged_run_says_so_and_keeps_its_last_good_weights(lid, tmp_path) -> None:
    arguments = [
        *("train", "-m", "vae", "-d", "pinwheel", *QUICK, "--set", "train.epochs=40"),
        *("--set", "train.learning_rate=1e18", "--set", "train.clip=1e18"),
        *("--set", "train.warmup_epochs=30"),
    ]
    done = lid(*arguments)
    assert done.returncode == 1, done.stdout
    assert "Step" in done.stderr
    folder = only_run(tmp_path / "results")
    assert Run.open(folder).status == "diverged"
    again = lid(*arguments)
    assert again.returncode == 1
    assert "--restart" in again.stderr
    tree, _ = Run.open(folder).load_checkpoint()
    if tree is not None:
        assert all(np.isfinite(v.numpy()).all() for v in tree["model"].values())


def test_help_names_every_command_and_imports_click_alone(lid, repository) -> None:
    """What makes it answer at once: of all the packages, none but click is loaded."""
    code = (
        "import sys\nbefore = set(sys.modules)\nsys.argv = ['lid', '--help']\n"
        "from lidcli.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "names = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(sorted(names - sys.stdlib_module_names), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=repository, check=True, capture_output=True, text=True
    )
    assert done.stderr == "['click', 'lidcli']\n"
    said = lid("--help").stdout
    for command in ("fetch", "train", "evaluate", "sweep", "report", "list", "show"):
        assert command in said


def test_an_unknown_command_names_the_nearest(lid) -> None:
    done = lid("trian")
    assert done.returncode == 2
    assert "did you mean train?" in done.stderr
