"""What an encoder returns that can hardly be what it is taken for."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from lidcli.diagnose.calls import span

__all__ = ["refuse_absurd", "refuse_figures", "refuse_variances"]

LARGEST_LOG_VARIANCE = 50.0
"""A variance of e^50 is no posterior's: what returned it meant something else."""
BESIDE = math.log(1.2)
"""How far the log of the aggregate's variance may be from the prior's, on average over units."""
LARGEST_KL = 2.0**24
"""Nats of a unit from which float32, in which models are trained, does not see one nat more."""
FIGURES = {
    "kl/z": "KL",
    "mi/z": "MI",
    "reconstruction": "the reconstruction",
    "elbo": "the ELBO",
    "ll": "LL",
}


def refuse_variances(mean: Tensor, log_variance: Tensor, spread: Tensor) -> None:
    """Recognise variances, or sds, in the place of log variances.

    Variances are never negative; log variances of posteriors are wherever the posterior is
    narrower than 1. Where no value is negative, they are taken for log variances only if the
    aggregate then has the prior's variance, as that of a trained model has, collapsed or not: the
    variance of the means and the mean of the variances together. Zeros alone are log variances,
    for no posterior has a variance of 0 everywhere.

    Args:
        mean: (N, M).
        log_variance: (N, M).
        spread: variances (M,) of the prior.

    Raises:
        ValueError: it looks so.

    Example:
        >>> mean, value = torch.tensor([[-1.0], [1.0]]), torch.full((2, 1), 0.25)
        >>> refuse_variances(mean, value.log(), torch.ones(1))
        >>> refuse_variances(mean, value, torch.ones(1))
        Traceback (most recent call last):
        ValueError: encode's second tensor looks like variances (or sds), where log variances are \
expected: none of its values is negative, 0.25 to 0.25, and as log variances they would give the \
aggregate posterior 3.3 times the prior's variance; return their logarithm, or \
torch.distributions.Normal(mean, sd), which cannot be mistaken
    """
    largest = log_variance.max().item()
    if largest > LARGEST_LOG_VARIANCE:
        raise ValueError(
            f"encode's log variances reach {largest:.3g}, a variance no float holds; they look"
            " like variances, whose logarithm is expected, or the data are on another scale than in"
            " training"
        )
    if len(mean) < 2 or log_variance.min() < 0 or largest == 0:
        return
    moved, expected = mean.double().var(0), spread.double()
    as_logs = ((moved + log_variance.double().exp().mean(0)) / expected).mean().item()
    as_variances = ((moved + log_variance.double().mean(0)) / expected).mean().item()
    off = abs(math.log(as_logs))
    if off > BESIDE or off > abs(math.log(as_variances)):
        raise ValueError(
            "encode's second tensor looks like variances (or sds), where log variances are"
            f" expected: none of its values is negative, {span(log_variance)}, and as log variances"
            f" they would give the aggregate posterior {as_logs:.2g} times the prior's variance;"
            " return their logarithm, or torch.distributions.Normal(mean, sd), which cannot be"
            " mistaken"
        )


def refuse_absurd(loc: Tensor, log_scale: Tensor, spread: Tensor) -> None:
    """Recognise normal posteriors that no encoder has that was trained on a bound.

    Args:
        loc: means (N, M).
        log_scale: log sds (N, M).
        spread: variances (M,) of the prior.

    Raises:
        ValueError: a unit's posteriors are narrower than a number of 32 bits (of 64 in float64)
            can tell of x, or its KL is beyond 2^24 nats.

    Example:
        >>> refuse_absurd(torch.zeros(2, 1), torch.full((2, 1), -100.0), torch.ones(1))
        Traceback (most recent call last):
        ValueError: unit 1 of encode's posteriors has a log variance of -200 on average, 100 nats \
below the prior's sd, where a number of 32 bits can tell 22.2 of x: the second tensor of encode \
must be the log variance, and its sd not be rounded to 0
    """
    bits = max(32, torch.finfo(loc.dtype).bits)
    log_variance, expected = 2 * log_scale.double(), spread.double()
    told = (expected.log() - log_variance).mean(0) / 2
    unit = int(told.argmax())
    if told[unit] > bits * math.log(2):
        raise ValueError(
            f"unit {unit + 1} of encode's posteriors has a log variance of"
            f" {log_variance[:, unit].mean().item():.3g} on average, {told[unit].item():.3g} nats"
            f" below the prior's sd, where a number of {bits} bits can tell"
            f" {bits * math.log(2):.1f} of x: the second tensor of encode must be the log variance,"
            " and its sd not be rounded to 0"
        )
    shifted = loc.double().square() + log_variance.exp()
    kl = told + (shifted / expected).mean(0) / 2
    unit = int(kl.argmax())
    if not kl[unit] <= LARGEST_KL:
        raise ValueError(
            f"unit {unit + 1} of encode's posteriors has a KL of about {kl[unit].item():.2g} nats"
            f" to the prior, with means of {span(loc[:, unit])}, which training on a bound cannot"
            " leave: the data may be on another scale than in training, or encode returns no"
            " mean and log variance"
        )


def refuse_figures(scalars: Mapping[str, float], size: int) -> None:
    """Refuse what was measured where it is no number, or none of a trained model.

    Args:
        scalars: an evaluation, under the names of the run store.
        size: M, dimensions of the latent.

    Raises:
        ValueError: a figure is not finite, or the KL beyond 2^24 nats a dimension.

    Example:
        >>> refuse_figures({"kl/z": 3.0, "mi/z": math.nan}, 2)
        Traceback (most recent call last):
        ValueError: MI is nan, where a finite number is expected: the densities of encode's \
posteriors, of the prior or of the likelihood are beyond what floats hold
    """
    for key, name in FIGURES.items():
        if key in scalars and not math.isfinite(scalars[key]):
            raise ValueError(
                f"{name} is {scalars[key]}, where a finite number is expected: the densities of"
                " encode's posteriors, of the prior or of the likelihood are beyond what floats"
                " hold"
            )
    if scalars["kl/z"] > size * LARGEST_KL:
        raise ValueError(
            f"the KL is {scalars['kl/z']:.2g} nats, which training on a bound cannot leave: the"
            " data may be on another scale than in training, or encode returns another distribution"
        )
