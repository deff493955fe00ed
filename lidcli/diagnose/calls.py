"""Calls of a user's functions, whose failures become one sentence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Size, Tensor
from torch.distributions import Distribution, Independent

__all__ = ["called", "drawn", "each", "finite", "kind_of", "outside", "reason", "span"]

TOLD = 160


def called(name: str, function: Callable[..., Any], *arguments: Tensor) -> Any:
    """What a function returns.

    Args:
        name: the user's name for it.
        function: takes the arguments.
        arguments: tensors.

    Raises:
        ValueError: it fails; the sentence tells with what it was called, and why it failed.
    """
    try:
        return function(*arguments)
    except (Exception, SystemExit) as error:
        kinds = " and ".join(
            f"{tuple(a.shape)} {str(a.dtype).removeprefix('torch.')} on {a.device}"
            for a in arguments
        )
        raise ValueError(f"{name} cannot be called with {kinds}: {reason(error)}") from error


def reason(error: BaseException) -> str:
    """Its type and the first line of what it says.

    Example:
        >>> reason(KeyError("z")), reason(AssertionError())
        ("KeyError: 'z'", 'AssertionError')
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = f": {lines[0][:TOLD]}" if lines else ""
    return f"{type(error).__name__}{said}"


def finite(name: str, values: Tensor, data: str = "data") -> Tensor:
    """The same values.

    Raises:
        ValueError: they are complex, or one is NaN or infinite; the sentence names the first row.
    """
    if values.is_complex():
        raise ValueError(f"{name} holds {values.dtype}, where real numbers are expected")
    if bool(values.isfinite().all()):
        return values
    bad = ~values.isfinite().flatten(1).all(1)
    what = "NaN" if bool(values.isnan().any()) else "infinite values"
    raise ValueError(
        f"{name} has {what} for {int(bad.sum())} of {len(values)} {data} given at once, the first"
        f" of them number {int(bad.int().argmax())} of these (from 0), where finite numbers are"
        " expected"
    )


def each(name: str, distribution: Distribution, values: Tensor, axes: int = 1) -> Tensor:
    """log-density summed over all dimensions but the first `axes`.

    Raises:
        ValueError: the distribution gives none; the sentence says so where the values are outside
            its support.
    """
    kind, failure = kind_of(distribution), None
    try:
        found: Tensor = distribution.log_prob(values)
    except Exception as error:
        failure = error
    if (failure or not bool(found.isfinite().all())) and outside(distribution, values):
        raise ValueError(
            f"{name}, a {kind}, has no density at some of the values {span(values)}: they are"
            " outside its support"
        ) from failure
    if failure:
        raise ValueError(
            f"{name}, a {kind}, gives no density of values {tuple(values.shape)}: {reason(failure)}"
        ) from failure
    return found.flatten(axes).sum(-1) if found.ndim > axes else found


def drawn(name: str, distribution: Distribution, shape: Size) -> Tensor:
    """Draws of a distribution, (*shape, ...), with their derivatives where it has these.

    Raises:
        ValueError: it cannot be drawn from.
    """
    try:
        found: Tensor = (distribution.rsample if distribution.has_rsample else distribution.sample)(
            shape
        )
    except Exception as error:
        raise ValueError(
            f"{name}, a {kind_of(distribution)}, cannot be drawn from: {reason(error)}"
        ) from error
    return found


def outside(distribution: Distribution, values: Tensor) -> bool:
    """Whether some values are known to be outside its support, where it has one that is of them.

    Raises:
        ValueError: a support of the user's own cannot be asked.

    Example:
        >>> coin = torch.distributions.Bernoulli(torch.tensor(0.5))
        >>> outside(coin, torch.tensor([0.0, 1.0])), outside(coin, torch.tensor([0.0, 0.3]))
        (False, True)
    """
    try:
        support = distribution.support
        valid = None if support is None else support.check(values)  # type: ignore[no-untyped-call]
    except RuntimeError:
        return False
    except Exception as error:
        kind = kind_of(distribution)
        raise ValueError(f"the support of a {kind} cannot be asked: {reason(error)}") from error
    return valid is not None and not bool(valid.all())


def kind_of(distribution: Distribution) -> str:
    """The name of a distribution's class, of the one inside where its dimensions were joined."""
    while isinstance(distribution, Independent):
        distribution = distribution.base_dist
    return type(distribution).__name__


def span(values: Tensor) -> str:
    """The smallest and the largest of them, in words."""
    low, high = torch.aminmax(values)
    return f"{low.item():.3g} to {high.item():.3g}"
