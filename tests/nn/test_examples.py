"""Every example in a docstring runs and prints what it says."""

from __future__ import annotations

import doctest
import importlib
from types import ModuleType

import pytest

MODULES = [
    "icnn",
    "brenier",
    "conditional",
    "cross_entropy",
    "factored",
    "hessian",
    "injective",
    "joint",
    "mlp",
    "modulus",
    "orthogonal",
    "recurrent",
    "sequence",
    "token_fisher",
    "token_output",
]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_run(name: str) -> None:
    module: ModuleType = importlib.import_module(f"lidcli.nn.{name}")
    found = doctest.testmod(module)
    assert found.attempted > 0
    assert found.failed == 0
