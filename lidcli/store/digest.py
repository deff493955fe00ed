"""The SHA-256 of a tree of tensors: what a record names its weights by."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from lidcli.store.tensors import NUMBERS, Array, tensor_array

__all__ = ["digest"]

Leaf = tuple[list[Any], Array | None]


def digest(tree: Any) -> str:
    """SHA-256 over every name, type, shape and byte of a tree.

    The order of a mapping's keys, the device, strides and byte order do not matter; every bit of
    every number does. The same on every machine.

    Args:
        tree: as `save_tree` takes it, for example a model's state dict.

    Returns:
        64 hexadecimal digits.

    Raises:
        ValueError: something else is in the tree.

    Example:
        >>> import numpy as np
        >>> a, b = np.zeros(2), np.ones(1)
        >>> digest({"a": a, "b": b}) == digest({"b": b, "a": a})
        True
        >>> digest({"a": a, "b": b}) == digest({"a": b, "b": a})
        False
    """
    found = hashlib.sha256()
    for head, array in _leaves(tree, ()):
        text = json.dumps(head).encode()
        found.update(len(text).to_bytes(8, "little") + text)
        if array is not None:
            little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
            found.update(little.reshape(-1).view(np.uint8).data)
    return found.hexdigest()


def _leaves(value: Any, path: tuple[int | str, ...]) -> Iterator[Leaf]:
    """What every value is, as plain words, and its numbers if it is an array."""
    if value is None or isinstance(value, (bool, str, float, int)):
        yield [path, *_scalar(value)], None
    elif isinstance(value, dict):
        yield [path, "dict", len(value)], None
        for key in sorted(value, key=lambda key: (isinstance(key, str), key)):
            yield from _leaves(value[key], (*path, key))
    elif isinstance(value, (list, tuple)):
        yield [path, type(value).__name__, len(value)], None
        for index, inner in enumerate(value):
            yield from _leaves(inner, (*path, index))
    elif isinstance(value, (np.ndarray, np.generic)):
        array = np.asarray(value)
        if array.dtype.kind not in NUMBERS:
            raise ValueError(f"an array of type {array.dtype} has no digest; only numbers have")
        kind = "array" if isinstance(value, np.ndarray) else "scalar"
        yield [path, kind, array.dtype.newbyteorder("<").str, array.shape], array
    else:
        array, name = _tensor(value, path)
        yield [path, "tensor", name, array.shape], array


def _scalar(value: bool | str | float | int | None) -> tuple[str, Any]:
    """Type and value, every bit of a number in it."""
    if isinstance(value, float):
        return "float", float(value).hex()
    if isinstance(value, int) and not isinstance(value, bool):
        return "int", hex(value)
    return type(value).__name__, value


def _tensor(value: Any, path: tuple[int | str, ...]) -> tuple[Array, str]:
    place = ".".join(map(str, path)) or "the tree"
    try:
        return tensor_array(value, place)
    except ValueError:
        raise ValueError(f"{place}: a {type(value).__name__} has no digest") from None
