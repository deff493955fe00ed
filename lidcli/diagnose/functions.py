"""What a user's functions are made of: their modules, where these are, and in which mode."""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lidcli.names import nearest

__all__ = ["evaluating", "home", "modules_of", "parts_of", "training_note"]

PARTS = ("encode", "decode", "log_prob", "likelihood", "sigma", "prior")
"""What a model given as a dictionary may hold."""
NOISY = (nn.modules.dropout._DropoutNd, nn.modules.batchnorm._BatchNorm)


def parts_of(model: object) -> dict[str, Any]:
    """The functions of a model: of a dictionary its entries, of an object its methods.

    Args:
        model: a dictionary with entries named as the arguments of `diagnose`, or an object with
            `encode` and `decode`, or `encoder` and `decoder`.

    Raises:
        ValueError: an unknown entry, or no encoder.

    Example:
        >>> class Model:
        ...     encoder = decode = abs
        >>> sorted(parts_of(Model))
        ['decode', 'encode']
    """
    if isinstance(model, Mapping):
        for name in model:
            if name not in PARTS:
                raise ValueError(f"the model has an entry {name!r}; {nearest(str(name), PARTS)}")
        return dict(model)
    found = {}
    for name in ("encode", "decode"):
        own = getattr(model, name, None)
        own = own if callable(own) else getattr(model, f"{name}r", None)
        if callable(own):
            found[name] = own
    if "encode" not in found:
        raise ValueError(
            f"the model, a {type(model).__name__}, has neither encode nor encoder to call"
        )
    return found


def modules_of(function: object) -> list[nn.Module]:
    """The modules that a function is, is a method of, or names in its body.

    Example:
        >>> layer = nn.Linear(2, 3)
        >>> modules_of(lambda x: layer(x)), modules_of(layer.forward), modules_of(abs)
        ([Linear(in_features=2, out_features=3, bias=True)], \
[Linear(in_features=2, out_features=3, bias=True)], [])
    """
    found: dict[int, nn.Module] = {}
    waiting, seen = [function], set()
    while waiting:
        part = waiting.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        if isinstance(part, nn.Module):
            found[id(part)] = part
            continue
        waiting += _named_by(part)
    inner = {id(m) for top in found.values() for m in top.modules() if m is not top}
    return [top for key, top in found.items() if key not in inner]


def _named_by(part: object) -> list[object]:
    """What a function holds: its object, what it closes over, globals that it names."""
    if isinstance(part, functools.partial):
        return [part.func, *part.args, *part.keywords.values()]
    found = [getattr(part, "__self__", None)]
    code, cells = getattr(part, "__code__", None), getattr(part, "__closure__", None) or ()
    for cell in cells:
        with contextlib.suppress(ValueError):
            found.append(cell.cell_contents)
    if code is not None:
        known = getattr(part, "__globals__", {})
        found += [known.get(name) for name in code.co_names]
    else:
        found += list(getattr(part, "__dict__", {}).values())
    followed = (nn.Module, functools.partial)
    return [x for x in found if isinstance(x, followed) or _is_own(x)]


def _is_own(part: object) -> bool:
    """Whether it is a function or an object of a user's, not one of a library's."""
    if part is None or isinstance(part, type | Tensor | str | int | float):
        return False
    module = getattr(part, "__module__", None) or type(part).__module__
    return module.partition(".")[0] not in {"builtins", "torch", "numpy", "math", "types"}


def home(modules: Iterable[nn.Module]) -> tuple[torch.device, torch.dtype] | None:
    """The device and the type of the first floating parameter; None without one."""
    for module in modules:
        for value in itertools.chain(module.parameters(), module.buffers()):
            if value.is_floating_point():
                return value.device, value.dtype
    return None


def training_note(modules: Iterable[nn.Module]) -> str | None:
    """A sentence on layers that would act differently in training; None where none would."""
    names = sorted(
        {
            type(m).__name__
            for top in modules
            for m in top.modules()
            if m.training and isinstance(m, NOISY)
        }
    )
    if not names:
        return None
    return (
        f"The model was in training mode, with {' and '.join(names)}: it was measured in"
        " evaluation mode and then set back."
    )


@contextlib.contextmanager
def evaluating(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Evaluation mode for a time; every submodule gets its own mode back.

    Example:
        >>> layer = nn.Dropout()
        >>> with evaluating([layer]):
        ...     layer.training
        False
        >>> layer.training
        True
    """
    tops = list(modules)
    before = [(m, m.training) for top in tops for m in top.modules()]
    try:
        for top in tops:
            top.eval()
        yield
    finally:
        for module, mode in before:
            module.training = mode
