"""The folder of a submitted array: its orders, its script, and what its tasks say."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lidcli.sweep.orders import environment
from lidcli.sweep.slurm_task import ORDERS

__all__ = ["Array", "Task", "script"]


@dataclass
class Array:
    """A submitted array; its folder has its name, its orders and what its tasks say."""

    folder: Path
    own: bool

    @property
    def name(self) -> str:
        """The job's name, by which Slurm is asked for it."""
        return f"lid-{self.folder.name}"

    @property
    def id(self) -> str:
        """The job's number, empty where the sweep died before it could note it."""
        try:
            return (self.folder / "id").read_text().strip()
        except OSError:
            return ""

    def orders(self) -> list[list[dict[str, Any]]]:
        """What each task is to do."""
        try:
            tasks: list[list[dict[str, Any]]] = json.loads((self.folder / ORDERS).read_text())
        except (OSError, ValueError):
            return []
        return tasks

    def runs(self) -> list[list[str]]:
        """The runs of each task."""
        return [[order["run"] for order in task] for task in self.orders()]

    def restarts(self) -> dict[str, str]:
        """The word of each run that its task begins anew."""
        orders = itertools.chain.from_iterable(self.orders())
        return {order["run"]: order["restart"] for order in orders if order["restart"]}


@dataclass
class Task:
    """A task of an array: its jobs by name of the run, and how far its output was read."""

    array: Array
    index: int
    jobs: dict[str, int]
    slot: int
    read: int = 0
    ends: dict[str, dict[str, Any]] = field(default_factory=dict)
    begun: set[str] = field(default_factory=set)

    def path(self, kind: str) -> Path:
        """Its output (`out`) or errors (`err`)."""
        return self.array.folder / f"{self.index}.{kind}"

    def events(self) -> Iterator[dict[str, Any]]:
        """What it said since the last call, whole lines only."""
        try:
            with open(self.path("out"), "rb") as file:
                file.seek(self.read)
                text = file.read()
        except OSError:
            return
        whole = text[: text.rfind(b"\n") + 1]
        self.read += len(whole)
        for line in whole.splitlines():
            with contextlib.suppress(ValueError):
                yield json.loads(line)

    def last_line(self) -> str:
        """The last thing that went to its errors."""
        try:
            lines = self.path("err").read_text(errors="replace").strip().splitlines()
        except OSError:
            return ""
        return lines[-1][:300] if lines else ""


def script(folder: Path, threads: int) -> str:
    """What every task runs; as one process, it gets Slurm's signals itself."""
    words = [f"{name}={value}" for name, value in environment(threads).items()]
    command = [sys.executable, "-m", "lidcli.sweep.slurm_task", str(folder)]
    return (
        "#!/bin/sh\n"
        f"cd {shlex.quote(os.getcwd())}\n"
        f"exec env {shlex.join(words)} {shlex.join(command)} $SLURM_ARRAY_TASK_ID\n"
    )
