"""The decoder composes maps, counts its layers as the configuration does, and stays injective."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from flops import counter
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.func import functional_call, stack_module_state, vmap
from torch.nn import functional as F

from lidcli.nn import (
    BrenierMap,
    FactoredBrenierMap,
    InjectiveDecoder,
    Rotation,
    brenier_depth,
    measured_modulus,
)


@pytest.mark.parametrize(
    ("layers", "maps", "hidden_layers"),
    [(5, 2, 1), (7, 2, 2), (9, 2, 3), (11, 2, 4), (13, 2, 5), (19, 2, 8), (8, 3, 1), (2, 1, 1)],
)
def test_layers_count_every_affine_stage(layers: int, maps: int, hidden_layers: int) -> None:
    assert brenier_depth(layers, maps) == hidden_layers
    decoder = InjectiveDecoder(2, 3, 8, layers, maps=maps)
    assert len(decoder.maps) == maps
    assert all(g.icnn.layers == hidden_layers + 1 for g in decoder.maps)


@pytest.mark.parametrize(
    ("layers", "maps", "neighbours"),
    [
        (6, 2, "5 and 7"),
        (1, 2, "5 and 7"),
        (4, 2, "5 and 7"),
        (10, 3, "8 and 11"),
        (9, 3, "8 and 11"),
    ],
)
def test_other_depths_are_refused_with_their_neighbours(
    layers: int, maps: int, neighbours: str
) -> None:
    with pytest.raises(ValueError, match=neighbours):
        InjectiveDecoder(2, 3, 8, layers, maps=maps)


def test_at_its_start_it_is_the_composition_with_the_papers_padding() -> None:
    torch.manual_seed(0)
    f = InjectiveDecoder(3, 7, 16, 7)
    u = torch.randn(5, 3)
    first, second = f.maps
    torch.testing.assert_close(f(u), second(first(u)), rtol=1e-6, atol=1e-6)
    whole = BrenierMap(7, 16, 3)
    whole.load_state_dict(second.state_dict())
    torch.testing.assert_close(f(u), whole(F.pad(first(u), (0, 4))), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("latent", "out", "rotations", "maps", "count"),
    [(3, 7, None, 2, 2), (3, 3, None, 2, 3), (3, 7, False, 2, 0), (257, 300, None, 2, 0),
     (2, 4, True, 3, 3), (1, 4, None, 2, 0)],
)  # fmt: skip
def test_rotations_stand_before_every_map_and_after_a_square_one(
    latent: int, out: int, rotations: bool | None, maps: int, count: int
) -> None:
    f = InjectiveDecoder(latent, out, 4, 3 * maps - 1, maps=maps, rotations=rotations)
    assert sum(isinstance(stage, Rotation) for stage in f.stages()) == count
    assert len(f.stages()) == count + maps


def test_calibration_sets_every_gain_in_turn() -> None:
    torch.manual_seed(0)
    f = InjectiveDecoder(4, 20, 32, 9, gain=0.2)
    u = torch.randn(400, 4)
    out = f.calibrate(u)
    assert torch.equal(out, f(u))
    for stage in f.stages():
        if isinstance(stage, BrenierMap):
            assert stage.icnn.gradient(u).std().item() == pytest.approx(0.2, rel=1e-4)
        u = stage(u)


def test_each_map_may_have_its_own_inverse_lipschitz_constant() -> None:
    f = InjectiveDecoder(3, 5, 16, 7, inverse_lipschitz=[0.5, 0.1])
    assert [g.inverse_lipschitz for g in f.maps] == [0.5, 0.1]
    assert f.certificate().modulus >= 0.05


def test_the_last_map_can_be_factored() -> None:
    f = InjectiveDecoder(6, 100, 16, 5, factor=24, dense=2)
    assert isinstance(f.maps[1], FactoredBrenierMap)
    u = torch.randn(40, 6)
    assert torch.equal(f.calibrate(u), f(u))
    assert f.certificate().modulus >= 0.25


@pytest.mark.parametrize("backward", ["plain", "by-hand"])
def test_stacked_decoders_under_vmap_equal_a_loop(backward: str) -> None:
    decoders = [InjectiveDecoder(3, 5, 8, 9, backward=backward).double() for _ in range(3)]
    parameters, buffers = stack_module_state(decoders)
    u = torch.randn(7, 3, dtype=torch.float64)
    stacked = vmap(lambda p, b: functional_call(decoders[0], (p, b), (u,)))(parameters, buffers)
    looped = torch.stack([f(u) for f in decoders])
    torch.testing.assert_close(stacked, looped, rtol=1e-12, atol=1e-12)


def test_it_can_be_differentiated_twice() -> None:
    torch.manual_seed(0)
    f = InjectiveDecoder(2, 3, 4, 5).double()
    with torch.no_grad():
        for turn in f.rotations:
            turn.skew.normal_()
    u = torch.randn(2, 2, dtype=torch.float64, requires_grad=True)
    names = [name for name, _ in f.named_parameters()]
    values = [p.detach().clone().requires_grad_() for p in f.parameters()]

    def call(u: torch.Tensor, *values: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = functional_call(f, dict(zip(names, values, strict=True)), (u,))
        return out

    assert torch.autograd.gradcheck(call, (u, *values), fast_mode=True)
    assert torch.autograd.gradgradcheck(call, (u, *values), fast_mode=True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"latent": 9}, "latent=9, out=8"),
        ({"latent": 0}, "latent=0, out=8"),
        ({"maps": 0}, "maps >= 1"),
        ({"inverse_lipschitz": [0.5]}, "1 values of inverse_lipschitz, 2 maps"),
        ({"inverse_lipschitz": 0.0, "hidden": 2}, "not injective"),
        ({"dense": 1}, "set factor"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, object], said: str) -> None:
    values = {"latent": 3, "out": 8, "hidden": 16, "layers": 9} | arguments
    with pytest.raises(ValueError, match=said):
        InjectiveDecoder(**values)


@pytest.mark.parametrize("rotations", [True, False])
@pytest.mark.parametrize(
    "u",
    [torch.zeros(5, 4), torch.tensor(1.0), torch.zeros(5, 3).double(), torch.zeros(5, 3).long()],
)
def test_wrong_inputs_are_named(u: torch.Tensor, rotations: bool) -> None:
    f = InjectiveDecoder(3, 8, 16, 9, rotations=rotations)
    for call in (f, f.calibrate):
        with pytest.raises(ValueError, match=r"expected an input .*, got"):
            call(u)


def test_one_epsilon_may_be_any_real_number() -> None:
    f = InjectiveDecoder(3, 8, 16, 9, inverse_lipschitz=np.float32(0.25))
    assert [g.inverse_lipschitz for g in f.brenier_maps()] == [0.25, 0.25]


def test_every_map_tells_its_epsilon() -> None:
    f = InjectiveDecoder(3, 8, 16, 9, inverse_lipschitz=[0.1, 0.2], factor=6, dense=1)
    assert [g.inverse_lipschitz for g in f.brenier_maps()] == [0.1, 0.2]


def test_it_works_in_half_the_precision() -> None:
    f = InjectiveDecoder(3, 8, 16, 9).to(torch.bfloat16)
    assert f(torch.randn(5, 3, dtype=torch.bfloat16)).isfinite().all()


def principal(out: int, latent: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(out, latent, generator=generator, dtype=torch.float64)).Q


@pytest.fixture
def double() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("latent", [3, 7])
def test_without_directions_it_is_bit_for_bit_the_zero_padded_decoder(latent: int) -> None:
    torch.manual_seed(0)
    f = InjectiveDecoder(latent, 7, 16, 7)
    after = torch.rand(1)
    torch.manual_seed(0)
    turned = InjectiveDecoder(latent, 7, 16, 7, directions=principal(7, latent))
    assert torch.equal(after, torch.rand(1))
    assert not [name for name in f.state_dict() if name.startswith("isometry")]
    for name, value in f.state_dict().items():
        assert torch.equal(value, turned.state_dict()[name])
    u = torch.randn(5, latent)
    by_hand = u
    for i, g in enumerate(f.maps):
        by_hand = g(f.rotations[i](by_hand))
    for turn in f.rotations[len(f.maps) :]:
        by_hand = turn(by_hand)
    assert torch.equal(f(u), by_hand)


@pytest.mark.parametrize(("latent", "rotations"), [(1, None), (3, None), (3, False), (7, None)])
@pytest.mark.usefixtures("double")
def test_directions_turn_the_output_rigidly(latent: int, rotations: bool | None) -> None:
    directions, offset = principal(7, latent), torch.arange(7.0)
    torch.manual_seed(0)
    f = InjectiveDecoder(latent, 7, 16, 7, rotations=rotations)
    torch.manual_seed(0)
    turned = InjectiveDecoder(
        latent, 7, 16, 7, rotations=rotations, directions=directions, offset=offset
    )
    u = torch.randn(6, latent)
    calibrated = turned.calibrate(u)
    assert torch.equal(calibrated, turned(u))
    plain = f.calibrate(u)
    for a, b in zip(turned.brenier_maps(), f.brenier_maps(), strict=True):
        assert torch.equal(a.icnn.log_gain, b.icnn.log_gain)
    torch.testing.assert_close((calibrated - offset) @ directions, plain[:, :latent])
    torch.testing.assert_close(torch.pdist(calibrated), torch.pdist(plain))
    ours, theirs = turned.certificate(), f.certificate()
    assert ours.log_modulus == pytest.approx(theirs.log_modulus, abs=1e-13)
    assert torch.equal(ours.direction, theirs.direction)


@pytest.mark.usefixtures("double")
def test_a_silent_network_leaves_the_linear_path_along_the_directions() -> None:
    directions, offset = principal(9, 3), torch.randn(9)
    f = InjectiveDecoder(
        3, 9, 8, 5, inverse_lipschitz=[0.5, 2.0], directions=directions, offset=offset
    )
    with torch.no_grad():
        for g in f.brenier_maps():
            g.icnn.log_gain.fill_(-torch.inf)
    u = torch.randn(4, 3)
    torch.testing.assert_close(f(u), offset + u @ directions.T)


@given(
    latent=st.integers(1, 4),
    extra=st.integers(0, 4),
    epsilon=st.floats(0.0, 2.0),
    seed=st.integers(0, 1000),
    activation=st.sampled_from(["smooth", "leaky"]),
)
@settings(max_examples=25, deadline=None)
def test_with_directions_the_certificate_is_below_every_measured_slope(
    latent: int, extra: int, epsilon: float, seed: int, activation: str
) -> None:
    torch.manual_seed(seed)
    f = InjectiveDecoder(
        latent, latent + extra, 6, 5, activation=activation, inverse_lipschitz=epsilon,
        directions=principal(latent + extra, latent, seed),
    ).double()  # fmt: skip
    u = 3 * torch.randn(10, latent, dtype=torch.float64)
    f.calibrate(u)
    proven, measured = f.certificate().modulus, measured_modulus(f, u)
    assert proven <= min(measured.singular_value, measured.secant) * (1 + 1e-9)


@pytest.mark.usefixtures("double")
def test_directions_that_are_none_any_more_lower_the_certificate() -> None:
    torch.manual_seed(0)
    f = InjectiveDecoder(3, 8, 16, 5, directions=principal(8, 3))
    before = f.certificate().modulus
    state = f.state_dict()
    state["isometry.directions"] = 0.5 * state["isometry.directions"]
    f.load_state_dict(state)
    u = torch.randn(20, 3)
    assert f.certificate().modulus < before
    assert f.certificate().modulus <= measured_modulus(f, u).singular_value


@pytest.mark.parametrize("activation", ["smooth", "leaky"])
@pytest.mark.usefixtures("double")
def test_gradients_along_directions_are_those_of_the_plain_form(activation: str) -> None:
    grown = {}
    for backward in ("plain", "by-hand"):
        torch.manual_seed(0)
        f = InjectiveDecoder(
            3, 8, 16, 7, activation=activation, backward=backward, directions=principal(8, 3)
        )
        u = torch.randn(2, 5, 3, requires_grad=True)
        (f(u) * torch.randn(2, 5, 8)).sum().backward()
        grown[backward] = [p.grad for p in (u, *f.parameters())]
    for written, plain in zip(grown["by-hand"], grown["plain"], strict=True):
        torch.testing.assert_close(written, plain, rtol=1e-10, atol=1e-10)


@pytest.mark.usefixtures("double")
def test_decoders_with_directions_of_their_own_stack() -> None:
    torch.manual_seed(0)
    decoders = [InjectiveDecoder(3, 5, 8, 5, directions=principal(5, 3, s)) for s in range(3)]
    parameters, buffers = stack_module_state(decoders)
    u = torch.randn(7, 3)
    stacked = vmap(lambda p, b: functional_call(decoders[0], (p, b), (u,)))(parameters, buffers)
    torch.testing.assert_close(stacked, torch.stack([f(u) for f in decoders]))


def test_a_state_dict_restores_the_directions() -> None:
    first = InjectiveDecoder(3, 8, 16, 5, directions=principal(8, 3), offset=torch.ones(8))
    second = InjectiveDecoder(3, 8, 16, 5, directions=principal(8, 3, 1), offset=torch.zeros(8))
    second.load_state_dict(first.state_dict())
    u = torch.randn(4, 3)
    assert torch.equal(first(u), second(u))
    with pytest.raises(RuntimeError, match=r"isometry\.directions"):
        InjectiveDecoder(3, 8, 16, 5).load_state_dict(first.state_dict())


def test_directions_add_two_thin_products() -> None:
    n, latent, out = 10, 8, 200
    u = torch.randn(n, latent)
    count = {}
    for name, directions in (("zeros", None), ("principal", principal(out, latent))):
        f = InjectiveDecoder(latent, out, 16, 5, directions=directions)
        with counter() as counted:
            f(u).sum().backward()
        count[name] = counted.get_total_flops()
    assert count["principal"] - count["zeros"] == 2 * 2 * n * latent * (2 * out + latent)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"directions": torch.eye(7, 3)}, r"must be \(8, 3\), got \(7, 3\)"),
        ({"directions": torch.eye(8, 2)}, r"must be \(8, 3\), got \(8, 2\)"),
        ({"directions": torch.ones(8, 3)}, "not orthonormal"),
        ({"directions": torch.eye(8, 3), "factor": 16}, "factor=16"),
        ({"directions": torch.eye(8, 3), "offset": torch.zeros(3)}, r"\(8,\), got \(3,\)"),
        ({"offset": torch.zeros(8)}, "needs directions"),
    ],
)
def test_directions_that_do_not_fit_are_named(arguments: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        InjectiveDecoder(3, 8, 16, 9, **arguments)
