"""What NUTS draws for a run of a classical model, and the figures it stores of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from lidcli.config import sections
from lidcli.inference import nuts
from lidcli.metrics.classical import SHOWN
from lidcli.metrics.pictures import rows_kept
from lidcli.models.gmm import GMM
from lidcli.models.ppca import PPCA, principal_axes

__all__ = ["Sampled", "sample_gmm", "sample_ppca"]

SAMPLED = 50
"""Data whose latents NUTS draws: their posteriors are independent given the parameters."""
KEPT = 2000
"""Draws kept for the figures."""

Sampled = tuple[dict[str, float], dict[str, Any], str]
"""Scalars, arrays, and what was drawn, in words."""


def _settings(wanted: sections.NUTS) -> dict[str, int]:
    return {"chains": wanted.chains, "warmup": wanted.warmup, "draws": wanted.draws}


def _thin(draws: Any, most: int = KEPT) -> Any:
    """The draws of all chains in one axis, at most so many of them."""
    flat = draws.reshape(-1, *draws.shape[2:])
    return flat[:: max(1, -(-len(flat) // most))]


def _shown(draws: Any) -> Any:
    """Thinned draws, as many as a record keeps."""
    return _thin(draws, rows_kept(KEPT, draws.shape[2:]))


def _diagnostics(
    wanted: sections.NUTS, summary: nuts.Summary, divergences: int
) -> dict[str, float]:
    return {
        "nuts/rhat": float(np.max(summary.rhat)),
        "nuts/ess": float(np.min(summary.ess)),
        "nuts/divergences": float(divergences),
        "nuts/chains": float(wanted.chains),
        "nuts/draws": float(wanted.draws),
    }


def sample_ppca(wanted: sections.NUTS, seed: int, model: PPCA, x: Any) -> Sampled:
    """Draw z of a PPCA at its parameters, or W and z jointly.

    Args:
        wanted: chains, warm-up and draws, and whether jointly.
        seed: of the chains.
        model: fitted.
        x: the data it was fitted to, (N, D) in float64.

    Returns:
        Diagnostics and moments under `nuts/`, draws for the figures, and a sentence.
    """
    weight, bias = model.weight.numpy(), model.bias.numpy()
    sigma = model.variance.sqrt().item()
    if not wanted.joint:
        chains = nuts.ppca_latents(x[:SAMPLED], weight, bias, sigma, seed=seed, **_settings(wanted))
        z = chains.draws["z"]
        summary = nuts.summarise(z)
        exact_mean = model.posterior_mean(torch.from_numpy(x[:SAMPLED])).numpy()
        exact_sd = model.posterior_covariance().diagonal().sqrt().numpy()
        scalars = _diagnostics(wanted, summary, chains.divergences)
        scalars["nuts/mean_error"] = _rms((summary.mean - exact_mean) / summary.mean_se)
        scalars["nuts/sd_error"] = _rms((summary.sd - exact_sd) / summary.sd_se)
        for k in range(model.latent):
            scalars |= _moments(f"nuts/z/{k + 1}", summary, (SHOWN, k))
        said = f"z of the first {len(x[:SAMPLED])} data at the parameters shown"
        return scalars, {"nuts_z": _shown(z[:, :, SHOWN])}, said
    chains = nuts.ppca_weights(x, model.latent, sigma, seed=seed, **_settings(wanted))
    values, vectors = principal_axes(torch.from_numpy(x))
    target = (vectors[:, : model.latent] * values[: model.latent].sqrt()).numpy()
    w, _ = nuts.aligned(chains.draws["w"], target)
    summary = nuts.summarise(w)
    scalars = _diagnostics(wanted, summary, chains.divergences)
    rng = np.random.default_rng(seed)
    kept = _thin(w)
    z = np.stack([_latent(one, x[SHOWN] - bias, sigma, rng) for one in kept])
    for k in range(model.latent):
        scalars[f"nuts/z/{k + 1}/mean"] = float(z[:, k].mean())
        scalars[f"nuts/z/{k + 1}/sd"] = float(z[:, k].std(ddof=1))
    said = (
        "W with z integrated out, then z given W exactly; rotation and sign of the latents are"
        " not identified and were taken out by aligning every draw of W to the principal axes"
    )
    return scalars, {"nuts_z": _shown(z[None]), "nuts_w": _shown(w)}, said


def _latent(weight: Any, x: Any, sigma: float, rng: np.random.Generator) -> Any:
    """One draw of z given W."""
    precision = np.eye(weight.shape[1]) + weight.T @ weight / sigma**2
    factor = np.linalg.cholesky(precision)
    mean = np.linalg.solve(precision, weight.T @ x / sigma**2)
    return mean + np.linalg.solve(factor.T, rng.normal(size=len(mean)))


def _rms(values: Any) -> float:
    return float(np.sqrt(np.mean(values**2)))


def _moments(name: str, summary: nuts.Summary, at: tuple[int, ...] = ()) -> dict[str, float]:
    return {
        f"{name}/mean": float(summary.mean[at]),
        f"{name}/mean_se": float(summary.mean_se[at]),
        f"{name}/sd": float(summary.sd[at]),
        f"{name}/sd_se": float(summary.sd_se[at]),
    }


def sample_gmm(wanted: sections.NUTS, seed: int, model: GMM, x: Any) -> Sampled:
    """Draw the weight of two components at their parameters, or all parameters jointly.

    Args:
        wanted: chains, warm-up and draws, and whether jointly.
        seed: of the chains.
        model: fitted, of two components.
        x: the data it was fitted to, (N, D) in float64.

    Returns:
        Diagnostics and moments under `nuts/`, draws for the figures, and a sentence.
    """
    if wanted.joint:
        start = np.concatenate([model.weights[:1], model.means[:, 0], model.factors[:, 0, 0]])
        chains = nuts.gmm_joint(x[:, 0], start, seed=seed, **_settings(wanted))
        said = (
            "weight, means and sds jointly; labels switch, and every draw is relabelled by its"
            " means; the chains start around the parameters shown"
        )
    else:
        log_densities = model.component_log_density(torch.from_numpy(x)).numpy()
        chains = nuts.gmm_weight(log_densities, seed=seed, **_settings(wanted))
        said = "the weight at the parameters shown"
    parts = [draws.reshape(*draws.shape[:2], -1) for draws in chains.draws.values()]
    everything = nuts.summarise(np.concatenate(parts, axis=-1))
    scalars = _diagnostics(wanted, everything, chains.divergences)
    scalars |= _moments("nuts/alpha", nuts.summarise(chains.draws["alpha"]))
    return scalars, {f"nuts_{name}": _shown(draws) for name, draws in chains.draws.items()}, said
