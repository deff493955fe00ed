"""Variation of the likelihood over the latent, held to the exact relation of PPCA."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from lidcli.inference.exact import ExactClusters, ExactGaussian
from lidcli.inference.flow import CategoryPosterior, FlowPosterior
from lidcli.metrics.classical import evaluate_ppca, ppca_variation
from lidcli.metrics.identifiability import identifiability, unit_kl, variation
from lidcli.metrics.quadrature import exact_units
from lidcli.models.batch import DenseBatch
from lidcli.models.latent import LatentModel
from lidcli.models.likelihoods import Gaussian
from lidcli.models.observations import DenseObservation
from lidcli.models.ppca import PPCA, fit_ppca
from lidcli.models.priors import GaussianMixture, StandardNormal, separated_means
from lidcli.models.transport import two_cluster_gmvae
from lidcli.training.build import RowsEncoder


@pytest.fixture(scope="module")
def x() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    spread = torch.tensor([4.0, 2.5, 1.0, 1.0, 1.0], dtype=torch.float64)
    return torch.randn(400, 5, generator=generator, dtype=torch.float64) * spread


def fitted(x: Tensor, latent: int, sigma: float) -> PPCA:
    model = fit_ppca(x, latent, sigma)
    model.posterior = ExactGaussian(model)
    return model


def exact_unit_kl(model: PPCA, x: Tensor) -> Tensor:
    """KL of every unit of a PPCA, (N, K): a Gaussian's to the standard normal."""
    mean, variance = model.posterior_mean(x), model.posterior_covariance().diagonal()
    return 0.5 * (mean.square() + variance - 1 - variance.log())


def encoder(inputs: int) -> Callable[[], nn.Module]:
    return lambda: RowsEncoder(nn.Sequential(nn.Linear(inputs, 8), nn.GELU()))


@pytest.mark.parametrize("sigma", [1.0, 2.0, 3.5])
def test_the_estimate_agrees_with_the_exact_variation(x: Tensor, sigma: float) -> None:
    model = fit_ppca(x, 3, sigma)
    exact = ppca_variation(model, x)
    torch.manual_seed(0)
    found = variation(model, DenseBatch(x))
    assert abs(found["joint"].value - exact.joint.mean().item()) < 4 * found["joint"].se
    for k in range(3):
        estimate = found[f"z/{k + 1}"]
        assert abs(estimate.value - exact.units[:, k].mean().item()) <= 4 * estimate.se
        assert estimate.se <= 0.2 * estimate.value


def test_quadrature_gives_the_exact_variation_and_kl_of_any_ppca(x: Tensor) -> None:
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(5, 2, generator=generator, dtype=torch.float64)
    model = PPCA(weight, x.mean(0), 1.5)
    exact, kl = ppca_variation(model, x[:20]), exact_unit_kl(model, x[:20])
    varied, found = exact_units(model, DenseBatch(x[:20]))
    assert torch.allclose(varied["joint"], exact.joint, rtol=1e-6)
    for k in range(2):
        assert torch.allclose(varied[f"z/{k + 1}"], exact.units[:, k], rtol=1e-6)
        assert torch.allclose(found[f"z/{k + 1}"], kl[:, k], rtol=1e-8)
    one = PPCA(weight[:, :1], x.mean(0), 1.5)
    varied, _ = exact_units(one, DenseBatch(x[:20]))
    assert torch.allclose(varied["z/1"], ppca_variation(one, x[:20]).joint, rtol=1e-6)


def test_quadrature_agrees_with_monte_carlo_on_a_mixture() -> None:
    model = mixture()
    data = DenseBatch(torch.randn(40, 3, generator=torch.Generator().manual_seed(0)))
    varied, kl = exact_units(model, data)
    torch.manual_seed(0)
    joint = variation(model, data, draws=2000, pairs=1)["joint"]
    assert abs(varied["joint"].mean().item() - joint.value) < 5 * joint.se
    assert all((value >= -1e-9).all() for value in kl.values())
    assert (kl["c"] <= math.log(3) + 1e-9).all()
    assert (kl["joint"] >= kl["w/1"] - 1e-6).all()


def test_a_grid_covers_no_more_than_two_latents() -> None:
    model = LatentModel(StandardNormal(3), DenseObservation(nn.Linear(3, 4), Gaussian(1.0)))
    with pytest.raises(ValueError, match="1 or 2"):
        exact_units(model, DenseBatch(torch.zeros(2, 4)))
    model.posterior = FlowPosterior(encoder(4), 8, latent=3, hidden=8, transforms=0)
    found = identifiability(model, DenseBatch(torch.randn(20, 4)))
    assert found["identifiability_exact"] == 0
    assert math.isfinite(found["kl_unit/z/3"])


def test_at_the_maximum_the_variation_is_a_function_of_the_kl(x: Tensor) -> None:
    """At the maximum a unit's KL is ½ log r and its variation r(r - 1) + (r - 1)²/2, r = λ/σ²."""
    for sigma in (0.5, 1.0, 2.0, 3.0, 5.0):
        model = fit_ppca(x, 2, sigma)
        kl, exact = exact_unit_kl(model, x).mean(0), ppca_variation(model, x).units.mean(0)
        ratio = torch.exp(2 * kl)
        wanted = ratio * (ratio - 1) + 0.5 * (ratio - 1).square()
        assert torch.allclose(exact, wanted, rtol=1e-8, atol=1e-8)


def test_kl_and_variation_of_a_ppca_reach_zero_together(x: Tensor) -> None:
    model = fitted(x, 2, 3.0)
    found = evaluate_ppca(model, x).scalars
    assert found["kl_unit/z/1"] > 0.1
    assert found["variation/z/1"] > 0.1
    assert found["kl_unit/z/2"] == pytest.approx(0.0, abs=1e-12)
    assert found["variation/z/2"] == 0.0
    assert found["variation/joint"] == pytest.approx(found["variation/z/1"], rel=1e-10)


def test_kl_from_spacings_agrees_with_the_formula(x: Tensor) -> None:
    model = fitted(x, 2, 2.0)
    exact = exact_unit_kl(model, x[:200]).mean(0).tolist()
    torch.manual_seed(0)
    found = unit_kl(model, DenseBatch(x[:200]))
    for k, name in enumerate(("z/1", "z/2")):
        assert found[name].value == pytest.approx(exact[k], abs=0.03)


def test_the_general_estimate_of_two_latents_is_the_closed_form(x: Tensor) -> None:
    model = fitted(x, 2, 2.0)
    found, wanted = identifiability(model, DenseBatch(x)), evaluate_ppca(model, x).scalars
    assert found["identifiability_exact"] == wanted["identifiability_exact"] == 1
    for name in ("variation/joint", "variation/z/1", "kl_unit/z/1", "kl_unit/z/2"):
        assert abs(found[name] - wanted[name]) <= 4 * found[f"{name}_se"]


def test_a_decoder_that_ignores_a_unit_has_no_variation_in_it() -> None:
    decoder = nn.Linear(2, 4)
    with torch.no_grad():
        decoder.weight[:, 1] = 0
    model = LatentModel(StandardNormal(2), DenseObservation(decoder, Gaussian(0.5)))
    torch.manual_seed(0)
    found = variation(model, DenseBatch(torch.randn(20, 4)))
    assert found["z/2"].value == 0.0
    assert found["z/1"].value > 0.1
    assert found["joint"].value > 0.1


def mixture() -> LatentModel:
    torch.manual_seed(0)
    prior = GaussianMixture(separated_means(3, 2, 1.5), 0.6, learn_scale=True, full_covariance=True)
    model = LatentModel(prior, DenseObservation(nn.Linear(2, 3), Gaussian(0.7)))
    with torch.no_grad():
        assert prior.raw_turn is not None
        prior.raw_turn += torch.tensor([[0.4], [-0.8], [0.0]])
        prior.raw_scale += 0.5 * torch.randn(3, 2)
    model.posterior = CategoryPosterior(3, encoder(3), 8, latent=2, hidden=8, transforms=1)
    return model


@pytest.mark.parametrize("k", [0, 1])
def test_a_unit_redrawn_given_the_others_leaves_the_prior_as_it_is(k: int) -> None:
    prior = mixture().prior
    with torch.no_grad():
        w = prior.sample(100_000)
        moved = w.clone()
        moved[:, k] = prior.redraw(w, k)
        assert torch.equal(moved[:, 1 - k], w[:, 1 - k])
        assert torch.allclose(moved.mean(0), w.mean(0), atol=0.03)
        assert torch.allclose(torch.cov(moved.T), torch.cov(w.T), atol=0.05)
        third = [(v[:, 0] ** 2 * v[:, 1]).mean() for v in (w, moved)]
        assert torch.allclose(third[0], third[1], atol=0.08)


def test_a_mixture_has_units_of_w_and_c() -> None:
    model = mixture()
    found = identifiability(model, DenseBatch(torch.randn(40, 3)))
    names = {name.removeprefix("variation/") for name in found if name.startswith("variation/")}
    assert {"joint", "w/1", "w/2", "c", "joint_se", "c_se"} <= names
    assert {f"kl_unit/{n}" for n in ("w/1", "w/2", "c")} <= set(found)
    assert all(math.isfinite(value) for value in found.values())


@pytest.mark.parametrize("shared", [False, True])
def test_the_category_of_the_two_maximisers_of_section_2_2(shared: bool) -> None:
    model = two_cluster_gmvae((-1.0, 1.0), 0.5, 0.4, 2, shared=shared)
    model.posterior = ExactClusters(model, (-1.0, 1.0), 0.5, 0.4, shared)
    torch.manual_seed(0)
    x = model.sample(60)
    estimate = variation(model, x, draws=16, pairs=2)["c"]
    slope = 2 * x.x[:, 0] / (0.5**2 + 0.4**2)
    wanted = 0.0 if shared else (slope / 2).square().mean().item()
    assert estimate.value == pytest.approx(wanted, rel=1e-6, abs=1e-9)


def test_too_few_data_or_draws_are_refused(x: Tensor) -> None:
    model = fit_ppca(x, 2, 2.0)
    with pytest.raises(ValueError, match="need 2 data"):
        variation(model, DenseBatch(x[:1]))
    with pytest.raises(ValueError, match="need 2 data"):
        variation(model, DenseBatch(x), draws=1)
