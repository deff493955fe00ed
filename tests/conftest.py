"""Fixtures that several parts of the suite share."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from forked import Server

if TYPE_CHECKING:
    import torch

ROOT = Path(__file__).resolve().parents[1]
PATIENCE = 600.0
"""Seconds until a wait is given up: no result depends on it, however busy the machine."""


@pytest.fixture(scope="session")
def repository() -> Path:
    """The top of the checkout."""
    return ROOT


@pytest.fixture(scope="session")
def mirror() -> Path:
    """The folder of real data files; skips the test where there is none."""
    named = os.environ.get("LID_MIRROR")
    if not named or not Path(named).is_dir():
        pytest.skip("LID_MIRROR names no folder of real data")
    return Path(named)


@pytest.fixture
def cuda() -> torch.device:
    """The GPU; skips the test where there is none."""
    import torch

    if not torch.cuda.is_available():
        pytest.skip("no GPU here")
    return torch.device("cuda")


Lid = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """What runs the commands of `lid`."""
    server = Server()
    yield server
    server.stop()


@pytest.fixture
def lid(tmp_path: Path, server: Server) -> Lid:
    """Run the command line, in a process and a folder of its own: lid("list", "models")."""

    def call(
        *arguments: str,
        cwd: Path = tmp_path,
        timeout: float = PATIENCE,
        env: dict[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        command = server.start(arguments, cwd, **(env or {}))
        try:
            said = command.communicate(timeout)
        finally:
            if command.poll() is None:
                command.kill()
        return subprocess.CompletedProcess(arguments, command.wait(0), *said)

    return call


Wait = Callable[..., None]


@pytest.fixture(scope="session")
def wait_for() -> Wait:
    """Poll until a condition holds: wait_for(folder.exists, process) fails if the process ends."""

    def call(condition: Callable[[], Any], process: subprocess.Popen[str] | None = None) -> None:
        end = time.monotonic() + PATIENCE
        while not condition():
            if process is not None and process.poll() is not None and not condition():
                pytest.fail(f"ended before: {process.communicate()}")
            assert time.monotonic() < end, "waited in vain"
            time.sleep(0.01)

    return call


@pytest.fixture(scope="session")
def patience() -> float:
    """The limit of a wait for a process, in seconds."""
    return PATIENCE
