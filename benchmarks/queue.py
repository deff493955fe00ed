"""What a sweep adds to a run, how a training shares the machine, and how soon a signal ends it.

python -m benchmarks.queue overhead [--runs 20]
python -m benchmarks.queue neighbour [--rounds 3] [--epochs 6]
python -m benchmarks.queue signals [--rounds 5]

Wall time; on a machine with other work only the ratios of interleaved runs mean anything.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
LID = [sys.executable, "-m", "lidcli"]
SMOKE = ("decoder.hidden=8", "encoder.hidden=8", "data.train=300", "data.test=300")
SMOKE += ("train.epochs=1", "evaluate.samples=4", "evaluate.outer=20")
NO_OPS = {
    "ppca exact": ["-m", "ppca", "-d", "ppca-1d"],
    "vae, 1 epoch": ["-m", "vae", "-d", "pinwheel", *(w for s in SMOKE for w in ("--set", s))],
}
BUSY = "while True:\n    pass\n"


def environment() -> dict[str, str]:
    """Without a number of threads."""
    return {key: value for key, value in os.environ.items() if not key.endswith("_NUM_THREADS")}


def timed(words: list[str], folder: str) -> tuple[float, float]:
    """Wall and processor seconds of one command."""
    before, started = os.times(), time.perf_counter()
    subprocess.run(
        [*LID, *words, "-q", "-o", folder], cwd=ROOT, env=environment(), check=True,
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    after = os.times()
    spent = after.children_user + after.children_system
    return time.perf_counter() - started, spent - before.children_user - before.children_system


def overhead(runs: int) -> None:
    """Seconds a run, after the first, of a sweep of runs that compute next to nothing."""
    print(f"| runs | wall s a run | processor s a run |\n{'| --- ' * 3}|")
    for name, words in NO_OPS.items():
        found = []
        for count in (1, runs + 1):
            with tempfile.TemporaryDirectory() as folder:
                seeds = ["--seeds", f"0-{count - 1}", "-w", "1"]
                found.append(timed(["sweep", *words, *seeds], folder))
        (wall, spent), (walls, spents) = found
        print(f"| {name} | {(walls - wall) / runs:.2f} | {(spents - spent) / runs:.2f} |")


def neighbour(rounds: int, epochs: int) -> None:
    """A training with fixed numbers of threads and with its own choice, alone and not."""
    cores = os.cpu_count() or 1
    choices = {"1": ["--set", "runtime.threads=1"]}
    choices |= {str(cores): ["--set", f"runtime.threads={cores}"], "chosen": []}
    words = ["train", "-m", "vae", "-d", "digits", "--set", f"train.epochs={epochs}"]
    print(f"| beside | threads | median s | of the best fixed |\n{'| --- ' * 4}|")
    for beside in (0, 1):
        seconds: dict[str, list[float]] = {name: [] for name in choices}
        others = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(beside)]
        try:
            for _ in range(rounds):
                for name, more in choices.items():
                    with tempfile.TemporaryDirectory() as folder:
                        seconds[name].append(timed([*words, *more], folder)[0])
        finally:
            for other in others:
                other.kill()
                other.wait()
        medians = {name: statistics.median(found) for name, found in seconds.items()}
        best = min(medians["1"], medians[str(cores)])
        for name, median in medians.items():
            print(f"| {beside} | {name} | {median:.1f} | {median / best:.2f} |", flush=True)


def signals(rounds: int) -> None:
    """Seconds from a signal to the end of a training, and a step of it."""
    words = ["train", "-d", "digits", "--set", "train.epochs=100000", "-q"]
    words += ["--set", "runtime.checkpoint_seconds=0.2"]
    print(f"| model | signal | s to the end, median | most |\n{'| --- ' * 4}|")
    for model in ("vae", "lidvae"):
        for signum in (signal.SIGTERM, signal.SIGINT):
            found = []
            for _ in range(rounds):
                with tempfile.TemporaryDirectory() as folder:
                    command = [*LID, *words, "-m", model, "-o", folder]
                    process = subprocess.Popen(
                        command, cwd=ROOT, env=environment(), stderr=subprocess.DEVNULL
                    )
                    while not list(Path(folder).rglob("checkpoint.prev.h5")):
                        time.sleep(0.05)
                    time.sleep(0.7)
                    process.send_signal(signum)
                    started = time.perf_counter()
                    assert process.wait() == 128 + signum
                    found.append(time.perf_counter() - started)
            name = signal.Signals(signum).name
            print(
                f"| {model} | {name} | {statistics.median(found):.2f} | {max(found):.2f} |",
                flush=True,
            )


def main() -> None:
    """Do one of the three."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("overhead", "neighbour", "signals"))
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=6)
    chosen = parser.parse_args()
    if chosen.what == "overhead":
        overhead(chosen.runs)
    elif chosen.what == "neighbour":
        neighbour(chosen.rounds, chosen.epochs)
    else:
        signals(chosen.rounds)


if __name__ == "__main__":
    main()
