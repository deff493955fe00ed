"""Reads experiment files: models, data, experiments, profiles and defaults, sorted by section."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError, field_validator

from lidcli.config.kinds import allow
from lidcli.config.parse import UnreadableError, parse
from lidcli.config.run import PLAIN
from lidcli.config.sections import KINDS
from lidcli.errors import ConfigError
from lidcli.names import nearest
from lidcli.plain import open_plain

__all__ = [
    "SECTIONS",
    "ExperimentSpec",
    "Experiments",
    "Tree",
    "codes_in",
    "load_files",
    "merge",
    "parse_override",
    "section_keys",
]

SECTIONS = (*KINDS, *PLAIN)
LARGEST = 1 << 22
"""Bytes of a file at most."""
NAME = re.compile(r"[\w-][\w.-]*")
Tree = dict[str, Any]
_TOP = ("defaults", "models", "data", "experiments", "profiles")


class ExperimentSpec(BaseModel):
    """A named grid of runs, as `experiments.yaml` writes it."""

    model_config = {"frozen": True, "extra": "forbid"}

    title: str = ""
    models: tuple[str, ...]
    data: tuple[str, ...]
    grid: dict[str, list[Any]] = {}
    seeds: str | tuple[int, ...] = "0"
    set: dict[str, Any] = {}
    also: tuple[str, ...] = ()
    """Other experiments whose runs are part of this one."""

    @field_validator("seeds", mode="before")
    @classmethod
    def _one_seed(cls, value: Any) -> Any:
        return str(value) if type(value) is int else value


@dataclass(frozen=True)
class Experiments:
    """The contents of one or more experiment files, later ones over earlier ones.

    Every tree maps sections to settings.
    """

    defaults: Tree = field(default_factory=dict)
    models: dict[str, Tree] = field(default_factory=dict)
    data: dict[str, Tree] = field(default_factory=dict)
    pairs: dict[tuple[str, str], Tree] = field(default_factory=dict)
    """What a data entry says of one model, by model and data."""
    scales: dict[tuple[str, str], Tree] = field(default_factory=dict)
    """What a data entry says of one profile, by profile and data."""
    experiments: dict[str, ExperimentSpec] = field(default_factory=dict)
    profiles: dict[str, Tree] = field(default_factory=dict)
    codes: tuple[tuple[str, str], ...] = ()
    """Section and `module:name` of every kind of the user's."""
    named: tuple[Path, ...] = ()
    """Files that `-c` named, of which a command needs to be told."""


def section_keys(name: str) -> list[str]:
    """Every setting that a section of this name can have."""
    return KINDS[name].keys() if name in KINDS else list(PLAIN[name].model_fields)


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> Tree:
    """`base` with every value of `over` in its place, nested mappings merged."""
    out = dict(base)
    for key, value in over.items():
        if isinstance(value, Mapping) and isinstance(out.get(key), Mapping):
            out[key] = merge(out[key], value)
        else:
            out[key] = value
    return out


def load_files(paths: Sequence[Path], trusted: Collection[Path] = ()) -> Experiments:
    """Read experiment files; later ones add to and override earlier ones.

    Args:
        paths: YAML files, in order of rising precedence.
        trusted: those that `-c` named, whose `use: module:name` may be imported.

    Raises:
        ConfigError: a file is missing, unreadable or holds an unknown key.

    Example:
        >>> load_files([]).models
        {}
    """
    files = [(path, _read(path)) for path in paths]
    codes = tuple(code for _, content in files for code in codes_in(content) if code[0] in KINDS)
    allow(name for path, content in files if path in trusted for _, name in codes_in(content))
    free = {section for section, _ in codes}
    merged: Tree = {}
    where: dict[str, str] = {}
    for path, raw in files:
        content = _Sorter(str(path), free).sorted(raw)
        where |= dict.fromkeys(content["experiments"], f"{path}: experiments")
        merged = merge(merged, content)
    found = {}
    for name, entry in merged.pop("experiments", {}).items():
        _check_name(name, where[name])
        found[name] = _experiment(entry, f"{where[name]}.{name}")
    return Experiments(**merged, experiments=found, codes=codes, named=tuple(trusted))


def codes_in(tree: Any, section: str = "") -> Iterator[tuple[str, str]]:
    """The section and `module:name` of all code of the user's that a tree names.

    Args:
        tree: of a file, or of `--set` and `--grid`, with dotted keys.
        section: that the tree belongs to.

    Example:
        >>> list(codes_in({"models": {"mine": {"decoder": {"use": "mine:Spline"}}}}))
        [('decoder', 'mine:Spline')]
        >>> list(codes_in({"decoder.kind": ["mlp", "mine:Spline"]}))
        [('decoder', 'mine:Spline')]
        >>> list(codes_in({"evaluate": {"metrics": ["mine:fid"]}}))
        [('evaluate', 'mine:fid')]
    """
    if not isinstance(tree, Mapping):
        return
    for key, value in tree.items():
        head, dot, last = str(key).partition(".")
        place, name = (head, last) if dot else (section, head)
        yield from ((place, code) for code in _codes(place, name, value))
        inner = key if key in SECTIONS and isinstance(value, Mapping) else section
        yield from codes_in(value, "model" if key == "models" else inner)


def _codes(section: str, key: str, value: Any) -> list[str]:
    """Every `module:name` that one setting names, or that a list of its values does."""
    if key not in _naming(section):
        return []
    names = value if isinstance(value, list) else [value]
    return [name for name in names if isinstance(name, str) and ":" in name]


def _naming(section: str) -> tuple[str, ...]:
    """The settings of a section that may name code."""
    if section in KINDS:
        return "use", KINDS[section].tag
    return ("metrics",) if section == "evaluate" else ()


def _read(path: Path) -> Tree:
    try:
        descriptor = open_plain(
            path, os.O_RDONLY, error=ConfigError, follow=True, remedy="name a file with -c"
        )
        with open(descriptor, encoding="utf-8") as file:
            if os.fstat(descriptor).st_size > LARGEST:
                raise ConfigError(f"{path} has more than {LARGEST >> 20} MiB: no configuration.")
            text = file.read(LARGEST)
    except FileNotFoundError:
        raise ConfigError(f"There is no configuration file {path}.") from None
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise ConfigError(f"{path} cannot be read: {why}.") from error
    try:
        content = parse(text)
    except UnreadableError as error:
        line = f", line {error.line}" if error.line else ""
        raise ConfigError(f"{path}{line} is not valid YAML: {error}.") from error
    content = {} if content is None else content
    if not isinstance(content, dict):
        raise ConfigError(f"{path} must hold a mapping with {', '.join(_TOP)}.")
    for key, value in content.items():
        if key not in _TOP:
            raise ConfigError(f"{path}: unknown key {key!r}; {nearest(str(key), _TOP)}")
        if not isinstance(value, dict):
            raise ConfigError(f"{path}: {key} must be a mapping.")
    return content


class _Sorter:
    """Sorts one file's settings into sections.

    Args:
        path: of the file, for messages.
        free: sections that may have a kind of the user's, whose keys are checked later.
    """

    def __init__(self, path: str, free: Collection[str]) -> None:
        self.path, self.free = path, free

    def sorted(self, content: Tree) -> Tree:
        """The contents by the fields of `Experiments`, every setting in its section."""
        data, pairs = self.take_pairs(content.get("data", {}), "models", "model")
        data, scales = self.take_pairs(data, "profiles", None)
        return {
            "defaults": self.sections(content.get("defaults", {}), None, "defaults"),
            "models": dict(self.entries(content.get("models", {}), "model", "models")),
            "data": dict(self.entries(data, "data", "data")),
            "pairs": pairs,
            "scales": scales,
            "experiments": dict(self.experiments(content.get("experiments", {}))),
            "profiles": dict(self.entries(content.get("profiles", {}), None, "profiles")),
        }

    def experiments(self, group: Tree) -> Iterator[tuple[str, Any]]:
        """Experiments, not yet validated: a later file may complete them."""
        for name, entry in group.items():
            if isinstance(entry, Mapping) and "set" in entry:
                place = f"experiments.{name}.set"
                yield name, {**entry, "set": self.sections(entry["set"], None, place)}
            else:
                yield name, entry

    def entries(
        self, group: Mapping[str, Any], own: str | None, where: str
    ) -> Iterator[tuple[str, Tree]]:
        """Each entry of a group, sorted."""
        for name, entry in group.items():
            yield name, self.sections({} if entry is None else entry, own, f"{where}.{name}")

    def take_pairs(
        self, content: Tree, key: str, own: str | None
    ) -> tuple[Tree, dict[tuple[str, str], Tree]]:
        """Move `data.<name>.<key>.<other>`, settings of one model or profile, out of `data`."""
        data, pairs = dict(content), {}
        for name, entry in content.items():
            if isinstance(entry, Mapping) and key in entry:
                data[name] = {known: value for known, value in entry.items() if known != key}
                place = f"data.{name}.{key}"
                if not isinstance(entry[key], Mapping):
                    raise self.error(place, f"must be a mapping from {key[:-1]} to settings.")
                for other, settings in self.entries(entry[key], own, place):
                    pairs[other, name] = settings
        return data, pairs

    def sections(self, entry: Any, own: str | None, where: str) -> Tree:
        """An entry's keys sorted into sections; keys that name none belong to `own`."""
        if not isinstance(entry, Mapping):
            raise self.error(where, f"must be a mapping of settings, not {entry!r}.")
        tree: Tree = {}
        mine: Tree = {}
        for key, value in entry.items():
            if key in SECTIONS and isinstance(value, Mapping):
                tree[key] = self.checked(value, key, f"{where}: {key}")
            elif key in SECTIONS and not (own and key in section_keys(own)):
                raise self.error(where, f"{key} must be a mapping of settings, not {value!r}.", ":")
            elif own is None:
                raise self.error(where, f"unknown key {key!r}; {nearest(key, SECTIONS)}", ":")
            else:
                mine[key] = value
        if own is not None and mine:
            tree[own] = merge(tree.get(own, {}), self.checked(mine, own, where, SECTIONS))
        return tree

    def checked(
        self, settings: Mapping[str, Any], section: str, where: str, beside: Sequence[str] = ()
    ) -> Tree:
        """One section's settings, whose keys some kind of the section has; `use` is its tag."""
        valid = section_keys(section)
        for key in settings:
            if key not in valid and section not in self.free:
                hint = nearest(key, [*valid, *beside])
                raise self.error(where, f"unknown key {key!r}; {hint}", ":")
        found = dict(settings)
        if section in KINDS and "use" in found:
            tag = KINDS[section].tag
            if tag in found:
                raise self.error(where, f"give use or {tag}, not both.", ":")
            found[tag] = found.pop("use")
        return found

    def error(self, where: str, problem: str, colon: str = "") -> ConfigError:
        """An error at a place of this file."""
        return ConfigError(f"{self.path}: {where}{colon} {problem}")


def _check_name(name: str, where: str) -> None:
    """Raise ConfigError unless an experiment's name can be that of its folder in the results."""
    if not NAME.fullmatch(name) or name.casefold() == "published":
        raise ConfigError(
            f"{where}: {name!r} is no name for an experiment, which has letters, digits, _, - and"
            " ., begins with no . and is not published."
        )


def _experiment(entry: Any, where: str) -> ExperimentSpec:
    try:
        return ExperimentSpec.model_validate(entry)
    except ValidationError as error:
        raise ConfigError(f"{where}: {_explain(error)}") from None


def _explain(error: ValidationError) -> str:
    """The first problem of an experiment, as one sentence."""
    first = error.errors()[0]
    place = ".".join(map(str, first["loc"]))
    if first["type"] == "extra_forbidden":
        return f"unknown key {place!r}; {nearest(place, ExperimentSpec.model_fields)}"
    if first["type"] == "missing":
        return f"{place} is missing."
    message = first["msg"][0].lower() + first["msg"][1:]
    return f"{f'{place} = ' if place else ''}{first['input']!r} is not usable: {message}."


def parse_override(text: str) -> tuple[str, Any]:
    """Split `key=value` as `--set` takes it, the value read as YAML.

    Raises:
        ConfigError: there is no `=`, or the value is not YAML.

    Example:
        >>> parse_override("decoder.layers=9")
        ('decoder.layers', 9)
    """
    key, sign, value = text.partition("=")
    if not sign or not key.strip():
        raise ConfigError(f"--set takes key=value, for example train.epochs=20, not {text!r}.")
    try:
        return key.strip(), parse(value)
    except UnreadableError as error:
        raise ConfigError(
            f"--set {key.strip()}: {value[:60]!r} is not readable: {error}."
        ) from None
