"""The allowances of docs/THEOREM1.md: attained by PPCA, and never exceeded by any model."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Size, Tensor, nn
from torch.distributions import (
    Distribution,
    Exponential,
    Laplace,
    MultivariateNormal,
    Normal,
    StudentT,
    Uniform,
)

from lidcli.diagnose.priors import GivenPrior
from lidcli.inference.exact import ExactGaussian
from lidcli.metrics.fisher import Allowance, allowance, fisher_figures, mean_information, told
from lidcli.models.batch import DenseBatch
from lidcli.models.latent import LatentModel
from lidcli.models.likelihoods import Bernoulli, Gaussian, Likelihood
from lidcli.models.moments import Moments
from lidcli.models.observations import DenseObservation
from lidcli.models.ppca import PPCA
from lidcli.models.priors import StandardNormal

DATA, WIDTH, REACH = 800, 4, 6.0
NODES = {1: 301, 2: 49}
SLACK = 4.0
"""Standard errors; the seeds are fixed."""


@pytest.fixture(autouse=True)
def double_precision() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("latent", [1, 2, 4])
def test_ppca_attains_every_allowance_in_its_axes(latent: int) -> None:
    torch.manual_seed(latent)
    axes, _ = torch.linalg.qr(torch.randn(6, latent))
    model = PPCA(axes * torch.linspace(0.05, 3.0, latent), torch.zeros(6), 0.7)
    information, every = mean_information(model, 3)
    found = known(model, information)
    assert torch.allclose(every, model.information().expand_as(every))
    assert torch.allclose(found.variances, 1 - model.posterior_covariance().diagonal())
    moved = torch.linalg.inv(model.posterior_covariance())
    assert found.mi == pytest.approx(0.5 * torch.logdet(moved).item(), rel=1e-12)


def test_ppca_out_of_its_axes_attains_the_covariance_and_the_information() -> None:
    torch.manual_seed(0)
    model = PPCA(torch.randn(6, 3), torch.zeros(6), 0.7)
    found = known(model, mean_information(model, 2)[0])
    left = torch.linalg.inv(found.total)
    assert torch.allclose(left, model.posterior_covariance())
    assert found.mi == pytest.approx(-0.5 * torch.logdet(left).item(), rel=1e-12)


def test_information_is_measured_where_the_data_are_too() -> None:
    """Of a linear decoder it is the same everywhere, and F̄ is the matrix itself."""
    torch.manual_seed(0)
    model = PPCA(torch.randn(6, 3), torch.zeros(6), 0.7)
    model.posterior = ExactGaussian(model)
    found, matrix = fisher_figures(model, DenseBatch(torch.randn(9, 6)))
    assert matrix is not None
    assert torch.allclose(matrix, model.information())
    lowest = torch.linalg.eigvalsh(model.information()).min().item()
    assert found["fisher_min"] == pytest.approx(lowest, rel=1e-9)
    assert found["fisher_posterior_min"] == pytest.approx(lowest, rel=1e-9)


class _Exact:
    """A random small model, data from it, and its posterior on a grid."""

    def __init__(self, seed: int) -> None:
        torch.manual_seed(seed)
        self.latent = 1 + seed % 2
        hidden = int(torch.randint(2, 8, ()))
        decoder = nn.Sequential(nn.Linear(self.latent, hidden), nn.Tanh(), nn.Linear(hidden, WIDTH))
        scale = math.exp(torch.empty(()).uniform_(-2.0, 1.5).item())
        with torch.no_grad():
            decoder[0].weight.normal_(0, 1)
            decoder[2].weight.normal_(0, scale / math.sqrt(hidden))
        likelihood: Likelihood = Bernoulli() if seed % 4 < 2 else Gaussian(0.7).double()
        observation = DenseObservation(decoder, likelihood)
        self.model = LatentModel(StandardNormal(self.latent), observation)
        axis = torch.linspace(-REACH, REACH, NODES[self.latent])
        axes = torch.meshgrid(*[axis] * self.latent, indexing="ij")
        self.grid = torch.stack(axes, -1).flatten(0, -2)
        self.log_prior = torch.log_softmax(-self.grid.square().sum(1) / 2, 0)
        with torch.no_grad():
            fisher = observation.fisher(self.grid)
            self.information = (self.log_prior.exp()[:, None, None] * fisher).sum(0)
            self.z = self.model.prior.sample(DATA)
            self.x = observation.sample(self.z)
            log_joint = observation.on_grid(self.grid)(self.x) + self.log_prior
            log_p = log_joint.logsumexp(1, keepdim=True)
            self.posterior = (log_joint - log_p).exp()
            self.kl = (self.posterior * (log_joint - log_p - self.log_prior)).sum(1)
            self.mean = self.posterior @ self.grid

    def score(self) -> Tensor:
        """‖∇ log p(x | z)‖² at the z that made each datum, (N,)."""
        z = self.z.clone().requires_grad_()
        self.model.observation.log_prob(self.x, z).sum().backward()
        assert z.grad is not None
        return z.grad.square().sum(1)


def known(model: LatentModel, information: Tensor) -> Allowance:
    found = allowance(model, information)
    assert found is not None
    return found


def _error(values: Tensor) -> float:
    return values.std().item() / math.sqrt(len(values))


@pytest.mark.parametrize("seed", range(50))
def test_no_exact_posterior_exceeds_its_allowance(seed: int) -> None:
    exact = _Exact(seed)
    found = known(exact.model, exact.information)
    assert exact.kl.mean().item() <= found.mi + SLACK * _error(exact.kl)
    centred = (exact.mean - exact.mean.mean(0)).square()
    for k, allowed in enumerate(found.variances.tolist()):
        assert centred[:, k].mean().item() <= allowed + SLACK * _error(centred[:, k]) + 1e-12
    squared = exact.score()
    trace = exact.information.trace().item()
    assert abs(squared.mean().item() - trace) < SLACK * _error(squared) + 1e-12


@pytest.mark.parametrize("seed", range(0, 50, 7))
def test_van_trees_holds_in_every_direction(seed: int) -> None:
    """E Cov(z | x) - (I + F̄)⁻¹ has no eigenvalue below zero, beyond error."""
    exact = _Exact(seed)
    outer = exact.grid[:, :, None] * exact.grid[:, None, :]
    second = (exact.posterior @ outer.flatten(1)).view(-1, exact.latent, exact.latent)
    left = second - exact.mean[:, :, None] * exact.mean[:, None, :]
    found = known(exact.model, exact.information)
    values, vectors = torch.linalg.eigh(left.mean(0) - torch.linalg.inv(found.total))
    along = torch.einsum("nij,ik,jk->nk", left, vectors, vectors)
    for k, value in enumerate(values.tolist()):
        assert value >= -SLACK * _error(along[:, k]) - 1e-9


@pytest.mark.parametrize("covariance", [[[4.0, 0.0], [0.0, 0.25]], [[2.0, 0.9], [0.9, 1.0]]])
def test_a_prior_of_its_own_information_is_attained_by_linear_models(
    covariance: list[list[float]],
) -> None:
    """z ~ N(0, Σ), x = W z + noise: Cov(z | x) = (Σ⁻¹ + F)⁻¹ and MI = ½ log det(I + Σ F)."""
    torch.manual_seed(0)
    cov = torch.tensor(covariance)
    prior = GivenPrior(MultivariateNormal(torch.zeros(2), cov), Size((2,)))
    decoder = nn.Linear(2, 5)
    model = LatentModel(prior, DenseObservation(decoder, Gaussian(0.7).double()))
    information = decoder.weight.detach().T @ decoder.weight.detach() / 0.7**2
    found = known(model, mean_information(model, 2)[0])
    left = torch.linalg.inv(torch.linalg.inv(cov) + information)
    assert torch.allclose(found.variances, (cov - left).diagonal(), atol=1e-12)
    exact = 0.5 * torch.logdet(torch.eye(2) + cov @ information).item()
    assert found.mi == pytest.approx(exact, rel=1e-12)


def test_a_decoder_blind_to_the_latent_allows_nothing_under_any_normal_prior() -> None:
    for sd in (0.1, 1.0, 30.0):
        prior = GivenPrior(Normal(torch.zeros(3), sd), Size((3,)))
        decoder = nn.Linear(3, 5)
        nn.init.zeros_(decoder.weight)
        model = LatentModel(prior, DenseObservation(decoder, Gaussian(1.0).double()))
        found = known(model, mean_information(model)[0])
        assert found.variances.abs().max().item() <= 1e-12 * sd**2
        assert found.mi == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize(
    ("prior", "smooth"),
    [
        (lambda one: Laplace(0 * one, one), True),
        (lambda one: StudentT(5 * one), True),
        (lambda one: Uniform(-one, one), False),
        (Exponential, False),
    ],
)
def test_a_density_that_jumps_at_the_ends_of_its_support_allows_no_conclusion(
    prior: Callable[[Tensor], Distribution], smooth: bool
) -> None:
    given = GivenPrior(prior(torch.ones(2)), Size((2,)))
    model = LatentModel(given, DenseObservation(nn.Linear(2, 5), Gaussian(1.0).double()))
    torch.manual_seed(0)
    assert (allowance(model, torch.eye(2)) is not None) is smooth
    assert ("allowed/mi" in told(model, *mean_information(model))) is smooth


def test_a_unit_with_too_little_information_cannot_be_active() -> None:
    prior = Moments.gaussian(torch.eye(1))
    below = Allowance(torch.full((1, 1), 0.0101), prior)
    above = Allowance(torch.full((1, 1), 0.0102), prior)
    assert (below.active, above.active) == (0.0, 1.0)
