"""Trained runs measured on test documents that nobody has looked at: those after their own.

python -m benchmarks.fresh_documents RUN [RUN ...] [--count 1000]

A run of the first `data.test` documents of a published test part is measured as it was, on the
`--count` documents that follow. RUN is a folder with a checkpoint; nothing is stored. NLL, ELBO,
KL and MI are in nats a document.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.timing import table
from lidcli.cli.evaluate import stored
from lidcli.config.run import RunConfig
from lidcli.data.documents import TextDataset
from lidcli.store.run import Run
from lidcli.training.lifecycle import EVALUATION_SEED, check_data, flushing, prepare
from lidcli.training.procedure import procedure

HEADS = {"NLL": "nll", "ELBO": "elbo", "KL": "kl/z", "MI": "mi/z", "AU": "au/z", "act.": "active/z"}


def following(config: RunConfig, data: TextDataset, count: int) -> TextDataset:
    """The same data, with the test documents that follow those of a run."""
    seen = len(data.test)
    more: TextDataset = config.replaced(data={"test": seen + count}).data.build()
    return replace(data, test=more.test.take(np.arange(seen, seen + count)))


@flushing()
def measured(folder: Path, count: int) -> tuple[str, dict[str, float]]:
    """A run's method, and its figures on the documents that follow its own."""
    run = Run.open(folder)
    config = stored(run)
    prepare(config, 1)
    data = config.data.build()
    assert isinstance(data, TextDataset)
    check_data(run, data)
    made = procedure(config, following(config, data, count))
    made.model.load_state_dict(run.load_weights())
    torch.manual_seed(EVALUATION_SEED)
    return f"{config.method}, {data.name}", made.measure(config, "test").scalars


def spread(values: list[float]) -> str:
    """Mean ± sd; a dash where a method has no such figure."""
    if not values:
        return "–"
    sd = f" ± {np.std(values, ddof=1):.2f}" if len(values) > 1 else ""
    return f"{np.mean(values):.2f}{sd}"


def main() -> None:
    """Print each run's figures as they come, and their means by method."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--count", type=int, default=1000)
    chosen = parser.parse_args()
    found: dict[str, list[dict[str, float]]] = defaultdict(list)
    for folder in chosen.runs:
        method, scalars = measured(folder, chosen.count)
        found[method].append(scalars)
        told = ", ".join(f"{h} {scalars[key]:.3f}" for h, key in HEADS.items() if key in scalars)
        print(f"{folder.name} ({method}): {told}", flush=True)
    rows: list[list[object]] = []
    for method, runs in found.items():
        figures = ([run[key] for run in runs if key in run] for key in HEADS.values())
        rows.append([method, len(runs), *map(spread, figures)])
    print(table(["method", "n", *HEADS], rows))


if __name__ == "__main__":
    main()
