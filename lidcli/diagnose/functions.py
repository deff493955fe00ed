"""What a user's functions are made of: their modules, where these are, and in which mode."""

from __future__ import annotations

import contextlib
import dis
import functools
import inspect
import itertools
from collections.abc import Iterable, Iterator, Mapping
from types import CodeType, ModuleType, SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from lidcli.names import nearest

__all__ = ["evaluating", "home", "modules_of", "parts_of", "training_note"]

PARTS = ("encode", "decode", "log_prob", "likelihood", "sigma", "prior")
"""What a model given as a dictionary may hold."""
DEPTH = 10
"""Steps from a function to what it reaches."""
FOLLOWED = (nn.Module, functools.partial, dict, list, tuple, set, frozenset, SimpleNamespace)
LIBRARIES = {"builtins", "math", "numpy", "torch", "types"}
"""Whose objects hold no module of a user's."""
GLOBAL = ("LOAD_GLOBAL", "LOAD_NAME")
MOST = 20_000
"""Objects that are looked at."""
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
    """The modules that a function is, is a method of, or reaches by what it names and holds.

    Followed are closures, defaults, partials, globals that the body names, objects, and lists,
    tuples, sets and dictionaries, a few steps deep.

    Returns:
        Those that are not within another one, the nearest first.

    Example:
        >>> nets = {"encoder": nn.Linear(2, 3)}
        >>> modules_of(lambda x: nets["encoder"](x)), modules_of(abs)
        ([Linear(in_features=2, out_features=3, bias=True)], [])
    """
    found: dict[int, nn.Module] = {}
    waiting, seen = [function], set[int]()
    for _ in range(DEPTH):
        ahead: list[object] = []
        for part in waiting:
            if id(part) in seen or len(seen) > MOST:
                continue
            seen.add(id(part))
            if isinstance(part, nn.Module):
                found[id(part)] = part
            ahead += _held(part)
        waiting = ahead
    inner = {id(m) for top in found.values() for m in top.modules() if m is not top}
    return [top for key, top in found.items() if key not in inner]


def _held(part: object) -> list[object]:
    """What a container, a function or an object holds or names, as far as it can hold modules."""
    if isinstance(part, nn.Module):
        return []
    if isinstance(part, dict):
        held = list(part.values())
    elif isinstance(part, list | tuple | set | frozenset):
        held = list(part)
    elif isinstance(part, functools.partial):
        held = [part.func, *part.args, *part.keywords.values()]
    elif hasattr(part, "__code__"):
        held = _named(part)
    else:
        held = _attributes(part)
    return [x for x in held if isinstance(x, FOLLOWED) or _is_own(x)]


def _named(function: Any) -> list[object]:
    """A function's object, closure and defaults, and the globals and methods that it names."""
    own = getattr(function, "__self__", None)
    held = [own, *vars(function).values()]
    held += [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    for cell in function.__closure__ or ():
        with contextlib.suppress(ValueError):
            held.append(cell.cell_contents)
    names = _names(function.__code__)
    known = [function.__globals__.get(name) for name in _globals(function.__code__)]
    for outer in [type(own), *known]:
        if isinstance(outer, type | ModuleType) and not _of_library(_home_of(outer)):
            held += [inspect.getattr_static(outer, name, None) for name in names]
    return [x.__func__ if isinstance(x, staticmethod | classmethod) else x for x in held + known]


def _names(code: CodeType) -> list[str]:
    """What a body names, comprehensions and functions within it too."""
    inner = [_names(part) for part in code.co_consts if isinstance(part, CodeType)]
    return [*code.co_names, *itertools.chain(*inner)]


def _globals(code: CodeType) -> list[str]:
    """The globals that a body reads: not attributes, which may have the same names."""
    inner = [_globals(part) for part in code.co_consts if isinstance(part, CodeType)]
    own = [step.argval for step in dis.get_instructions(code) if step.opname in GLOBAL]
    return [*own, *itertools.chain(*inner)]


def _attributes(part: object) -> list[object]:
    """What an object or a class of a user's holds, and the function by which it is called."""
    kind = part if isinstance(part, type) else type(part)
    held = list(getattr(part, "__dict__", {}).values())
    if kind is part:
        return [x for x in held if not inspect.isroutine(x)]
    for name in getattr(kind, "__slots__", ()):
        held.append(getattr(part, name, None))
    return [*held, inspect.getattr_static(kind, "__call__", None), getattr(part, "__self__", None)]


def _is_own(part: object) -> bool:
    """Whether it is a function, an object or a class of a user's, not one of a library's."""
    if part is None or isinstance(part, Tensor | str | int | float | ModuleType):
        return False
    return not _of_library(_home_of(part))


def _home_of(part: object) -> str:
    """The name of the module of Python that it is, or that it comes from."""
    if isinstance(part, ModuleType):
        return part.__name__
    return str(getattr(part, "__module__", None) or type(part).__module__)


def _of_library(module: str) -> bool:
    return module.partition(".")[0] in LIBRARIES


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
