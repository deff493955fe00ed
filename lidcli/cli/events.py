"""`--log tensorboard`: the curves of runs as TensorBoard's event files, beside their records."""

from __future__ import annotations

import contextlib
import importlib
import math
import platform
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from lidcli.errors import ConfigError, StoreError

if TYPE_CHECKING:
    from lidcli.store.run import Run

__all__ = ["FOLDER", "Events", "check_log"]

FOLDER = ".tensorboard"
NO_CURVES = ("epoch", "step", "seconds", "event", "run_id")
"""Entries of an epoch that are no curves: what others are drawn over, and what a worker adds."""


def check_log(name: str | None) -> None:
    """Make sure that a log that was asked for can be written.

    Args:
        name: `tensorboard`, or None for no log.

    Raises:
        ConfigError: its package is not installed.

    Example:
        >>> check_log(None)
    """
    if name is None:
        return
    try:
        importlib.import_module(name)
    except ImportError:
        raise ConfigError(
            "--log tensorboard needs the package tensorboard, which is not installed:"
            ' pip install "lidcli[tensorboard]".'
        ) from None


class Events:
    """The events of one run, in `results/.tensorboard/<experiment>/<run-id>`.

    Every session writes a file of its own, which begins with what the record has of earlier ones
    and replaces theirs, so that no step is there twice. Events that cannot be written are no
    reason to stop a run: that is said once, and the rest is left out.

    Args:
        folder: of the run, `results/<experiment>/<run-id>`.

    Example:
        >>> Events(Path("results/demo/abc-s0")).folder.as_posix()
        'results/.tensorboard/demo/abc-s0'
    """

    def __init__(self, folder: Path) -> None:
        self.run, self.folder = (
            folder,
            folder.parents[1] / FOLDER / folder.parent.name / folder.name,
        )
        self._file: BinaryIO | None = None

    def there(self) -> bool:
        """Whether an earlier session wrote any."""
        return any(self.folder.glob("*tfevents*"))

    def begin(self, step: float = math.inf) -> None:
        """Begin a file with what the record has.

        Args:
            step: after which nothing is taken; infinite for all, and the figures if complete.
        """
        with self._saying():
            self.close()
            self.folder.mkdir(parents=True, exist_ok=True)
            before = list(self.folder.glob("*tfevents*"))
            name = f"events.out.tfevents.{time.time_ns()}.{platform.node()}"
            self._file = open(self.folder / name, "xb")  # noqa: SIM115 (closed with the session)
            self._head()
            with contextlib.suppress(StoreError):
                self._history(step)
            self._file.flush()
            for path in before:
                path.unlink(missing_ok=True)

    def epoch(self, record: Mapping[str, float]) -> None:
        """Write an epoch's curves."""
        with self._saying():
            if self._file is not None:
                self._scalars(record["step"], time.time(), record)
                self._file.flush()

    def close(self) -> None:
        """End the session."""
        if self._file is not None:
            self._file.close()
            self._file = None

    @contextlib.contextmanager
    def _saying(self) -> Iterator[None]:
        """Give up what cannot be written, with a word."""
        try:
            yield
        except OSError as error:
            reason = error.strerror or error
            click.echo(f"warning: no more events of {self.run.name} ({reason})", err=True)
            with contextlib.suppress(OSError):
                self.close()
            self._file = None

    def _write(self, **content: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.summary.writer.record_writer import RecordWriter

        assert self._file is not None
        RecordWriter(self._file).write(Event(**content).SerializeToString())

    def _head(self) -> None:
        """The version, and a start at step 0: what a reader had of earlier files is no more."""
        from tensorboard.compat.proto.event_pb2 import SessionLog

        now = time.time()
        self._write(wall_time=now, file_version="brain.Event:2")
        start = SessionLog(status=SessionLog.START)
        self._write(wall_time=now, step=0, session_log=start)

    def _history(self, last: float) -> None:
        """What the record says: settings, curves up to a step, figures of a complete run."""
        import numpy as np

        from lidcli.store.run import Run

        run = Run.open(self.run)
        began = _began(run)
        self._settings(began, _settings(run.config))
        curves = run.curves
        steps, seconds = (curves.get(name, np.zeros(0)) for name in ("step", "seconds"))
        step = 0.0
        for index, (step, spent) in enumerate(zip(steps, seconds, strict=False)):
            if step > last:
                return
            values = {name: c[index] for name, c in curves.items() if index < len(c)}
            self._scalars(step, began + spent, values)
        if run.status == "complete" and last == math.inf:
            for split, figures in run.evaluation.items():
                named = {f"{split}/{name}": value for name, value in figures.items()}
                self._scalars(step, time.time(), named)

    def _settings(self, began: float, settings: Mapping[str, bool | float | str]) -> None:
        """Settings as the plugin for hyperparameters reads them."""
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.plugins.hparams import metadata
        from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionStartInfo

        info = SessionStartInfo(start_time_secs=began)
        for name, value in settings.items():
            kind = {bool: "bool_value", str: "string_value"}.get(type(value), "number_value")
            setattr(info.hparams[name], kind, value)
        told = metadata.create_summary_metadata(HParamsPluginData(session_start_info=info))
        tag = metadata.SESSION_START_INFO_TAG
        shown = Summary.Value(tag=tag, metadata=told, tensor=metadata.NULL_TENSOR)
        self._write(wall_time=began, step=0, summary=Summary(value=[shown]))

    def _scalars(self, step: float, at: float, values: Mapping[str, float]) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        shown = [
            Summary.Value(tag=name, simple_value=float(value))
            for name, value in values.items()
            if name not in NO_CURVES
        ]
        self._write(wall_time=float(at), step=int(step), summary=Summary(value=shown))


def _began(run: Run) -> float:
    """When a run began, in seconds since 1970; now where its record does not say."""
    with contextlib.suppress(KeyError, TypeError, ValueError):
        return datetime.fromisoformat(run.provenance["started"]).timestamp()
    return time.time()


def _settings(config: Mapping[str, Any], prefix: str = "") -> dict[str, bool | float | str]:
    """The settings of a record by dotted key, those that are one word or number."""
    found: dict[str, bool | float | str] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            found |= _settings(value, f"{prefix}{key}.")
        elif isinstance(value, bool | int | float | str):
            found[f"{prefix}{key}"] = value
    return found
