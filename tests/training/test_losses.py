"""A model's first losses are those of the version before, up to what another machine rounds."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest

SCRIPT: dict[str, Any] = runpy.run_path(str(Path(__file__).with_name("losses.py")))
CASES = dict(SCRIPT["cases"]())
STORED: dict[str, list[float]] = json.loads(SCRIPT["STORED"].read_text())

STOPPED = 3e-2
"""Of models whose encoder's updates end at a comparison, which a last bit may decide."""


def test_every_model_has_stored_losses() -> None:
    assert set(CASES) == set(STORED)


@pytest.mark.parametrize("name", CASES)
def test_the_first_losses_are_those_stored(name: str, tmp_path: Path) -> None:
    allowed = STOPPED if name.endswith("lagging-vae") else 1e-4
    assert SCRIPT["losses"](CASES[name], tmp_path) == pytest.approx(STORED[name], rel=allowed)
