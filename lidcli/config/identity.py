"""Which run is which: an id from what a run computes, that new settings do not change."""

from __future__ import annotations

import functools
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lidcli.config.sections import KINDS

if TYPE_CHECKING:
    from lidcli.config.run import RunConfig

__all__ = ["VERSION", "VERSIONS", "frozen_defaults", "identities", "identity"]

VERSIONS = (1,)
"""Versions of the defaults, each frozen in `defaults/<version>.json`."""
VERSION = VERSIONS[-1]


@functools.cache
def frozen_defaults(version: int) -> dict[str, dict[str, Any]]:
    """The defaults of every kind, `section.kind` or the section's name, as a version had them.

    Example:
        >>> frozen_defaults(1)["decoder.mlp"]["layers"]
        9
    """
    path = Path(__file__).with_name("defaults") / f"{version}.json"
    content: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    return content


def identity(config: RunConfig, version: int = VERSION) -> str:
    """The id of a run: ten hexadecimal digits, and the seed.

    Hashed are the version, the method, and of every section that the run has the kind and the
    values that differ from the version's defaults; of a kind of the user's, all values. Left
    out are `runtime`, `data.root` and the folder of `data.path`.

    Args:
        config: the run.
        version: of the defaults, one of `VERSIONS`.
    """
    content: dict[str, Any] = {"version": version, "method": config.method}
    for section, settings in config.document().items():
        if isinstance(settings, dict) and section != "runtime":
            content[section] = _distinctive(section, settings, frozen_defaults(version))
    text = json.dumps(content, sort_keys=True, allow_nan=False)
    return f"{hashlib.sha256(text.encode()).hexdigest()[:10]}-s{config.seed}"


def identities(config: RunConfig) -> tuple[str, ...]:
    """The ids of a run under every version, the present one first, so that older runs match."""
    return tuple(identity(config, version) for version in reversed(VERSIONS))


def _distinctive(
    section: str, settings: dict[str, Any], frozen: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    """The kind, and the values that are not its defaults."""
    tag = KINDS[section].tag if section in KINDS else None
    usual = frozen.get(f"{section}.{settings[tag]}" if tag else section, {})
    kept = {
        key: value
        for key, value in settings.items()
        if key == tag or key not in usual or usual[key] != value
    }
    if section == "data":
        kept.pop("root", None)
        if isinstance(kept.get("path"), str):
            kept["path"] = Path(kept["path"]).name
    return kept
