"""Runs without a training loop: parameters in closed form or by EM, posteriors exact or by NUTS."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from lidcli.config.schema import RunConfig
from lidcli.data.classical import SOURCES, Clusters, Linear
from lidcli.errors import ConfigError, DataError
from lidcli.inference import nuts
from lidcli.inference.exact import (
    ExactCategory,
    ExactClusters,
    ExactGaussian,
    WeightPosterior,
    weight_log_likelihood,
    weight_posterior,
)
from lidcli.metrics.closed_form import SHOWN, evaluate_gmm, evaluate_ppca, weight_verdict
from lidcli.metrics.estimate import Estimate
from lidcli.metrics.evaluation import Evaluation, Split
from lidcli.metrics.evaluation import evaluate as evaluate_any
from lidcli.metrics.identifiability import identifiability
from lidcli.metrics.pictures import pictures
from lidcli.models.base import Model
from lidcli.models.gmm import GMM, fit_gmm, shared_gmm
from lidcli.models.ppca import PPCA, fit_ppca, principal_axes
from lidcli.models.transport import two_cluster_gmvae
from lidcli.store.run import Run

if TYPE_CHECKING:
    from lidcli.data.dataset import Dataset

__all__ = ["evaluate", "fit", "handles", "infer"]

SAMPLED = 50
"""Data whose latents NUTS draws: their posteriors are independent given the parameters."""
KEPT = 2000
"""Draws kept for the figures."""


def handles(config: RunConfig) -> bool:
    """Whether a run needs no training loop."""
    return config.inference.kind in ("exact", "nuts")


def fit(config: RunConfig, data: Dataset) -> Model:
    """The model at the parameters that `model.theta` names, with its exact posterior.

    Args:
        config: of a run that `handles` accepts.
        data: whose training part is fitted.

    Raises:
        ConfigError: settings that do not go together; NUTS without the extra.
        DataError: fewer points than dimensions, or a singular covariance.
    """
    family, kind = config.model.family, config.inference.kind
    if kind == "nuts":
        nuts.require()
    x = torch.from_numpy(data.train.x).double()
    if family in ("ppca", "gmm") and len(x) <= x.shape[1]:
        raise DataError(
            f"{data.name} has {len(x)} training points in {x.shape[1]} dimensions; {family} needs"
            " more points than dimensions."
        )
    try:
        if family == "ppca":
            return _ppca(config, x)
        if family == "gmm":
            return _gmm(config, x)
    except ValueError as error:
        raise ConfigError(f"{error}.") from error
    if family == "mixture" and kind == "exact":
        return _clusters(config)
    raise ConfigError(
        f"inference.kind = {kind!r} does not go with model.family = {family!r}:"
        " it takes ppca or gmm, and exact also mixture on gmvae-two and gmvae-one."
    )


def _source(config: RunConfig, kind: type[Linear] | type[Clusters]) -> Any:
    source = SOURCES.get(config.data.name)
    if not isinstance(source, kind):
        raise ConfigError(
            f"model.theta = 'truth' needs data drawn from the model itself, not {config.data.name}."
        )
    return source


def _ppca(config: RunConfig, x: Tensor) -> PPCA:
    model = config.model
    if model.theta == "shared":
        raise ConfigError("model.theta = 'shared' is for mixtures; a PPCA takes ml or truth.")
    if model.theta == "truth":
        source: Linear = _source(config, Linear)
        inputs, known = source.weight.shape
        if not known <= model.latent <= inputs:
            raise ConfigError(f"{config.data.name} has {known} latent dimensions at its truth.")
        weight = torch.zeros(inputs, model.latent, dtype=torch.float64)
        weight[:, :known] = torch.from_numpy(source.weight)
        fitted = PPCA(weight, torch.zeros(inputs), model.sigma or source.sigma)
    else:
        fitted = fit_ppca(x, model.latent, model.sigma)
    fitted.posterior = ExactGaussian(fitted)
    return fitted


def _gmm(config: RunConfig, x: Tensor) -> GMM:
    components = config.model.categories or 2
    if config.inference.kind == "nuts" and components != 2:
        raise ConfigError("NUTS is for mixtures of 2 components: model.categories=2.")
    if config.inference.joint and x.shape[1] != 1:
        raise ConfigError(f"inference.joint is for data of one dimension, not {x.shape[1]}.")
    if config.model.theta == "shared":
        fitted = shared_gmm(x, components)
    elif config.model.theta == "truth":
        source: Clusters = _source(config, Clusters)
        count = len(source.weights)
        if count not in (1, components):
            raise ConfigError(f"{config.data.name} has {count} clusters at its truth.")
        means = torch.zeros(components, source.width, dtype=torch.float64)
        means[:, 0] = torch.tensor(source.centres)
        covariance = source.sd**2 * torch.eye(source.width, dtype=torch.float64)
        fitted = GMM(
            torch.tensor(source.weights).double().expand(components) * count / components,
            means,
            covariance.expand(components, -1, -1),
        )
    else:
        fitted = fit_gmm(x, components, seed=config.seed)
    fitted.posterior = ExactCategory(fitted)
    return fitted


def _clusters(config: RunConfig) -> Model:
    source = SOURCES.get(config.data.name)
    if not isinstance(source, Clusters) or not source.noise:
        raise ConfigError(
            "inference.kind = 'exact' of a GMVAE is for gmvae-two and gmvae-one, whose truth is"
            f" known, not {config.data.name}; train it with inference.kind=amortized."
        )
    if config.model.theta == "ml":
        raise ConfigError(
            "A GMVAE has no maximum in closed form: model.theta=truth or shared, both maximisers,"
            " or inference.kind=amortized to train one."
        )
    shared = config.model.theta == "shared" or len(source.centres) == 1
    scale = float(np.sqrt(source.sd**2 - source.noise**2))
    made = two_cluster_gmvae(source.centres, scale, source.noise, source.width, shared=shared)
    made.posterior = ExactClusters(made, source.centres, scale, source.noise, shared)
    return made


def infer(config: RunConfig, run: Run, model: Model, data: Dataset) -> float:
    """Store the fitted parameters, and NUTS's draws where they are asked for.

    Args:
        config: of a run that `handles` accepts.
        run: takes the checkpoint, the draws' summaries and what they say of convergence.
        model: from `fit`.
        data: that it was fitted to.

    Returns:
        Seconds it took.
    """
    started = time.monotonic()
    state = model.state_dict()
    run.save_checkpoint({"best": state, "model": state})
    if config.inference.kind == "nuts":
        x = data.train.x.astype(np.float64)
        if isinstance(model, PPCA):
            scalars, arrays, said = _sample_ppca(config, model, x)
        else:
            assert isinstance(model, GMM)
            scalars, arrays, said = _sample_gmm(config, model, x)
        settings = config.inference
        tolerated = nuts.DIVERGENT * settings.chains * settings.draws
        converged = scalars["nuts/rhat"] < nuts.RHAT and scalars["nuts/divergences"] <= tolerated
        run.update(
            provenance={"converged": converged, "nuts": said},
            evaluation=(config.evaluate.split, scalars),
            arrays=arrays,
        )
    return time.monotonic() - started


Sampled = tuple[dict[str, float], dict[str, Any], str]


def _settings(config: RunConfig) -> dict[str, int]:
    wanted = config.inference
    return {"chains": wanted.chains, "warmup": wanted.warmup, "draws": wanted.draws}


def _thin(draws: Any) -> Any:
    """The draws of all chains in one axis, at most `KEPT` of them."""
    flat = draws.reshape(-1, *draws.shape[2:])
    return flat[:: max(1, -(-len(flat) // KEPT))]


def _diagnostics(config: RunConfig, summary: nuts.Summary, divergences: int) -> dict[str, float]:
    return {
        "nuts/rhat": float(np.max(summary.rhat)),
        "nuts/ess": float(np.min(summary.ess)),
        "nuts/divergences": float(divergences),
        "nuts/chains": float(config.inference.chains),
        "nuts/draws": float(config.inference.draws),
    }


def _sample_ppca(config: RunConfig, model: PPCA, x: Any) -> Sampled:
    weight, bias = model.weight.numpy(), model.bias.numpy()
    sigma = model.variance.sqrt().item()
    if not config.inference.joint:
        chains = nuts.ppca_latents(
            x[:SAMPLED], weight, bias, sigma, seed=config.seed, **_settings(config)
        )
        z = chains.draws["z"]
        summary = nuts.summarise(z)
        exact_mean = model.posterior_mean(torch.from_numpy(x[:SAMPLED])).numpy()
        exact_sd = model.posterior_covariance().diagonal().sqrt().numpy()
        scalars = _diagnostics(config, summary, chains.divergences)
        scalars["nuts/mean_error"] = _rms((summary.mean - exact_mean) / summary.mean_se)
        scalars["nuts/sd_error"] = _rms((summary.sd - exact_sd) / summary.sd_se)
        for k in range(model.latent):
            scalars |= _moments(f"nuts/z/{k + 1}", summary, (SHOWN, k))
        said = f"z of the first {len(x[:SAMPLED])} data at the parameters shown"
        return scalars, {"nuts_z": _thin(z[:, :, SHOWN])}, said
    chains = nuts.ppca_weights(x, model.latent, sigma, seed=config.seed, **_settings(config))
    values, vectors = principal_axes(torch.from_numpy(x))
    target = (vectors[:, : model.latent] * values[: model.latent].sqrt()).numpy()
    w, _ = nuts.aligned(chains.draws["w"], target)
    summary = nuts.summarise(w)
    scalars = _diagnostics(config, summary, chains.divergences)
    rng = np.random.default_rng(config.seed)
    kept = _thin(w)
    z = np.stack([_latent(one, x[SHOWN] - bias, sigma, rng) for one in kept])
    for k in range(model.latent):
        scalars[f"nuts/z/{k + 1}/mean"] = float(z[:, k].mean())
        scalars[f"nuts/z/{k + 1}/sd"] = float(z[:, k].std(ddof=1))
    said = (
        "W with z integrated out, then z given W exactly; rotation and sign of the latents are"
        " not identified and were taken out by aligning every draw of W to the principal axes"
    )
    return scalars, {"nuts_z": z, "nuts_w": kept}, said


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


def _sample_gmm(config: RunConfig, model: GMM, x: Any) -> Sampled:
    if config.inference.joint:
        start = np.concatenate(
            [model.weights[:1], model.means[:, 0], model.factors[:, 0, 0].detach()]
        )
        chains = nuts.gmm_joint(x[:, 0], start, seed=config.seed, **_settings(config))
        said = (
            "weight, means and sds jointly; labels switch, and every draw is relabelled by its"
            " means; the chains start around the parameters shown"
        )
    else:
        log_densities = model.component_log_density(torch.from_numpy(x)).numpy()
        chains = nuts.gmm_weight(log_densities, seed=config.seed, **_settings(config))
        said = "the weight at the parameters shown"
    parts = [draws.reshape(*draws.shape[:2], -1) for draws in chains.draws.values()]
    everything = nuts.summarise(np.concatenate(parts, axis=-1))
    scalars = _diagnostics(config, everything, chains.divergences)
    scalars |= _moments("nuts/alpha", nuts.summarise(chains.draws["alpha"]))
    return scalars, {f"nuts_{name}": _thin(draws) for name, draws in chains.draws.items()}, said


def evaluate(
    config: RunConfig, model: Model, split: Split, data: Dataset, run: Run | None = None
) -> Evaluation:
    """Measure a classical model: in closed form where there is one.

    Args:
        config: of a run that `handles` accepts.
        model: from `fit`.
        split: data as the session gives them.
        data: whose training part makes up the posterior of a mixture's weight.
        run: whose NUTS diagnostics are said again, if it has any.
    """
    exact = Split(split.x.double(), split.labels)
    if isinstance(model, PPCA):
        result = evaluate_ppca(model, exact)
    elif isinstance(model, GMM):
        result = evaluate_gmm(model, exact)
        if model.categories == 2:
            _weight(model, data, result)
    else:
        result = evaluate_any(
            model,
            exact,
            samples=config.evaluate.samples,
            outer=config.evaluate.outer,
            batch=config.runtime.batch,
        )
        result.arrays |= pictures(model, exact, result, data.kind)
        if config.evaluate.identifiability:
            result.scalars |= identifiability(model, exact.x, batch=config.runtime.batch)
    result.notes.append(_parameters(config))
    if run is not None and "nuts" in run.provenance:
        result.notes.append(_convergence(config, run))
    return result


def _parameters(config: RunConfig) -> str:
    names = {
        "ml": "at the maximum of the likelihood"
        + (" that EM found" if config.model.family == "gmm" else ""),
        "truth": "at the data's own parameters",
        "shared": "with every component at the distribution of all data, a stationary point of"
        " the likelihood that is no maximum of a mixture of Gaussians"
        if config.model.family == "gmm"
        else "with every category at the distribution of all data, a maximiser too",
    }
    return f"exact posterior {names[config.model.theta]}"


def _convergence(config: RunConfig, run: Run) -> str:
    scalars = next(s for s in run.evaluation.values() if "nuts/rhat" in s)
    text = (
        f"NUTS drew {run.provenance['nuts']}: {scalars['nuts/chains']:.0f} chains of"
        f" {scalars['nuts/draws']:.0f}, R-hat {scalars['nuts/rhat']:.3f}, ESS"
        f" {scalars['nuts/ess']:.0f}, {scalars['nuts/divergences']:.0f} divergences"
    )
    if run.provenance.get("converged"):
        return text
    return (
        f"warning: the chains did not converge (R-hat from {nuts.RHAT}, or divergences in over"
        f" {nuts.DIVERGENT:.1%}), their draws are no sample of the posterior. {text}"
    )


def _weight(model: GMM, data: Dataset, result: Evaluation) -> None:
    """The posterior of the weight of the first component, at fixed components."""
    x = torch.from_numpy(data.train.x).double()
    log_densities = model.component_log_density(x).numpy()
    found: WeightPosterior = weight_posterior(log_densities)
    result.scalars |= {
        "alpha/mean": found.mean,
        "alpha/sd": found.sd,
        "kl/alpha": found.kl,
        "variation/alpha": found.variation,
        "kl_unit/alpha": found.kl,
    }
    grid = np.linspace(0.0025, 0.9975, 400)
    likelihood = weight_log_likelihood(grid, log_densities)
    result.arrays |= {
        "alpha": found.alpha.astype(np.float32),
        "alpha_density": found.density.astype(np.float32),
        "likelihood_alpha": grid.astype(np.float32),
        "likelihood": (likelihood - likelihood.max()).astype(np.float32),
    }
    result.verdict = weight_verdict(Estimate(found.mean, 0.0), found.sd, found.kl)
