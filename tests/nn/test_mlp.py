"""The perceptron has the stages it is asked for and starts in range at any depth."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.func import functional_call, stack_module_state, vmap

from lidcli.nn import MLP, InjectiveDecoder, SkipMLP, count_parameters


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


def orthonormal(out: int, latent: int) -> torch.Tensor:
    return torch.linalg.qr(torch.randn(out, latent, dtype=torch.float64)).Q


@pytest.mark.parametrize("layers", [1, 2, 9])
def test_a_skip_mlp_meets_its_input_at_every_stage(layers: int) -> None:
    torch.manual_seed(0)
    net = SkipMLP(4, 6, 16, layers, directions=orthonormal(6, 4))
    assert [stage.in_features for stage in net.stages] == [4, *[20] * (layers - 1)]
    assert net(torch.zeros(2, 3, 4)).shape == (2, 3, 6)
    stages = 4 + (layers - 1) * 20
    biases = 16 * (layers - 1) + 6
    assert count_parameters(net) == stages * 16 - (4 if layers == 1 else 20) * 10 + biases + 4


def test_its_linear_path_is_that_of_the_injective_decoder() -> None:
    torch.manual_seed(0)
    directions, offset = orthonormal(6, 4), torch.randn(6)
    skip = SkipMLP(4, 6, 16, 3, directions=directions, offset=offset)
    brenier = InjectiveDecoder(
        4, 6, 16, 5, inverse_lipschitz=1.0, directions=directions, offset=offset
    )
    z = torch.randn(5, 4)
    with torch.no_grad():
        skip.stages[-1].weight.zero_()
        for g in brenier.brenier_maps():
            g.icnn.log_gain.fill_(-torch.inf)
        torch.testing.assert_close(skip(z), brenier(z))
        skip.gain[1] = 3.0
        torch.testing.assert_close(
            skip(z) - brenier(z), 2 * z[:, 1:2] * directions[:, 1].float(), atol=1e-5, rtol=1e-5
        )


@pytest.mark.parametrize("activation", ["leaky-relu", "gelu"])
def test_a_skip_mlp_starts_in_range_at_any_depth(activation: str) -> None:
    torch.manual_seed(0)
    for layers in (2, 9, 19):
        net = SkipMLP(16, 20, 128, layers, directions=orthonormal(20, 16), activation=activation)
        assert 0.05 < net(torch.randn(300, 16)).std() < 5


def test_a_state_dict_restores_the_directions_of_a_skip_mlp() -> None:
    first, second = (
        SkipMLP(4, 6, 16, 2, directions=orthonormal(6, 4), offset=torch.randn(6)) for _ in range(2)
    )
    second.load_state_dict(first.state_dict())
    z = torch.randn(5, 4)
    assert torch.equal(first(z), second(z))
    assert [name for name, _ in first.named_parameters() if "stages" not in name] == ["gain"]


def test_skip_mlps_stack_under_vmap() -> None:
    nets = [SkipMLP(4, 6, 8, 3, directions=orthonormal(6, 4)).double() for _ in range(3)]
    parameters, buffers = stack_module_state(nets)
    z = torch.randn(5, 4, dtype=torch.float64)
    stacked = vmap(lambda p, b: functional_call(nets[0], (p, b), (z,)))(parameters, buffers)
    torch.testing.assert_close(stacked, torch.stack([net(z) for net in nets]))


def skip_net(seed: int, inputs: int, outputs: int, hidden: int, layers: int) -> SkipMLP:
    """A float64 net away from its start."""
    torch.manual_seed(seed)
    net = SkipMLP(inputs, outputs, hidden, layers, directions=orthonormal(outputs, inputs)).double()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    return net


@settings(deadline=None, max_examples=30)
@given(
    st.integers(0, 10**6), st.integers(1, 4), st.integers(1, 6), st.integers(1, 4),
    st.floats(-4, 2),
)  # fmt: skip
def test_a_skip_mlp_keeps_latents_apart_by_what_its_weights_prove(
    seed: int, latent: int, hidden: int, layers: int, distance: float
) -> None:
    net = skip_net(seed, latent, latent + hidden + 1, hidden, layers)
    certificate = net.certificate()
    assert certificate is not None
    z = torch.randn(40, latent, dtype=torch.float64)
    step = 10**distance * torch.nn.functional.normalize(torch.randn_like(z), dim=1)
    step[0] = 10**distance * certificate.direction
    with torch.no_grad():
        moved = net(z + step) - net(z)
    least = certificate.modulus * step.norm(dim=1)
    assert (moved.norm(dim=1) >= least * (1 - 1e-9) - 1e-12).all()


def test_the_certificate_of_a_linear_skip_mlp_is_its_smallest_singular_value() -> None:
    net = skip_net(0, 3, 5, 4, 1)
    path = net.stages[0].weight + net.directions * net.gain
    certificate = net.certificate()
    assert certificate is not None
    assert certificate.modulus == pytest.approx(torch.linalg.svdvals(path)[-1].item(), rel=1e-12)
    assert certificate.modulus < torch.linalg.svdvals(path)[-1]


def test_a_net_that_can_undo_the_linear_path_proves_nothing() -> None:
    assert skip_net(0, 4, 8, 6, 3).certificate() is None
    net = skip_net(0, 2, 20, 4, 3)
    assert net.certificate() is not None
    with torch.no_grad():
        last = net.stages[-1].weight
        last[:, 0] = last[:, 4] + net.gain[0] * net.directions[:, 0]
    assert net.certificate() is None
    with torch.no_grad():
        last[0, 0] = float("nan")
    with pytest.raises(ValueError, match=r"stages\.2\.weight"):
        net.certificate()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"layers": 0}, "layers=0"),
        ({"activation": "tanh"}, "'tanh'"),
        ({"directions": torch.eye(6, 3)}, r"must be \(6, 4\), got \(6, 3\)"),
        ({"directions": torch.ones(6, 4)}, "not orthonormal"),
        ({"offset": torch.zeros(4)}, r"\(6,\), got \(4,\)"),
        ({"inputs": 7}, r"must be \(6, 7\)"),
    ],
)
def test_wrong_arguments_of_a_skip_mlp_are_named(arguments: dict[str, object], said: str) -> None:
    values = {"inputs": 4, "outputs": 6, "hidden": 16, "layers": 2, "directions": torch.eye(6, 4)}
    with pytest.raises(ValueError, match=said):
        SkipMLP(**(values | arguments))


def test_a_wrong_input_of_a_skip_mlp_is_named() -> None:
    with pytest.raises(ValueError, match=r"\(\.\.\., 4\), got \(3, 5\)"):
        SkipMLP(4, 6, 16, 2, directions=torch.eye(6, 4))(torch.zeros(3, 5))
