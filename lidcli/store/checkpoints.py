"""The checkpoints of one run: two files, each of which knows whose it is and of which step."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py

from lidcli.errors import StoreError
from lidcli.plain import sync_folder
from lidcli.store.digest import digest
from lidcli.store.files import unwritable
from lidcli.store.hdf5 import DamagedError, open_read, write_temporary
from lidcli.store.record import read_json, write_json
from lidcli.store.tensors import load_tree, save_tree

__all__ = ["NEWEST", "PREVIOUS", "fitting", "load", "save", "weights"]

NEWEST, PREVIOUS = "checkpoint.h5", "checkpoint.prev.h5"


def save(folder: Path, run_id: str, tree: Any, step: int | None) -> None:
    """Write a checkpoint; the one before it becomes `checkpoint.prev.h5`.

    The new file is in place before the older ones move, so that a process killed at
    any moment leaves at least one good checkpoint.

    Args:
        folder: of the run.
        run_id: written into the file.
        tree: as `save_tree` takes it.
        step: of the training, written into the file.

    Raises:
        StoreError: it cannot be written; the checkpoints are as they were.
    """

    def write(file: h5py.File) -> None:
        write_json(file, "identity", {"run": run_id, "step": step})
        save_tree(file, tree)

    newest, previous = folder / NEWEST, folder / PREVIOUS
    temporary = write_temporary(newest, write)
    keep = folder / ".checkpoint.prev.h5.tmp"
    try:
        keep.unlink(missing_ok=True)
        linked = newest.exists() and _link(newest, keep)
        if newest.exists() and not linked:
            os.replace(newest, previous)
        os.replace(temporary, newest)
        if linked:
            os.replace(keep, previous)
        sync_folder(folder)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise unwritable(newest, error) from error


def _link(path: Path, name: Path) -> bool:
    """Give a file a second name; false where the file system has no hard links."""
    try:
        os.link(path, name)
    except OSError:
        return False
    return True


def _read(path: Path, run_id: str) -> tuple[Any, int | None]:
    """Tree and step of one file; files from before identities have no step.

    Raises:
        DamagedError: it is damaged.
        StoreError: it is another run's, a newer lid's, or not there.
    """
    with open_read(path) as file:
        identity = read_json(file, "identity") if "identity" in file else {"run": run_id}
        owner, step = str(identity["run"]), identity.get("step")
        if not (step is None or isinstance(step, int)):
            raise ValueError("a step is a number")
        if owner != run_id:
            raise StoreError(
                f"{path} belongs to run {owner} and not to {run_id}; remove it, or put it back."
            )
        return load_tree(file), step


def load(folder: Path, run_id: str) -> tuple[Any, list[str]]:
    """The newest checkpoint that is whole, and what had to be said about it.

    Args:
        folder: of the run.
        run_id: whose the checkpoints must be.

    Returns:
        The tree, or None where there is no checkpoint yet; and warnings, one for each that is
        damaged.

    Raises:
        StoreError: every checkpoint is damaged, or one is another run's or a newer lid's.
    """
    damage: list[str] = []
    for name in (NEWEST, PREVIOUS):
        path = folder / name
        if not os.path.lexists(path):
            continue
        try:
            tree, step = _read(path, run_id)
        except DamagedError as error:
            damage.append(str(error))
            continue
        which = "" if step is None else f", of step {step}"
        return tree, [f"{text} Using the checkpoint before it{which}." for text in damage]
    if damage:
        raise StoreError(f"{' '.join(damage)} --restart begins the run anew.")
    return None, []


def weights(folder: Path, run_id: str, known: str | None) -> dict[str, Any]:
    """The weights of the newest checkpoint, and of no other: `best`, or else `model`.

    Args:
        folder: of a finished run.
        run_id: whose the checkpoint must be.
        known: digest that they must have; None for a record from before there were any.

    Returns:
        Tensors by name, as a model's state dict.

    Raises:
        StoreError: the file is missing, damaged or another run's, or holds other weights.
    """
    path = folder / NEWEST
    tree, _ = _read(path, run_id)
    found = (tree.get("best") or tree.get("model")) if isinstance(tree, dict) else None
    if not _is_state(found):
        raise StoreError(
            f"{path} holds no weights of a model; lid train --restart makes them anew."
        )
    assert isinstance(found, dict)
    if known is not None and digest(found) != known:
        raise StoreError(
            f"{path} holds other weights than those that its record names; put back the right file,"
            " or make the run anew with --restart."
        )
    return found


def _is_state(value: Any) -> bool:
    import torch

    return (
        isinstance(value, dict)
        and bool(value)
        and all(isinstance(k, str) and isinstance(v, torch.Tensor) for k, v in value.items())
    )


@contextlib.contextmanager
def fitting(folder: Path) -> Iterator[None]:
    """Take up a checkpoint's contents, and say so in a sentence where they do not fit.

    Args:
        folder: of the run.

    Raises:
        StoreError: an entry is missing or has another shape or type than the training expects.
    """
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        if "memory" in str(error).lower():
            raise
        raise StoreError(
            f"{folder / NEWEST} does not fit this run: it is whole, but holds another model or"
            " training. --restart begins the run anew."
        ) from error
