"""Whose record a run's folder holds: what the record says, and the folder's own name."""

from __future__ import annotations

import os
from pathlib import Path

from lidcli.config.identity import identities
from lidcli.config.run import RunConfig
from lidcli.config.sections import KINDS
from lidcli.errors import ConfigError, StoreError
from lidcli.store.record import Contents

__all__ = ["absolute", "check_owner", "owner_of"]


def owner_of(folder: Path, record: Contents) -> str:
    """Whose record it is: one that does not say is the run that its configuration makes.

    Nothing is known of a configuration that is not to be read today, or that has a kind of the
    user's, whose settings may have become more.
    """
    if record.identity is not None:
        return str(record.identity["run"])
    from lidcli.config.read import codes_in

    if any(section in KINDS for section, _ in codes_in(record.config)):
        return ""
    try:
        known = identities(RunConfig.of(record.config))
    except ConfigError:
        return ""
    return next((name for name in known if name in _names(folder)), known[0])


def check_owner(folder: Path, owner: str) -> None:
    """Check that a record lies in the folder of the run that it is of.

    Args:
        folder: of the record.
        owner: the run's id; empty where it is not known.

    Raises:
        StoreError: it is another run's.
    """
    if owner in ("", folder.name):
        return
    if owner not in _names(folder):
        raise StoreError(
            f"{folder / 'run.h5'} is the record of run {owner} and not of"
            f" {absolute(folder).name}; put it back, or remove it."
        )


def _names(folder: Path) -> tuple[str, str]:
    """Its own name, and that of the folder that it may be a link to."""
    return absolute(folder).name, folder.resolve().name


def absolute(folder: Path) -> Path:
    """The folder with its own name, also where it is given as `.`; links are not followed."""
    return Path(os.path.abspath(folder))
