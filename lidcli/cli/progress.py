"""How a training shows itself: a bar on a terminal, log lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

__all__ = [
    "LogLines",
    "Silent",
    "TerminalBar",
    "figures",
    "figures_text",
    "observer",
]

REFRESH = 0.1
LOG_SECONDS = 10.0


def figures(record: Mapping[str, float]) -> dict[str, float]:
    """One epoch's ELBO, KL, MI and AU of validation, those that there are.

    Example:
        >>> figures({"valid/elbo": -2.5, "valid/kl/joint": 1.0, "epoch": 3.0})
        {'ELBO': -2.5}
    """
    if "valid/elbo" not in record:
        return {}
    found = {"ELBO": record["valid/elbo"]}
    unit = next((key.rpartition("/")[2] for key in record if key.startswith("valid/au/")), None)
    if unit is not None:
        kl = f"valid/kl/{unit}" if f"valid/kl/{unit}" in record else "valid/kl/joint"
        pairs = (("KL", kl), ("MI", f"valid/mi/{unit}"))
        found |= {name: record[key] for name, key in pairs if key in record}
        found["AU"] = record[f"valid/au/{unit}"]
    return found


def figures_text(found: Mapping[str, float]) -> str:
    """Figures in few characters.

    Example:
        >>> figures_text({"ELBO": -2.5, "AU": 0.8})
        'ELBO -2.500  AU 0.80'
    """
    return "  ".join(
        f"{name} {value:.{3 if name == 'ELBO' else 2}f}" for name, value in found.items()
    )


class Silent:
    """Says nothing; a context manager, as every observer here."""

    def __enter__(self) -> Silent:
        return self

    def __exit__(self, *_: object) -> None:
        """Leave stderr as it is."""

    def start(self, facts: dict[str, Any]) -> None:
        """Ignore the start."""

    def step(self, done: int, total: int) -> None:
        """Ignore a step."""

    def epoch(self, record: dict[str, float]) -> None:
        """Ignore an epoch."""

    def evaluating(self, split: str) -> None:
        """Ignore the evaluation."""


class LogLines(Silent):
    """Plain lines on stderr: the plan, an epoch every few seconds, the evaluation."""

    def __init__(self) -> None:
        self._last = 0.0

    def start(self, facts: dict[str, Any]) -> None:
        """Print the plan."""
        _print_plan(facts)

    def epoch(self, record: dict[str, float]) -> None:
        """Print an epoch, at most every ten seconds."""
        now = time.monotonic()
        if now - self._last >= LOG_SECONDS:
            self._last = now
            print(f"epoch {record['epoch']:.0f}  {figures_text(figures(record))}", file=sys.stderr)

    def evaluating(self, split: str) -> None:
        """Say that training is over."""
        print(f"evaluating on the {split} split", file=sys.stderr)


class _Plain(ProgressColumn):
    """Steps done of all."""

    def render(self, task: Any) -> str:
        return f"{task.completed:.0f}/{task.total:.0f}"


class TerminalBar(Silent):
    """A rich bar with ELBO, KL, MI, AU and the time left; a context manager."""

    def __init__(self) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            _Plain(),
            TimeRemainingColumn(compact=True),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._progress.add_task("starting", total=None, visible=False)
        self._last = 0.0

    def __enter__(self) -> TerminalBar:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def start(self, facts: dict[str, Any]) -> None:
        """Print the plan and show the bar."""
        _print_plan(facts)
        self._progress.update(
            self._task,
            total=facts["steps"],
            completed=facts["step"],
            visible=True,
            description="training",
        )

    def step(self, done: int, total: int) -> None:
        """Move the bar, ten times a second at most."""
        now = time.monotonic()
        if now - self._last >= REFRESH or done == total:
            self._last = now
            self._progress.update(self._task, completed=done)

    def epoch(self, record: dict[str, float]) -> None:
        """Show the newest validation."""
        self._progress.update(self._task, description=figures_text(figures(record)))

    def evaluating(self, split: str) -> None:
        """Say that training is over."""
        self._progress.update(self._task, description=f"evaluating ({split})")


def _print_plan(facts: dict[str, Any]) -> None:
    state = "new" if facts["step"] == 0 else f"partial, from step {facts['step']}"
    for warning in facts["warnings"]:
        print(f"warning: {warning}", file=sys.stderr)
    print(
        f"run {facts['run']} ({state}) on {facts['device']},"
        f" {facts['parameters']:,} parameters, in {facts['folder']}",
        file=sys.stderr,
    )


def observer(quiet: bool) -> Silent:
    """The observer that suits where stderr goes."""
    if quiet:
        return Silent()
    if sys.stderr.isatty():
        return TerminalBar()
    return LogLines()
