"""What an encoder returns that can hardly be what it is taken for."""

from __future__ import annotations

import math

from torch import Tensor

from lidcli.diagnose.calls import span

__all__ = ["refuse_variances"]

LARGEST_LOG_VARIANCE = 50.0
"""A variance of e^50 is no posterior's: what returned it meant something else."""
BESIDE = math.log(1.2)
"""How far the log of the aggregate's variance may be from the prior's, on average over units."""


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
        >>> import torch
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
            " like variances on a scale of their own: return their logarithm"
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
