"""Reads experiment files: models, data, experiments, profiles and defaults, sorted by section."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from lidcli.config.run import PLAIN
from lidcli.config.sections import KINDS
from lidcli.errors import ConfigError
from lidcli.names import nearest

__all__ = [
    "SECTIONS",
    "ExperimentSpec",
    "Experiments",
    "Tree",
    "load_files",
    "merge",
    "parse_override",
    "section_keys",
]

SECTIONS = (*KINDS, *PLAIN)
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


@dataclass(frozen=True)
class Experiments:
    """The contents of one or more experiment files, later ones over earlier ones.

    Every tree maps sections to settings.
    """

    defaults: Tree = field(default_factory=dict)
    models: dict[str, Tree] = field(default_factory=dict)
    data: dict[str, Tree] = field(default_factory=dict)
    pairs: dict[tuple[str, str], Tree] = field(default_factory=dict)
    experiments: dict[str, ExperimentSpec] = field(default_factory=dict)
    profiles: dict[str, Tree] = field(default_factory=dict)


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


def load_files(paths: Sequence[Path]) -> Experiments:
    """Read experiment files; later ones add to and override earlier ones.

    Args:
        paths: YAML files, in order of rising precedence.

    Raises:
        ConfigError: a file is missing, unreadable or holds an unknown key.

    Example:
        >>> load_files([]).models
        {}
    """
    merged: Tree = {}
    where = {}
    for path in paths:
        content = _sorted(_read(path), str(path))
        where |= dict.fromkeys(content["experiments"], f"{path}: experiments")
        merged = merge(merged, content)
    specs = merged.pop("experiments", {})
    found = {name: _experiment(entry, f"{where[name]}.{name}") for name, entry in specs.items()}
    return Experiments(**merged, experiments=found)


def _read(path: Path) -> Tree:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"There is no configuration file {path}.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}.") from error
    try:
        content = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        reason = getattr(error, "problem", None) or "unreadable"
        raise ConfigError(f"{path}{line} is not valid YAML: {reason}.") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} must hold a mapping with {', '.join(_TOP)}.")
    for key, value in content.items():
        if key not in _TOP:
            raise ConfigError(f"{path}: unknown key {key!r}; {nearest(str(key), _TOP)}")
        if not isinstance(value, dict):
            raise ConfigError(f"{path}: {key} must be a mapping.")
    return content


def _sorted(content: Tree, where: str) -> Tree:
    """One file's contents, by the fields of `Experiments`, every setting in its section."""
    data, pairs = _take_pairs(content.get("data", {}), where)
    return {
        "defaults": _sections(content.get("defaults", {}), None, f"{where}: defaults"),
        "models": dict(_entries(content.get("models", {}), "model", f"{where}: models")),
        "data": dict(_entries(data, "data", f"{where}: data")),
        "pairs": pairs,
        "experiments": {str(name): entry for name, entry in content.get("experiments", {}).items()},
        "profiles": dict(_entries(content.get("profiles", {}), None, f"{where}: profiles")),
    }


def _entries(group: Tree, own: str | None, where: str) -> Iterator[tuple[str, Tree]]:
    for name, entry in group.items():
        yield str(name), _sections({} if entry is None else entry, own, f"{where}.{name}")


def _take_pairs(content: Tree, where: str) -> tuple[Tree, dict[tuple[str, str], Tree]]:
    """Move `data.<name>.models.<model>`, settings of one model on those data, out of `data`."""
    data, pairs = dict(content), {}
    for name, entry in content.items():
        if isinstance(entry, dict) and "models" in entry:
            data[name] = {key: value for key, value in entry.items() if key != "models"}
            place = f"{where}: data.{name}.models"
            if not isinstance(entry["models"], Mapping):
                raise ConfigError(f"{place} must be a mapping from model to settings.")
            for model, settings in _entries(dict(entry["models"]), "model", place):
                pairs[model, str(name)] = settings
    return data, pairs


def _experiment(entry: Any, where: str) -> ExperimentSpec:
    try:
        spec = ExperimentSpec.model_validate(entry)
    except ValidationError as error:
        raise ConfigError(f"{where}: {_explain(error)}") from None
    return spec.model_copy(update={"set": _sections(spec.set, None, f"{where}.set")})


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


def _sections(entry: Any, own: str | None, where: str) -> Tree:
    """An entry's keys sorted into sections; keys that name none belong to `own`."""
    if not isinstance(entry, Mapping):
        raise ConfigError(f"{where} must be a mapping of settings, not {entry!r}.")
    tree: Tree = {}
    mine: Tree = {}
    for key, value in entry.items():
        if key in SECTIONS and isinstance(value, Mapping):
            tree[key] = _checked(value, key, f"{where}: {key}")
        elif key in SECTIONS and not (own and key in section_keys(own)):
            raise ConfigError(f"{where}: {key} must be a mapping of settings, not {value!r}.")
        elif own is None:
            raise ConfigError(f"{where}: unknown key {key!r}; {nearest(str(key), SECTIONS)}")
        else:
            mine[key] = value
    if own is not None and mine:
        tree[own] = merge(tree.get(own, {}), _checked(mine, own, where, SECTIONS))
    return tree


def _checked(
    settings: Mapping[Any, Any], section: str, where: str, beside: Sequence[str] = ()
) -> Tree:
    """One section's settings, whose keys some kind of the section has."""
    valid = section_keys(section)
    for key in settings:
        if key not in valid:
            raise ConfigError(
                f"{where}: unknown key {key!r}; {nearest(str(key), [*valid, *beside])}"
            )
    return dict(settings)


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
        return key.strip(), yaml.safe_load(value)
    except yaml.YAMLError:
        raise ConfigError(f"--set {key.strip()}: {value!r} is not a readable value.") from None
