"""What a worker is told, whichever engine started it."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lidcli
from lidcli.config.kinds import allowed
from lidcli.sweep.queue import Job

__all__ = ["THREAD_VARIABLES", "environment", "order", "stacked_order"]

ROOT = str(Path(lidcli.__file__).resolve().parents[1])
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def order(
    job: Job, *, results: Path, experiment: str, device: str, threads: int, restart: str = ""
) -> dict[str, Any]:
    """The document from which `lidcli.sweep.worker` does a run.

    Args:
        job: the run.
        results: folder of all runs.
        experiment: folder of this one below it.
        device: where it computes, in place of the configuration's.
        threads: likewise.
        restart: a word with which what there is of it is discarded when it begins, once; empty
            for never.
    """
    config = job.config.document()
    config["runtime"] |= {"device": device, "threads": threads}
    return {
        "config": config,
        "results": str(results),
        "experiment": experiment,
        "restart": restart,
        "allowed": allowed(),
        "argv": sys.argv,
    }


def stacked_order(jobs: Sequence[Job], measured: bool, **how: Any) -> dict[str, Any]:
    """The document from which a worker does runs as one batched model, or one alone.

    Args:
        jobs: at least one; several differ in their seed alone.
        measured: whether they share their steps only where that is the faster.
        how: as of `order`.
    """
    single = [order(job, **how) for job in jobs]
    if len(single) == 1:
        return single[0]
    return {"argv": sys.argv, "stack": single, "measured": measured}


def environment(threads: int) -> dict[str, str]:
    """The variables of a worker's process that differ from ours: this lid, and its threads.

    Example:
        >>> environment(2)["OMP_NUM_THREADS"]
        '2'
    """
    path = os.pathsep.join(filter(None, [ROOT, os.environ.get("PYTHONPATH")]))
    return {**dict.fromkeys(THREAD_VARIABLES, str(threads)), "PYTHONPATH": path}
