"""What a user can be told: each error is one or two sentences and an exit code."""

from __future__ import annotations

__all__ = [
    "ConfigError",
    "DataError",
    "DivergedError",
    "Interrupted",
    "LidError",
    "LockedError",
    "PartialError",
    "StoreError",
    "SweepError",
    "TimeUp",
    "cause",
    "same_command",
]


class LidError(Exception):
    """A failure that the command line reports in plain words, exit code 1."""

    exit_code = 1


class ConfigError(LidError):
    """An unknown name, a wrong value or an unusable combination of settings, exit code 2."""

    exit_code = 2


class SweepError(LidError):
    """A sweep that came to its end with failed runs, exit code 3."""

    exit_code = 3


class TimeUp(LidError):
    """A sweep whose time was up before its runs were done, exit code 124."""

    exit_code = 124


class PartialError(LidError):
    """A list or a report that had to leave runs out, exit code 3."""

    exit_code = 3


class DataError(LidError):
    """Data that are missing, damaged or of the wrong shape, exit code 4."""

    exit_code = 4


class StoreError(LidError):
    """A run's files that cannot be read or written, exit code 1."""


class LockedError(LidError):
    """A run that another process is working on, exit code 1."""


class DivergedError(LidError):
    """A training that met a value that is not finite, exit code 1."""


class Interrupted(LidError):
    """A training stopped by a signal, after its checkpoint: exit code 128 + the signal."""

    def __init__(self, signum: int, *, restart: bool = False) -> None:
        goes_on = same_command(restart)
        super().__init__(f"Interrupted after a checkpoint; {goes_on} continues the run.")
        self.signum, self.exit_code = signum, 128 + signum


def same_command(restart: bool) -> str:
    """The command that goes on with what one did that discarded runs, or did not.

    Example:
        >>> same_command(True)
        'the same command without --restart'
    """
    return "the same command" + " without --restart" * restart


def cause(error: BaseException) -> str:
    """What an error of other code is, in one line.

    Example:
        >>> cause(ValueError("no"))
        'ValueError: no'
    """
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
