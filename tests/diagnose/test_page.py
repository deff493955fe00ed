"""What docs/DIAGNOSE.md shows is what works: its blocks are run, in their order."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from lidcli.diagnose import Diagnosis

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "DIAGNOSE.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(python|sh|text)\n(.*?)^```", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"^# (\w+\.py)$", re.MULTILINE)

Lid = Callable[..., "CompletedProcess[str]"]


def blocks(language: str) -> list[str]:
    return [found[2] for found in BLOCK.finditer(PAGE) if found[1] == language]


NUMBER = re.compile(r"\d[\d.,]*")


def same_but_for_digits(printed: str, shown: str) -> None:
    """The same words, and numbers that are near or small; rows of units come in any order."""
    rows = [[line for line in text.splitlines() if line.strip()] for text in (printed, shown)]
    words = [[" ".join(NUMBER.sub("#", line).split()) for line in lines] for lines in rows]
    assert words[0] == words[1]
    told = [pair for pair in zip(*rows, strict=True) if not pair[0].strip()[0].isdigit()]
    for ours, theirs in told:
        for a, b in zip(NUMBER.findall(ours), NUMBER.findall(theirs), strict=True):
            x, y = (float(text.replace(",", "").rstrip(".")) for text in (a, b))
            assert x == pytest.approx(y, rel=0.3, abs=0.1)


def test_its_python_and_its_commands_run(
    lid: Lid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "page"}
    for block in blocks("python"):
        if "pythae" in block:
            continue
        exec(compile(block, "DIAGNOSE.md", "exec"), names)
        for name in FILE.findall(block):
            (tmp_path / name).write_text(block)
    found = names["found"]
    assert isinstance(found, Diagnosis)
    assert found.label == "informative"
    same_but_for_digits(str(found), blocks("text")[0])
    assert isinstance(names["crushed"], Diagnosis)
    assert names["crushed"].label == "collapsed"
    commands = [line for block in blocks("sh") for line in block.splitlines() if line]
    assert commands
    for line in commands:
        done = lid(*shlex.split(line)[1:])
        assert done.returncode == 0, done.stderr


def test_its_pythae_example_runs() -> None:
    pytest.importorskip("pythae.models")
    (block,) = (block for block in blocks("python") if "pythae" in block)
    names: dict[str, object] = {"__name__": "page"}
    exec(compile(block, "DIAGNOSE.md", "exec"), names)
    found = names["found"]
    assert isinstance(found, Diagnosis)
    assert found.ll is not None
    assert len(found.units) == 6
