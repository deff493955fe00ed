"""From experiment files to one run: which kind of each section it has, and which settings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from lidcli.config.kinds import Section, allowed
from lidcli.config.read import SECTIONS, Experiments, Tree, merge, section_keys
from lidcli.config.run import PLAIN, RunConfig, does_nothing
from lidcli.config.sections import KINDS
from lidcli.errors import ConfigError
from lidcli.names import nearest

__all__ = ["Resolved", "resolve", "resolve_loosely"]

Choice = dict[str, tuple[str, type[Section]]]
"""The kind, by name and class, of each section that a run has."""


class Resolved(NamedTuple):
    """A run, and why each override that does nothing for it does nothing."""

    config: RunConfig
    unused: dict[str, str]


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
    """Resolve one run: defaults < model < data < pair < experiment < profile < overrides.

    What a data entry says of a profile (`profiles:` in it) comes with the profile.

    The kinds of the sections are decided first. Settings of the shared levels (defaults, data,
    experiment, profile) apply where those kinds have them; those of the model, of the pair of
    model and data and of the overrides have to apply.

    Args:
        experiments: what `load_files` returned.
        model: a name of `models`.
        data: a name of `data`.
        experiment: a name of `experiments` whose `set` applies.
        profile: a name of `profiles`.
        overrides: pairs of dotted key and value, in order.
        seed: run seed, at least 0.

    Raises:
        ConfigError: an unknown name or key, a setting that does nothing, or a value of the
            wrong type or range.
    """
    config, unused = resolve_loosely(
        experiments,
        model=model,
        data=data,
        experiment=experiment,
        profile=profile,
        overrides=overrides,
        seed=seed,
    )
    for reason in unused.values():
        raise ConfigError(reason)
    return config


def resolve_loosely(
    experiments: Experiments,
    *,
    model: str,
    data: str,
    experiment: str | None = None,
    profile: str | None = None,
    overrides: Iterable[tuple[str, Any]] = (),
    seed: int = 0,
) -> Resolved:
    """As `resolve`, but overrides that do nothing for this run are left out and named.

    Raises:
        ConfigError: as `resolve` does, except for those overrides.
    """
    _check_names(experiments, model=model, data=data, experiment=experiment, profile=profile)
    own = [experiments.models[model], experiments.pairs.get((model, data), {})]
    levels: list[Tree] = [experiments.defaults, own[0], experiments.data[data], own[1]]
    base = _merged([{"data": {"name": data}}, *levels])
    levels += [experiments.experiments[experiment].set] if experiment is not None else []
    if profile is not None:
        levels += [experiments.profiles[profile], experiments.scales.get((profile, data), {})]
    overrides = list(overrides)
    asked = [_split(key, value) for key, value in overrides]
    merged = _merged([base, *levels[4:], *({at: {key: value}} for at, key, value in asked)])
    chosen = _choose(merged)
    _check_keys([*levels, *({at: {key: 0}} for at, key, _ in asked)], chosen, experiments.codes)
    _check_own(own, base, chosen)
    unused = {
        f"{section}.{key}": does_nothing(section, key, _names(chosen))
        for section, key, _ in asked
        if not _applies(chosen, section, key)
    }
    usual: Any = chosen["data"][1]
    config = _run(model, seed, merge(usual.usual, merged), chosen)
    _check_own_values(own, base, config)
    below = merge(usual.usual, _merged([base, *levels[4:]]))
    idle = _renaming(asked, below, config)
    if idle:
        felt = [(key, value) for key, value in overrides if _place(key) not in idle]
        named = {f"{section}.{key}": why for (section, key), why in idle.items()}
        rest = resolve_loosely(
            experiments,
            model=model,
            data=data,
            experiment=experiment,
            profile=profile,
            overrides=felt,
            seed=seed,
        )
        return Resolved(rest.config, unused | named)
    return Resolved(config, unused)


def _run(model: str, seed: int, merged: Tree, chosen: Choice) -> RunConfig:
    return RunConfig.of({"method": model, "seed": seed, **_sections(merged, chosen)})


def _place(dotted: str) -> tuple[str, str]:
    section, key, _ = _split(dotted, None)
    return section, key


def _renaming(
    asked: Iterable[tuple[str, str, Any]], below: Tree, config: RunConfig
) -> dict[tuple[str, str], str]:
    """Overrides that do nothing beside what else is chosen, and yet would rename the run."""
    idle, found = config.idle(), {}
    for section, key, _ in asked:
        why = idle.get((section, key))
        if why is None:
            continue
        part = getattr(config, section)
        usual = type(part).model_fields[key].default
        if getattr(part, key) not in (usual, below.get(section, {}).get(key, usual)):
            found[section, key] = why
    return found


def _check_own_values(own: Iterable[Tree], base: Tree, config: RunConfig) -> None:
    """A model's own settings do something beside its others, whatever the levels above say."""
    given = [
        (at, key, value) for tree in own for at, some in tree.items() for key, value in some.items()
    ]
    if not config.idle().keys() & {(at, key) for at, key, _ in given}:
        return
    chosen = _choose(base)
    usual: Any = chosen["data"][1]
    try:
        before = _run(config.method, config.seed, merge(usual.usual, base), chosen)
    except ConfigError:
        return
    for why in _renaming(given, {}, before).values():
        raise ConfigError(why)


def _check_names(experiments: Experiments, **names: str | None) -> None:
    """Every model, data set, experiment and profile that is named is in the files."""
    known: dict[str, Mapping[str, Any]] = {
        "model": experiments.models,
        "data": experiments.data,
        "experiment": experiments.experiments,
        "profile": experiments.profiles,
    }
    for what, name in names.items():
        if name is not None and name not in known[what]:
            raise ConfigError(f"Unknown {what} {name!r}; {nearest(name, known[what])}")


def _sections(merged: Tree, chosen: Choice) -> Tree:
    """The settings that the chosen kinds have, and the kinds' names."""
    tree: Tree = {}
    for section, (name, part) in chosen.items():
        settings = merged.get(section, {})
        tree[section] = {key: settings[key] for key in part.model_fields if key in settings}
        if section in KINDS:
            tree[section][KINDS[section].tag] = name
    return tree


def _merged(levels: Iterable[Mapping[str, Any]]) -> Tree:
    tree: Tree = {}
    for level in levels:
        tree = merge(tree, level)
    return tree


def _split(dotted: str, value: Any) -> tuple[str, str, Any]:
    """Section, key and value of one dotted setting; `use` is the tag."""
    section, dot, key = dotted.partition(".")
    if section not in SECTIONS or not dot:
        valid = [f"{known}.{name}" for known in SECTIONS for name in section_keys(known)]
        raise ConfigError(f"Unknown setting {dotted!r}; {_meant(dotted, valid)}")
    return section, KINDS[section].tag if key == "use" and section in KINDS else key, value


def _meant(name: str, valid: Iterable[str]) -> str:
    """A half sentence that names the settings which end like this, or the closest."""
    if name == "seed":
        return "--seed gives it, and --seeds of a sweep"
    alike = [key for key in valid if key.endswith(f".{name}")]
    return f"did you mean {' or '.join(alike)}?" if alike else nearest(name, valid)


def _check_keys(levels: Iterable[Tree], chosen: Choice, codes: Iterable[tuple[str, str]]) -> None:
    """Every setting is one of some kind of its section, ours or the user's.

    Of code that may not be imported nothing is known; what stands beside its name is its own.
    """
    for section, key in sorted(set(_idle(map(_checkable, levels), chosen))):
        if key not in section_keys(section):
            names = dict.fromkeys(code for place, code in codes if place == section)
            _check_foreign(section, key, list(names))


def _check_foreign(section: str, key: str, names: Iterable[str]) -> None:
    """A setting that none of our kinds has is one of a kind of the user's that is named."""
    known = [name for name in names if name in allowed()]
    yours = [setting for name in known for setting in KINDS[section][name].model_fields]
    if key in yours:
        return
    hint = nearest(key, [*section_keys(section), *yours])
    hint = hint.replace("you mean ", f"you mean {section}.")
    closed = " or ".join(name for name in names if name not in known)
    if closed:
        closed = f" (if it is one of {closed}, name the file that says so with -c)"
    raise ConfigError(f"Unknown setting {f'{section}.{key}'!r}{closed}; {hint}")


def _checkable(tree: Tree) -> Tree:
    """The sections of an entry but those of a kind that may not be imported."""
    return {section: some for section, some in tree.items() if not _closed(section, some)}


def _closed(section: str, settings: Tree) -> bool:
    name = settings.get(KINDS[section].tag) if section in KINDS else None
    return isinstance(name, str) and ":" in name and name not in allowed()


def _choose(merged: Tree) -> Choice:
    """The kind of every section that the family and the procedure need."""

    def choose(section: str, default: str | None) -> tuple[str, type[Section]]:
        tag = KINDS[section].tag
        name = merged.get(section, {}).get(tag)
        name = default if name is None else name
        if not isinstance(name, str):
            problem = "is missing" if name is None else f"= {name!r} is no name"
            known = ", ".join(KINDS[section])
            raise ConfigError(f"{section}.{tag} {problem}; there are {known}.")
        if section == "decoder":
            name = data.decoders.get(name, name)
        return name, KINDS[section][name]

    chosen: Choice = {"data": choose("data", None)}
    data: Any = chosen["data"][1]
    chosen["model"] = choose("model", data.family)
    model: Any = chosen["model"][1]
    chosen["inference"] = choose("inference", model.inference)
    inference: Any = chosen["inference"][1]
    defaults = {
        "decoder": "mlp",
        "likelihood": data.likelihood,
        "encoder": data.encoder,
        "train": "adam",
    }
    needed = {*model.needs, *inference.needs}
    chosen |= {name: choose(name, usual) for name, usual in defaults.items() if name in needed}
    return chosen | {name: ("", kind) for name, kind in PLAIN.items()}


def _names(chosen: Choice) -> dict[str, str]:
    return {section: name for section, (name, _) in chosen.items()}


def _applies(chosen: Choice, section: str, key: str) -> bool:
    return section in chosen and key in chosen[section][1].model_fields


def _idle(levels: Iterable[Tree], chosen: Choice) -> Iterator[tuple[str, str]]:
    """Section and key of the settings that the chosen kinds do not have."""
    for tree in levels:
        for section, settings in tree.items():
            yield from ((section, key) for key in settings if not _applies(chosen, section, key))


def _check_own(own: Iterable[Tree], base: Tree, chosen: Choice) -> None:
    """A model's own settings apply, or would if nothing above had changed the kinds."""
    idle = list(_idle(own, chosen))
    if not idle:
        return
    before = _choose(base)
    for section, key in idle:
        if not _applies(before, section, key):
            raise ConfigError(does_nothing(section, key, _names(before)))
