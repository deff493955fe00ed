"""Whether a stored record holds values that tables can be made of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["check_values"]

WORD = 1 << 63
TEXTS = 100_000


def check_values(config: Mapping[str, Any], provenance: Mapping[str, Any]) -> None:
    """Check what a report relies on, so that one absurd record cannot stop all others.

    Args:
        config: of a run, plain JSON values.
        provenance: of the run.

    Raises:
        ValueError: the seed is no number from 0, a number has more than 64 bits, a text has more
            than 100,000 characters, or the command line is no list.

    Example:
        >>> check_values({"seed": float("inf")}, {})
        Traceback (most recent call last):
        ValueError: the seed is inf
    """
    seed = config["seed"]
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise ValueError(f"the seed is {str(seed)[:40]}")
    for value in (*_leaves(config), *_leaves(provenance)):
        if isinstance(value, int) and not -WORD <= value < WORD:
            raise ValueError("a number of more than 64 bits")
        if isinstance(value, str) and len(value) > TEXTS:
            raise ValueError(f"a text of {len(value)} characters")
    if not isinstance(provenance.get("argv") or [], list):
        raise ValueError("the command line is no list")


def _leaves(value: Any) -> Iterator[Any]:
    """Everything inside mappings and lists."""
    waiting = [value]
    while waiting:
        inner = waiting.pop()
        if isinstance(inner, dict):
            yield from inner
            waiting.extend(inner.values())
        elif isinstance(inner, list):
            waiting.extend(inner)
        else:
            yield inner
