"""A run of seconds, and what the tests of several engines ask of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from lidcli.store.run import Run, find_runs

SETTINGS = [
    word
    for text in (
        "decoder.hidden=8",
        "encoder.hidden=8",
        "inference.hidden=8",
        "data.train=300",
        "data.test=300",
        "evaluate.samples=4",
        "evaluate.outer=20",
        "train.learning_rate=0.001",
        "train.batch_size=100",
        "runtime.checkpoint_seconds=0.2",
    )
    for word in ("--set", text)
]


def sweep_words(epochs: int, seeds: str = "0-2") -> list[str]:
    """The words after `lid` of a sweep over seeds."""
    grid = ["sweep", "-m", "vae", "-d", "pinwheel", "--seeds", seeds]
    return [*grid, "--set", f"train.epochs={epochs}", *SETTINGS]


def start(folder: Path, *words: str, **variables: str) -> subprocess.Popen[str]:
    """`lid` in a process of its own."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("LID_")}
    return subprocess.Popen(
        [sys.executable, "-m", "lidcli", *words],
        cwd=folder,
        env=clean | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"} | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def weights(results: Path) -> dict[str, str]:
    """The digest of each run's weights, by run."""
    runs = [Run.open(folder) for folder in find_runs(results)]
    return {run.run_id: str(run.provenance.get("weights_sha256")) for run in runs}


def statuses(results: Path) -> list[str]:
    """Status of each run."""
    return [Run.open(folder).status for folder in find_runs(results)]
