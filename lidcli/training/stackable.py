"""Which runs can be trained as one batched model; nothing here imports torch."""

from __future__ import annotations

import json

from lidcli.config.run import RunConfig
from lidcli.config.sections import Adam, Amortized

__all__ = ["but_for_the_seed", "obstacle"]

OWN_CODE = ("model.family", "decoder.kind", "encoder.kind", "likelihood.kind")


def obstacle(config: RunConfig) -> str | None:
    """Why runs of a configuration are trained one by one; None where they need not be.

    Example:
        >>> from lidcli.config.run import RunConfig
        >>> points = {"name": "ppca-1d", "kind": "points"}
        >>> tree = {"method": "ppca", "model": {"family": "ppca"}, "inference": {"kind": "exact"}}
        >>> obstacle(RunConfig.of(tree | {"data": points}))
        'inference.kind = exact is not trained by steps that a stack could share'
    """
    inference, training = config.inference, config.train
    if config.data.form not in ("points", "image"):
        return "text is trained one by one: its batches differ in length"
    if type(inference) is not Amortized or training is None:
        return f"inference.kind = {inference.kind} is not trained by steps that a stack could share"
    if inference.categorical == "sampled":
        return "inference.categorical = sampled draws other categories in every run"
    if type(training) is not Adam:
        return f"train.optimiser = {training.optimiser} is not written for stacks; adam is"
    for key in OWN_CODE:
        section, _, name = key.partition(".")
        if ":" in str(getattr(getattr(config, section), name, "")):
            return f"{key} is code of your own, which need not work batched"
    return None


def but_for_the_seed(config: RunConfig) -> str:
    """The same text for runs that differ in their seed alone, and in where they compute."""
    document = config.document()
    return json.dumps({**document, "seed": None, "runtime": None}, sort_keys=True, default=str)
