"""The modules of a user's functions are found wherever Python code keeps them."""

from __future__ import annotations

import copy
import functools
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lidcli.diagnose import diagnose
from lidcli.diagnose.functions import modules_of

LAYER = nn.Linear(3, 4)
IN_A_DICT = {"e": LAYER, "unused": None}
IN_A_MODULE = ModuleType("nets")
IN_A_MODULE.layer = LAYER  # type: ignore[attr-defined]


@dataclass
class Holder:
    nets: list[Any] = field(default_factory=lambda: [{"e": LAYER}])

    def encode(self, x: Tensor) -> Any:
        return self.nets[0]["e"](x)

    def named(self, x: Tensor) -> Any:
        return self.helper(x)

    def helper(self, x: Tensor) -> Any:
        return IN_A_DICT["e"](x)

    def __call__(self, x: Tensor) -> Any:
        return self.encode(x)


class Slotted:
    __slots__ = ("layer",)

    def __init__(self) -> None:
        self.layer = LAYER


class Static:
    layer = LAYER

    @staticmethod
    def encode(x: Tensor) -> Any:
        return IN_A_DICT["e"](x)


class Named:
    def __call__(self, x: Tensor) -> Any:
        return LAYER(x)


def closed(value: Any) -> Callable[[Tensor], Any]:
    return lambda x: value


def default(x: Tensor, layer: nn.Module = LAYER, *, more: nn.Module | None = None) -> Any:
    return layer(x)


FUNCTIONS: dict[str, Any] = {
    "a global": lambda x: LAYER(x),
    "a dict": lambda x: IN_A_DICT["e"](x),
    "a module of Python": lambda x: IN_A_MODULE.layer(x),
    "a comprehension": lambda x: [LAYER(row) for row in x],
    "a list": closed([LAYER]),
    "a tuple in a dict": closed({"nets": (1, LAYER)}),
    "an ordered dict": closed(OrderedDict(e=LAYER)),
    "an object": closed(Holder()),
    "a namespace": closed(SimpleNamespace(net=LAYER)),
    "slots": closed(Slotted()),
    "a class": closed(Static),
    "a method of a class": lambda x: Static.encode(x),
    "a default": default,
    "a method": Holder().encode,
    "a method of a method": Holder().named,
    "an object that is called": Holder(),
    "one that names a global": Named(),
    "a partial of a dict": functools.partial(lambda nets, x: nets["e"](x), {"e": LAYER}),
    "a decorated function": torch.no_grad()(closed([LAYER])),
    "a dict of functions": closed({"f": lambda x: LAYER(x)}),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_modules_are_found(name: str) -> None:
    assert modules_of(FUNCTIONS[name]) == [LAYER]


OTHER = nn.Dropout()


class Attributed:
    """Names a layer of its own by a word that is a global's as well."""

    def __init__(self) -> None:
        self.OTHER = LAYER

    def encode(self, x: Any) -> Any:
        return self.OTHER(x)


def test_an_attribute_is_not_the_global_of_its_name() -> None:
    assert modules_of(Attributed().encode) == [LAYER]


def test_what_holds_itself_is_followed_once() -> None:
    circle: list[Any] = [LAYER]
    circle.append(circle)
    assert modules_of(closed(circle)) == [LAYER]


def test_the_nearest_is_first() -> None:
    near = nn.Linear(2, 2)
    assert modules_of(closed([{"far": {"farther": [LAYER]}}, near])) == [near, LAYER]


@pytest.mark.parametrize("held", ["dict", "list", "object"])
def test_batch_norm_is_measured_in_evaluation_mode_and_left_as_it_was(held: str) -> None:
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 4))
    decoder = nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    nets: Any = {"e": encoder, "d": decoder}
    before = copy.deepcopy(nn.ModuleList(nets.values()).state_dict())
    if held == "list":
        nets = [encoder, decoder]
        parts = {
            "encode": lambda x: nets[0](x).chunk(2, 1),
            "decode": lambda z: nets[1](z),
        }
    elif held == "object":
        own = SimpleNamespace(nets=nets)
        parts = {
            "encode": lambda x: own.nets["e"](x).chunk(2, 1),
            "decode": lambda z: own.nets["d"](z),
        }
    else:
        parts = {
            "encode": lambda x: nets["e"](x).chunk(2, 1),
            "decode": lambda z: nets["d"](z),
        }
    found = diagnose(torch.randn(300, 3), **parts, likelihood="gaussian", sigma=1.0, samples=4)
    assert any("training mode, with BatchNorm1d" in text for text in found.notes)
    after = nn.ModuleList([encoder, decoder]).state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert all(module.training for module in (*encoder, *decoder))
