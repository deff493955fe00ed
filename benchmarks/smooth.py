"""Whether training was smooth: the loss of each epoch against the first, over stored runs.

python -m benchmarks.smooth [EXPERIMENT ...] [--results results/published]

A window is an epoch: batches of one length swing by a third from lengths alone.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

import numpy as np

from benchmarks.timing import table
from lidcli.store.find import find_runs
from lidcli.store.run import Run

TEXT = ("table1-synthetic", "table1-short-yelp", "table1-text")


def main() -> None:
    """Print a row for each data set and method."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("experiments", nargs="*", default=TEXT)
    parser.add_argument("--results", type=Path, default=Path("results/published"))
    chosen = parser.parse_args()
    losses = defaultdict(list)
    for folder in find_runs(chosen.results, chosen.experiments):
        run = Run.open(folder)
        if "train/elbo" in run.curves:
            key = run.config["data"]["name"], run.config["method"]
            losses[key].append(-np.asarray(run.curves["train/elbo"]))
    rows: list[list[object]] = []
    for (data, method), curves in sorted(losses.items()):
        largest = max(float(c.max() / c[0]) for c in curves)
        falling = sum(bool((np.diff(c) < 0).all()) for c in curves)
        rows.append([data, method, len(curves), round(largest, 3), f"{falling} of {len(curves)}"])
    heads = ["data", "method", "runs", "largest loss / first", "falls in every epoch"]
    print(table(heads, rows))


if __name__ == "__main__":
    main()
