"""A sweep under fire: workers, runs and the sweep itself are killed again and again.

python -m benchmarks.faults [--runs 24] [--every 2] [--kills 60] [--sweeps 5] [--folder DIR]

The same runs are made twice: undisturbed, and with a SIGKILL of a random process below the sweep
every few seconds and of the sweep itself some times, given the same command until it ends well.
Then every run is complete, its numbers are bit for bit those of the undisturbed one, and none was
trained to its end twice; otherwise the exit code is 1.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from lidcli.errors import StoreError
from lidcli.store.run import Run, find_runs

ROOT = Path(__file__).parents[1]
SETTINGS = (
    "decoder.hidden=16",
    "encoder.hidden=16",
    "data.train=400",
    "data.test=300",
    "evaluate.samples=4",
    "evaluate.outer=20",
    "train.batch_size=50",
    "runtime.checkpoint_seconds=0.2",
)


def command(results: Path, runs: int, epochs: int) -> list[str]:
    """The sweep: half of the runs classical, half identifiable."""
    words = [sys.executable, "-m", "lidcli.cli", "sweep", "-m", "vae,lidvae", "-d", "pinwheel"]
    words += ["--seeds", f"0-{runs // 2 - 1}", "-w", "2", "-o", str(results), "--wait"]
    settings = (*SETTINGS, f"train.epochs={epochs}", f"train.patience={epochs}")
    return words + [word for text in settings for word in ("--set", text)]


def numbers(folder: Path) -> dict[str, Any]:
    """All that a run determined, without clocks."""
    run = Run.open(folder)
    curves = {name: c.tobytes() for name, c in run.curves.items() if name != "seconds"}
    arrays = {name: a.tobytes() for name, a in run.arrays.items()}
    weights = run.provenance["weights_sha256"], run.provenance["steps"]
    return {"weights": weights, "curves": curves, "arrays": arrays, "figures": run.evaluation}


class Attack:
    """Kills a sweep and what it started, and starts it again.

    Args:
        words: the sweep's command.
        results: its folder.
        every: seconds between two kills of a process below the sweep.
        kills: of such processes at most, so that it ends on a slow machine too.
        sweeps: kills of the sweep itself.
        seed: of what is killed.
    """

    def __init__(
        self,
        words: list[str],
        results: Path,
        *,
        every: float,
        kills: int,
        sweeps: int,
        seed: int,
    ) -> None:
        self.words, self.results, self.every, self.kills = words, results, every, kills
        self.sweeps, self.random = sweeps, random.Random(seed)
        self.workers_killed = self.sweeps_killed = self.started = 0
        self.finished: dict[str, int] = {}
        self.twice: set[str] = set()

    def run(self) -> None:
        """Attack until the sweep ends well."""
        while True:
            self.started += 1
            with tempfile.TemporaryFile() as log:
                process = subprocess.Popen(self.words, cwd=ROOT, stdout=log, stderr=log)
                code = self._besiege(process)
                log.seek(0)
                said = log.read().decode()
            if code == 0:
                return
            if code not in (3, -signal.SIGKILL):
                raise SystemExit(f"the sweep ended with {code}:\n{said}")

    def _besiege(self, process: subprocess.Popen[bytes]) -> int:
        """Kill what a sweep started, and at times the sweep; its exit code."""
        kills = 0
        while True:
            deadline = time.monotonic() + self.every * self.random.uniform(0.5, 1.5)
            while time.monotonic() < deadline:
                self._look()
                if process.poll() is not None:
                    return process.returncode
                time.sleep(0.05)
            with contextlib.suppress(psutil.Error, ProcessLookupError):
                below = psutil.Process(process.pid).children(recursive=True)
                if kills >= 2 and self.sweeps_killed < self.sweeps:
                    process.kill()
                    self.sweeps_killed += 1
                elif below and self.workers_killed < self.kills:
                    os.kill(self.random.choice(below).pid, signal.SIGKILL)
                    self.workers_killed += 1
                    kills += 1

    def _look(self) -> None:
        """Note each run's record once it is complete; it must not be written again."""
        for folder in find_runs(self.results):
            with contextlib.suppress(StoreError, OSError):
                stamp = (folder / "run.h5").stat().st_ino
                known = self.finished.get(folder.name)
                if known is None and Run.open(folder).status == "complete":
                    self.finished[folder.name] = (folder / "run.h5").stat().st_ino
                elif known not in (None, stamp):
                    self.twice.add(folder.name)


def main() -> None:
    """Make the runs in peace, then under fire, and compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=24)
    parser.add_argument("--every", type=float, default=2.0, help="seconds between kills")
    parser.add_argument("--kills", type=int, default=60, help="of workers and runs at most")
    parser.add_argument("--sweeps", type=int, default=5, help="kills of the sweep itself")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        place = chosen.folder or Path(temporary)
        peace, fire = place / "peace", place / "fire"
        subprocess.run(command(peace, chosen.runs, chosen.epochs), cwd=ROOT, check=True)
        words = command(fire, chosen.runs, chosen.epochs)
        how = {"every": chosen.every, "kills": chosen.kills, "sweeps": chosen.sweeps}
        attack = Attack(words, fire, **how, seed=chosen.seed)
        attack.run()
        attack._look()
        expected = {folder.name: numbers(folder) for folder in find_runs(peace)}
        found = {folder.name: numbers(folder) for folder in find_runs(fire)}
    same = [name for name in expected if found.get(name) == expected[name]]
    print(
        f"{attack.workers_killed} kills of workers and runs, {attack.sweeps_killed} of the sweep,"
        f" {attack.started} sweeps: {len(found)} of {chosen.runs} runs complete, {len(same)} bit"
        f" for bit as undisturbed, {len(attack.twice)} trained twice"
    )
    sys.exit(len(same) != chosen.runs or len(found) != chosen.runs or bool(attack.twice))


if __name__ == "__main__":
    main()
