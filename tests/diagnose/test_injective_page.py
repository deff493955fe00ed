"""docs/INJECTIVE.md shows a collapse and its absence: its blocks are run, in their order."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from lidcli.diagnose import Diagnosis

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "INJECTIVE.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)

pytestmark = pytest.mark.slow


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """The names of a module, as pythae looks one up for the class of a decoder."""
    module = ModuleType("page")
    monkeypatch.setitem(sys.modules, "page", module)
    return vars(module)


def run(names: dict[str, object], *blocks: str) -> dict[str, object]:
    with torch.random.fork_rng():
        for block in blocks:
            exec(compile(block, "INJECTIVE.md", "exec"), names)
    return names


def found(names: dict[str, object], name: str) -> Diagnosis:
    value = names[name]
    assert isinstance(value, Diagnosis)
    return value


def better(names: dict[str, object], before: str, after: str) -> bool:
    one, other = found(names, before), found(names, after)
    assert one.ll is not None
    assert other.ll is not None
    return other.ll.value - one.ll.value > 4 * (one.ll.se + other.ll.se)


def test_in_plain_pytorch_the_decoder_alone_ends_the_collapse(page: dict[str, object]) -> None:
    names = run(page, *(block for block in BLOCKS if "pythae" not in block))
    assert found(names, "before").label == "collapsed"
    assert found(names, "after").label == "informative"
    assert better(names, "before", "after")


def test_in_pythae_too(page: dict[str, object]) -> None:
    pytest.importorskip("pythae.models")
    shortened = [block.replace("train(VAE(", "(VAE(") for block in BLOCKS]
    names = run(page, *shortened)
    assert found(names, "pythae_before").label == "collapsed"
    assert found(names, "pythae_after").label == "informative"
    assert better(names, "pythae_before", "pythae_after")
