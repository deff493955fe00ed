"""Where a run's numbers come from: commit, versions, machine."""

from __future__ import annotations

import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

__all__ = ["describe", "peak_memory_mb"]

STATUS = Path("/proc/self/status")
PACKAGES = ("lidcli", "torch", "numpy", "zuko", "h5py", "scikit-learn", "scipy")


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def describe(device: torch.device) -> dict[str, Any]:
    """Command line, commit, versions and device, as plain JSON values."""
    changed = _git("status", "--porcelain", "--untracked-files=no")
    return {
        "argv": ["lid", *sys.argv[1:]],
        "git_commit": _git("rev-parse", "HEAD"),
        "git_dirty": None if changed is None else bool(changed),
        "versions": {name: _version(name) for name in PACKAGES}
        | {"python": platform.python_version()},
        "device": torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"cpu, {torch.get_num_threads()} threads",
    }


def peak_memory_mb(device: torch.device) -> float:
    """Largest memory of this process so far (of the GPU, on one), in MiB."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device) / 2**20)
    return _peak_bytes() / 2**20


def _peak_bytes() -> float:
    """Largest resident memory of this process so far, whatever the platform counts it in."""
    if sys.platform == "win32":
        import psutil

        return float(psutil.Process().memory_info().peak_wset)
    if STATUS.exists():
        # Not getrusage first, in which a process starts with the peak of the one that started it.
        found = STATUS.read_text().partition("VmHWM:")[2].split()
        if found:
            return float(found[0]) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak) if sys.platform == "darwin" else peak * 1024.0
