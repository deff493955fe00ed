"""Peak memory is in MiB whatever unit the platform counts in."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch

from lidcli.training import provenance
from lidcli.training.provenance import peak_memory_mb


@pytest.mark.parametrize(("platform", "unit"), [("linux", 1024), ("darwin", 1), ("win32", 1)])
def test_the_unit_is_the_platform_s(
    platform: str, unit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 300 * 2**20 // unit
    process = SimpleNamespace(memory_info=lambda: SimpleNamespace(peak_wset=count))
    used = SimpleNamespace(RUSAGE_SELF=0, getrusage=lambda who: SimpleNamespace(ru_maxrss=count))
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(provenance, "STATUS", Path("/nowhere"))
    monkeypatch.setattr(psutil, "Process", lambda: process)
    monkeypatch.setitem(sys.modules, "resource", None if platform == "win32" else used)
    assert peak_memory_mb(torch.device("cpu")) == 300


def test_the_peak_is_at_least_what_this_process_holds_now() -> None:
    held = torch.ones(2**23)
    assert peak_memory_mb(torch.device("cpu")) >= held.nbytes / 2**20


@pytest.mark.skipif(
    not provenance.STATUS.exists() or "VmHWM" not in provenance.STATUS.read_text(),
    reason="the system does not say a process's own peak",
)
def test_the_peak_is_not_that_of_the_process_that_started_this_one() -> None:
    held = torch.ones(2**28, dtype=torch.uint8)
    said = "import torch; from lidcli.training.provenance import peak_memory_mb as peak; "
    said += "held = torch.ones(0); print(peak(torch.device('cpu')))"
    alone = subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, check=True)
    assert float(alone.stdout) < peak_memory_mb(torch.device("cpu")) - held.nbytes / 2**21
