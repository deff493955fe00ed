"""10,000 runs in one folder: seconds and memory of a dry run, of `lid list runs` and of a report.

python -m benchmarks.scale [--runs 10000] [--folder DIR]

One small run is trained, and its record written again under every seed. A process starts with the
memory of the one that starts it, so this one imports nothing large. The dry run is given
first with an empty index of records; all the others use the one that this leaves. The folder is
made where it is missing and kept where it is named.
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lidcli.config.run import RunConfig

ROOT = Path(__file__).parents[1]
FIRST = 10_000
SMALL = ("data.train=300", "data.test=300", "train.epochs=100", "evaluate.samples=4")
COMMANDS = {
    "lid sweep -n": ["sweep", "-m", "vae", "-d", "pinwheel", "--seeds", "{seeds}", "-n"],
    "lid list runs": ["list", "runs"],
    "lid report": ["report", "train"],
}
SETTINGS = [word for text in SMALL for word in ("--set", text)]


def config(seed: int) -> RunConfig:
    """The run of a seed."""
    from lidcli.config.read import load_files, parse_override
    from lidcli.config.resolve import resolve

    pairs = [parse_override(text) for text in SMALL]
    known = load_files([ROOT / "experiments.yaml"])
    return resolve(known, model="vae", data="pinwheel", seed=seed, overrides=pairs)


def generate(results: Path, runs: int) -> None:
    """Train one run, and write its record under every other seed of as many digits."""
    from lidcli.cli.progress import Silent
    from lidcli.store.hdf5 import HEADER, _header
    from lidcli.store.run import Run
    from lidcli.training.lifecycle import execute

    first = execute(config(FIRST), results, "train", Silent())
    raw = (first.folder / "run.h5").read_bytes()
    for seed in range(FIRST + 1, FIRST + runs):
        content = raw
        for text in ("-s{}", '"seed": {}'):
            content = content.replace(text.format(FIRST).encode(), text.format(seed).encode())
        folder = first.folder.with_name(first.folder.name.replace(f"-s{FIRST}", f"-s{seed}"))
        folder.mkdir()
        body = io.BytesIO(content)
        (folder / "run.h5").write_bytes(_header(body) + content[HEADER:])
    last = results / "train" / config(FIRST + runs - 1).run_id
    assert Run.open(last).status == "complete"
    assert Run.open(last).config["seed"] == FIRST + runs - 1


def measure(results: Path, words: list[str], cache: str) -> tuple[float, float, float, int]:
    """Wall seconds, processor seconds, MiB at most and exit code of one command."""
    before, started = os.times(), time.perf_counter()
    done = subprocess.Popen(
        [sys.executable, "-m", "lidcli", *words, "-o", str(results)],
        cwd=ROOT,
        env=os.environ | {"LID_CACHE": cache},
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
            made = multiprocessing.get_context("spawn").Process(
                target=generate, args=(results, chosen.runs)
            )
            made.start()
            made.join()
            if made.exitcode:
                sys.exit(made.exitcode)
        print(f"| command | index | wall s | processor s | MiB | exit |\n{'| --- ' * 6}|")
        with tempfile.TemporaryDirectory() as cache:
            for name, index in [("lid sweep -n", "none"), *((name, "there") for name in COMMANDS)]:
                words = COMMANDS[name]
                words = [word.format(seeds=f"{FIRST}-{FIRST + chosen.runs - 1}") for word in words]
                words += SETTINGS if words[0] == "sweep" else []
                wall, spent, memory, code = measure(results, words, cache)
                numbers = f"{wall:.1f} | {spent:.1f} | {memory:.0f} | {code}"
                print(f"| `{name}` | {index} | {numbers} |", flush=True)


if __name__ == "__main__":
    main()
