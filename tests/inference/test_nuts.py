"""NUTS against exact posteriors, its diagnostics, and the alignment of what is not identified."""

from __future__ import annotations

import sys
import warnings

import numpy as np
import pytest
import torch

from lidcli.errors import ConfigError
from lidcli.inference import nuts
from lidcli.inference.weight import weight_posterior
from lidcli.models.ppca import fit_ppca

pytest.importorskip("numpyro")

QUICK = {"chains": 4, "warmup": 300, "draws": 500}


def test_latents_of_a_ppca_are_within_three_standard_errors_of_exact() -> None:
    x = np.random.default_rng(0).normal(size=(100, 4)) * [4.0, 2.5, 1.0, 1.0]
    model = fit_ppca(torch.from_numpy(x), 2, 1.5)
    chains = nuts.ppca_latents(
        x[:10], model.weight.numpy(), model.bias.numpy(), 1.5, seed=0, **QUICK
    )
    found = nuts.summarise(chains.draws["z"])
    mean = model.posterior_mean(torch.from_numpy(x[:10])).numpy()
    sd = model.posterior_covariance().diagonal().sqrt().numpy()
    assert found.converged
    assert chains.divergences == 0
    assert np.abs((found.mean - mean) / found.mean_se)[0].max() < 3
    assert np.abs((found.sd - sd) / found.sd_se)[0].max() < 3
    assert 0.5 < np.sqrt(np.mean(((found.mean - mean) / found.mean_se) ** 2)) < 1.5


def test_the_weight_of_a_mixture_is_within_three_standard_errors_of_the_grid() -> None:
    rng = np.random.default_rng(0)
    x = np.where(rng.random(400) < 0.15, -2.0, 2.0) + rng.normal(size=400)
    densities = -0.5 * np.stack([(x + 2) ** 2, (x - 2) ** 2], axis=1)
    exact = weight_posterior(densities)
    chains = nuts.gmm_weight(densities, seed=0, **QUICK)
    found = nuts.summarise(chains.draws["alpha"])
    assert found.converged
    assert abs(found.mean - exact.mean) < 3 * found.mean_se
    assert abs(found.sd - exact.sd) < 3 * found.sd_se


def test_the_joint_posterior_of_separated_clusters_finds_them() -> None:
    rng = np.random.default_rng(0)
    left = rng.random(1000) < 0.15
    x = np.where(left, -10.0, 10.0) + rng.normal(size=1000)
    start = np.array([0.2, -9.0, 9.0, 1.5, 1.5])
    chains = nuts.gmm_joint(x, start, seed=0, **QUICK)
    weight = nuts.summarise(chains.draws["alpha"])
    assert weight.converged
    conjugate = (5 + left.sum()) / 1010
    assert abs(weight.mean - conjugate) < 3 * weight.mean_se
    assert (np.diff(chains.draws["mean"], axis=-1) > 0).all()
    assert chains.draws["mean"].mean((0, 1)) == pytest.approx([-10, 10], abs=0.3)
    assert chains.draws["sd"].mean((0, 1)) == pytest.approx([1, 1], abs=0.2)


def test_rotations_of_the_weights_are_taken_out() -> None:
    x = np.random.default_rng(0).normal(size=(300, 4)) * [4.0, 3.5, 1.0, 1.0]
    chains = nuts.ppca_weights(x, 2, 1.0, seed=0, **QUICK)
    raw = chains.draws["w"]
    target = fit_ppca(torch.from_numpy(x), 2, 1.0).weight.numpy()
    turned, rotation = nuts.aligned(raw, target)
    assert np.allclose(np.swapaxes(rotation, -1, -2) @ rotation, np.eye(2), atol=1e-10)
    assert np.allclose(turned @ np.swapaxes(turned, -1, -2), raw @ np.swapaxes(raw, -1, -2))
    found = nuts.summarise(turned)
    assert found.converged
    assert np.abs(found.mean - target).max() < 4 * found.sd.max()


def test_grouping_changes_the_likelihood_by_nearly_a_constant() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=10_000)
    values, counts = nuts.grouped(x)
    assert counts.sum() == len(x)
    assert len(values) <= nuts.CELLS
    differences = []
    for mean, sd in ((0.0, 1.0), (0.02, 0.98), (-0.03, 1.03)):
        whole = -0.5 * (((x - mean) / sd) ** 2).sum()
        cells = -0.5 * (counts * ((values - mean) / sd) ** 2).sum()
        differences.append(whole - cells)
    assert np.ptp(differences) < 0.01


def test_chains_that_disagree_are_not_called_converged() -> None:
    rng = np.random.default_rng(0)
    apart = rng.normal(size=(4, 200)) + np.array([0.0, 0.0, 0.0, 5.0])[:, None]
    assert not nuts.summarise(apart).converged
    assert nuts.summarise(rng.normal(size=(4, 2000))).converged


def test_jax_is_left_in_the_precision_it_had() -> None:
    import jax.numpy as jnp

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        nuts.gmm_weight(np.zeros((10, 2)), seed=0, chains=1, warmup=10, draws=10)
    assert jnp.zeros(1).dtype == jnp.float32


def test_without_the_extra_the_message_gives_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numpyro", None)
    with pytest.raises(ConfigError, match=r'pip install "lidcli\[bayes\]"'):
        nuts.require()
