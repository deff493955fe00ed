"""Runs without a training loop: parameters in closed form or by EM, posteriors exact."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from lidcli.config import sections
from lidcli.config.run import RunConfig
from lidcli.data.dataset import Dataset
from lidcli.data.drawn import SOURCES, Clusters, Linear
from lidcli.errors import ConfigError, DataError
from lidcli.inference.exact import ExactClusters, ExactGaussian
from lidcli.inference.weight import weight_log_likelihood, weight_posterior
from lidcli.metrics.classical import evaluate_gmm, evaluate_ppca, weight_verdict
from lidcli.metrics.estimate import Estimate
from lidcli.metrics.evaluation import Evaluation
from lidcli.metrics.own import measure_own
from lidcli.models.batch import DenseBatch
from lidcli.models.gmm import GMM, fit_gmm, shared_gmm
from lidcli.models.ppca import PPCA, fit_ppca
from lidcli.models.transport import two_cluster_gmvae
from lidcli.nn.mlp import count_parameters
from lidcli.training.measure import measure_latent
from lidcli.training.procedure import Fitted, Job
from lidcli.training.sampling import Sampled, sample_gmm, sample_ppca
from lidcli.training.sources import split_of

__all__ = ["ClosedForm", "Exact", "gmm", "ppca", "two_clusters"]

Labels = npt.NDArray[np.int64] | None
Kind = TypeVar("Kind", Linear, Clusters)


class ClosedForm(ABC):
    """A classical model at its fitted parameters."""

    model: Fitted
    words: ClassVar[dict[str, str]]
    """What each theta is, in words."""

    @abstractmethod
    def measure(self, config: RunConfig, x: Tensor, labels: Labels) -> Evaluation:
        """Everything about data x (N, D) in float64."""

    @abstractmethod
    def count(self) -> int:
        """Fitted numbers."""

    def sample(self, settings: sections.NUTS, seed: int) -> Sampled:
        """What NUTS draws of it."""
        raise ConfigError("NUTS draws of a PPCA or a Gaussian mixture model.")


class Exact:
    """The procedure of a classical model: fitted when it is made.

    Args:
        settings: section inference of `config`.
        config: of a classical model.
        data: whose training part is fitted.

    Raises:
        ConfigError: settings that do not go together.
        DataError: fewer points than dimensions, or a singular covariance.
    """

    device = torch.device("cpu")

    def __init__(
        self, settings: sections.Exact | sections.NUTS, config: RunConfig, data: Dataset
    ) -> None:
        self.settings, self.config, self.data = settings, config, data
        try:
            self.fitted: ClosedForm = config.model.build(config, data)
        except ValueError as error:
            raise ConfigError(f"{error}.") from error
        self.model = self.fitted.model

    def parameters(self) -> dict[str, int]:
        """Fitted numbers."""
        return {"total": self.fitted.count()}

    def fit(self, job: Job) -> float:
        """Store the parameters."""
        started = time.monotonic()
        job.start(self, step=0, steps=1, warnings=[])
        job.stop.immediate = True
        job.run.save_checkpoint({"model": self.model.state_dict()})
        self.infer(job)
        return time.monotonic() - started

    def infer(self, job: Job) -> None:
        """What remains to be done for the posterior: nothing, it is exact."""

    def measure(self, config: RunConfig, split: str) -> Evaluation:
        """Measure in closed form where there is one."""
        source = split_of(self.data, split)
        x = source.fixed().x.double()
        result = self.fitted.measure(config, x, source.labels)
        measure_own(config.evaluate.metrics, self.model, DenseBatch(x), source.labels, result)
        result.notes.append(f"exact posterior {self.fitted.words[self.settings.theta]}")
        return result


def _training(data: Dataset, family: str) -> Tensor:
    x = torch.from_numpy(data.train.x).double()
    if len(x) <= x.shape[1]:
        raise DataError(
            f"{data.name} has {len(x)} training points in {x.shape[1]} dimensions; {family} needs"
            " more points than dimensions."
        )
    return x


def _theta(config: RunConfig) -> str:
    theta: str = config.inference.theta  # type: ignore[attr-defined]
    return theta


def _source(config: RunConfig, kind: type[Kind]) -> Kind:
    source = SOURCES.get(config.data.name)
    if not isinstance(source, kind):
        raise ConfigError(
            "inference.theta = 'truth' needs data drawn from the model itself, not"
            f" {config.data.name}."
        )
    return source


class _PPCAFit(ClosedForm):
    words: ClassVar = {
        "ml": "at the maximum of the likelihood",
        "truth": "at the data's own parameters",
    }

    def __init__(self, model: PPCA, x: Tensor) -> None:
        self.model: PPCA = model
        self._x = x

    def measure(self, config: RunConfig, x: Tensor, labels: Labels) -> Evaluation:
        return evaluate_ppca(self.model, x)

    def count(self) -> int:
        return count_parameters(self.model)

    def sample(self, settings: sections.NUTS, seed: int) -> Sampled:
        return sample_ppca(settings, seed, self.model, self._x.numpy())


def ppca(settings: sections.PPCA, config: RunConfig, data: Dataset) -> ClosedForm:
    """PPCA at its maximum of the likelihood, or at the data's own parameters."""
    x = _training(data, settings.family)

    def truth() -> PPCA:
        source = _source(config, Linear)
        inputs, known = source.weight.shape
        if not known <= settings.latent <= inputs:
            raise ConfigError(f"{config.data.name} has {known} latent dimensions at its truth.")
        weight = torch.zeros(inputs, settings.latent, dtype=torch.float64)
        weight[:, :known] = torch.from_numpy(source.weight)
        return PPCA(weight, torch.zeros(inputs), settings.sigma or source.sigma)

    starts = {"ml": lambda: fit_ppca(x, settings.latent, settings.sigma), "truth": truth}
    model = starts[_theta(config)]()
    model.posterior = ExactGaussian(model)
    return _PPCAFit(model, x)


class _GMMFit(ClosedForm):
    words: ClassVar = {
        "ml": "at the maximum of the likelihood that EM found",
        "truth": "at the data's own parameters",
        "shared": "with every component at the distribution of all data, a stationary point of"
        " the likelihood that is no maximum of a mixture of Gaussians",
    }

    def __init__(self, model: GMM, x: Tensor) -> None:
        self.model: GMM = model
        self._x = x

    def measure(self, config: RunConfig, x: Tensor, labels: Labels) -> Evaluation:
        result = evaluate_gmm(self.model, x, labels)
        if self.model.categories == 2:
            self._weight(result)
        return result

    def _weight(self, result: Evaluation) -> None:
        """The posterior of the weight of the first component, at fixed components."""
        log_densities = self.model.component_log_density(self._x).numpy()
        found = weight_posterior(log_densities)
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

    def count(self) -> int:
        c, d = self.model.means.shape
        return c - 1 + c * d + c * d * (d + 1) // 2

    def sample(self, settings: sections.NUTS, seed: int) -> Sampled:
        c, d = self.model.means.shape
        if c != 2:
            raise ConfigError("NUTS is for mixtures of 2 components: model.categories=2.")
        if settings.joint and d != 1:
            raise ConfigError(f"inference.joint is for data of one dimension, not {d}.")
        return sample_gmm(settings, seed, self.model, self._x.numpy())


def gmm(settings: sections.GMM, config: RunConfig, data: Dataset) -> ClosedForm:
    """A Gaussian mixture by EM, at the data's own parameters, or with one shared component."""
    x = _training(data, settings.family)
    components = settings.categories

    def truth() -> GMM:
        source = _source(config, Clusters)
        count = len(source.weights)
        if count not in (1, components):
            raise ConfigError(f"{config.data.name} has {count} clusters at its truth.")
        means = torch.zeros(components, source.width, dtype=torch.float64)
        means[:, 0] = torch.tensor(source.centres)
        covariance = source.sd**2 * torch.eye(source.width, dtype=torch.float64)
        return GMM(
            torch.tensor(source.weights).double().expand(components) * count / components,
            means,
            covariance.expand(components, -1, -1),
        )

    starts: dict[str, Callable[[], GMM]] = {
        "ml": lambda: fit_gmm(x, components, seed=config.seed),
        "truth": truth,
        "shared": lambda: shared_gmm(x, components),
    }
    return _GMMFit(starts[_theta(config)](), x)


class _TwoClustersFit(ClosedForm):
    words: ClassVar = {
        "truth": "at the data's own parameters",
        "shared": "with every category at the distribution of all data, a maximiser too",
    }

    def __init__(self, model: nn.Module, data: Dataset) -> None:
        self.model: Any = model
        self._data = data

    def measure(self, config: RunConfig, x: Tensor, labels: Labels) -> Evaluation:
        return measure_latent(config, self.model, DenseBatch(x), labels, self._data)

    def count(self) -> int:
        return count_parameters(self.model)


def two_clusters(settings: sections.TwoClusters, config: RunConfig, data: Dataset) -> ClosedForm:
    """Section 2.2's GMVAE at one of two exact maximisers."""
    source = SOURCES.get(config.data.name)
    if not isinstance(source, Clusters) or not source.noise:
        raise ConfigError(
            f"model.family = {settings.family!r} is for gmvae-two and gmvae-one, whose truth is"
            f" known, not {config.data.name}."
        )
    shared = _theta(config) == "shared" or len(source.centres) == 1
    scale = float(np.sqrt(source.sd**2 - source.noise**2))
    made = two_cluster_gmvae(source.centres, scale, source.noise, source.width, shared=shared)
    made.posterior = ExactClusters(made, source.centres, scale, source.noise, shared)
    return _TwoClustersFit(made, data)
