"""Where there are no POSIX locks, what needs them says so and the rest can be imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BLOCKED = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name in ("fcntl", "resource"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Blocker())
for name in ("fcntl", "resource"):
    sys.modules.pop(name, None)
"""


def without_posix(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", BLOCKED + code],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    "words",
    [
        ["train", "-m", "vae", "-d", "pinwheel"],
        ["evaluate", "1f2e"],
        ["sweep", "demo"],
        ["fetch", "mnist"],
    ],
)
def test_a_command_that_needs_locks_is_refused_in_one_sentence(
    words: list[str], tmp_path: Path
) -> None:
    code = f"import sys\nsys.argv = ['lid', *{words!r}]\nfrom lidcli.cli import main\nmain()"
    done = without_posix(code, tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith(f"lid: lid {words[0]} needs the file locks of Linux and macOS")
    assert len(done.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "words", [["--help"], ["train", "--help"], ["list", "models"], ["list", "data"]]
)
def test_help_and_lists_work_without_them(words: list[str], tmp_path: Path) -> None:
    code = f"import sys\nsys.argv = ['lid', *{words!r}]\nfrom lidcli.cli import main\nmain()"
    done = without_posix(code, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.mark.parametrize("module", ["lidcli.data.download", "lidcli.training.provenance"])
def test_a_module_that_has_use_for_them_is_imported_without(module: str, tmp_path: Path) -> None:
    done = without_posix(f"import {module}", tmp_path)
    assert done.returncode == 0, done.stderr
