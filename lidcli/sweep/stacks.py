"""Which runs of a sweep are trained as one batched model."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from lidcli.sweep.queue import Job
from lidcli.training.stackable import but_for_the_seed, obstacle

__all__ = ["notes", "stacks"]

MOST = 16
"""Runs of a stack, which end together if their process is killed."""


def stacks(jobs: Sequence[Job], workers: int) -> list[list[Job]]:
    """The jobs, those that differ in their seed alone and are not done in lists of several.

    A list is for one worker. Where there are fewer kinds of runs than workers, each kind is
    divided, so that no worker is idle.

    Args:
        jobs: in order.
        workers: that there are places for.
    """
    kinds: dict[str, list[Job]] = {}
    for job in jobs:
        shared = job.state in ("new", "partial") and obstacle(job.config) is None
        key = but_for_the_seed(job.config) if shared else str(job.folder)
        kinds.setdefault(key, []).append(job)
    several = sum(len(kind) > 1 for kind in kinds.values())
    share = math.ceil(workers / max(1, several))
    return [part for kind in kinds.values() for part in _divided(kind, share)]


def _divided(kind: Sequence[Job], parts: int) -> list[list[Job]]:
    """So many lists, or more where they would be too long, of lengths that differ by one."""
    parts = min(len(kind), max(parts, math.ceil(len(kind) / MOST)))
    size, more = divmod(len(kind), parts)
    starts = [index * size + min(index, more) for index in range(parts + 1)]
    return [list(kind[a:b]) for a, b in itertools.pairwise(starts)]


def notes(jobs: Sequence[Job]) -> list[str]:
    """Why some of the jobs that are not done are trained one by one, a sentence a reason."""
    left = [job for job in jobs if job.state in ("new", "partial")]
    reasons = dict.fromkeys(obstacle(job.config) for job in left)
    return [f"one by one: {reason}" for reason in reasons if reason is not None]
