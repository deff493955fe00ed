"""Trees of Python values, arrays and tensors in HDF5, exact and without pickle.

A tree is kept as one JSON document, `tree`, that says what every value is, and one data set below
`tensors/` for each array, named after its place in the tree, so that any HDF5 tool shows the
weights.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

if TYPE_CHECKING:
    import torch

__all__ = ["load_tree", "read_array", "read_data", "save_tree", "tensor_array", "write_array"]

CHUNK_BYTES = 1 << 20
WORD = 1 << 63
NUMBERS = "biufc"
Array = np.ndarray[Any, np.dtype[Any]]


def _chunks(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """Chunks of at most 1 MiB, evenly cut so that the last one is hardly padded."""
    room = max(1, CHUNK_BYTES // itemsize)
    out: list[int] = []
    for size in reversed(shape):
        pieces = math.ceil(size / min(size, room))
        out.append(math.ceil(size / pieces))
        room = max(1, room // out[-1])
    return tuple(reversed(out))


def write_array(group: h5py.Group, name: str, array: Array) -> None:
    """Write a numeric array with a checksum on every chunk.

    Args:
        group: where to.
        name: of the data set; slashes make groups.
        array: of bool, integer, float or complex type and any shape.

    Raises:
        ValueError: the array holds something else.
    """
    if array.dtype.kind not in NUMBERS:
        raise ValueError(f"an array of type {array.dtype} cannot be stored; only numbers can")
    array = np.asarray(array, order="C")
    if array.dtype.kind == "b":
        array = array.view(np.uint8)
    elif array.dtype.kind == "c":
        array = array[..., None].view(array.real.dtype)
    create, link = h5py.h5p.create(h5py.h5p.DATASET_CREATE), h5py.h5p.create(h5py.h5p.LINK_CREATE)
    link.set_create_intermediate_group(True)
    if array.size and array.ndim:
        create.set_chunk(_chunks(array.shape, array.dtype.itemsize))
        create.set_fletcher32()
    kind = h5py.h5t.py_create(array.dtype, logical=True)
    space = h5py.h5s.create_simple(array.shape) if array.ndim else h5py.h5s.create(h5py.h5s.SCALAR)
    item = h5py.h5d.create(group.id, name.encode(), kind, space, create, link)
    if array.size:
        item.write(h5py.h5s.ALL, h5py.h5s.ALL, array)


def read_array(group: h5py.Group, name: str) -> Array:
    """Read what `write_array` wrote, bools and complex numbers as the numbers they became."""
    return read_data(h5py.h5d.open(group.id, name.encode()))


def read_data(item: h5py.h5d.DatasetID) -> Array:
    """The numbers of an open data set."""
    out = np.empty(item.shape, item.dtype)
    if out.size:
        item.read(h5py.h5s.ALL, h5py.h5s.ALL, out)
    return out


def _restore(stored: Array, name: str) -> Array:
    """The array as it was, from what `write_array` made of it and the name of its type."""
    kind = np.dtype(name)
    if kind.kind not in NUMBERS:
        raise ValueError(f"unexpected type {name}")
    if kind.kind == "c":
        return stored.view(kind)[..., 0]
    if kind.kind == "b":
        return stored.view(kind)
    if stored.dtype != kind:
        raise ValueError(f"{stored.dtype} where {kind} was written")
    return stored


class _Writer:
    """Turns values into JSON nodes, and arrays into data sets of a group."""

    def __init__(self, group: h5py.Group) -> None:
        self.group = group
        self.names: set[str] = set()

    def node(self, value: Any, path: tuple[str, ...]) -> Any:
        if value is None or isinstance(value, (bool, str, float, int)):
            return _plain(value)
        if isinstance(value, dict):
            return ["dict", *(self.pair(k, v, path) for k, v in value.items())]
        if isinstance(value, (list, tuple)):
            kind = "list" if isinstance(value, list) else "tuple"
            return [kind, *(self.node(v, (*path, str(i))) for i, v in enumerate(value))]
        if isinstance(value, (np.ndarray, np.generic)):
            kind = "array" if isinstance(value, np.ndarray) else "scalar"
            return [kind, *self.store(np.asarray(value), path)]
        return self.tensor(value, path)

    def pair(self, key: Any, value: Any, path: tuple[str, ...]) -> list[Any]:
        if type(key) not in (int, str):
            raise ValueError(f"{_place(path)}: keys must be int or str, not {type(key).__name__}")
        return [self.node(key, path), self.node(value, (*path, str(key)))]

    def tensor(self, value: Any, path: tuple[str, ...]) -> list[Any]:
        array, name = tensor_array(value, _place(path))
        return ["tensor", *self.store(array, path), name]

    def store(self, array: Array, path: tuple[str, ...]) -> list[str]:
        """Write an array under a name after its path; that name and the array's type."""
        plain = ".".join(path).replace("/", "_").replace("\0", "_")
        plain = plain.encode(errors="replace").decode().strip(".") or "value"
        name = plain if plain not in self.names else f"{plain}~{len(self.names)}"
        while name in self.names:
            name += "~"
        self.names.add(name)
        try:
            write_array(self.group, name, array)
        except ValueError as error:
            raise ValueError(f"{_place(path)}: {error}") from None
        return [name, array.dtype.str]


def _plain(value: bool | str | float | int | None) -> Any:
    """A scalar as JSON has it, and an integer of more than 64 bits in hexadecimal digits."""
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, float):
        return float(value)
    return int(value) if -WORD <= value < WORD else ["int", hex(value)]


def _place(path: tuple[str, ...]) -> str:
    return ".".join(path) or "the tree"


def tensor_array(value: Any, place: str) -> tuple[Array, str]:
    """A tensor's numbers in C order, and the name of its type.

    Args:
        value: a strided tensor on any device; types that numpy lacks come as unsigned integers.
        place: where it stands, for the sentence.

    Raises:
        ValueError: it is something else.
    """
    import torch

    if not isinstance(value, torch.Tensor) or value.layout != torch.strided:
        raise ValueError(f"{place}: a {type(value).__name__} cannot be stored")
    plain = value.detach().cpu().resolve_conj().resolve_neg().contiguous()
    return _as_numpy(plain), str(value.dtype).removeprefix("torch.")


def _as_numpy(tensor: torch.Tensor) -> Array:
    """The tensor's memory as an array; types that numpy lacks as unsigned integers."""
    import torch

    unsigned = {1: torch.uint8, 2: torch.uint16, 4: torch.uint32}
    try:
        return tensor.numpy()
    except TypeError:
        if tensor.is_quantized or tensor.element_size() not in unsigned:
            raise ValueError(f"a tensor of type {tensor.dtype} cannot be stored") from None
        return tensor.view(unsigned[tensor.element_size()]).numpy()


def save_tree(group: h5py.Group, tree: Any) -> None:
    """Write a tree into an empty group.

    Arrays go to disk one at a time, so that memory does not grow with the tree.

    Args:
        group: where to.
        tree: nested dict (keys int or str), list and tuple of None, bool, int, float, str,
            torch tensors of any strided type on any device, and numeric numpy arrays.

    Raises:
        ValueError: something else is in the tree; the message says where.

    Example:
        >>> import h5py, torch
        >>> with h5py.File("x", "w", driver="core", backing_store=False) as file:
        ...     save_tree(file, {"step": 3, "weight": torch.ones(2, dtype=torch.bfloat16)})
        ...     load_tree(file)
        {'step': 3, 'weight': tensor([1., 1.], dtype=torch.bfloat16)}
    """
    text = json.dumps(_Writer(group.create_group("tensors")).node(tree, ()))
    write_array(group, "tree", np.frombuffer(text.encode(), np.uint8))


def load_tree(group: h5py.Group) -> Any:
    """Read a tree that `save_tree` wrote; tensors come back on the CPU.

    Args:
        group: where from.

    Raises:
        ValueError, KeyError, TypeError, OSError: the group holds no such tree;
            inside `open_read` all of them become a `DamagedError`.
    """
    return _value(json.loads(read_array(group, "tree").tobytes()), group["tensors"])


def _value(node: Any, arrays: h5py.Group) -> Any:
    if not isinstance(node, list):
        if isinstance(node, dict):
            raise ValueError("a mapping where a value belongs")
        return node
    kind, *rest = node
    if kind == "dict":
        return {_value(key, arrays): _value(value, arrays) for key, value in rest}
    if kind == "list":
        return [_value(value, arrays) for value in rest]
    if kind == "tuple":
        return tuple(_value(value, arrays) for value in rest)
    if kind == "int":
        return int(rest[0], 16)
    return _numbers(kind, rest, arrays)


def _numbers(kind: str, rest: list[Any], arrays: h5py.Group) -> Any:
    """A numpy scalar, an array or a tensor: `rest` is its data set and the name of its type."""
    array = _restore(read_array(arrays, rest[0]), rest[1])
    if kind == "scalar":
        return array[()]
    if kind == "array":
        return array
    if kind == "tensor":
        return _as_tensor(array, rest[2])
    raise ValueError(f"unknown kind {kind!r}")


def _as_tensor(array: Array, name: str) -> torch.Tensor:
    import torch

    kind = getattr(torch, name)
    if not isinstance(kind, torch.dtype):
        raise ValueError(f"unknown type {name!r}")
    tensor = torch.from_numpy(array)
    return tensor if tensor.dtype == kind else tensor.view(kind)
