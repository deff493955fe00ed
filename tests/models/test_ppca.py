"""PPCA: maximum likelihood, posterior and collapse thresholds, held to closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from lidcli.models.ppca import PPCA, fit_ppca, principal_axes

EIGENVALUES = (18.2927, 8.4033)


def data_with(eigenvalues: tuple[float, ...], n: int = 500) -> Tensor:
    """n data whose covariance, normalised by n, has exactly these eigenvalues."""
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(n, len(eigenvalues), generator=generator, dtype=torch.float64)
    x = x - x.mean(0)
    white = torch.linalg.solve_triangular(torch.linalg.cholesky(x.T @ x / n), x.T, upper=False).T
    turn = torch.linalg.qr(
        torch.randn(len(eigenvalues), len(eigenvalues), generator=generator, dtype=torch.float64)
    )[0]
    return white * torch.tensor(eigenvalues, dtype=torch.float64).sqrt() @ turn + 3.0


@pytest.fixture(scope="module")
def x() -> Tensor:
    return data_with((*EIGENVALUES, 1.1, 1.0, 0.9))


def test_eigenvalues_are_those_of_the_sample_covariance(x: Tensor) -> None:
    values, vectors = principal_axes(x)
    wanted = torch.tensor([*EIGENVALUES, 1.1, 1.0, 0.9], dtype=torch.float64)
    assert torch.allclose(values, wanted, atol=1e-10)
    assert torch.allclose(vectors.T @ vectors, torch.eye(5, dtype=torch.float64), atol=1e-12)


@pytest.mark.parametrize("sigma", [0.1, 1.0, 3.0, None])
def test_the_marginal_is_the_gaussian_with_covariance_wwt_plus_noise(
    x: Tensor, sigma: float | None
) -> None:
    model = fit_ppca(x, 2, sigma)
    covariance = model.weight @ model.weight.T
    covariance += model.variance * torch.eye(5, dtype=torch.float64)
    wanted = MultivariateNormal(model.bias, covariance).log_prob(x)
    assert torch.allclose(model.log_marginal(x), wanted, rtol=1e-10, atol=1e-8)


def test_the_posterior_is_that_of_conditioning_the_joint_gaussian() -> None:
    generator = torch.Generator().manual_seed(0)
    w = torch.randn(4, 3, generator=generator, dtype=torch.float64)
    model = PPCA(w, torch.arange(4.0), sigma=0.7)
    x = torch.randn(6, 4, generator=generator, dtype=torch.float64)
    gain = w.T @ torch.linalg.inv(w @ w.T + 0.49 * torch.eye(4, dtype=torch.float64))
    assert torch.allclose(model.posterior_mean(x), (x - torch.arange(4.0)) @ gain.T, atol=1e-8)
    wanted = torch.eye(3, dtype=torch.float64) - gain @ w
    assert torch.allclose(model.posterior_covariance(), wanted, atol=1e-8)


@pytest.mark.parametrize("sigma", [0.5, 2.0, None])
def test_no_nearby_parameters_have_a_higher_likelihood(x: Tensor, sigma: float | None) -> None:
    model = fit_ppca(x, 2, sigma)
    best = model.log_marginal(x).mean()
    generator = torch.Generator().manual_seed(0)
    for step in (1e-3, 1e-2, 0.1):
        for _ in range(20):
            move = torch.randn(5, 2, generator=generator, dtype=torch.float64)
            shift = torch.randn(5, generator=generator, dtype=torch.float64)
            noise = float(torch.exp(model.variance.log() / 2))
            if sigma is None:
                noise *= math.exp(step * torch.randn(1, generator=generator).item())
            other = PPCA(model.weight + step * move, model.bias + step * shift, noise)
            assert other.log_marginal(x).mean() < best


def test_the_found_noise_is_the_mean_of_the_discarded_eigenvalues(x: Tensor) -> None:
    assert fit_ppca(x, 2).variance.item() == pytest.approx(1.0, abs=1e-10)


@pytest.mark.parametrize(
    ("sigma", "variances"),
    [(1.5, (0.123, 0.268)), (2.0, (0.219, 0.476)), (3.0, (0.492, 1.0)), (4.5, (1.0, 1.0))],
)
def test_posterior_variances_of_the_published_example(
    x: Tensor, sigma: float, variances: tuple[float, float]
) -> None:
    found = fit_ppca(x, 2, sigma).posterior_covariance()
    assert found.diagonal().tolist() == pytest.approx(variances, abs=5e-4)
    exact = [sigma**2 / max(v, sigma**2) for v in EIGENVALUES]
    assert found.diagonal().tolist() == pytest.approx(exact, abs=1e-8)
    assert abs(found[0, 1].item()) < 1e-10


@pytest.mark.parametrize(("k", "threshold"), [(0, 4.277), (1, 2.8988)])
def test_a_direction_collapses_exactly_from_the_root_of_its_eigenvalue(
    x: Tensor, k: int, threshold: float
) -> None:
    assert math.sqrt(EIGENVALUES[k]) == pytest.approx(threshold, abs=5e-4)
    below = fit_ppca(x, 2, math.sqrt(EIGENVALUES[k]) - 1e-6)
    above = fit_ppca(x, 2, math.sqrt(EIGENVALUES[k]) + 1e-6)
    assert below.weight[:, k].norm() > 0
    assert above.weight[:, k].norm() == 0
    assert above.posterior_covariance()[k, k].item() == pytest.approx(1.0, abs=1e-15)


def test_at_the_true_noise_the_superfluous_direction_is_nearly_but_not_exactly_collapsed() -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        z = torch.randn(500, 1, generator=generator, dtype=torch.float64)
        noise = torch.randn(500, 5, generator=generator, dtype=torch.float64)
        x = z @ torch.full((1, 5), 2.0, dtype=torch.float64) + noise
        values, _ = principal_axes(x)
        assert values[1] > 1.0
        variance = fit_ppca(x, 2, 1.0).posterior_covariance()[1, 1].item()
        assert 0.7 < variance < 1.0
        exact = fit_ppca(x, 2, math.sqrt(values[1].item()) + 1e-9)
        assert exact.weight[:, 1].norm() == 0


def test_samples_have_the_model_s_covariance() -> None:
    model = PPCA(torch.tensor([[2.0], [1.0]]), torch.zeros(2), 0.5)
    torch.manual_seed(0)
    found = torch.cov(model.sample(200_000).x.T)
    wanted = torch.tensor([[4.25, 2.0], [2.0, 1.25]], dtype=torch.float64)
    assert torch.allclose(found, wanted, atol=0.06)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"latent": 6, "sigma": 1.0}, "1 to 5"),
        ({"latent": 0, "sigma": 1.0}, "1 to 5"),
        ({"latent": 5, "sigma": None}, "fix sigma"),
        ({"latent": 2, "sigma": 0.0}, "positive"),
        ({"latent": 2, "sigma": -1.0}, "positive"),
    ],
)
def test_wrong_sizes_are_refused(x: Tensor, arguments: dict[str, float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        fit_ppca(x, **arguments)  # type: ignore[arg-type]


def test_too_few_data_are_refused(x: Tensor) -> None:
    with pytest.raises(ValueError, match="cannot fix"):
        fit_ppca(x[:2], 2, 1.0)
    with pytest.raises(ValueError, match="no noise"):
        fit_ppca(x[:3], 2)
