"""Sections that come in kinds: which settings each kind has, and the code that it names."""

from __future__ import annotations

import contextlib
import functools
import importlib
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from lidcli.errors import ConfigError, LidError, cause

__all__ = [
    "Count",
    "Depth",
    "Kinds",
    "Part",
    "Section",
    "Size",
    "allow",
    "allowed",
    "blamed",
    "imported",
    "locate",
]

Size = Annotated[int, Field(le=10**6)]
"""Units, dimensions or categories."""
Depth = Annotated[int, Field(le=1000)]
"""Layers or maps."""
Count = Annotated[int, Field(le=10**8)]
"""Data."""
LARGEST_INTEGER, LARGEST_NUMBER = 2**63 - 1, 1e30
"""What files and single precision hold."""

_allowed: set[str] = set()


class Section(BaseModel):
    """A frozen group of settings that refuses unknown keys."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False
    )

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse true and false where a number is wanted, which they would be 1 and 0 for."""
        if isinstance(value, bool) and not _takes_truth(cls, info.field_name):
            raise PydanticCustomError("truth", "input should not be true or false")
        return value

    @field_validator("*")
    @classmethod
    def _representable(cls, value: Any) -> Any:
        """Refuse numbers that a file or single precision does not hold."""
        if isinstance(value, int | float):
            most = LARGEST_NUMBER if isinstance(value, float) else LARGEST_INTEGER
            if abs(value) > most:
                limit = f"should be at most {most:.0e} in size"
                raise PydanticCustomError("too_large", limit)
        return value


@functools.cache
def _takes_truth(section: type[Section], field: str | None) -> bool:
    """Whether a setting may be true or false, or of any type at all."""
    wanted = section.model_fields[field or ""].annotation
    return bool({bool, Any, object} & {wanted, *get_args(wanted)})


class Part(Section):
    """The settings of one kind of a section, and the code that they are handed to.

    A kind of your own is a subclass that overrides `build`; a kind of ours names its `code`.
    """

    code: ClassVar[str] = ""
    """`module:function`, called with these settings and what `build` is given."""

    @classmethod
    def __pydantic_init_subclass__(cls, **named: Any) -> None:
        if "build" in cls.__dict__:
            cls.build = _guarded(cls.build)  # type: ignore[method-assign]

    def build(self, *args: Any, **named: Any) -> Any:
        """What these settings describe; the section's page says from what and to what."""
        if not self.code:
            raise ConfigError(f"{type(self).__name__} needs a method build.")
        return locate(self.code)(self, *args, **named)

    def completed(self, config: Any) -> dict[str, Any]:
        """Settings that follow from other sections of a run, in place of those left open.

        Args:
            config: the whole run, each section validated by itself.

        Raises:
            ValueError: settings of different sections that do not go together.
        """
        return {}

    def idle(self, config: Any) -> dict[str, str]:
        """Settings that do nothing beside others of a run: for what, and what would use them.

        Asked of our own kinds only: one of the user's may use what it inherits in its own way.

        Args:
            config: the whole run.
        """
        return {}


def _guarded(build: Callable[..., Any]) -> Callable[..., Any]:
    """A `build` of the user's that says so where it fails."""

    @functools.wraps(build)
    def guarded(self: Part, *args: Any, **named: Any) -> Any:
        try:
            return build(self, *args, **named)
        except (LidError, MemoryError):
            raise
        except (Exception, SystemExit) as error:
            code = f"{build.__module__}:{build.__qualname__}"
            raise ConfigError(f"{code} failed: {cause(error)}.") from error

    return guarded


def locate(code: str) -> Any:
    """The object that `module:name` names.

    Example:
        >>> locate("math:sqrt")(9.0)
        3.0
    """
    module, _, name = code.partition(":")
    return getattr(importlib.import_module(module), name)


def allow(names: Iterable[str]) -> None:
    """Let `module:name` be imported: only what this command line's own configuration named."""
    _allowed.update(names)


def allowed() -> list[str]:
    """What may be imported, for a worker that is to be allowed the same."""
    return sorted(_allowed)


def blamed(error: BaseException) -> str:
    """The last line of the user's code that an error went through, in words; empty without one.

    Args:
        error: that was raised.
    """
    modules = {code.partition(":")[0] for code in _allowed}
    found = ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        if frame.f_globals.get("__name__") in modules:
            code = frame.f_code
            found = f"{Path(code.co_filename).name}, line {line}, in {code.co_name}"
    return found


def imported(code: str) -> Any:
    """The object of the user's that `module:name` names, from the working folder too.

    What its module prints goes to stderr: a document on stdout stays one.

    Raises:
        ConfigError: nothing allows it to be imported, or it cannot be.
    """
    if code not in _allowed:
        raise ConfigError(
            f"{code} is code, and nothing named on this command line allows it to be imported;"
            " name the file that says so with -c."
        )
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            return locate(code)
    except (Exception, SystemExit) as error:
        raise ConfigError(f"{code} cannot be imported: {cause(error)}.") from error


def _import(code: str, base: type[Part]) -> type[Part]:
    found = imported(code)
    if not (isinstance(found, type) and issubclass(found, base)):
        raise ConfigError(f"{code} must be a class derived from lidcli.extend.{base.__name__}.")
    return found


class Kinds:
    """The kinds of one section by name.

    Args:
        section: its key in a configuration.
        tag: the setting that names the kind.
        base: class that every kind derives from, one of your own too.
        kinds: ours; each has the tag as a field whose default is the kind's name.

    Example:
        >>> from lidcli.config.sections import DECODERS
        >>> DECODERS["mlp"].__name__
        'MLPDecoder'
    """

    def __init__(self, section: str, tag: str, base: type[Part], *kinds: type[Part]) -> None:
        self.section, self.tag, self.base = section, tag, base
        self._kinds: dict[str, type[Part]] = {}
        for kind in kinds:
            self.add(kind)

    def add(self, kind: type[Part]) -> type[Part]:
        """Register a kind; usable as a decorator."""
        self._kinds[kind.model_fields[self.tag].default] = kind
        return kind

    def remove(self, name: str) -> None:
        """Forget a kind that was registered."""
        del self._kinds[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._kinds)

    def __getitem__(self, name: str) -> type[Part]:
        """The settings class of a kind, `module:name` for one of the user's.

        Raises:
            ConfigError: no such kind, or code that may not be imported.
        """
        if ":" in name:
            return _import(name, self.base)
        if name not in self._kinds:
            raise ConfigError(
                f"{self.section}.{self.tag} = {name!r} is none of {', '.join(self._kinds)}."
            )
        return self._kinds[name]

    def holders(self, key: str) -> list[str]:
        """The kinds that have a setting."""
        return [name for name, kind in self._kinds.items() if key in kind.model_fields]

    def keys(self) -> list[str]:
        """Every setting of any kind."""
        return list(
            dict.fromkeys(key for kind in self._kinds.values() for key in kind.model_fields)
        )
