"""One run from its configuration to its record: load, build, resume, train, evaluate, store."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from lidcli.config.schema import RunConfig
from lidcli.data.dataset import Dataset
from lidcli.data.registry import load
from lidcli.errors import DataError, DivergedError, Interrupted, StoreError
from lidcli.metrics.evaluation import Evaluation, Split, evaluate
from lidcli.metrics.identifiability import identifiability
from lidcli.metrics.pictures import pictures
from lidcli.models.base import Model
from lidcli.store.hdf5 import DamagedError
from lidcli.store.run import Run
from lidcli.training import classical
from lidcli.training.build import build, parameter_counts, pick_device
from lidcli.training.loop import Observer, Progress, Trainer
from lidcli.training.provenance import describe, peak_memory_mb
from lidcli.training.signals import StopRequest

__all__ = ["evaluate_run", "execute", "run_folder"]

EVALUATION_SEED = 20210
BINARISATION_SEED = 20212


def run_folder(results: Path, experiment: str, config: RunConfig) -> Path:
    """Where a run is kept: results/<experiment>/<run-id>."""
    return results / experiment / config.run_id


@contextmanager
def _flushing() -> Iterator[None]:
    """Take numbers too small for a normal float as zero.

    Saturated pixels give many, and a processor is ten times slower with them.
    """
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


@_flushing()
def execute(
    config: RunConfig,
    results: Path,
    experiment: str,
    observer: Observer,
    *,
    restart: bool = False,
) -> Run:
    """Train and evaluate one run, taking up what an earlier process left.

    Args:
        config: resolved.
        results: folder of all runs.
        experiment: folder of this one below it.
        observer: hears of steps and epochs.
        restart: whether to discard what there is.

    Returns:
        The finished run's record.

    Raises:
        LidError: with the exit code of what went wrong; the run's status says it too.
    """
    device = _prepare(config)
    folder = run_folder(results, experiment, config)
    finished = None if restart else _finished(folder)
    if finished is not None and config.data.path is None:
        return finished
    data = load(config.data)
    if finished is not None:
        _check_data(finished, data)
        return finished
    torch.manual_seed(config.seed)
    model = build(config, data).to(device)
    first = {"experiment": experiment}
    run = Run.create(folder, config.document(), first)
    with run.lock():
        if restart:
            run.discard()
        run = Run.create(folder, config.document(), first)
        if run.status == "complete":
            return run
        try:
            _train_and_evaluate(config, run, model, data, observer)
        except Interrupted:
            _close(run, "interrupted", "stopped by a signal")
            raise
        except DivergedError as error:
            _close(run, "diverged", str(error))
            raise
        except Exception as error:
            _close(run, "failed", f"{type(error).__name__}: {error}")
            raise
    return run


def _prepare(config: RunConfig) -> torch.device:
    """The device asked for (the CPU for the classical models, in float64), its threads set."""
    device = pick_device(config.runtime.device)
    if config.runtime.threads is not None:
        torch.set_num_threads(config.runtime.threads)
    return torch.device("cpu") if classical.handles(config) else device


def _check_data(run: Run, data: Dataset) -> None:
    known = run.provenance.get("data_sha256")
    if known is not None and known != data.sha256:
        raise DataError(
            f"The data of {data.name} are not those this run was started with;"
            " restore them, or use --restart."
        )


def _finished(folder: Path) -> Run | None:
    """The run, if it needs no more work; `Run.create` sets a damaged record aside.

    Raises:
        DivergedError: it would only diverge again.
    """
    if not (folder / "run.h5").exists():
        return None
    try:
        run = Run.open(folder)
    except DamagedError:
        return None
    if run.status == "diverged":
        raise DivergedError(f"{run.provenance['message']} --restart discards the run.")
    return run if run.status == "complete" else None


def _close(run: Run, status: str, message: str) -> None:
    """Note how a run ended, if its folder can still be written."""
    try:
        run.update(provenance={"status": status, "message": message})
    except StoreError:
        return


def _train_and_evaluate(
    config: RunConfig, run: Run, model: Model, data: Dataset, observer: Observer
) -> None:
    device = _device(model)
    _check_data(run, data)
    threads = run.provenance.get("threads")
    if threads is not None and config.runtime.threads is None:
        torch.set_num_threads(threads)
    run.update(
        provenance={
            **describe(device),
            "threads": torch.get_num_threads(),
            "sessions": [*run.provenance.get("sessions", []), describe(device)],
            "status": "running",
            "message": "",
            "seed": config.seed,
            "started": run.provenance.get("started") or _now(),
            "parameters": parameter_counts(model),
            "data_sha256": data.sha256,
            "data_notes": list(data.notes),
            "data_shape": list(data.shape),
            "data_entropy": data.entropy,
            "classes": data.classes,
            "runtime": config.runtime.model_dump(mode="json"),
        }
    )

    with StopRequest() as stop:
        if classical.handles(config):
            facts = _facts(run, model, device, step=0, steps=1, warnings=[])
            observer.start(facts)
            stop.immediate = True
            seconds = classical.infer(config, run, model, data)
        else:
            seconds = _optimise(config, run, model, data, observer, stop)
        stop.immediate = True
        if stop.signum is not None:
            raise Interrupted(stop.signum)
        observer.evaluating(config.evaluate.split)
        started = time.monotonic()
        _measure(config, run, model, data, config.evaluate.split)
        run.update(
            provenance={
                "status": "complete",
                "finished": _now(),
                "evaluation_seconds": time.monotonic() - started,
                "wall_seconds": seconds + time.monotonic() - started,
                "peak_memory_mb": peak_memory_mb(device),
            }
        )


def _facts(
    run: Run, model: Model, device: torch.device, *, step: int, steps: int, warnings: list[str]
) -> dict[str, Any]:
    """What an observer hears at the start."""
    return {
        "run": run.folder.name,
        "folder": str(run.folder),
        "device": str(device),
        "parameters": parameter_counts(model)["total"],
        "step": step,
        "steps": steps,
        "warnings": warnings,
    }


def _optimise(
    config: RunConfig,
    run: Run,
    model: Model,
    data: Dataset,
    observer: Observer,
    stop: StopRequest,
) -> float:
    """Train from the last checkpoint to the end; seconds of training in all."""
    device = _device(model)

    def save(state: dict[str, Any], progress: Progress) -> None:
        run.save_checkpoint(state)
        run.update(
            provenance={
                "epochs_done": progress.epoch,
                "steps": progress.step,
                "train_seconds": progress.seconds,
                "best_epoch": progress.best_epoch + 1,
            },
            curves=progress.arrays(),
        )

    trainer = Trainer(
        config,
        model,
        torch.from_numpy(data.train.x),
        torch.from_numpy(data.valid.x).to(device),
        stochastic=data.stochastic,
        observer=observer,
        save=save,
        stop=stop,
    )
    state, warnings = run.load_checkpoint()
    if state is not None:
        trainer.restore(state)
    if warnings:
        run.update(provenance={"warnings": warnings})
    steps = config.train.epochs * trainer.batches
    observer.start(
        _facts(run, model, device, step=trainer.progress.step, steps=steps, warnings=warnings)
    )
    trainer.run()
    return trainer.progress.seconds


def _device(model: Model) -> torch.device:
    return next(itertools.chain(model.parameters(), model.buffers())).device


def _measure(config: RunConfig, run: Run, model: Model, data: Dataset, name: str) -> Evaluation:
    """Evaluate a split with a seed of its own and store it."""
    device = _device(model)
    split = _split(data, name, device)
    model.eval()
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(EVALUATION_SEED)
        if classical.handles(config):
            result = classical.evaluate(config, model, split, data, run)
            arrays = result.arrays
        else:
            result = evaluate(
                model,
                split,
                samples=config.evaluate.samples,
                outer=config.evaluate.outer,
                batch=config.runtime.batch,
            )
            arrays = pictures(model, split, result, data.kind)
            if config.evaluate.identifiability:
                result.scalars |= identifiability(model, split.x, batch=config.runtime.batch)
    assert result.verdict is not None
    judged = {
        "verdict": result.verdict.label,
        "verdict_reason": result.verdict.reason,
        "unused_prior": result.verdict.unused_prior,
        "verdict_notes": result.notes,
        "checks": result.checks,
    }
    own = name == run.config["evaluate"]["split"]
    measured = run.provenance.get("evaluated", {})
    run.update(
        provenance={
            **(judged if own else {}),
            "evaluated": {**measured, name: {**describe(device), **judged}},
        },
        evaluation=(name, result.scalars),
        arrays=arrays if own else None,
    )
    return result


def _split(data: Dataset, name: str, device: torch.device) -> Split:
    part = {"train": data.train, "valid": data.valid, "test": data.test}[name]
    x = torch.from_numpy(part.x)
    if name == "train" and data.stochastic:
        x = torch.bernoulli(x, generator=torch.Generator().manual_seed(BINARISATION_SEED))
    return Split(x.to(device), part.labels)


@_flushing()
def evaluate_run(run: Run, config: RunConfig) -> Evaluation:
    """Measure a trained run again from its stored weights.

    Args:
        run: with a checkpoint.
        config: the run's own, with the evaluation settings that are wanted.

    Raises:
        StoreError: the run has no weights.
        DataError: the data are not those it was trained on.
    """
    device = _prepare(config)
    data = load(config.data)
    _check_data(run, data)
    with run.lock():
        state, _ = run.load_checkpoint()
        if state is None:
            raise StoreError(f"{run.folder} has no checkpoint: nothing to evaluate.")
        model = build(config, data)
        model.load_state_dict(state["best"] or state["model"])
        return _measure(config, run, model.to(device), data, config.evaluate.split)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
