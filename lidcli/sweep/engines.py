"""Where a sweep's runs are done: one protocol, and the engines by name."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from lidcli.config.kinds import locate
from lidcli.errors import ConfigError
from lidcli.sweep.local import Watcher, find_device, run_local, slots
from lidcli.sweep.queue import Job, Outcome

__all__ = ["ENGINES", "Engine", "Local", "Request", "make_engine", "parse_size"]

OWN_OPTIONS = {
    "--address": ("ray",),
    "--detach": ("slurm",),
    "--sbatch": ("slurm",),
    "--memory": ("ray", "slurm"),
    "--per-gpu": ("local", "ray"),
    "--stack": ("local",),
}
ALIKE = {
    None: "",
    "seeds": "; runs that differ in their seed alone are one model",
    "auto": "; runs that differ in their seed alone are one model where that is faster",
}
SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(i?B?)", re.IGNORECASE)


@dataclass(frozen=True)
class Request:
    """What a sweep is to be done with.

    Args:
        experiment: folder of the runs below `results`.
        results: folder of all runs.
        todo: runs that are new or partial.
        device: auto, cpu, cuda or cuda:i.
        threads: of a run.
        workers: runs at a time; None for as many as there is room for.
        per_gpu: runs on one GPU.
        memory: bytes that a run may use; None for any.
        address: of a Ray cluster; None for one of our own.
        sbatch: options for Slurm, over ours.
        detach: whether to return as soon as the runs are submitted.
        restart: whether to discard what there is of each run.
        fail_fast: whether the first failure stops the others.
        retries: further attempts at a run that failed, or whose process was lost.
        until: when every run is stopped after a checkpoint, by `time.monotonic`.
        stack: `seeds` where runs that differ in their seed alone are one batched model, `auto`
            where they are so if that is faster, else None.
        verbose: whether an engine's own log may be shown.
    """

    experiment: str
    results: Path
    todo: int
    device: str = "auto"
    threads: int = 1
    workers: int | None = None
    per_gpu: int = 1
    memory: int | None = None
    address: str | None = None
    sbatch: tuple[str, ...] = ()
    detach: bool = False
    restart: bool = False
    fail_fast: bool = False
    retries: int = 0
    until: float = math.inf
    stack: str | None = None
    verbose: bool = False


class Engine(Protocol):
    """Does runs; what is left to do it reads off the results folder, as every other engine."""

    def facts(self) -> dict[str, Any]:
        """Where and how, as entries of the JSON document."""
        ...

    def text(self) -> str:
        """Where and how, as a line of the plan."""
        ...

    def run(self, jobs: Sequence[Job], watcher: Watcher) -> tuple[list[Outcome], int | None]:
        """Do the jobs, so that one that fails or is lost does not stop the others.

        Args:
            jobs: of one experiment.
            watcher: hears how it goes.

        Returns:
            The outcome of each job, in order, and the signal that ended the sweep, if one did.
        """
        ...


class Local:
    """This machine, a process a worker.

    Raises:
        ConfigError: there is no such device here, or it is a CPU and divided as a GPU is.
    """

    def __init__(self, request: Request) -> None:
        self.request = request
        self.device, gpus = find_device(request.device)
        if self.device == "cpu" and request.per_gpu > 1:
            raise ConfigError("--per-gpu does nothing on a CPU; -w says how many runs at a time.")
        places = slots(
            self.device,
            gpus,
            workers=request.workers,
            threads=request.threads,
            per_gpu=request.per_gpu,
        )
        self.devices = places[: max(1, request.todo)]

    def facts(self) -> dict[str, Any]:
        """The device, and that of each worker."""
        facts = {"device": self.device, "devices": self.devices, "threads": self.request.threads}
        return facts if self.request.stack is None else {**facts, "stack": self.request.stack}

    def text(self) -> str:
        """The device and the number of workers."""
        workers, threads = len(self.devices), self.request.threads
        return (
            f"device {self.device}, {workers} worker{'s' * (workers > 1)}"
            f" of {threads} thread{'s' * (threads > 1)}"
            f"{ALIKE[self.request.stack]}"
        )

    def run(self, jobs: Sequence[Job], watcher: Watcher) -> tuple[list[Outcome], int | None]:
        """Do the jobs in processes of this machine."""
        return run_local(
            jobs,
            results=self.request.results,
            experiment=self.request.experiment,
            devices=self.devices,
            threads=self.request.threads,
            watcher=watcher,
            restart=self.request.restart,
            fail_fast=self.request.fail_fast,
            retries=self.request.retries,
            until=self.request.until,
            stack=self.request.stack,
        )


ENGINES = {
    "local": "lidcli.sweep.engines:Local",
    "ray": "lidcli.sweep.ray_engine:RayEngine",
    "slurm": "lidcli.sweep.slurm:Slurm",
}
"""The class of each engine, made from a `Request`, as `module:name`."""


def make_engine(name: str, request: Request, given: Iterable[str] = ()) -> Engine:
    """The engine of a name.

    Args:
        name: of `ENGINES`.
        request: what it is to do.
        given: options that the user wrote, as `--address`.

    Raises:
        ConfigError: one of them does nothing for this engine, or the engine cannot work here.

    Example:
        >>> make_engine("local", Request("demo", Path("results"), 1), ["--detach"])
        Traceback (most recent call last):
        lidcli.errors.ConfigError: --detach does nothing for --engine local; it is for slurm.
    """
    for option in given:
        owners = OWN_OPTIONS.get(option, (name,))
        if name not in owners:
            raise ConfigError(
                f"{option} does nothing for --engine {name}; it is for {' and '.join(owners)}."
            )
    engine: Engine = locate(ENGINES[name])(request)
    return engine


def parse_size(text: str) -> int:
    """Bytes from `4GiB`, `500M` or `2G`; a letter stands for a power of 1024.

    Raises:
        ConfigError: the text is no such size, or none at all.

    Example:
        >>> parse_size("1.5GiB")
        1610612736
    """
    found = SIZE.fullmatch(text.strip())
    if found is not None:
        power = " KMGT".index(found[2].upper() or " ")
        size = int(float(found[1]) * 1024**power)
        if size >= 1:
            return size
    raise ConfigError(f"--memory is written like 4GiB or 500MiB, not {text[:40]!r}.")
