"""From a resolved configuration and its data to a model on a device."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from lidcli.config.schema import RunConfig
from lidcli.errors import ConfigError
from lidcli.inference.amortized import FlowPosterior
from lidcli.models.base import Model
from lidcli.models.continuous import Continuous
from lidcli.models.likelihoods import Bernoulli, Gaussian, Likelihood
from lidcli.models.mixture import Mixture
from lidcli.nn.injective import InjectiveDecoder
from lidcli.nn.mlp import MLP, count_parameters
from lidcli.training import classical

if TYPE_CHECKING:
    from lidcli.data.dataset import Dataset

__all__ = ["build", "parameter_counts", "pick_device"]

CALIBRATION = 256
"""Prior draws on which the Brenier maps' output gain is set."""


def pick_device(name: str) -> torch.device:
    """The device that `auto`, `cpu`, `cuda` or `cuda:1` names.

    Raises:
        ConfigError: no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"--device {name!r} is none of auto, cpu, cuda, cuda:0, ...") from None
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            raise ConfigError(
                f"--device {name}: this machine has {count or 'no'} usable GPU"
                f"{'s' if count > 1 else ''}; use --device cpu or auto."
            )
    elif device.type != "cpu":
        raise ConfigError(f"--device {name!r} is none of auto, cpu, cuda, cuda:0, ...")
    return device


def build(config: RunConfig, data: Dataset) -> Model:
    """The model and its posterior, started from torch's current seed, on the CPU.

    Args:
        config: resolved.
        data: what it will be trained on; gives the sizes.

    Raises:
        ConfigError: settings that do not fit each other or the data.
    """
    width = data.train.x.shape[1]
    model, inference = config.model, config.inference
    if classical.handles(config):
        return classical.fit(config, data)
    if model.family in ("ppca", "gmm"):
        raise ConfigError(f"model.family = {model.family!r} takes inference.kind exact or nuts.")
    if inference.kind != "amortized":
        raise ConfigError(f"inference.kind = {inference.kind!r} does not go with this model.")
    if data.kind == "image" and model.likelihood == "bernoulli" and not config.data.binarise:
        raise ConfigError("A Bernoulli likelihood needs bits: leave data.binarise at true.")
    if data.kind == "points" and model.likelihood == "bernoulli":
        raise ConfigError("Points are real-valued: use model.likelihood=gaussian.")
    if model.likelihood == "categorical":
        raise ConfigError("The categorical likelihood is for text, which this version lacks.")
    if model.means == "fixed" and model.learn_scale and model.max_scale is None:
        raise ConfigError("Learned scales around fixed means need a bound: set model.max_scale.")
    try:
        decoder = _decoder(config, width)
        categories = None
        if model.family == "mixture":
            categories = model.categories or data.classes
            if categories is None:
                raise ConfigError(
                    f"{data.name} has no labels to count; say --set model.categories=..."
                )
            built: Model = Mixture(
                decoder,
                _likelihood(config),
                model.latent,
                categories,
                separation=model.separation,
                scale=model.scale,
                free_means=model.means == "free",
                learn_scale=bool(model.learn_scale),
                max_scale=model.max_scale,
                full_covariance=model.covariance == "full",
            )
        elif model.family == "continuous":
            built = Continuous(decoder, _likelihood(config), model.latent)
        else:
            raise ConfigError(f"model.family = {model.family!r} is not in this version.")
        explicit = categories if inference.categorical == "explicit" else None
        posterior = FlowPosterior(
            width,
            model.latent,
            explicit,
            hidden=inference.hidden,
            layers=inference.layers,
            transforms=inference.transforms,
        )
    except ValueError as error:
        raise ConfigError(f"{error}.") from error
    with torch.no_grad():
        if isinstance(built, Mixture) and explicit:
            posterior.start_at(built.means, built.log_scale())
        if isinstance(decoder, InjectiveDecoder):
            decoder.calibrate(built.sample_prior(CALIBRATION))
    built.posterior = posterior
    return built


def _decoder(config: RunConfig, width: int) -> nn.Module:
    d, latent = config.decoder, config.model.latent
    if d.kind == "mlp":
        return MLP(latent, width, d.hidden, d.layers)
    return InjectiveDecoder(
        latent,
        width,
        d.hidden,
        d.layers,
        maps=d.maps,
        activation=d.activation,
        inverse_lipschitz=d.inverse_lipschitz,
        rotations=d.rotations,
        sharpness=d.sharpness,
        gain=d.gain,
    )


def _likelihood(config: RunConfig) -> Likelihood:
    if config.model.likelihood == "gaussian":
        return Gaussian(config.model.sigma, config.model.sigma_start)
    return Bernoulli()


def parameter_counts(model: Model) -> dict[str, int]:
    """Trainable parameters of decoder, posterior and the whole.

    Example:
        >>> sorted(parameter_counts.__annotations__)
        ['model', 'return']
    """
    posterior = model.posterior
    assert isinstance(posterior, nn.Module)
    return {
        "decoder": count_parameters(model.decoder),
        "posterior": count_parameters(posterior),
        "total": count_parameters(model),
    }
