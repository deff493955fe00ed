"""The certificate is a true lower bound, and an attained one where it should be."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lidcli.nn import BrenierMap, FactoredBrenierMap, InjectiveDecoder, measured_modulus
from lidcli.nn.certificate import path_certificate

PAIRS = 20_000


def pairs(active: int, direction: Tensor) -> tuple[Tensor, Tensor]:
    """20,000 pairs at distances from 0.01 to 30, a quarter of them along one direction."""
    a = 3 * torch.randn(PAIRS, active, dtype=torch.float64)
    way = torch.nn.functional.normalize(torch.randn_like(a), dim=1)
    way[: PAIRS // 4] = direction
    distance = torch.logspace(-2, math.log10(30), PAIRS, dtype=torch.float64)
    return a, a + way * distance[torch.randperm(PAIRS)].unsqueeze(1)


def rounding(g: torch.nn.Module, a: Tensor, b: Tensor) -> Tensor:
    """What a slope (N,) between images in float64 may be off by: each is a sum over units."""
    units = sum(p.shape[0] for p in g.parameters() if p.ndim == 2)
    size = g(a).norm(dim=1) + g(b).norm(dim=1)
    return units * torch.finfo(torch.float64).eps * size / (a - b).norm(dim=1)


def train(module: torch.nn.Module, active: int, steps: int = 40) -> None:
    """Press the map's outputs together, the direction in which a bound would fail first."""
    optimiser = torch.optim.Adam(module.parameters(), lr=0.03)
    for _ in range(steps):
        u = torch.randn(64, active, dtype=torch.float64)
        out = module(u)
        loss = (out[:32] - out[32:]).square().mean() + (out.mean(1) - u[:, 0]).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


@pytest.mark.parametrize("trained", [False, True], ids=["random", "trained"])
@pytest.mark.parametrize("activation", ["smooth", "leaky"])
@pytest.mark.parametrize("epsilon", [0.0, 0.5])
@pytest.mark.parametrize(("dim", "active"), [(4, 4), (7, 3)])
@pytest.mark.parametrize("layers", [2, 3, 5, 9, 13])
def test_no_pair_comes_closer_than_a_map_certifies(
    layers: int, dim: int, active: int, epsilon: float, activation: str, trained: bool
) -> None:
    torch.manual_seed(layers)
    g = BrenierMap(
        dim, 16, layers, active=active, activation=activation, inverse_lipschitz=epsilon
    ).double()
    if trained:
        train(g, active)
    certificate = g.certificate()
    modulus = math.exp(certificate.log_modulus)
    assert modulus >= epsilon
    assert modulus > 0
    a, b = pairs(active, certificate.direction)
    with torch.no_grad():
        moved, difference, off = g(a) - g(b), a - b, rounding(g, a, b)
    inner = (moved[:, :active] * difference).sum(1) / difference.square().sum(1)
    assert (inner + off >= modulus * (1 - 1e-9)).all()
    assert (moved.norm(dim=1) / difference.norm(dim=1) + off >= modulus * (1 - 1e-9)).all()


@pytest.mark.parametrize("trained", [False, True], ids=["random", "trained"])
@pytest.mark.parametrize("dense", [0, 2, 5])
@pytest.mark.parametrize("activation", ["smooth", "leaky"])
def test_no_pair_comes_closer_than_a_factored_map_certifies(
    activation: str, dense: int, trained: bool
) -> None:
    torch.manual_seed(dense)
    g = FactoredBrenierMap(
        30, 12, 3, width=11, active=5, dense=dense, activation=activation, inverse_lipschitz=0.1
    ).double()
    if trained:
        train(g, 5)
    certificate = g.certificate()
    a, b = pairs(5, certificate.direction)
    with torch.no_grad():
        slopes = (g(a) - g(b)).norm(dim=1) / (a - b).norm(dim=1) + rounding(g, a, b)
    assert slopes.min() >= math.exp(certificate.log_modulus) * (1 - 1e-9)


@pytest.mark.parametrize("trained", [False, True], ids=["random", "trained"])
@pytest.mark.parametrize(
    ("latent", "out", "layers", "maps"), [(3, 9, 5, 2), (4, 4, 9, 2), (2, 6, 8, 3), (2, 5, 19, 2)]
)
def test_no_pair_comes_closer_than_a_decoder_certifies(
    latent: int, out: int, layers: int, maps: int, trained: bool
) -> None:
    torch.manual_seed(layers)
    f = InjectiveDecoder(latent, out, 16, layers, maps=maps, inverse_lipschitz=0.2).double()
    if trained:
        train(f, latent)
    certificate = f.certificate()
    a, b = pairs(latent, certificate.direction)
    with torch.no_grad():
        slopes = (f(a) - f(b)).norm(dim=1) / (a - b).norm(dim=1) + rounding(f, a, b)
    assert slopes.min() >= certificate.modulus * (1 - 1e-9)
    assert certificate.log_modulus == sum(part.log_modulus for part in certificate.maps)


def test_a_decoders_direction_is_turned_into_its_own_coordinates() -> None:
    torch.manual_seed(0)
    f = InjectiveDecoder(3, 5, 16, 7).double()
    with torch.no_grad():
        f.rotations[0].skew.normal_()
    certificate = f.certificate()
    torch.testing.assert_close(f.rotations[0](certificate.direction), certificate.maps[0].direction)


def lowest_piece(layers: int, activation: str) -> BrenierMap:
    """A map all of whose activations are on their lower slope over the negative orthant."""
    torch.manual_seed(0)
    g = BrenierMap(3, 3, layers, activation=activation, inverse_lipschitz=0.25).double()
    with torch.no_grad():
        for A in g.icnn.input_weights:
            A.zero_()
        g.icnn.input_weights[0].copy_(torch.tensor([1.0, 0.3, 2.0]).diag())
        for b in list(g.icnn.biases)[1:]:
            b.fill_(-1e4)
        if g.icnn.scalar_bias is not None:
            g.icnn.scalar_bias.fill_(-1e4)
    return g


@pytest.mark.parametrize("activation", ["smooth", "leaky"])
@pytest.mark.parametrize("layers", [2, 3, 5])
def test_the_bound_is_attained_where_every_activation_is_on_its_lower_slope(
    layers: int, activation: str
) -> None:
    g = lowest_piece(layers, activation)
    certificate = g.certificate()
    a = -1 - torch.rand(50, 3, dtype=torch.float64)
    b = a - 0.5 * certificate.direction.abs()
    with torch.no_grad():
        slopes = (g(a) - g(b)).norm(dim=1) / (a - b).norm(dim=1)
    torch.testing.assert_close(
        slopes, torch.full_like(slopes, math.exp(certificate.log_modulus)), rtol=1e-9, atol=0
    )
    measured = measured_modulus(g, a, directions=-certificate.direction.abs().unsqueeze(0))
    assert measured.secant == pytest.approx(math.exp(certificate.log_modulus), rel=1e-9)
    assert measured.singular_value == pytest.approx(math.exp(certificate.log_modulus), rel=1e-9)


@settings(max_examples=40, deadline=None)
@given(
    active=st.integers(1, 4),
    padding=st.integers(0, 3),
    layers=st.integers(2, 13),
    epsilon=st.sampled_from([0.0, 0.01, 1.0]),
    activation=st.sampled_from(["smooth", "leaky"]),
    spread=st.floats(0, 1),
    seed=st.integers(0, 2**31),
)
def test_the_certificate_is_never_above_the_measured_modulus(
    active: int,
    padding: int,
    layers: int,
    epsilon: float,
    activation: str,
    spread: float,
    seed: int,
) -> None:
    torch.manual_seed(seed)
    g = BrenierMap(
        active + padding,
        6,
        layers,
        active=active,
        activation=activation,
        inverse_lipschitz=epsilon,
    ).double()
    with torch.no_grad():
        for parameter in g.parameters():
            parameter.add_(spread * torch.randn_like(parameter))
    certified = math.exp(g.certificate().log_modulus) * (1 - 1e-9)
    u = torch.randn(20, active, dtype=torch.float64)
    measured = measured_modulus(g, u)
    with torch.no_grad():
        apart = (u[:10] - u[10:]).norm(dim=1, keepdim=True).min().clamp(max=1e-2)
        off = rounding(g, u, u + apart * torch.eye(active, dtype=torch.float64)[0]).max()
    assert measured.singular_value + off >= certified
    assert measured.secant + off >= certified


def test_the_exact_formula_is_at_least_the_simple_bound() -> None:
    torch.manual_seed(0)
    for layers in (2, 5, 9):
        part = BrenierMap(6, 32, layers, active=4, inverse_lipschitz=0.0).double().certificate()
        assert part.log_modulus == part.log_curvature >= part.log_bound
        assert part.log_quadratic == -math.inf


def test_it_is_computed_in_log_space() -> None:
    g = BrenierMap(4, 16, 13, activation="leaky", inverse_lipschitz=0.0)
    with torch.no_grad():
        g.icnn.log_scalar.sub_(2000.0)
    certificate = g.certificate()
    assert -2200 < certificate.log_modulus < -2000
    assert math.exp(certificate.log_modulus) == 0.0


@pytest.mark.parametrize("epsilon", [0.01, 0.1, 0.2, 0.5])
def test_a_network_without_full_rank_certifies_epsilon_alone(epsilon: float) -> None:
    g = BrenierMap(8, 3, 3, inverse_lipschitz=epsilon)
    assert g.certificate().modulus == pytest.approx(epsilon, rel=1e-14)
    assert g.certificate().log_curvature == -math.inf
    f = FactoredBrenierMap(20, 3, 3, width=6, active=4, inverse_lipschitz=epsilon)
    assert f.certificate().modulus == pytest.approx(epsilon, rel=1e-14)


@pytest.mark.parametrize("log_gain", [-1500.0, 75.0, 1500.0])
def test_blocks_of_unequal_epsilon_are_certified_in_log_space(log_gain: float) -> None:
    torch.manual_seed(0)
    arguments = {"width": 8, "active": 5, "dense": 2, "inverse_lipschitz": 0.5}
    low_rank = FactoredBrenierMap(30, 4, 3, **arguments).double()
    full_rank = FactoredBrenierMap(30, 8, 3, **arguments).double()
    for g in (low_rank, full_rank):
        with torch.no_grad():
            g.icnn.log_gain.fill_(log_gain)
    assert math.log(0.5) <= low_rank.certificate().log_modulus < 100
    certificate = full_rank.certificate()
    assert certificate.log_modulus >= max(math.log(0.5), certificate.log_curvature)
    assert (certificate.modulus == math.inf) == (log_gain > 1000)


def test_without_epsilon_on_one_block_the_curvature_is_still_certified() -> None:
    torch.manual_seed(0)
    g = FactoredBrenierMap(
        30, 8, 3, width=8, active=5, dense=2, activation="leaky",
        inverse_lipschitz=0.0, dense_inverse_lipschitz=1.0,
    ).double()  # fmt: skip
    with torch.no_grad():
        g.icnn.log_gain.fill_(-80.0)
    certificate = g.certificate()
    assert -math.inf < certificate.log_curvature <= certificate.log_modulus


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_are_not_finite_are_refused_by_name(value: float) -> None:
    g = BrenierMap(4, 8, 3)
    with torch.no_grad():
        g.icnn.log_weights[0][0, 0] = value
    with pytest.raises(ValueError, match=r"log_weights.0 \(8, 8\) is not finite"):
        g.certificate()
    f = FactoredBrenierMap(20, 8, 3, width=6, active=4)
    with torch.no_grad():
        f.embedding[0, 0] = value
    with pytest.raises(ValueError, match=r"embedding \(6, 20\) is not finite"):
        f.certificate()
    for name in ("rotations.1.skew", "maps.1.icnn.log_gain"):
        decoder = InjectiveDecoder(3, 8, 16, 9)
        with torch.no_grad():
            decoder.get_parameter(name).fill_(value)
        with pytest.raises(ValueError, match=f"{name} .* is not finite"):
            decoder.certificate()


def test_a_path_into_fewer_dimensions_than_it_comes_from_is_not_certified() -> None:
    wide = torch.randn(2, 3, dtype=torch.float64)
    assert path_certificate(wide, torch.zeros(2, 0)) is None
    assert path_certificate(wide.T, torch.zeros(3, 0)) is not None
