"""Completion in the shell, as docs/SHELL.md describes it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

LID = """
import sys
sys.argv = ["lid"]
from lidcli.cli import main
try:
    main()
finally:
    heavy = {"torch", "zuko", "sklearn"} & set(sys.modules)
    print("heavy:", *sorted(heavy), file=sys.stderr)
"""


def completed(folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-c", LID],
        cwd=folder,
        env=os.environ | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "heavy:\n" in done.stderr
    return done


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_every_shell_is_printed_without_torch(
    shell: str, tmp_path: Path, repository: Path
) -> None:
    instruction = f"{shell}_source"
    assert f"_LID_COMPLETE={instruction} lid" in (repository / "docs/SHELL.md").read_text()
    if shell == "bash" and shutil.which("bash") is None:
        pytest.skip("click asks bash for its version")
    done = completed(tmp_path, _LID_COMPLETE=instruction)
    assert done.returncode == 0
    assert "_LID_COMPLETE" in done.stdout


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("lid ", {"fetch", "train", "evaluate", "sweep", "report", "list", "show"}),
        ("lid fetch fash", {"fashion-mnist"}),
        ("lid train --re", {"--restart", "--results"}),
        ("lid list ", {"models", "data", "experiments", "runs"}),
    ],
)
def test_words_complete(words: str, expected: set[str], tmp_path: Path) -> None:
    parts = words.split(" ")
    done = completed(
        tmp_path, _LID_COMPLETE="bash_complete", COMP_WORDS=words, COMP_CWORD=str(len(parts) - 1)
    )
    assert {line.partition(",")[2] for line in done.stdout.split()} >= expected
