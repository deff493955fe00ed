"""A flow's inverse: the bits of its transforms' own, for half of their work."""

from __future__ import annotations

import gc
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from lidcli.nn.flows import ConditionalRealNVP


@pytest.fixture(params=[(1, 2), (2, 2), (5, 3)], ids=str)
def flow(request: pytest.FixtureRequest) -> ConditionalRealNVP:
    torch.manual_seed(0)
    features, transforms = request.param
    made = ConditionalRealNVP(features, context=3, transforms=transforms, hidden=16)
    for p in made.parameters():
        torch.nn.init.normal_(p, std=0.3)
    return made


def points(flow: ConditionalRealNVP) -> tuple[Tensor, Tensor]:
    features = len(flow.couplings[0].mask) if flow.couplings else 1
    return torch.randn(4, 7, features), torch.randn(7, 3).expand(4, 7, 3)


def test_the_inverse_has_the_bits_of_the_transforms_own(flow: ConditionalRealNVP) -> None:
    w, context = points(flow)
    base, log_det = flow.inverse(w, context)
    expected, total = w, torch.zeros(4, 7)
    for coupling in reversed(flow.couplings):
        expected, step = coupling(context).inv.call_and_ladj(expected)
        total = total + step
    assert torch.equal(base, expected)
    assert torch.equal(log_det, total)


def test_the_inverse_asks_every_network_once(flow: ConditionalRealNVP) -> None:
    asked: list[object] = []
    for coupling in flow.couplings:
        coupling.hyper.register_forward_hook(lambda net, *_: asked.append(net))
    flow.inverse(*points(flow))
    assert len(asked) == len(set(map(id, asked))) == len(flow.couplings)


def test_no_tensor_of_an_inverse_waits_for_the_garbage_collector(flow: ConditionalRealNVP) -> None:
    w, context = points(flow)
    assert not left_behind(lambda: flow.inverse(w, context))


def test_the_transforms_own_inverse_would_leave_tensors_to_it(flow: ConditionalRealNVP) -> None:
    w, context = points(flow)
    couplings = list(flow.couplings)
    assert bool(left_behind(lambda: [c(context).inv.call_and_ladj(w) for c in couplings])) == bool(
        couplings
    )


def left_behind(act: Callable[[], object]) -> list[Tensor]:
    """Tensors that outlive an act whose result is dropped, while no garbage is looked for."""
    gc.collect()
    gc.disable()
    try:
        before = tensors()
        act()
        known = set(map(id, before))
        return [t for t in tensors() if id(t) not in known]
    finally:
        gc.enable()


def tensors() -> list[Tensor]:
    return [o for o in gc.get_objects() if type(o) is Tensor]
