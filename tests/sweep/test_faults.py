"""A sweep under fire loses nothing, repeats nothing and computes the same bits."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_killed_again_and_again_a_sweep_ends_as_an_undisturbed_one(tmp_path: Path) -> None:
    words = ["--runs", "2", "--every", "3", "--kills", "2", "--sweeps", "1", "--epochs", "40"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.faults", *words, "--folder", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 of 2 runs complete, 2 bit for bit as undisturbed, 0 trained twice" in done.stdout
