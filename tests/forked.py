"""A server that has imported what `lid` needs, and forks a process for each command.

A command here is a process of its own, with its own folder, environment, streams, signals, modules
of a user and exit code, as if it had been started anew; only the seconds of importing torch are
shared. So it is with the workers of a sweep that was started so.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import pkgutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from lidcli.cli import main
from lidcli.sweep.pool import THREAD_VARIABLES, WORKER

APART = ("__main__", "ray_cluster", "worker")
"""Modules that run when they are imported, or that need what may not be installed."""
LATE = (
    *("h5py", "matplotlib.backends.backend_agg", "pandas", "rich.console", "rich.table"),
    *("scipy.optimize", "scipy.stats", "sklearn.metrics", "torch._dynamo", "torch.func", "zuko"),
    "torch._decomp.decompositions_for_jvp",
)
"""What functions of lid and of torch import when they are called."""
START = subprocess.Popen


class Command:
    """A command that was started, to be used as `subprocess.Popen` is."""

    def __init__(self, server: Server, words: Sequence[str], order: Mapping[str, Any]) -> None:
        self.server, self.words = server, words
        self.streams = tempfile.mkdtemp(dir=server.folder.name)
        self.returncode: int | None = None
        self.pid: int = server.ask({**order, "words": words, "streams": self.streams})

    def poll(self) -> int | None:
        """The exit code, once it has ended."""
        if self.returncode is None:
            self.returncode = self.server.ask({"ended": self.pid})
        return self.returncode

    def wait(self, timeout: float = 600) -> int:
        """The exit code, when it has ended."""
        end = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired(self.words, timeout)
            time.sleep(0.005)
        return code

    def communicate(self, timeout: float = 600) -> tuple[str, str]:
        """What it wrote on each stream, when it has ended."""
        self.wait(timeout)
        output, errors = (Path(self.streams, name) for name in ("stdout", "stderr"))
        return output.read_text(), errors.read_text()

    def send_signal(self, number: int) -> None:
        """Send a signal to it."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)


class Server:
    """The tests' end."""

    def __init__(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.process = subprocess.Popen(
            [sys.executable, "-P", __file__],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def ask(self, order: Mapping[str, Any]) -> Any:
        """Its answer."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(order).encode() + b"\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def start(self, words: Sequence[str], folder: Path, **variables: str) -> Command:
        """`lid WORDS` in a folder, without variables of lid's but these."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith("LID_")}
        clean |= {"OMP_NUM_THREADS": "1", "COLUMNS": "80"} | variables
        return Command(self, words, {"folder": str(folder), "variables": clean})

    def stop(self) -> None:
        """End the server."""
        self.process.kill()
        self.process.communicate()
        self.folder.cleanup()


def _prepare() -> None:
    import lidcli

    for name in LATE:
        importlib.import_module(name)
    for module in pkgutil.walk_packages(lidcli.__path__, "lidcli."):
        if not module.name.endswith(APART):
            importlib.import_module(module.name)
    gc.collect()
    gc.freeze()


def _become(order: Mapping[str, Any]) -> None:
    """Take the place of a process that was started with this order, in a session of its own."""
    os.setsid()
    os.chdir(order["folder"])
    os.environ.clear()
    os.environ.update(order["variables"])
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        place = Path(order["streams"], name) if number else os.devnull
        stream = os.open(place, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(stream, number)
        os.close(stream)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    subprocess.Popen = _spawn  # type: ignore[assignment,misc]
    sys.argv = ["lid", *order["words"]]
    more = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:0] = [os.getcwd(), *filter(None, more)]


def _spawn(words: Sequence[str], **how: Any) -> subprocess.Popen[Any]:
    """A process; where it is a worker of one thread, one that goes on from this one."""
    environment = how.get("env") or os.environ
    alike = {environment.get(name) for name in THREAD_VARIABLES} == {"1"}
    if [*words[1:]] == ["-m", WORKER] and alike:
        how["preexec_fn"] = lambda: _work(environment)
    return START(words, **how)


def _work(environment: Mapping[str, str]) -> NoReturn:
    """Take the place of a worker, whose folder, streams and session are there already."""
    from lidcli.sweep.worker import main as work

    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    os.environ.clear()
    os.environ.update(environment)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        setattr(sys, name, os.fdopen(number, "w" if number else "r", closefd=False))
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _run(work)


def _run(main: Callable[[], None]) -> NoReturn:
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


def _ended(child: int) -> int | None:
    found, status = os.waitpid(child, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if found else None


def serve() -> None:
    """Answer each order: a process to start with its number, one that was started with its end."""
    _prepare()
    for line in sys.stdin:
        order = json.loads(line)
        if "ended" in order:
            answer = _ended(order["ended"])
        else:
            answer = os.fork()
            if not answer:
                _become(order)
                _run(main)
        os.write(1, f"{json.dumps(answer)}\n".encode())


if __name__ == "__main__":
    serve()
