"""The first losses of every trained model: `python tests/training/losses.py` stores them anew.

That is for a change that means to move them, and says so.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from lidcli.cli.progress import Silent
from lidcli.config.plan import plan_experiment
from lidcli.config.read import load_files
from lidcli.config.run import RunConfig
from lidcli.training.lifecycle import execute

ROOT = Path(__file__).parents[2]
STORED = Path(__file__).with_suffix(".json")
EXPERIMENTS = ("digits-depth", "pinwheel-depth", "table2-pinwheel", "table1-synthetic")
SHORT = (
    ("train.epochs", 2),
    ("data.train", 300),
    ("data.test", 60),
    ("evaluate.samples", 4),
    ("evaluate.outer", 20),
    ("runtime.threads", 1),
)


def cases() -> Iterator[tuple[str, RunConfig]]:
    """A short run of each model on each data set that needs no file, by name."""
    known = load_files([ROOT / "experiments.yaml"])
    met = set()
    for experiment in EXPERIMENTS:
        for run in plan_experiment(known, experiment, overrides=SHORT, seeds="0").runs:
            name = f"{experiment}/{run.method}"
            if name not in met:
                met.add(name)
                yield name, run


def losses(config: RunConfig, folder: Path) -> list[float]:
    """ELBO of training and validation by epoch, in nats per datum."""
    run = execute(config, folder, "losses", Silent())
    return [float(x) for key in ("train/elbo", "valid/elbo") for x in run.curves[key]]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        found = {name: losses(config, Path(place)) for name, config in cases()}
    STORED.write_text(json.dumps(found, indent=1) + "\n")
    sys.stdout.write(f"{len(found)} in {STORED}\n")
