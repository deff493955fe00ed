"""A server that has imported what `lid` needs, and forks a process for each command.

A command here is a process of its own, with its own folder, environment, streams, modules of a user
and exit code, as if it had been started anew; only the seconds of importing torch are shared.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import pkgutil
import select
import subprocess
import sys
import tempfile
import threading
import traceback
from pathlib import Path
from typing import NoReturn

from lidcli.cli import main

APART = ("__main__", "ray_cluster", "worker")
"""Modules that run when they are imported, or that need what may not be installed."""

LATE = (
    *("h5py", "matplotlib.backends.backend_agg", "pandas", "rich.console", "rich.table"),
    *("scipy.optimize", "scipy.stats", "sklearn.metrics", "torch._dynamo", "torch.func", "zuko"),
)
"""What functions of lid and of torch import when they are called."""


class Server:
    """The other end: call it with the words after `lid`."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-P", __file__],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def run(
        self, words: tuple[str, ...], folder: Path, variables: dict[str, str], timeout: float
    ) -> subprocess.CompletedProcess[str]:
        """`lid WORDS` in a folder, with these variables and no others."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with tempfile.TemporaryDirectory() as streams:
            order = {"words": words, "folder": str(folder), "variables": variables}
            self.process.stdin.write(json.dumps(order | {"streams": streams}).encode() + b"\n")
            self.process.stdin.flush()
            if not select.select([self.process.stdout], [], [], timeout)[0]:
                self.stop()
                raise subprocess.TimeoutExpired(words, timeout)
            code = int(self.process.stdout.readline())
            said = [(Path(streams) / name).read_text() for name in ("stdout", "stderr")]
        return subprocess.CompletedProcess(words, code, *said)

    def stop(self) -> None:
        """End the server; a command that still runs is orphaned."""
        self.process.kill()
        self.process.communicate()


def _prepare() -> None:
    import lidcli

    for name in LATE:
        importlib.import_module(name)
    for module in pkgutil.walk_packages(lidcli.__path__, "lidcli."):
        if not module.name.endswith(APART):
            importlib.import_module(module.name)


def _become(order: dict[str, object]) -> None:
    """Take the place of a process that was started with this order."""
    os.chdir(str(order["folder"]))
    os.environ.clear()
    os.environ.update(order["variables"])  # type: ignore[arg-type, call-overload]
    for number, name in enumerate(("stdout", "stderr"), start=1):
        stream = os.open(
            Path(str(order["streams"])) / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600
        )
        os.dup2(stream, number)
        os.close(stream)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    sys.argv = ["lid", *order["words"]]  # type: ignore[misc]
    more = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:0] = [os.getcwd(), *filter(None, more)]


def _run() -> NoReturn:
    """The command, and an end without the seconds that taking all modules apart would last."""
    code: object = 1
    try:
        main()
        code = 0
    except SystemExit as stop:
        code = stop.code or 0
    except BaseException:
        traceback.print_exc()
    finally:
        threading._shutdown()
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code if isinstance(code, int) else 1)


def serve() -> None:
    """Fork for each line of orders, and answer with the exit code."""
    _prepare()
    gc.collect()
    gc.freeze()
    for line in sys.stdin:
        child = os.fork()
        if not child:
            _become(json.loads(line))
            _run()
        _, status = os.waitpid(child, 0)
        os.write(1, f"{os.waitstatus_to_exitcode(status)}\n".encode())


if __name__ == "__main__":
    serve()
