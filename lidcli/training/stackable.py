"""Which runs can be trained as one batched model; nothing here imports torch."""

from __future__ import annotations

import json

from lidcli.config.run import RunConfig

__all__ = ["but_for_the_seed", "obstacle"]

OWN_CODE = ("model.family", "inference.kind", "decoder.kind", "encoder.kind", "likelihood.kind")


def obstacle(config: RunConfig) -> str | None:
    """Why runs of a configuration are trained one by one; None where they need not be.

    Example:
        >>> from lidcli.config.run import RunConfig
        >>> points = {"name": "ppca-1d", "kind": "points"}
        >>> tree = {"method": "ppca", "model": {"family": "ppca"}, "inference": {"kind": "exact"}}
        >>> obstacle(RunConfig.of(tree | {"data": points}))
        'inference.kind = exact is not trained by steps that a stack could share'
    """
    for part in (config.data, config.inference, config.train):
        if part is not None and part.alone is not None:
            return part.alone
    for key in OWN_CODE:
        section, _, name = key.partition(".")
        if ":" in str(getattr(getattr(config, section), name, "")):
            return f"{key} is code of your own, which need not work batched"
    return None


def but_for_the_seed(config: RunConfig) -> str:
    """The same text for runs that differ in their seed alone, and in where they compute."""
    document = config.document()
    return json.dumps({**document, "seed": None, "runtime": None}, sort_keys=True, default=str)
