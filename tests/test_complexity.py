"""Functions and modules stay small enough to be read at once."""

from __future__ import annotations

from pathlib import Path

import pytest
from radon.complexity import cc_visit
from radon.visitors import Function

ROOT = Path(__file__).resolve().parents[1]
MODULES = sorted((ROOT / "lidcli").rglob("*.py"))
MOST_PATHS = 12
MOST_LINES = 350


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_function_has_few_paths_and_a_module_few_lines(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    functions = [block for block in cc_visit(text) if isinstance(block, Function)]
    assert {f.fullname: f.complexity for f in functions if f.complexity > MOST_PATHS} == {}
    assert len(text.splitlines()) <= MOST_LINES
