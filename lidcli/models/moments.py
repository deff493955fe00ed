"""What is known of a prior exactly."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from lidcli.models.likelihoods import LOG_2PI

__all__ = ["Moments"]


class Moments(NamedTuple):
    """A prior's own information, variances and entropy.

    Args:
        information: E ∇log p ∇log pᵀ, (M, M).
        variances: of each unit, (M,).
        entropy: in nats.
    """

    information: Tensor
    variances: Tensor
    entropy: float

    @classmethod
    def gaussian(cls, covariance: Tensor) -> Moments:
        """Of a Gaussian with covariance (M, M).

        Example:
            >>> round(Moments.gaussian(torch.eye(2)).entropy, 3)
            2.838
        """
        cov = covariance.double()
        entropy = 0.5 * (len(cov) * (1 + LOG_2PI) + torch.logdet(cov).item())
        return cls(torch.linalg.inv(cov), cov.diagonal(), entropy)
