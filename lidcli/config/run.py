"""The configuration of one run: a kind of each section that its model has, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, Field, SerializeAsAny, ValidationError

from lidcli.config.identity import identity
from lidcli.config.kinds import Section
from lidcli.config.sections import (
    KINDS,
    Data,
    Decoder,
    Encoder,
    Evaluate,
    Inference,
    Likelihood,
    Model,
    Runtime,
    Training,
)
from lidcli.errors import ConfigError
from lidcli.names import nearest

__all__ = ["PLAIN", "RunConfig", "does_nothing", "read_section"]

PLAIN: dict[str, type[Section]] = {"evaluate": Evaluate, "runtime": Runtime}
"""The sections without kinds."""


class RunConfig(Section):
    """One fully resolved run; sections that its model does not have are None.

    Example:
        >>> points = {"name": "pinwheel", "kind": "points"}
        >>> run = {"method": "ppca", "model": {"family": "ppca"}, "inference": {"kind": "exact"}}
        >>> RunConfig.of(run | {"data": points}).decoder is None
        True
    """

    method: str = Field(description="what --model named")
    seed: int = Field(0, ge=0)
    model: SerializeAsAny[Model]
    decoder: SerializeAsAny[Decoder] | None = None
    likelihood: SerializeAsAny[Likelihood] | None = None
    encoder: SerializeAsAny[Encoder] | None = None
    inference: SerializeAsAny[Inference]
    train: SerializeAsAny[Training] | None = None
    evaluate: Evaluate = Evaluate()
    data: SerializeAsAny[Data]
    runtime: Runtime = Runtime()

    @classmethod
    def of(cls, tree: Mapping[str, Any]) -> Self:
        """A run from plain values, whose every section is checked against the others.

        Args:
            tree: `method`, `seed` and the sections, each with the setting that names its kind.

        Raises:
            ConfigError: a value of the wrong type or range, a setting or section that the kinds
                do not have, or kinds that do not go together; one sentence.
        """
        content = {key: value for key, value in tree.items() if value is not None}
        for name in {*KINDS, *PLAIN} & set(content):
            content[name] = read_section(name, content[name])
        try:
            config = cls.model_validate(content)
        except ValidationError as error:
            raise ConfigError(_explain(error, cls)) from None
        _check_procedure(config)
        _check_theta(config)
        _check_presence(config)
        _check_form(config)
        try:
            return config._completed()
        except ValueError as error:
            raise ConfigError(f"{error}.") from None

    def _completed(self) -> Self:
        changes = {}
        for name in KINDS:
            part = getattr(self, name)
            found = part.completed(self) if part is not None else {}
            if found:
                changes[name] = part.model_copy(update=found)
        return self.model_copy(update=changes)

    def idle(self) -> dict[tuple[str, str], str]:
        """Why each setting, by section and key, that does nothing beside others does nothing.

        Of kinds of the user's nothing is known, nor of ours beside a model or posterior of theirs.
        """
        if ":" in self.model.family + self.inference.kind:
            return {}
        parts: dict[str, Any] = {"evaluate": self.evaluate}
        for name, kinds in KINDS.items():
            part = getattr(self, name)
            if part is not None and ":" not in getattr(part, kinds.tag):
                parts[name] = part
        return {
            (name, key): f"{name}.{key} does nothing for {why} it."
            for name, part in parts.items()
            for key, why in part.idle(self).items()
        }

    @property
    def run_id(self) -> str:
        """Short hash of what the run computes, then the seed; see `identity`."""
        return identity(self)

    def replaced(self, **sections: Mapping[str, Any]) -> Self:
        """The same run with some settings of some sections changed, checked again."""
        tree = self.document()
        for name, settings in sections.items():
            tree[name] = {**tree.get(name, {}), **settings}
        return self.of(tree)

    def document(self) -> dict[str, Any]:
        """The configuration as plain JSON values, for the run store; absent sections left out."""
        content = self.model_dump(mode="json")
        return {name: value for name, value in content.items() if value is not None}


def read_section(name: str, value: Any) -> Section:
    """One section of a run from plain values.

    Args:
        name: of the section.
        value: its settings, or the section itself.

    Raises:
        ConfigError: no mapping, an unknown kind, a setting that the kind does not have, or a
            value of the wrong type or range.

    Example:
        >>> read_section("decoder", {"kind": "mlp", "layers": 5}).layers
        5
    """
    if isinstance(value, Section):
        return value
    if not isinstance(value, Mapping):
        raise ConfigError(f"{name} must be a mapping of settings, not {value!r}.")
    kind: type[Section]
    if name in PLAIN:
        kind = PLAIN[name]
    else:
        tag = KINDS[name].tag
        if not isinstance(value.get(tag), str):
            raise ConfigError(f"{name}.{tag} is missing or no name: {value.get(tag)!r}.")
        kind = KINDS[name][value[tag]]
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        raise ConfigError(
            _explain(error, kind, name, str(value.get(KINDS[name].tag)) if name in KINDS else "")
        ) from None


def _check_procedure(config: RunConfig) -> None:
    """The inference fits models of the family."""
    model, inference = config.model, config.inference
    if inference.procedure in model.procedures:
        return
    fitting = [
        name
        for name in KINDS["inference"]
        if getattr(KINDS["inference"][name], "procedure", "") in model.procedures
    ]
    raise ConfigError(
        f"inference.kind = {inference.kind!r} does not go with model.family ="
        f" {model.family!r}, which takes {' or '.join(fitting)}."
    )


def _check_theta(config: RunConfig) -> None:
    """The family's posterior is exact at these parameters."""
    model, theta = config.model, getattr(config.inference, "theta", None)
    if theta is not None and theta not in model.thetas:
        raise ConfigError(
            f"inference.theta = {theta!r} does not go with model.family = {model.family!r}, which"
            f" takes {' or '.join(model.thetas)}."
        )


def _check_presence(config: RunConfig) -> None:
    """The sections that family and inference need are there, and no others."""
    model, inference = config.model, config.inference
    needed = {*model.needs, *inference.needs}
    for name in ("decoder", "likelihood", "encoder", "train"):
        if name in needed and getattr(config, name) is None:
            raise ConfigError(f"{name} is missing.")
        if name not in needed and getattr(config, name) is not None:
            raise ConfigError(
                f"{name} does nothing for model.family = {model.family!r} with inference.kind ="
                f" {inference.kind!r}."
            )


def _check_form(config: RunConfig) -> None:
    """Family, decoder, likelihood and encoder are for data of this form."""
    form, families = config.data.form, config.data.families
    family = f"model.family = {config.model.family!r} is not for {form} data; use"
    if families and not config.model.needs and ":" not in config.model.family:
        raise ConfigError(f"{family} {' or '.join(families)}.")
    for name in ("decoder", "likelihood", "encoder"):
        part = getattr(config, name)
        if part is not None and form not in part.forms:
            fitting = [k for k in KINDS[name] if form in KINDS[name][k].forms]  # type: ignore[attr-defined]
            if families and not fitting:
                raise ConfigError(f"{family} {' or '.join(families)}.")
            raise ConfigError(
                f"{name}.kind = {part.kind!r} is not for {form} data; use"
                f" {' or '.join(fitting) or 'one of yours'}."
            )


def _explain(
    error: ValidationError, kind: type[BaseModel], section: str = "", name: str = ""
) -> str:
    """The first problem of a validation, as one sentence."""
    first, *others = error.errors()
    located = first["loc"]
    same = [e for e in others if e["loc"][:-1] == located[:-1] and e["input"] is first["input"]]
    if len(located) > 1 and same:
        located = located[:-1]  # one of several types that a setting may have
    place = ".".join([*([section] if section else []), *map(str, located)])
    if first["type"] == "extra_forbidden":
        return _foreign(section, str(first["loc"][-1]), name, kind)
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "value_error":
        return f"{message}."
    if first["type"] == "tuple_type":
        message = "input should be a list"
    if first["type"] == "missing":
        return f"{place} is missing."
    message = message[0].lower() + message[1:]
    return f"{place} = {first['input']!r} is not usable: {message}."


def does_nothing(section: str, key: str, chosen: Mapping[str, str]) -> str:
    """One sentence on a setting that a run does not have.

    Args:
        section: of the setting.
        key: of the setting.
        chosen: the run's kind of each section that it has.

    Example:
        >>> does_nothing("decoder", "maps", {"decoder": "mlp"})
        "decoder.maps does nothing for decoder.kind = 'mlp'; brenier has it."
    """
    place = f"{section}.{key}"
    if section not in chosen:
        return (
            f"{place} does nothing for model.family = {chosen['model']!r} with inference.kind ="
            f" {chosen['inference']!r}."
        )
    holders = KINDS[section].holders(key)
    has = ", ".join(holders) + (" has" if len(holders) == 1 else " have")
    return (
        f"{place} does nothing for {section}.{KINDS[section].tag} = {chosen[section]!r};"
        f" {has if holders else 'a kind of yours has'} it."
    )


def _foreign(section: str, key: str, name: str, kind: type[BaseModel]) -> str:
    """What to say of a setting that a section's kind does not have."""
    if section in KINDS and KINDS[section].holders(key):
        return does_nothing(section, key, {section: name})
    place = f"{section}.{key}" if section else key
    return f"unknown key {place!r}; {nearest(key, kind.model_fields)}"
