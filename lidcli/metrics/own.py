"""Figures of the user's: a function, and the declaration of what it measures."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from lidcli.config.kinds import imported
from lidcli.errors import ConfigError, LidError, cause
from lidcli.metrics.invariants import broken_invariants
from lidcli.metrics.quantities import QUANTITIES, declare
from lidcli.metrics.quantity import Quantity

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from lidcli.metrics.evaluation import Evaluation
    from lidcli.models.batch import Batch

__all__ = ["check_own", "declare_stored", "measure_own", "metric"]

Function = TypeVar("Function", bound=Callable[..., Any])


def metric(quantity: Quantity) -> Callable[[Function], Function]:
    """Make a function a metric, which an evaluation calls when `evaluate.metrics` names it.

    The function is given the model, the data x (a batch) and the labels (N,) or None, without
    gradients, and returns a number or an `Estimate`.

    Args:
        quantity: what it measures; its key is the name in records and tables.

    Raises:
        ValueError: another quantity has that key.

    Example:
        >>> @metric(Quantity("size", "size", better="none"))
        ... def size(model, x, labels):
        ...     return len(x)
        >>> size(None, [1, 2], None), QUANTITIES.pop("size").head
        (2, 'size')
    """
    if QUANTITIES.get(quantity.key) != quantity:
        declare(quantity)

    def mark(function: Function) -> Function:
        function.quantity = quantity  # type: ignore[attr-defined]
        return function

    return mark


@functools.cache
def _reader() -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(list[Quantity])


def declare_stored(stored: Sequence[Any]) -> None:
    """Declare what a record's own figures are, where nothing here has their keys.

    Args:
        stored: the fields of each quantity, plain values.

    Raises:
        ValueError: they are no quantities.

    Example:
        >>> declare_stored([{"key": "size", "head": "size"}])
        >>> QUANTITIES.pop("size").head
        'size'
    """
    for quantity in _reader().validate_python(stored):
        if quantity.key not in QUANTITIES:
            declare(quantity)


def check_own(names: Iterable[str]) -> None:
    """See, before anything is trained, that the user's metrics are there.

    Args:
        names: `module:name` of each.

    Raises:
        ConfigError: a name that may not be imported, or is no metric.

    Example:
        >>> check_own([])
    """
    for name in names:
        _found(name)


def _found(name: str) -> tuple[Callable[..., Any], Quantity]:
    """A metric of the user's, and what it measures."""
    function = imported(name)
    quantity = getattr(function, "quantity", None)
    if not isinstance(quantity, Quantity) or quantity.latent:
        raise ConfigError(f"{name} is no function with @metric(Quantity(...)) of one number.")
    return function, quantity


def measure_own(
    names: Iterable[str],
    model: Any,
    x: Batch,
    labels: npt.NDArray[np.int64] | None,
    result: Evaluation,
) -> None:
    """Call the user's metrics and note what they found, and what of it is beyond its bounds.

    Args:
        names: `module:name` of each.
        model: whatever is measured, in evaluation mode.
        x: N data.
        labels: (N,), or None.
        result: gets scalars, checks and the declarations.

    Raises:
        ConfigError: a name that may not be imported or is no metric, or one that fails or returns
            no number.
    """
    import torch

    from lidcli.metrics.estimate import Estimate

    for name in names:
        function, quantity = _found(name)
        try:
            with torch.no_grad():
                found = function(model, x, labels)
        except (LidError, MemoryError):
            raise
        except (Exception, SystemExit) as error:
            raise ConfigError(f"{name} failed: {cause(error)}.") from error
        if isinstance(found, Estimate):
            result.put(quantity.key, found)
        else:
            try:
                result.scalars[quantity.key] = float(found)
            except (TypeError, ValueError):
                raise ConfigError(f"{name} returned {found!r}, which is no number.") from None
        result.quantities.append(quantity)
        own = {k: v for k, v in result.scalars.items() if k.removesuffix("_se") == quantity.key}
        result.checks += broken_invariants(own, None)
