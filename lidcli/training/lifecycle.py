"""One run from its configuration to its record: load, build, resume, train, evaluate, store."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import torch

from lidcli.config.run import RunConfig
from lidcli.data.dataset import Dataset
from lidcli.errors import DataError, DivergedError, Interrupted, LockedError, StoreError
from lidcli.metrics.evaluation import Evaluation
from lidcli.store.code import check_code, digests, metrics_anew
from lidcli.store.digest import digest
from lidcli.store.hdf5 import DamagedError
from lidcli.store.run import Run
from lidcli.training.loop import Observer
from lidcli.training.procedure import Job, Procedure, procedure
from lidcli.training.provenance import describe, peak_memory_mb
from lidcli.training.signals import StopRequest
from lidcli.training.threads import settle

__all__ = [
    "begin",
    "check_data",
    "entered",
    "evaluate_run",
    "execute",
    "finish",
    "finished",
    "flushing",
    "note_end",
    "prepare",
    "run_folder",
]

EVALUATION_SEED = 20210


def run_folder(results: Path, experiment: str, config: RunConfig) -> Path:
    """Where a run is kept: results/<experiment>/<run-id>."""
    return results / experiment / config.run_id


@contextmanager
def flushing() -> Iterator[None]:
    """Take numbers too small for a normal float as zero.

    Saturated pixels give many, and a processor is ten times slower with them.
    """
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


@flushing()
def execute(
    config: RunConfig,
    results: Path,
    experiment: str,
    observer: Observer,
    *,
    restart: str = "",
) -> Run:
    """Train and evaluate one run, taking up what an earlier process left.

    Args:
        config: resolved.
        results: folder of all runs.
        experiment: folder of this one below it.
        observer: hears of steps and epochs.
        restart: a word with which what there is is discarded, unless the record says that it
            was already; empty for never.

    Returns:
        The finished run's record.

    Raises:
        LidError: with the exit code of what went wrong; the run's status says it too.
    """
    prepare(config)
    folder = run_folder(results, experiment, config)
    known = finished(folder, restart)
    if known is not None and getattr(config.data, "path", None) is None:
        return known
    data: Dataset = config.data.build()
    if known is not None:
        check_data(known, data)
        return known

    def make() -> Procedure:
        torch.manual_seed(config.seed)
        return procedure(config, data)

    made = make()
    with entered(folder, config, restart) as run:
        if run.status == "complete":
            return run
        try:
            check_data(run, data)
            check_code(run, config)
            made = settle(config, run, made, make)
            begin(config, run, made, data)
            with StopRequest() as stop, _noting(run):
                seconds = made.fit(Job(run, observer, stop))
                finish(config, run, made, observer, stop, seconds)
        except Exception as error:
            if not isinstance(error, Interrupted) or run.status == "running":
                note_end(run, error)
            raise
    return run


@contextmanager
def entered(folder: Path, config: RunConfig, restart: str = "") -> Iterator[Run]:
    """Hold a run's lock, with a record in its folder: a new one, or what there is.

    Args:
        folder: of the run.
        config: of the run.
        restart: as of `execute`; the record keeps it.

    Raises:
        LockedError: another process is working on it.
        StoreError: the folder is not writable, or a newer lid made the run.
    """
    first = {"experiment": folder.parent.name}
    run = Run.create(folder, config.document(), first)
    with run.lock():
        if not run.begun_for(restart):
            run.discard()
            first["restarted"] = restart
        yield Run.create(folder, config.document(), first)


def prepare(config: RunConfig, threads: int | None = None) -> None:
    """Compute on the threads that a run is told to use, or on so many."""
    wanted = config.runtime.threads or threads
    if wanted is not None:
        torch.set_num_threads(wanted)


def check_data(run: Run, data: Dataset) -> None:
    """Check that data are those that a run was started with.

    Raises:
        DataError: they are not.
    """
    known = run.provenance.get("data_sha256")
    if known is not None and known != data.sha256:
        raise DataError(
            f"The data of {data.name} are not those this run was started with;"
            " restore them, or use --restart."
        )


def finished(folder: Path, restart: str = "") -> Run | None:
    """The run, if it needs no more work; `Run.create` sets a damaged record aside.

    Args:
        folder: of the run.
        restart: as of `execute`.

    Raises:
        DivergedError: it would only diverge again.
    """
    if not (folder / "run.h5").exists():
        return None
    try:
        run = Run.open(folder)
    except DamagedError:
        return None
    if not run.begun_for(restart):
        return None
    if run.status == "diverged":
        raise DivergedError(f"{run.provenance['message']} --restart discards the run.")
    return run if run.status == "complete" else None


@contextmanager
def _noting(run: Run) -> Iterator[None]:
    """Note that a signal stopped a run while signals are still heard."""
    try:
        yield
    except Interrupted as error:
        note_end(run, error)
        raise


def note_end(run: Run, error: Exception) -> None:
    """Note why a run ended before its time, if its folder can still be written."""
    if isinstance(error, Interrupted):
        status, message = "interrupted", "stopped by a signal"
    elif isinstance(error, DivergedError):
        status, message = "diverged", str(error)
    else:
        status, message = "failed", f"{type(error).__name__}: {error}"
    try:
        run.update(provenance={"status": status, "message": message})
    except (StoreError, LockedError):
        return


def begin(config: RunConfig, run: Run, made: Procedure, data: Dataset, stacked: int = 1) -> None:
    """Write into the record that a session begins: of what, where, on what.

    Args:
        config: of the run.
        run: its record, whose lock is held.
        made: its procedure.
        data: checked.
        stacked: runs that are trained as one batched model, this one among them.
    """
    here = {**describe(made.device), "stacked": stacked}
    known = getattr(data, "ceiling", None)
    run.update(
        provenance={
            **here,
            "sessions": [*run.provenance.get("sessions", []), here],
            "status": "running",
            "message": "",
            "seed": config.seed,
            "started": run.provenance.get("started") or _now(),
            "parameters": made.parameters(),
            "facts": {**made.model.facts().document(), "data_form": data.form},
            "data_sha256": data.sha256,
            "code_sha256": digests(config),
            "data_notes": list(data.notes),
            "data_shape": list(data.shape),
            "data_entropy": data.entropy,
            "ceiling": None if known is None else asdict(known),
            "classes": data.classes,
            "runtime": config.runtime.model_dump(mode="json"),
        }
    )


def finish(
    config: RunConfig,
    run: Run,
    made: Procedure,
    observer: Observer,
    stop: StopRequest,
    seconds: float,
) -> None:
    """Evaluate what was fitted, and close the record.

    Args:
        config, run, made: as of `begin`.
        observer: hears of the evaluation.
        stop: a signal's request, which ends the evaluation at once.
        seconds: that fitting took.

    Raises:
        Interrupted: a signal came.
    """
    with stop.at_once():
        observer.evaluating(config.evaluate.split)
        started = time.monotonic()
        _measure(config, run, made, config.evaluate.split)
    run.update(
        provenance={
            "status": "complete",
            "weights_sha256": digest(made.model.state_dict()),
            "finished": _now(),
            "evaluation_seconds": time.monotonic() - started,
            "wall_seconds": seconds + time.monotonic() - started,
            "peak_memory_mb": peak_memory_mb(made.device),
        }
    )


def _measure(config: RunConfig, run: Run, made: Procedure, split: str) -> Evaluation:
    """Evaluate a split with a seed of its own and store it."""
    with torch.random.fork_rng([made.device] if made.device.type == "cuda" else []):
        torch.manual_seed(EVALUATION_SEED)
        result = made.measure(config, split)
    assert result.verdict is not None
    judged = {
        "verdict": result.verdict.label,
        "verdict_reason": result.verdict.reason,
        "unused_prior": result.verdict.unused_prior,
        "verdict_notes": [*result.notes, *run.provenance.get("inference_notes", [])],
        "checks": result.checks,
    }
    if result.quantities:
        judged["quantities"] = [asdict(quantity) for quantity in result.quantities]
    own = split == run.config["evaluate"]["split"]
    measured = run.provenance.get("evaluated", {})
    run.update(
        provenance={
            **({**judged, "texts": result.texts} if own else {}),
            "evaluated": {**measured, split: {**describe(made.device), **judged}},
        },
        evaluation=(split, result.scalars),
        arrays=result.arrays if own else None,
    )
    return result


@flushing()
def evaluate_run(run: Run, config: RunConfig) -> Evaluation:
    """Measure a trained run again from its stored weights.

    Args:
        run: with a checkpoint.
        config: the run's own, with the evaluation settings that are wanted.

    Raises:
        StoreError: the run is not finished, or its weights are not those its record names.
        DataError: the data, or the user's code, are not those it was trained with.
    """
    prepare(config, run.provenance.get("threads"))
    data: Dataset = config.data.build()
    check_data(run, data)
    check_code(run, config)
    with run.lock():
        weights = run.load_weights()
        made = procedure(config, data)
        with run.fitting():
            made.model.load_state_dict(weights)
        result = _measure(config, run, made, config.evaluate.split)
        if config.evaluate.metrics:
            run.update(provenance={"code_sha256": metrics_anew(run, config)})
        return result


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
