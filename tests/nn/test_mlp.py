"""The perceptron has the stages it is asked for and starts in range at any depth."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lidcli.nn import MLP, count_parameters


@pytest.mark.parametrize("layers", [1, 2, 9])
def test_layers_are_affine_stages(layers: int) -> None:
    net = MLP(4, 6, 16, layers)
    assert sum(isinstance(stage, nn.Linear) for stage in net.stages) == layers
    assert net(torch.zeros(2, 3, 4)).shape == (2, 3, 6)


def test_parameters_are_counted_where_they_train() -> None:
    net = MLP(4, 6, 16, 3)
    assert count_parameters(net) == 4 * 16 + 16 + 16 * 16 + 16 + 16 * 6 + 6
    net.stages[0].requires_grad_(False)
    assert count_parameters(net) == 16 * 16 + 16 + 16 * 6 + 6


@pytest.mark.parametrize("activation", ["leaky-relu", "gelu"])
def test_the_start_is_in_range_at_any_depth(activation: str) -> None:
    torch.manual_seed(0)
    for layers in (2, 9, 19):
        out = MLP(16, 20, 128, layers, activation=activation)(torch.randn(300, 16))
        assert 0.05 < out.std() < 5


@pytest.mark.parametrize(
    ("arguments", "said"),
    [((4, 6, 16, 0), "layers=0"), ((0, 6, 16, 2), "inputs=0"), ((4, 6, 0, 2), "hidden=0")],
)
def test_wrong_sizes_are_named(arguments: tuple[int, ...], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        MLP(*arguments)


def test_an_unknown_activation_and_a_wrong_input_are_named() -> None:
    with pytest.raises(ValueError, match="'tanh'"):
        MLP(4, 6, 16, 2, activation="tanh")
    with pytest.raises(ValueError, match=r"\(\.\.\., 4\), got \(3, 5\)"):
        MLP(4, 6, 16, 2)(torch.zeros(3, 5))
