"""Reads values as people write them: YAML without its traps."""

from __future__ import annotations

import re
from collections.abc import Hashable
from typing import Any, ClassVar

import yaml

__all__ = ["UnreadableError", "parse"]

DEPTH = 40
SIZE = 100_000
DIGITS = 40
_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]*(?:_[0-9]+)*)")
_WHOLE = "[0-9]+(?:_[0-9]+)*"
_POWER = "[eE][-+]?[0-9]+"
_FLOAT = re.compile(
    rf"[-+]?(?:(?:{_WHOLE}\.[0-9]*|\.[0-9]+)(?:{_POWER})?|{_WHOLE}{_POWER}|\.(?:inf|Inf|INF))"
    r"|\.(?:nan|NaN|NAN)"
)


class UnreadableError(ValueError):
    """A text that is not YAML, or more than a configuration may hold.

    Attributes:
        line: where, counted from 1; None where no line is to blame.
    """

    def __init__(self, reason: str, line: int | None = None) -> None:
        super().__init__(reason)
        self.line = line


class _Loader(yaml.SafeLoader):
    """Mappings, lists, strings, numbers, booleans and null; keys once, numbers decimal.

    `1e-3` is a number, `1:30`, `010` and dates are strings.
    """

    yaml_implicit_resolvers: dict[str, Any] = {  # noqa: RUF012 (as in the base)
        letter: [(tag, pattern) for tag, pattern in found if tag.endswith((":bool", ":null"))]
        for letter, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    yaml_constructors: ClassVar[dict[Any, Any]] = {}

    def fail(self, node: yaml.Node, reason: str) -> UnreadableError:
        return UnreadableError(reason, node.start_mark.line + 1)

    def number(self, node: yaml.ScalarNode) -> int | float:
        """A decimal number."""
        text = str(node.value)
        if _INT.fullmatch(text):
            if len(text) > DIGITS:
                raise self.fail(node, f"a whole number has at most {DIGITS} digits")
            return int(text) if node.tag.endswith(":int") else float(text)
        if _FLOAT.fullmatch(text) and node.tag.endswith(":float"):
            return float(re.sub(r"_|\.(?=[a-zA-Z])(?![eE][-+0-9])", "", text))
        raise self.fail(node, f"{text[:40]!r} is no number")

    def mapping(self, node: yaml.MappingNode) -> dict[Hashable, Any]:
        """A mapping, each of whose keys is given once."""
        if not isinstance(node, yaml.MappingNode):
            raise self.fail(node, "a mapping was expected")
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise self.fail(key, "a key must be a name")
            if key.value in seen:
                raise self.fail(key, f"{key.value!r} is given twice")
            seen.add(key.value)
        self.flatten_mapping(node)
        return {self.key(key): self.construct_object(value, True) for key, value in node.value}

    def key(self, node: yaml.ScalarNode) -> str:
        """A key as it is written: names such as `on` and `5` are names."""
        return str(node.value)

    def refuse(self, node: yaml.Node) -> Any:
        """Refuse what configurations have no use for."""
        raise self.fail(node, f"the tag {node.tag!r} is not used here")


_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(f"(?:{_INT.pattern})$"), None)
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(f"(?:{_FLOAT.pattern})$"), None)
_Loader.add_implicit_resolver("tag:yaml.org,2002:merge", re.compile("<<$"), ["<"])
for _name, _construct in (
    ("int", _Loader.number),
    ("float", _Loader.number),
    ("map", _Loader.mapping),
    ("str", yaml.SafeLoader.construct_scalar),
    ("bool", yaml.SafeLoader.construct_yaml_bool),
    ("null", yaml.SafeLoader.construct_yaml_null),
    ("seq", lambda loader, node: loader.construct_sequence(node, deep=True)),
):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_name}", _construct)
_Loader.add_constructor(None, _Loader.refuse)


def parse(text: str) -> Any:
    """The value that a YAML text holds.

    Args:
        text: one document. Numbers are decimal, keys are strings, and `1e-3` is a number;
            aliases may not refer to what they are part of.

    Raises:
        UnreadableError: no YAML, a key that is given twice, or a value nested or repeated by
            aliases beyond reason.

    Example:
        >>> parse("{rate: 1e-3, at: 1:30, on: 2001-01-01}")
        {'rate': 0.001, 'at': '1:30', 'on': '2001-01-01'}
    """
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _measure(node, {}, 0)
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        reason = getattr(error, "problem", None) or getattr(error, "reason", None) or "unreadable"
        raise UnreadableError(str(reason), mark.line + 1 if mark else None) from error
    except RecursionError as error:
        raise UnreadableError(f"it is nested more than {DEPTH} deep") from error
    except (ValueError, TypeError, KeyError) as error:
        if isinstance(error, UnreadableError):
            raise
        raise UnreadableError("a value does not fit its tag") from error


def _measure(node: yaml.Node, sizes: dict[int, int], depth: int) -> int:
    """How many values a node holds when its aliases are written out."""
    line = node.start_mark.line + 1
    if id(node) in sizes:
        if not sizes[id(node)]:
            raise UnreadableError("an alias refers to what it is part of", line)
        return sizes[id(node)]
    if depth > DEPTH:
        raise UnreadableError(f"it is nested more than {DEPTH} deep", line)
    sizes[id(node)] = 0
    inner: list[yaml.Node] = []
    if isinstance(node, yaml.SequenceNode):
        inner = node.value
    elif isinstance(node, yaml.MappingNode):
        inner = [part for pair in node.value for part in pair]
    size = 1 + sum(_measure(part, sizes, depth + 1) for part in inner)
    if size > SIZE:
        raise UnreadableError(f"it holds more than {SIZE:,} values", line)
    sizes[id(node)] = size
    return size
