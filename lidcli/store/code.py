"""The user's own code that a run names: whether its files are those that the run was made with."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import NamedTuple

from lidcli.config.kinds import allowed, imported
from lidcli.config.read import codes_in
from lidcli.config.run import RunConfig
from lidcli.config.sections import KINDS
from lidcli.errors import DataError
from lidcli.store.run import Run

__all__ = ["changed", "check_code", "digests", "metrics_anew"]


class _Source(NamedTuple):
    name: str
    sha256: str


def _sources(config: RunConfig) -> dict[str, _Source]:
    """The file of each `module:name` that a run names and that may be imported."""
    if not (known := allowed()):
        return {}
    found = {}
    for code in {code for _, code in codes_in(config.document())} & set(known):
        imported(code)
        place = getattr(sys.modules[code.partition(":")[0]], "__file__", None)
        if place is not None:
            path = Path(place)
            found[code] = _Source(path.name, hashlib.sha256(path.read_bytes()).hexdigest())
    return found


def digests(config: RunConfig) -> dict[str, str]:
    """The SHA-256 of the file of each `module:name` that a run names, for its record."""
    return {code: source.sha256 for code, source in _sources(config).items()}


def changed(run: Run, config: RunConfig) -> dict[str, str]:
    """The files that are not those a run was made with, by the `module:name` that is in them.

    Nothing is known of a run from before digests were kept.

    Args:
        run: its record.
        config: of the run.
    """
    known = run.provenance.get("code_sha256", {})
    return {
        code: source.name
        for code, source in _sources(config).items()
        if known.get(code, source.sha256) != source.sha256
    }


def check_code(run: Run, config: RunConfig) -> None:
    """Check that the kinds of the user's are those that a run was started with.

    Args:
        run: its record.
        config: of the run.

    Raises:
        DataError: they are not. (A metric may be another: it is measured last, and anew.)
    """
    kinds = {code for section, code in codes_in(config.document()) if section in KINDS}
    for code, name in changed(run, config).items():
        if code in kinds:
            raise DataError(
                f"{name} is not the one this run was started with; restore it, or use --restart."
            )


def metrics_anew(run: Run, config: RunConfig) -> dict[str, str]:
    """The digests for a record whose metrics are measured anew."""
    metrics = config.evaluate.metrics
    now = {code: digest for code, digest in digests(config).items() if code in metrics}
    return {**run.provenance.get("code_sha256", {}), **now}
