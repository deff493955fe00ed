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
from lidcli.inference.exact import ExactCategory, ExactClusters, ExactGaussian
from lidcli.inference.weight import WeightPosterior, weight_log_likelihood, weight_posterior
from lidcli.metrics.closed_form import evaluate_gmm, evaluate_ppca, weight_verdict
from lidcli.metrics.estimate import Estimate
from lidcli.metrics.evaluation import Evaluation, Split
from lidcli.metrics.evaluation import evaluate as evaluate_any
from lidcli.metrics.identifiability import identifiability
from lidcli.metrics.pictures import pictures
from lidcli.models.base import Model
from lidcli.models.gmm import GMM, fit_gmm, shared_gmm
from lidcli.models.ppca import PPCA, fit_ppca
from lidcli.models.transport import two_cluster_gmvae
from lidcli.store.run import Run
from lidcli.training.sampling import sample

if TYPE_CHECKING:
    from lidcli.data.dataset import Dataset

__all__ = ["evaluate", "fit", "handles", "infer"]


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
        scalars, arrays, said = sample(config, model, data)
        settings = config.inference
        tolerated = nuts.DIVERGENT * settings.chains * settings.draws
        converged = scalars["nuts/rhat"] < nuts.RHAT and scalars["nuts/divergences"] <= tolerated
        run.update(
            provenance={"converged": converged, "nuts": said},
            evaluation=(config.evaluate.split, scalars),
            arrays=arrays,
        )
    return time.monotonic() - started


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
