"""A sweep under fire: workers, runs and the sweep itself are killed again and again.

python -m benchmarks.faults [--runs 24] [--every 2] [--kills 60] [--sweeps 5] [--folder DIR]
    [--raylets 2]

The same runs are made twice: undisturbed, and with a SIGKILL of a random process below the sweep
every few seconds and of the sweep itself some times, given the same command until it ends well.
With --raylets the second time is on a Ray cluster of processes, a head that runs nothing and two
nodes of one CPU: the processes that are killed are its tasks, and so many times a whole node is,
for which a new one comes. Then every run is complete, its numbers are bit for bit those of the
undisturbed one, and none was trained to its end twice; otherwise the exit code is 1.
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
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

from lidcli.errors import StoreError
from lidcli.store.run import Run, find_runs
from lidcli.sweep.ray_cluster import find_ray

ROOT = Path(__file__).parents[1]
NICENESS = "RAY_worker_niceness"
"""Ray's workers are otherwise lower in priority than what starts them."""
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
    words = [sys.executable, "-m", "lidcli", "sweep", "-m", "vae,lidvae", "-d", "pinwheel"]
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


def below(pid: int) -> list[psutil.Process]:
    """What a process started, and what that did."""
    return psutil.Process(pid).children(recursive=True)


class Nodes:
    """A Ray cluster of processes on this machine, whose nodes die by SIGKILL.

    Args:
        kills: of a whole node.
        random: which.
    """

    def __init__(self, cluster: Any, kills: int, chance: random.Random) -> None:
        self.cluster, self.kills, self.random, self.killed = cluster, kills, chance, 0
        self.nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]

    def tasks(self, pid: int) -> list[psutil.Process]:
        """The processes that do runs, whichever sweep gave them."""
        raylets = [started for node in self.nodes for started in node.all_processes["raylet"]]
        found = [process for raylet in raylets for process in below(raylet.process.pid)]
        return [process for process in found if process.cmdline()[:1] == ["ray::do"]]

    def strike(self) -> bool:
        """Kill a node and let another come, unless it was often enough."""
        if self.killed == self.kills:
            return False
        self.killed += 1
        victim = self.nodes.pop(self.random.randrange(2))
        self.cluster.remove_node(victim, allow_graceful=False)
        self.nodes.append(self.cluster.add_node(num_cpus=1))
        return True


@contextlib.contextmanager
def ray_nodes(kills: int, chance: random.Random) -> Iterator[Nodes]:
    """A cluster as long as the block runs."""
    find_ray()
    os.environ[NICENESS] = "0"
    warnings.simplefilter("ignore")
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 0, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        yield Nodes(cluster, kills, chance)
    finally:
        cluster.shutdown()


class Attack:
    """Kills a sweep and what it started, and starts it again.

    Args:
        words: the sweep's command.
        results: its folder.
        every: seconds between two kills of a process below the sweep.
        kills: of such processes at most, so that it ends on a slow machine too.
        sweeps: kills of the sweep itself.
        chance: what is killed, and when.
        victims: processes that do the runs of the sweep with this process id.
        strike: kills something else in place of one of them, if it likes.
    """

    def __init__(
        self,
        words: list[str],
        results: Path,
        *,
        every: float,
        kills: int,
        sweeps: int,
        chance: random.Random,
        victims: Callable[[int], list[psutil.Process]] = below,
        strike: Callable[[], bool] = lambda: False,
    ) -> None:
        self.words, self.results, self.every, self.kills = words, results, every, kills
        self.sweeps, self.random, self.victims, self.strike = sweeps, chance, victims, strike
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
                found = self.victims(process.pid)
                if kills >= 2 and self.sweeps_killed < self.sweeps:
                    process.kill()
                    self.sweeps_killed += 1
                elif found and self.strike():
                    kills += 1
                elif found and self.workers_killed < self.kills:
                    os.kill(self.random.choice(found).pid, signal.SIGKILL)
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
    parser.add_argument("--raylets", type=int, help="on Ray, with so many kills of a node")
    chosen = parser.parse_args()
    chance = random.Random(chosen.seed)
    with contextlib.ExitStack() as open_things:
        place = chosen.folder or Path(open_things.enter_context(tempfile.TemporaryDirectory()))
        peace, fire = place / "peace", place / "fire"
        subprocess.run(command(peace, chosen.runs, chosen.epochs), cwd=ROOT, check=True)
        words = command(fire, chosen.runs, chosen.epochs)
        how: dict[str, Any] = {"every": chosen.every, "kills": chosen.kills}
        nodes = None
        if chosen.raylets is not None:
            nodes = open_things.enter_context(ray_nodes(chosen.raylets, chance))
            words += ["--engine", "ray", "--address", nodes.cluster.address]
            how |= {"victims": nodes.tasks, "strike": nodes.strike}
        attack = Attack(words, fire, sweeps=chosen.sweeps, chance=chance, **how)
        attack.run()
        attack._look()
        expected = {folder.name: numbers(folder) for folder in find_runs(peace)}
        found = {folder.name: numbers(folder) for folder in find_runs(fire)}
    same = [name for name in expected if found.get(name) == expected[name]]
    raylets = f", {nodes.killed} of a node" if nodes is not None else ""
    print(
        f"{attack.workers_killed} kills of workers and runs{raylets}, {attack.sweeps_killed} of"
        f" the sweep, {attack.started} sweeps: {len(found)} of {chosen.runs} runs complete,"
        f" {len(same)} bit for bit as undisturbed, {len(attack.twice)} trained twice"
    )
    sys.exit(len(same) != chosen.runs or len(found) != chosen.runs or bool(attack.twice))


if __name__ == "__main__":
    main()
