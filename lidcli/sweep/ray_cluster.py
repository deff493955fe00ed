"""A Ray cluster, joined or started here without a word on the terminal, and what it has."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import secrets
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from lidcli.errors import ConfigError, LidError
from lidcli.store.files import unwritable
from lidcli.sweep.engines import Request
from lidcli.sweep.local import usable_cores
from lidcli.sweep.orders import environment

__all__ = ["check_address", "check_room", "connected", "find_ray", "gpu_share", "shared_token"]

PATIENCE = 5.0
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_agent_register_timeout_ms": "600000",
}
"""Settings of Ray unless they are set: nothing sent to anybody, and time to start when busy."""


def find_ray() -> ModuleType:
    """The package, told to send no statistics.

    Raises:
        ConfigError: it is not installed.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError:
        raise ConfigError(
            '--engine ray needs the package ray, which is not installed: pip install "lidcli[ray]".'
        ) from None
    found: ModuleType = ray
    return found


def check_address(address: str) -> None:
    """Make sure that somebody listens, which Ray itself takes a minute to deny.

    Raises:
        ConfigError: it is neither auto nor host:port.
        LidError: nobody does.

    Example:
        >>> check_address("head")
        Traceback (most recent call last):
        lidcli.errors.ConfigError: --address is written auto or HOST:PORT, not 'head'.
    """
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not (port.isdecimal() and 0 < int(port) < 2**16):
        raise ConfigError(f"--address is written auto or HOST:PORT, not {address[:60]!r}.")
    try:
        socket.create_connection((host.strip("[]"), int(port)), PATIENCE).close()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise LidError(
            f"No Ray cluster answers at {address} ({reason}); look at the address that"
            " `ray start --head` printed, or leave --address out to start a cluster here."
        ) from error


@contextlib.contextmanager
def connected(
    address: str | None, *, threads: int, workers: int | None, verbose: bool
) -> Iterator[Any]:
    """The package, connected to a cluster while the block runs.

    Args:
        address: as `check_address` takes it; None for what RAY_ADDRESS names, and else for a
            cluster of this machine alone, which ends with the block.
        threads: of a run.
        workers: runs at a time, None for as many as there are cores for.
        verbose: whether Ray's log goes to the terminal.

    Raises:
        ConfigError: Ray is not installed, or the address is none.
        LidError: there is no such cluster, or it cannot be joined.
    """
    ray = find_ray()
    address = address or os.environ.get("RAY_ADDRESS") or None
    given: dict[str, Any]
    if address is None:
        cores = workers * threads if workers else usable_cores()
        given = {"num_cpus": cores, "include_dashboard": False, "address": "local"}
    else:
        check_address(address)
        given = {"address": address}
    names = {name: value for name, value in os.environ.items() if name.startswith("LID_")}
    with _silent(verbose):
        try:
            ray.init(
                log_to_driver=verbose,
                logging_level=logging.INFO if verbose else logging.CRITICAL,
                runtime_env={"env_vars": {**names, **environment(threads)}},
                **given,
            )
        except Exception as error:
            ray.shutdown()
            reason = " ".join(str(error).split())[:200].rstrip(".")
            raise LidError(f"Ray at {address or 'this machine'} failed: {reason}.") from error
    try:
        with _wordless(verbose):
            yield ray
    finally:
        with _silent(verbose):
            ray.shutdown()


@contextlib.contextmanager
def _wordless(verbose: bool) -> Iterator[None]:
    """Keep what Ray prints of nodes that die off stdout, for which it has no setting."""
    worker = importlib.import_module("ray._private.worker")
    name = "print_to_stdstream"
    if verbose or not hasattr(worker, name):
        yield
        return
    kept = getattr(worker, name)
    setattr(worker, name, lambda *_, **__: None)
    try:
        yield
    finally:
        setattr(worker, name, kept)


@contextlib.contextmanager
def _silent(verbose: bool) -> Iterator[None]:
    """Keep what Ray's libraries write on stderr while they start and end."""
    if verbose:
        yield
        return
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as sink:
        os.dup2(sink.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)


@contextlib.contextmanager
def shared_token(results: Path) -> Iterator[str]:
    """The name of a file in the results folder, by which a node sees whether it has the same."""
    path = results / f".sweep-{secrets.token_hex(8)}"
    try:
        results.mkdir(parents=True, exist_ok=True)
        path.touch()
    except OSError as error:
        raise unwritable(path, error) from error
    try:
        yield path.name
    finally:
        path.unlink(missing_ok=True)


def check_room(ray: Any, request: Request) -> None:
    """Refuse runs for which the cluster of this machine alone has never room.

    Raises:
        ConfigError: they ask for more memory than there is.
    """
    most = ray.cluster_resources().get("memory", 0)
    if request.address is None and request.memory is not None and request.memory > most:
        raise ConfigError(
            f"--memory asks for more than the {most / 2**20:,.0f} MiB that Ray has for runs here."
        )


def gpu_share(ray: Any, request: Request) -> float:
    """The part of a GPU that each run takes.

    Raises:
        ConfigError: the cluster has none, and one was asked for.
    """
    if request.device == "cpu":
        return 0.0
    if ray.cluster_resources().get("GPU", 0) > 0:
        return 1 / request.per_gpu
    if request.device == "auto":
        return 0.0
    raise ConfigError("The Ray cluster has no GPU; --device auto or cpu computes without one.")
