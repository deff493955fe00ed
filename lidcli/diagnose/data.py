"""A user's data."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from lidcli.diagnose.calls import reason
from lidcli.diagnose.decoders import Wanted

__all__ = ["data_of"]


def data_of(x: ArrayLike | Tensor, wanted: Wanted, dtype: torch.dtype) -> tuple[Tensor, list[str]]:
    """The data as a tensor (N, ...) in the model's type, and what is to be said of them.

    Args:
        x: N data, anything that numpy makes an array of.
        wanted: what the user said of the likelihood.
        dtype: of the model's parameters.

    Raises:
        ValueError: they are no numbers, not finite, or not what the likelihood is of.

    Example:
        >>> data_of([[1, 2], [3, 4]], Wanted(None, None, None, None), torch.float32)[0].shape
        torch.Size([2, 2])
    """
    data = _tensor(x)
    if data.ndim < 2 or len(data) < 2 or not data.numel():
        raise ValueError(
            f"x has the shape {tuple(data.shape)}, where (N, ...) with N >= 2 data of at least"
            " one number each is expected"
        )
    data = data.detach()
    if data.is_floating_point() or wanted.likelihood is not None:
        data = data.to(dtype)
    bad = ~data.flatten(1).isfinite().all(1)
    if bool(bad.any()):
        raise ValueError(
            f"x has NaN or infinite values in {int(bad.sum())} of {len(data)} data, the first of"
            f" them number {int(bad.int().argmax())} (from 0)"
        )
    if wanted.likelihood is None or not wanted.likelihood.startswith("bernoulli"):
        return data, []
    low, high = data.min().item(), data.max().item()
    if low < 0 or high > 1:
        raise ValueError(
            f"x has values from {low:.3g} to {high:.3g}, where the Bernoulli likelihood expects"
            " 0 and 1"
        )
    if bool(((data == 0) | (data == 1)).all()):
        return data, []
    return data, [
        "x has values between 0 and 1: its Bernoulli terms are cross-entropies and no"
        " probabilities, so compare LL and ELBO only with figures made the same way. KL, MI and"
        " AU mean what they always do."
    ]


def _tensor(x: ArrayLike | Tensor) -> Tensor:
    """Data as a tensor of numbers."""
    if isinstance(x, Tensor):
        found = x
    else:
        try:
            array: np.ndarray[Any, Any] = np.asarray(x)
        except Exception as error:
            raise ValueError(f"x, a {type(x).__name__}, is no array: {reason(error)}") from error
        if array.dtype.kind not in "biuf":
            raise ValueError(
                f"x, a {type(x).__name__}, is an array of {array.dtype}, where an array or a tensor"
                " of numbers is expected"
            )
        try:
            found = torch.as_tensor(array)
        except Exception as error:
            raise ValueError(f"x, {array.dtype}, is no tensor: {reason(error)}") from error
    if found.is_complex():
        raise ValueError(f"x holds {found.dtype}, where real numbers are expected")
    return found
