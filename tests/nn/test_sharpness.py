"""The sharpness k of the smooth activation softplus(k t) / k."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from lidcli.nn import ICNN, BrenierMap, InjectiveDecoder


def by_definition(phi: ICNN, u: torch.Tensor) -> torch.Tensor:
    """The potential with h(t) = α t + (1 - α) softplus(k t) / k written out."""
    alpha, k = phi.slope, phi.sharpness
    z = F.leaky_relu(u @ phi.input_weights[0].T + phi.biases[0], alpha).square()
    for v, a, b in zip(phi.log_weights, phi.input_weights[1:], phi.biases[1:], strict=True):
        t = z @ v.exp().T + u @ a.T + b
        z = alpha * t + (1 - alpha) * torch.logaddexp(k * t, torch.zeros_like(t)) / k
    scalar = z @ phi.log_scalar.exp() + u @ phi.scalar_input
    return scalar * phi.log_gain.exp()


@pytest.mark.parametrize("layers", [2, 4, 9])
@pytest.mark.parametrize("backward", ["plain", "by-hand"])
def test_the_map_is_the_gradient_of_the_potential_as_defined(layers: int, backward: str) -> None:
    torch.manual_seed(0)
    phi = ICNN(3, 16, layers, sharpness=4.0, backward=backward).double()
    torch.nn.init.normal_(phi.scalar_input)
    u = torch.randn(20, 3, dtype=torch.float64, requires_grad=True)
    value = by_definition(phi, u)
    assert torch.allclose(phi(u), value, rtol=1e-12)
    (slope,) = torch.autograd.grad(value.sum(), u, create_graph=True)
    assert torch.allclose(phi.gradient(u), slope, rtol=1e-11)
    direction = torch.randn_like(slope)
    ours = torch.autograd.grad((phi.gradient(u) * direction).sum(), list(phi.parameters()))
    theirs = torch.autograd.grad(
        (slope * direction).sum(), list(phi.parameters()), allow_unused=True
    )
    for a, b in zip(ours, theirs, strict=True):
        assert torch.allclose(a, torch.zeros_like(a) if b is None else b, rtol=1e-9, atol=1e-12)


def test_the_certificate_holds_at_any_sharpness_and_does_not_depend_on_it() -> None:
    torch.manual_seed(0)
    soft = InjectiveDecoder(2, 2, 32, 9, inverse_lipschitz=0.02).double()
    sharp = InjectiveDecoder(2, 2, 32, 9, inverse_lipschitz=0.02, sharpness=10.0).double()
    sharp.load_state_dict(soft.state_dict())
    assert sharp.certificate().log_modulus == soft.certificate().log_modulus
    a, b = 3 * torch.randn(2, 20_000, 2, dtype=torch.float64)
    with torch.no_grad():
        slopes = (sharp(a) - sharp(b)).norm(dim=1) / (a - b).norm(dim=1)
    assert slopes.min() >= sharp.certificate().modulus * (1 - 1e-9)


def test_leaky_activations_have_no_scale() -> None:
    torch.manual_seed(0)
    plain = BrenierMap(3, 16, 4, activation="leaky").double()
    sharp = BrenierMap(3, 16, 4, activation="leaky", sharpness=5.0).double()
    sharp.load_state_dict(plain.state_dict())
    u = torch.randn(9, 3, dtype=torch.float64)
    assert torch.allclose(sharp(u), plain(u), rtol=1e-12)


@pytest.mark.parametrize("factor", [None, 16])
def test_every_map_of_a_decoder_takes_the_sharpness(factor: int | None) -> None:
    decoder = InjectiveDecoder(2, 5, 8, 8, maps=3, sharpness=4.0, factor=factor)
    assert [g.icnn.sharpness for g in decoder.maps] == [4.0, 4.0, 4.0]


@pytest.mark.parametrize("sharpness", [0.0, -1.0, float("inf"), float("nan")])
def test_a_sharpness_that_is_not_positive_and_finite_is_refused(sharpness: float) -> None:
    with pytest.raises(ValueError, match="sharpness"):
        ICNN(2, 4, 3, sharpness=sharpness)
