"""From the sections of a configuration to the parts of a model: the code that kinds name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from lidcli.config import sections
from lidcli.config.run import RunConfig
from lidcli.data.dataset import Dataset
from lidcli.data.directions import natural_mean, principal_directions
from lidcli.errors import ConfigError, cause
from lidcli.inference.flow import CategoryPosterior, FlowPosterior
from lidcli.inference.refined import Refined
from lidcli.models import likelihoods
from lidcli.models.batch import Batch, DenseBatch
from lidcli.models.latent import LatentModel, Posterior
from lidcli.models.observations import DenseObservation, Observation
from lidcli.models.priors import GaussianMixture, Prior, StandardNormal, separated_means
from lidcli.nn.injective import InjectiveDecoder
from lidcli.nn.mlp import MLP, SkipMLP, Trunk, count_parameters
from lidcli.nn.sheared import ShearedMLP
from lidcli.training.anchored import anchored_components
from lidcli.training.sources import split_of

__all__ = ["build", "parameter_counts"]

CALIBRATION = 256
"""Prior draws and data on which the gain of convex potentials is set."""


def build(config: RunConfig, data: Dataset) -> LatentModel:
    """The model and its posterior, started from torch's current seed, on the CPU.

    Args:
        config: of a run that is trained.
        data: what it will be trained on; gives the sizes.

    Raises:
        ConfigError: settings that do not fit each other or the data.
    """
    assert config.decoder is not None
    try:
        observation: Observation = config.decoder.observation(config, data)
        prior: Prior = config.model.build(data)
        model = LatentModel(prior, observation)
        posterior: Posterior = config.inference.posterior(config, model, data)
    except ValueError as error:
        raise ConfigError(f"{error}.") from error
    if observation.calibrates():
        some = split_of(data, "train").fixed(CALIBRATION)
        with torch.no_grad():
            observation.calibrate(prior.sample(CALIBRATION)[: len(some)], some)
    model.posterior = posterior
    return model


def parameter_counts(model: LatentModel) -> dict[str, int]:
    """Trainable parameters of decoder, posterior and the whole.

    Example:
        >>> sorted(parameter_counts.__annotations__)
        ['model', 'return']
    """
    return {
        "decoder": count_parameters(model.observation.decoder),
        "posterior": count_parameters(model.posterior),
        "total": count_parameters(model),
    }


def continuous(settings: sections.Continuous, data: Dataset) -> Prior:
    """Definition 3's prior."""
    return StandardNormal(settings.latent)


def mixture(settings: sections.Mixture, data: Dataset) -> Prior:
    """Example 1's prior."""
    categories = settings.categories or data.classes
    if categories is None:
        raise ConfigError(f"{data.name} has no labels to count; say --set model.categories=...")
    scale: float | Tensor
    if settings.anchored:
        means, scale = anchored_components(data, settings.latent, categories, graph=settings.graph)
    else:
        means = separated_means(categories, settings.latent, settings.separation)
        scale = settings.scale
    return GaussianMixture(
        means,
        scale,
        free_means=settings.means == "free",
        learn_scale=bool(settings.learn_scale),
        max_scale=settings.max_scale,
        full_covariance=settings.covariance == "full",
    )


def dense_observation(
    settings: sections.Decoder, config: RunConfig, data: Dataset
) -> DenseObservation:
    """A decoder of the latent alone before a likelihood of rows."""
    assert config.likelihood is not None
    latent: int = config.model.latent  # type: ignore[attr-defined]
    along: dict[str, Tensor] = {}
    if settings.uses_directions():
        found = principal_directions(data.train.x, latent)
        offset = natural_mean(found.mean, len(data.train.x), config.likelihood.natural)
        along = {
            "directions": torch.from_numpy(found.vectors),
            "offset": torch.from_numpy(offset),
        }
    outputs = data.train.x.shape[1]
    decoder: nn.Module = settings.build(latent, outputs, **along)
    if ":" in settings.kind:
        _check_decoder(settings.kind, decoder, latent, outputs)
    return DenseObservation(decoder, config.likelihood.build())


def _check_decoder(name: str, decoder: Any, latent: int, outputs: int) -> None:
    """Try a decoder of the user's on two latents of zeros; random numbers are as before.

    Raises:
        ConfigError: it is no module, fails, or gives something else than (2, outputs).
    """
    if not isinstance(decoder, nn.Module):
        raise ConfigError(f"{name} builds a {type(decoder).__name__}, and no torch.nn.Module.")
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            found = tuple(decoder.eval()(torch.zeros(2, latent)).shape)
    except Exception as error:
        raise ConfigError(
            f"The decoder of {name} fails on latents (2, {latent}): {cause(error)}."
        ) from error
    if found != (2, outputs):
        raise ConfigError(
            f"The decoder of {name} makes {found} of latents (2, {latent}); the data need"
            f" (2, {outputs})."
        )
    decoder.train()


def mlp(settings: sections.MLPDecoder, latent: int, outputs: int) -> nn.Module:
    """The classical decoder."""
    return MLP(latent, outputs, settings.hidden, settings.layers)


def skip(
    settings: sections.SkipDecoder, latent: int, outputs: int, *, directions: Tensor, offset: Tensor
) -> nn.Module:
    """The uncertified decoder with a linear path."""
    return SkipMLP(
        latent, outputs, settings.hidden, settings.layers, directions=directions, offset=offset
    )


def sheared(
    settings: sections.ShearedDecoder,
    latent: int,
    outputs: int,
    *,
    directions: Tensor,
    offset: Tensor,
) -> ShearedMLP:
    """The decoder whose network is unconstrained off β and sheared along it."""
    return ShearedMLP(
        latent,
        outputs,
        settings.hidden,
        settings.layers,
        directions=directions,
        offset=offset,
        inverse_lipschitz=settings.inverse_lipschitz,
        shear=settings.shear,
    )


def brenier(
    settings: sections.BrenierDecoder,
    latent: int,
    outputs: int,
    *,
    directions: Tensor | None = None,
    offset: Tensor | None = None,
) -> nn.Module:
    """The injective decoder."""
    return InjectiveDecoder(
        latent,
        outputs,
        settings.hidden,
        settings.layers,
        maps=settings.maps,
        activation=settings.activation,
        inverse_lipschitz=settings.inverse_lipschitz,
        rotations=settings.rotations,
        sharpness=settings.sharpness,
        gain=settings.gain,
        directions=directions,
        offset=offset,
    )


def gaussian(settings: sections.Gaussian) -> likelihoods.Likelihood:
    """Gaussian noise."""
    return likelihoods.Gaussian(settings.sigma, settings.sigma_start)


def bernoulli(settings: sections.Bernoulli) -> likelihoods.Likelihood:
    """Bits."""
    return likelihoods.Bernoulli()


class RowsEncoder(nn.Module):
    """A network of rows x (N, D), as an encoder of batches."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Batch) -> Tensor:
        """Features (N, features)."""
        assert isinstance(x, DenseBatch)
        out: Tensor = self.network(x.x)
        return out


def mlp_encoder(
    settings: sections.MLPEncoder, data: Dataset
) -> tuple[Callable[[], nn.Module], int]:
    """Makes perceptrons of the flattened datum, and says how many features they give."""
    inputs = data.train.x.shape[1]
    return lambda: RowsEncoder(Trunk(inputs, settings.hidden, settings.layers)), settings.hidden


def flow_posterior(
    settings: sections.Amortized, config: RunConfig, model: LatentModel, data: Dataset
) -> Posterior:
    """q(w | x), or q(c | x) q(w | x, c) where there is a category that is summed exactly."""
    assert config.encoder is not None
    encoder, features = config.encoder.build(data)
    prior, sizes = model.prior, {"hidden": settings.hidden, "transforms": settings.transforms}
    if prior.categories is None or settings.categorical == "collapsed":
        return FlowPosterior(encoder, features, latent=model.latent, **sizes)
    posterior = CategoryPosterior(
        prior.categories,
        encoder,
        features,
        latent=model.latent,
        likeliest=settings.likeliest if settings.categorical == "sampled" else None,
        path=data.train.x.shape[1] if settings.category_start == "centres" else None,
        **sizes,
    )
    means, log_scales = prior.component_means(), prior.component_log_scales()
    if means is not None and log_scales is not None:
        posterior.start_at(means, log_scales)
    return posterior


def refined(settings: sections.SemiAmortized, base: Posterior, model: LatentModel) -> Posterior:
    """Semi-amortisation of a posterior."""
    return Refined(
        base,
        model,
        steps=settings.steps,
        rate=settings.rate,
        momentum=settings.momentum,
        clip=settings.refinement_clip,
        hessian=settings.hessian,
    )
