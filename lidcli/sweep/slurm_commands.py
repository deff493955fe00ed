"""Slurm's commands, as far as a sweep needs them."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence

from lidcli.errors import ConfigError, LidError

__all__ = ["cancel", "find_slurm", "queued", "reason", "submit"]


def find_slurm() -> None:
    """Make sure that jobs can be submitted here.

    Raises:
        ConfigError: there is no sbatch.
    """
    if shutil.which("sbatch") is None:
        raise ConfigError(
            "There is no sbatch here, and --engine slurm needs it: give the command on a machine"
            " of a Slurm cluster, or leave --engine out."
        )


def _call(words: Sequence[str]) -> str | None:
    """What a command prints, or None where it fails."""
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else None


def submit(words: Sequence[str]) -> str:
    """Submit a job, and give its id.

    Raises:
        LidError: Slurm refuses it, in its own words.
    """
    done = subprocess.run(
        ["sbatch", "--parsable", *words], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        why = said[-1].removeprefix("sbatch: ").removeprefix("error: ").rstrip(".")
        raise LidError(f"sbatch refused the array: {why}.")
    return done.stdout.strip().partition(";")[0]


def queued(names: Sequence[str]) -> dict[tuple[str, int], str] | None:
    """State of each array task, by name of the job and index, of those that are not over.

    Returns:
        None where Slurm does not answer.
    """
    words = ["squeue", "--noheader", "--array", f"--name={','.join(names)}", "--format=%j %K %T"]
    text = _call(words)
    if text is None:
        return None
    rows = [line.split() for line in text.splitlines()]
    return {(row[0], int(row[1])): row[2] for row in rows if len(row) == 3 and row[1].isdecimal()}


def reason(task: str) -> str:
    """Why a task is over, as Slurm's word for its state, where it still knows.

    Args:
        task: as `12_3`.
    """
    text = _call(["scontrol", "--oneliner", "show", "job", task]) or ""
    words = (word.partition("=") for word in text.split())
    return next((value for name, _, value in words if name == "JobState"), "")


def cancel(name: str) -> None:
    """End the jobs of a name; Slurm sends SIGTERM, and SIGKILL after its KillWait."""
    _call(["scancel", f"--name={name}"])
