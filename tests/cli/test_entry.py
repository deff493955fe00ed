"""The way in: one command under two names, interrupted politely from its first import on."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def lid(cwd: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "lidcli", *words],
        cwd=cwd,
        env=environment or None,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_module_is_the_command(tmp_path: Path) -> None:
    assert lid(tmp_path, "--version").stdout.startswith("lid, version ")
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == {"lid": "lidcli.__main__:main"}


def test_an_interrupt_while_it_is_imported_is_one_as_any_other(tmp_path: Path) -> None:
    (tmp_path / "click.py").write_text("raise KeyboardInterrupt\n")
    done = lid(tmp_path, "list", PYTHONPATH=f"{tmp_path}:{ROOT}")
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "lid: interrupted.\n")
