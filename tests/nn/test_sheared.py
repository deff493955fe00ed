"""The sheared perceptron: injective whatever its network, with a slope that is proven."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.func import functional_call, jacrev, vmap

from lidcli.nn import ShearedMLP, measured_modulus


def orthonormal(rows: int, columns: int) -> torch.Tensor:
    return torch.linalg.qr(torch.randn(rows, columns, dtype=torch.float64)).Q


def net(seed: int = 0, latent: int = 3, out: int = 9, layers: int = 3, **more: float) -> ShearedMLP:
    torch.manual_seed(seed)
    with torch.device("cpu"):
        torch.set_default_dtype(torch.float64)
        try:
            directions, offset = orthonormal(out, latent), torch.randn(out)
            return ShearedMLP(latent, out, 16, layers, directions=directions, offset=offset, **more)
        finally:
            torch.set_default_dtype(torch.float32)


def wilder(decoder: ShearedMLP, seed: int, scale: float) -> ShearedMLP:
    """The same with every weight drawn anew, large ones too."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.copy_(scale * torch.randn_like(parameter))
    return decoder


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 9999), scale=st.floats(0.01, 10.0), shear=st.floats(0.0, 4.0))
def test_no_two_latents_come_closer_than_by_its_constants_whatever_the_weights(
    seed: int, scale: float, shear: float
) -> None:
    decoder = wilder(net(seed, inverse_lipschitz=2.0, shear=shear), seed, scale)
    a, b = torch.randn(2, 500, 3, dtype=torch.float64)
    b[:250] = a[:250] + 1e-3 * b[:250]
    slopes = (decoder(a) - decoder(b)).norm(dim=1) / (a - b).norm(dim=1)
    proven = decoder.certificate().modulus
    assert slopes.min() >= proven * (1 - 1e-9)
    assert proven >= 2.0 / math.sqrt(1 + shear**2) * (1 - 1e-9)


def test_its_certificate_is_the_least_slope_that_a_network_of_its_shape_could_leave() -> None:
    decoder = wilder(net(shear=1.5), 1, 1.0)
    found = decoder.certificate()
    gain, matrix = decoder.gain().detach(), decoder.matrix().detach()
    path = torch.cat([gain.diag(), torch.zeros(6, 3, dtype=torch.float64)])
    free = torch.cat([matrix, torch.eye(6, dtype=torch.float64)])
    basis = torch.linalg.qr(free).Q
    off = path - basis @ (basis.T @ path)
    least = torch.linalg.svdvals(off)[-1].item()
    assert found.modulus == pytest.approx(least, rel=1e-9)
    assert (off @ found.direction).norm().item() == pytest.approx(least, rel=1e-9)


def test_the_norm_of_its_shear_stays_below_the_bound_and_can_come_near_it() -> None:
    decoder = net(shear=0.7)
    assert torch.linalg.matrix_norm(decoder.matrix(), 2) < 0.7
    with torch.no_grad():
        decoder.mixing.mul_(1e4)
    assert torch.linalg.matrix_norm(decoder.matrix(), 2).item() == pytest.approx(0.7, rel=1e-6)


def test_without_a_shear_the_latent_can_be_read_off_along_the_directions() -> None:
    decoder = net(shear=0.0)
    z = torch.randn(7, 3, dtype=torch.float64)
    along = (decoder(z) - decoder.isometry.offset) @ decoder.isometry.directions
    torch.testing.assert_close(along, decoder.gain() * z, rtol=1e-10, atol=1e-10)


def test_the_latent_can_be_computed_back_from_the_output() -> None:
    decoder = wilder(net(shear=3.0), 5, 1.0)
    z = torch.randn(50, 3, dtype=torch.float64)
    columns = decoder.isometry(torch.eye(9, dtype=torch.float64)) - decoder.isometry.offset
    along, beside = ((decoder(z) - decoder.isometry.offset) @ columns.T).split([3, 6], dim=1)
    back = (along - beside @ decoder.matrix().T) / decoder.gain()
    torch.testing.assert_close(back, z, rtol=1e-9, atol=1e-9)


def test_what_is_measured_is_not_below_what_is_proven() -> None:
    decoder = net(seed=3, shear=2.0, inverse_lipschitz=1.0)
    found = measured_modulus(decoder, torch.randn(200, 3, dtype=torch.float64))
    assert found.singular_value >= decoder.certificate().modulus


def test_gradients_are_those_of_differences() -> None:
    decoder = net(latent=2, out=4, layers=2)
    names, values = zip(*decoder.named_parameters(), strict=True)
    z = torch.randn(3, 2, dtype=torch.float64)

    def decoded(*tensors: torch.Tensor) -> torch.Tensor:
        return functional_call(decoder, dict(zip(names, tensors, strict=True)), (z,))

    assert torch.autograd.gradcheck(decoded, values)


def test_it_maps_under_vmap_with_any_leading_axes() -> None:
    decoder = net()
    z = torch.randn(2, 5, 3, dtype=torch.float64)
    whole = decoder(z)
    torch.testing.assert_close(vmap(vmap(decoder))(z), whole)
    torch.testing.assert_close(decoder(z[1, 4]), whole[1, 4])
    assert vmap(jacrev(decoder))(z[0]).shape == (5, 9, 3)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"latent": 9}, "1 <= latent < out"),
        ({"latent": 0}, "1 <= latent < out"),
        ({"inverse_lipschitz": 0.0}, "inverse_lipschitz > 0"),
        ({"inverse_lipschitz": math.nan}, "inverse_lipschitz > 0"),
        ({"shear": -1.0}, "shear >= 0"),
        ({"hidden": 0}, "sizes >= 1"),
        ({"directions": torch.ones(9, 3)}, "not orthonormal"),
        ({"offset": torch.zeros(3)}, "the offset"),
    ],
)
def test_what_cannot_be_is_refused(more: dict[str, object], said: str) -> None:
    values = {"latent": 3, "out": 9, "hidden": 4, "layers": 2, "directions": torch.eye(9, 3)}
    with pytest.raises(ValueError, match=said):
        ShearedMLP(**(values | more))


def test_a_weight_that_is_not_finite_has_no_certificate() -> None:
    decoder = net()
    with torch.no_grad():
        decoder.mixing[0, 0] = math.inf
    with pytest.raises(ValueError, match="mixing"):
        decoder.certificate()
