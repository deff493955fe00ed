"""Reads `experiments.yaml` and resolves one run from it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from lidcli.config.schema import (
    DataConfig,
    DecoderConfig,
    EvaluateConfig,
    InferenceConfig,
    ModelConfig,
    RunConfig,
    Runtime,
    TrainConfig,
)
from lidcli.errors import ConfigError

__all__ = ["ExperimentSpec", "Experiments", "load_files", "nearest", "parse_override", "resolve"]

SECTIONS: dict[str, type[BaseModel]] = {
    "decoder": DecoderConfig,
    "model": ModelConfig,
    "inference": InferenceConfig,
    "train": TrainConfig,
    "evaluate": EvaluateConfig,
    "data": DataConfig,
    "runtime": Runtime,
}
LIKELIHOODS = {
    "points": "gaussian",
    "image": "bernoulli",
    "text": "categorical",
    "classical": "gaussian",
}
Tree = dict[str, Any]


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
    """The contents of one or more experiment files, later ones over earlier ones."""

    defaults: Tree = field(default_factory=dict)
    models: dict[str, Tree] = field(default_factory=dict)
    data: dict[str, Tree] = field(default_factory=dict)
    pairs: dict[tuple[str, str], Tree] = field(default_factory=dict)
    experiments: dict[str, ExperimentSpec] = field(default_factory=dict)
    profiles: dict[str, Tree] = field(default_factory=dict)


def nearest(name: str, names: Iterable[str]) -> str:
    """A half sentence that names the closest valid name, or all of them.

    Example:
        >>> nearest("lidgmvea", ["gmvae", "lidgmvae"])
        'did you mean lidgmvae?'
    """
    names = sorted(names)
    close = difflib.get_close_matches(name, names, n=1)
    if close:
        return f"did you mean {close[0]}?"
    return "there are " + ", ".join(names) if names else "there are none"


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> Tree:
    """`base` with every value of `over` in its place, nested mappings merged."""
    out = dict(base)
    for key, value in over.items():
        if isinstance(value, Mapping) and isinstance(out.get(key), Mapping):
            out[key] = merge(out[key], value)
        else:
            out[key] = value
    return out


def _sections(entry: Mapping[str, Any], own: str | None, where: str) -> Tree:
    """An entry's keys sorted into sections; keys that name none belong to `own`."""
    if not isinstance(entry, Mapping):
        raise ConfigError(f"{where} must be a mapping of settings, not {entry!r}.")
    tree: Tree = {}
    for key, value in entry.items():
        if key in SECTIONS and isinstance(value, Mapping):
            tree[key] = merge(tree.get(key, {}), value)
        elif own is not None and key in SECTIONS[own].model_fields:
            tree.setdefault(own, {})[key] = value
        elif key in SECTIONS:
            raise ConfigError(f"{where}: {key} must be a mapping of settings, not {value!r}.")
        else:
            valid = [*SECTIONS, *(SECTIONS[own].model_fields if own else ())]
            raise ConfigError(f"{where}: unknown key {key!r}; {nearest(str(key), valid)}")
    return tree


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


_TOP = ("defaults", "models", "data", "experiments", "profiles")


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
    content: Tree = {}
    for path in paths:
        content = merge(content, _read(path))
    where = str(paths[-1]) if paths else ""
    entries: dict[str, dict[str, Tree]] = {}
    pairs = _take_pairs(content.get("data", {}), where)
    for group, own in (("models", "model"), ("data", "data"), ("profiles", None)):
        entries[group] = {
            str(name): _sections(entry or {}, own, f"{where}: {group}.{name}")
            for name, entry in content.get(group, {}).items()
        }
    specs = {}
    for name, entry in content.get("experiments", {}).items():
        try:
            specs[str(name)] = ExperimentSpec.model_validate(entry)
        except ValidationError as error:
            raise ConfigError(
                f"{where}: experiments.{name}: {_explain(error, ExperimentSpec)}"
            ) from None
        _sections(specs[str(name)].set, None, f"{where}: experiments.{name}.set")
    return Experiments(
        defaults=_sections(content.get("defaults", {}), None, f"{where}: defaults"),
        models=entries["models"],
        data=entries["data"],
        pairs=pairs,
        experiments=specs,
        profiles=entries["profiles"],
    )


def _take_pairs(data: dict[str, Any], where: str) -> dict[tuple[str, str], Tree]:
    """Move `data.<name>.models.<model>`, settings of one model on those data, out of `data`."""
    pairs = {}
    for name, entry in data.items():
        if isinstance(entry, dict) and "models" in entry:
            data[name] = {key: value for key, value in entry.items() if key != "models"}
            place = f"{where}: data.{name}.models"
            if not isinstance(entry["models"], Mapping):
                raise ConfigError(f"{place} must be a mapping from model to settings.")
            for model, settings in entry["models"].items():
                pairs[str(model), str(name)] = _sections(
                    settings or {}, "model", f"{place}.{model}"
                )
    return pairs


def _explain(error: ValidationError, model: type[BaseModel]) -> str:
    """The first problem of a validation, as one sentence."""
    first = error.errors()[0]
    place = [str(part) for part in first["loc"]]
    if first["type"] == "extra_forbidden":
        fields: Iterable[str] = model.model_fields
        if len(place) > 1 and place[0] in SECTIONS:
            fields = SECTIONS[place[0]].model_fields
        return f"unknown key {'.'.join(place)!r}; {nearest(place[-1], fields)}"
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "value_error":
        return f"{message}."
    if first["type"] == "missing":
        return f"{'.'.join(place)} is missing."
    message = message[0].lower() + message[1:]
    return f"{'.'.join(place)} = {first['input']!r} is not usable: {message}."


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


def _nest(key: str, value: Any) -> Tree:
    section, dot, name = key.partition(".")
    if section not in SECTIONS or not dot:
        valid = [f"{s}.{f}" for s, model in SECTIONS.items() for f in model.model_fields]
        raise ConfigError(f"Unknown setting {key!r}; {nearest(key, valid)}")
    fields = SECTIONS[section].model_fields
    if name not in fields:
        raise ConfigError(
            f"Unknown setting {key!r}; {nearest(key, [f'{section}.{f}' for f in fields])}"
        )
    return {section: {name: value}}


def resolve(
    experiments: Experiments,
    *,
    model: str,
    data: str,
    experiment: str | None = None,
    profile: str | None = None,
    overrides: Iterable[tuple[str, Any]] = (),
    seed: int = 0,
) -> RunConfig:
    """Resolve one run: defaults < model < data < experiment < profile < overrides.

    Settings that a data entry gives for one model (`models:` in it) come with the data.

    Args:
        experiments: what `load_files` returned.
        model: a name of `models`.
        data: a name of `data`.
        experiment: a name of `experiments` whose `set` applies.
        profile: a name of `profiles`.
        overrides: pairs of dotted key and value, in order.
        seed: run seed, at least 0.

    Raises:
        ConfigError: an unknown name or key, or a value of the wrong type or range.
    """
    for kind, name, known in (
        ("model", model, experiments.models),
        ("data", data, experiments.data),
        ("experiment", experiment, experiments.experiments),
        ("profile", profile, experiments.profiles),
    ):
        if name is not None and name not in known:
            raise ConfigError(f"Unknown {kind} {name!r}; {nearest(name, known)}")
    tree = merge(experiments.defaults, experiments.models[model])
    tree = merge(tree, experiments.data[data])
    tree = merge(tree, experiments.pairs.get((model, data), {}))
    if experiment is not None:
        tree = merge(tree, experiments.experiments[experiment].set)
    if profile is not None:
        tree = merge(tree, experiments.profiles[profile])
    for key, value in overrides:
        tree = merge(tree, _nest(key, value))
    tree["data"] = {"name": data, **tree.get("data", {})}
    tree |= {"method": model, "seed": seed}
    try:
        return _complete(RunConfig.model_validate(tree))
    except ValidationError as error:
        raise ConfigError(_explain(error, RunConfig)) from None


def _complete(config: RunConfig) -> RunConfig:
    """Fill in what follows from other settings, so that a stored run says all of it."""
    model, decoder = config.model, config.decoder
    family = model.family or ("sequential" if config.data.kind == "text" else "mixture")
    means = model.means or ("fixed" if decoder.kind == "brenier" else "free")
    settings = {
        "family": family,
        "likelihood": model.likelihood or LIKELIHOODS[config.data.kind],
        "means": means,
        "learn_scale": means == "free" if model.learn_scale is None else model.learn_scale,
    }
    rotations = model.latent <= 256 if decoder.rotations is None else decoder.rotations
    tree = config.model_dump()
    tree["model"] |= settings
    tree["decoder"]["rotations"] = rotations
    return RunConfig.model_validate(tree)
