"""Values of a stored record, checked and cleaned so that tables can be made of them."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

__all__ = ["Seen", "check_values", "clean", "settled"]

WORD = 1 << 63
TEXTS = 100_000
Seen = dict[int, tuple[Any, Any]]
"""Dictionaries and lists by their identity, which they keep, and what they are settled to."""


def check_values(config: Mapping[str, Any], provenance: Mapping[str, Any]) -> None:
    """Check what a report relies on, so that one absurd record cannot stop all others.

    Args:
        config: of a run, plain JSON values.
        provenance: of the run.

    Raises:
        ValueError: the seed is no number from 0, or the command line is no list.

    Example:
        >>> check_values({"seed": float("inf")}, {})
        Traceback (most recent call last):
        ValueError: the seed is inf
    """
    seed = config["seed"]
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise ValueError(f"the seed is {str(seed)[:40]}")
    if not isinstance(provenance.get("argv") or [], list):
        raise ValueError("the command line is no list")


def settled(tree: Mapping[str, Any], seen: Seen | None = None) -> dict[str, Any]:
    """A tree of a record, its parts checked and cleaned, those that many records share once.

    Args:
        tree: plain JSON values by name.
        seen: parts that are settled; takes those that are new. None of a record that stands alone.

    Raises:
        ValueError: a number has more than 64 bits, or a text more than 100,000 characters.

    Example:
        >>> seen, part = {}, {"b\\x1b": 1}
        >>> first, second = (settled({"a": part, "seed": n}, seen) for n in (0, 1))
        >>> first, first["a"] is second["a"]
        ({'a': {'b': 1}, 'seed': 0}, True)
    """
    seen = {} if seen is None else seen
    return {_plain(name): _settled(value, seen) for name, value in tree.items()}


def _settled(value: Any, seen: Seen) -> Any:
    if not isinstance(value, dict | list):
        return clean(_checked(value))
    known = seen.get(id(value))
    if known is None:
        for leaf in _leaves(value):
            _checked(leaf)
        known = seen[id(value)] = value, clean(value)
    return known[1]


def _checked(value: Any) -> Any:
    if isinstance(value, int) and not -WORD <= value < WORD:
        raise ValueError("a number of more than 64 bits")
    if isinstance(value, str) and len(value) > TEXTS:
        raise ValueError(f"a text of {len(value)} characters")
    return value


def clean(value: Any) -> Any:
    """`value` with every character that could steer a terminal taken out of its strings.

    A string is the same object in all records, which for thousands saves most of their memory.

    Args:
        value: of JSON.
    """
    if isinstance(value, str):
        return _plain(value)
    if isinstance(value, dict):
        return {_plain(str(key)): clean(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [clean(part) for part in value]
    return value


@lru_cache(maxsize=10_000)
def _plain(text: str) -> str:
    if text.isprintable():
        return sys.intern(str(text))
    return "".join(ch if ch.isprintable() else " " if ch in "\n\t" else "" for ch in text)


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
