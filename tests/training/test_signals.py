"""Signals that ask a run to stop, and those that come after it has."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest

from lidcli.errors import Interrupted
from lidcli.training.signals import Echo, StopRequest, hand_back

LATE = """
import atexit, os, signal
from lidcli import cli
from lidcli.errors import Interrupted
from lidcli.training.signals import StopRequest

def stopped(**_):
    with StopRequest() as stop:
        signal.raise_signal(signal.SIGTERM)
    {between}
    raise Interrupted(stop.signum)

class Last:
    def __del__(self, kill=os.kill, pid=os.getpid()):
        kill(pid, 15)

keep = Last()
atexit.register(os.kill, os.getpid(), signal.SIGTERM)
cli.cli.main = stopped
cli.main()
"""


@pytest.mark.parametrize(
    "between", ["pass", "signal.raise_signal(signal.SIGTERM)"], ids=["at exit", "before it"]
)
def test_a_sigterm_sent_again_does_not_take_the_exit_code_of_a_run_that_has_stopped(
    between: str,
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LATE.format(between=between)], capture_output=True, text=True
    )
    assert done.returncode == 143, done.stderr
    assert "Interrupted after a checkpoint" in done.stderr


def test_a_sigterm_meant_for_what_follows_goes_to_the_handler_of_before(monkeypatch) -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    try:
        with StopRequest() as stop:
            os.kill(os.getpid(), signal.SIGTERM)
        assert stop.signum == signal.SIGTERM
        signal.raise_signal(signal.SIGTERM)
        assert heard == []
        monkeypatch.setattr("lidcli.training.signals.ECHO_SECONDS", 0.0)
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        assert heard == [signal.SIGTERM, signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_without_a_sigterm_the_handlers_are_back_at_once() -> None:
    before = signal.getsignal(signal.SIGTERM)
    hand_back({signal.SIGTERM: signal.SIG_IGN}, Echo())
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    signal.signal(signal.SIGTERM, before)


def dropped() -> None:
    """A callback: what is raised in it goes no further."""
    with contextlib.suppress(Exception):
        signal.raise_signal(signal.SIGTERM)


def disguised() -> None:
    """A library that raises its own error for any other."""
    try:
        signal.raise_signal(signal.SIGINT)
    except Exception as error:
        raise TypeError("unsupported callable") from error


@pytest.mark.parametrize("between", [dropped, disguised])
def test_a_signal_ends_the_block_whatever_a_library_makes_of_it(
    between: Callable[[], None],
) -> None:
    with StopRequest() as stop, pytest.raises(Interrupted), stop.at_once():
        between()
    assert stop.signum is not None


def test_an_error_without_a_signal_is_itself() -> None:
    with StopRequest() as stop, pytest.raises(TypeError), stop.at_once():
        raise TypeError("unsupported callable")
