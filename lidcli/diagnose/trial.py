"""A user's functions, tried on some data before anything is measured."""

from __future__ import annotations

import torch
from torch import Size, Tensor
from torch.distributions import Distribution

from lidcli.diagnose.calls import drawn, each
from lidcli.diagnose.decoders import GivenLogProb, GivenObservation
from lidcli.diagnose.doubts import refuse_absurd, refuse_variances
from lidcli.diagnose.encoders import NAME, GivenPosterior
from lidcli.diagnose.priors import spread
from lidcli.models.batch import DenseBatch
from lidcli.models.observations import Observation
from lidcli.models.priors import Prior

__all__ = ["PROBED", "try_decoder", "try_encoder", "try_posteriors"]

PROBED = 256
"""Data and latents on which a model is tried, and on which what needs many draws is measured."""
NOISE = 1e-3
"""Of the size of an answer, by which another call may differ: floats, not draws."""


def try_encoder(
    posterior: GivenPosterior, x: DenseBatch
) -> tuple[Size, tuple[torch.device, torch.dtype]]:
    """The shape of a latent, its device and its type.

    Args:
        posterior: of the user's encoder.
        x: N data, of which the first are encoded twice.

    Raises:
        ValueError: encode fails, returns something else than is expected, or has noise.
    """
    some = x.rows(slice(0, PROBED)).x
    first, again = posterior.answer(some), posterior.answer(some)
    if isinstance(first, tuple) and isinstance(again, tuple):
        z, pairs = first[0], list(zip(first, again, strict=True))
    else:
        assert isinstance(first, Distribution)
        assert isinstance(again, Distribution)
        z = drawn(NAME, first, Size())
        pairs = list(zip(_described(first, z), _described(again, z), strict=True))
    _refuse_noise("encode", "data", pairs)
    return z.shape[1:], (z.device, z.dtype)


def _described(distribution: Distribution, z: Tensor) -> tuple[Tensor, ...]:
    """Mean and sd of a distribution, or its density at a latent where it does not know them."""
    try:
        return distribution.mean, distribution.stddev
    except (NotImplementedError, AttributeError):
        return (each(NAME, distribution, z),)


def try_posteriors(posterior: GivenPosterior, x: DenseBatch, prior: Prior) -> None:
    """Look whether the posteriors of data from first to last can be what they are taken for.

    Args:
        posterior: of the user's encoder.
        x: N data.
        prior: of their latents.

    Raises:
        ValueError: log variances look like variances, or no trained encoder has such posteriors.
    """
    index = torch.linspace(0, len(x) - 1, min(PROBED, len(x)), device=x.x.device).long()
    some, expected = x.rows(index), spread(prior)
    answer = posterior.answer(some.x)
    if isinstance(answer, tuple):
        mean, log_variance = (part.flatten(1) for part in answer)
        refuse_variances(mean, log_variance, expected)
    normal = posterior(some).marginals()
    if normal is not None:
        refuse_absurd(normal.loc, normal.log_scale, expected)


def try_decoder(observation: Observation, x: DenseBatch, z: Tensor) -> None:
    """Decode twice.

    Args:
        observation: of the user's decoder.
        x: N data.
        z: (n, M), latents.

    Raises:
        ValueError: decode or log_prob fails, or has noise.
    """
    if isinstance(observation, GivenObservation):
        _refuse_noise("decode", "latents", [(observation.decoder(z), observation.decoder(z))])
    if isinstance(observation, GivenLogProb):
        some = x.rows(slice(0, len(z)))
        pair = tuple(observation.log_prob(some, z[: len(some)]) for _ in range(2))
        _refuse_noise(observation.name, "latents", [(pair[0], pair[1])])


def _refuse_noise(name: str, given: str, pairs: list[tuple[Tensor, Tensor]]) -> None:
    """Whether two answers to the same question differ."""
    moved = max((a - b).abs().max().item() for a, b in pairs)
    if moved > NOISE * (1 + max(a.abs().max().item() for a, _ in pairs)):
        raise ValueError(
            f"{name} answers differently when called again with the same {given}, by up to"
            f" {moved:.3g}, where no noise is expected: something draws in it, as dropout that"
            " evaluation mode does not switch off"
        )
