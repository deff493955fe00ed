"""10,000 runs in one folder: seconds and memory of a dry run, of `lid list runs` and of a report.

python -m benchmarks.scale [--runs 10000] [--folder DIR]

One small run is trained, and its record written again under every seed. The folder is made where
it is missing and kept where it is named.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from lidcli.cli.progress import Silent
from lidcli.config.read import load_files, parse_override
from lidcli.config.resolve import resolve
from lidcli.config.run import RunConfig
from lidcli.store.hdf5 import write_atomic
from lidcli.store.run import Run
from lidcli.training.lifecycle import execute

ROOT = Path(__file__).parents[1]
SMALL = ("data.train=300", "data.test=300", "train.epochs=100", "evaluate.samples=4")
COMMANDS = {
    "lid sweep -n": ["sweep", "-m", "vae", "-d", "pinwheel", "--seeds", "{seeds}", "-n"],
    "lid list runs": ["list", "runs"],
    "lid report": ["report", "train"],
}
SETTINGS = [word for text in SMALL for word in ("--set", text)]


def config(seed: int) -> RunConfig:
    """The run of a seed."""
    pairs = [parse_override(text) for text in SMALL]
    known = load_files([ROOT / "experiments.yaml"])
    return resolve(known, model="vae", data="pinwheel", seed=seed, overrides=pairs)


def generate(results: Path, runs: int) -> None:
    """Write the records, without waiting for the disk."""
    first = config(0)
    made = execute(first, results, "train", Silent())
    record = made._record
    os.fsync = lambda descriptor: None
    base, suffix = first.run_id.rsplit("-s", 1)
    assert suffix == "0"
    for seed in range(1, runs):
        name = f"{base}-s{seed}"
        folder = results / "train" / name
        folder.mkdir(parents=True, exist_ok=True)
        identity = {"run": name, "experiment": "train"}
        one = replace(record, config={**record.config, "seed": seed}, identity=identity)
        write_atomic(folder / "run.h5", one.write)
    assert config(runs - 1).run_id == f"{base}-s{runs - 1}"
    assert Run.open(results / "train" / f"{base}-s{runs - 1}").status == "complete"


def measure(results: Path, words: list[str]) -> tuple[float, float, float, int]:
    """Wall seconds, processor seconds, MiB at most and exit code of one command."""
    before, started = os.times(), time.perf_counter()
    done = subprocess.Popen(
        [sys.executable, "-m", "lidcli.cli", *words, "-o", str(results)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(done.pid, 0)
    done.returncode = os.waitstatus_to_exitcode(status)
    after = os.times()
    spent = after.children_user + after.children_system
    spent -= before.children_user + before.children_system
    return time.perf_counter() - started, spent, usage.ru_maxrss / 1024, done.returncode


def main() -> None:
    """Generate, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--folder", type=Path, help="kept; a temporary one otherwise")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        results = chosen.folder or Path(temporary)
        if not (results / "train").exists():
            generate(results, chosen.runs)
        print("| command | wall s | processor s | MiB | exit |\n| --- | --- | --- | --- | --- |")
        for name, words in COMMANDS.items():
            words = [word.format(seeds=f"0-{chosen.runs - 1}") for word in words]
            words += SETTINGS if words[0] == "sweep" else []
            wall, spent, memory, code = measure(results, words)
            print(f"| `{name}` | {wall:.1f} | {spent:.1f} | {memory:.0f} | {code} |", flush=True)


if __name__ == "__main__":
    main()
