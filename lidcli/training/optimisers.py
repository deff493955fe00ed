"""Optimisers and learning-rate schedules."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from lidcli.config import sections
from lidcli.models.latent import LatentModel

__all__ = ["adam", "groups", "learning_rate", "rmsprop"]


def groups(
    model: LatentModel, decoder_rate: float, category_rate: float = 1.0
) -> list[dict[str, Any]]:
    """The decoder's parameters and the rest, each with its `factor` of the learning rate.

    Args:
        model: whose trainable parameters are sorted.
        decoder_rate: the decoder's learning rate over the rest's, > 0.
        category_rate: that of the network of q(c | x), a third group where it is another than 1
            and there is such a network.
    """
    decoder = _identities(model.observation.decoder)
    category = _identities(model.posterior.category_network() if category_rate != 1.0 else None)
    trainable = [p for p in model.parameters() if p.requires_grad]
    sorted_ = [
        {"params": [p for p in trainable if id(p) in decoder], "factor": decoder_rate},
        {"params": [p for p in trainable if id(p) not in decoder | category], "factor": 1.0},
    ]
    if category:
        own = [p for p in trainable if id(p) in category]
        sorted_.append({"params": own, "factor": category_rate})
    return sorted_


def _identities(module: nn.Module | None) -> set[int]:
    """Which objects the parameters of a module are, if there is one."""
    return set() if module is None else {id(p) for p in module.parameters()}


def adam(settings: sections.Adam, parameters: list[dict[str, Any]]) -> torch.optim.Optimizer:
    """Adam on groups of parameters (Kingma and Ba 2015)."""
    return torch.optim.Adam(
        parameters,
        lr=settings.learning_rate,
        betas=(0.9, settings.beta2),
        weight_decay=settings.weight_decay,
    )


def rmsprop(settings: sections.RMSprop, parameters: list[dict[str, Any]]) -> torch.optim.Optimizer:
    """RMSprop with momentum on groups of parameters."""
    return torch.optim.RMSprop(
        parameters,
        lr=settings.learning_rate,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
    )


def learning_rate(settings: sections.Training, step: int, steps_per_epoch: int) -> float:
    """The learning rate of a step: linear warm-up, then constant or cosine to zero.

    Args:
        settings: the schedule.
        step: steps done, at least 0.
        steps_per_epoch: at least 1.

    Example:
        >>> learning_rate(sections.Adam(epochs=2, learning_rate=1.0), 2, 2)
        0.5
    """
    total = max(1, settings.epochs * steps_per_epoch)
    warmup = settings.warmup_epochs * steps_per_epoch
    rate = settings.learning_rate
    if step < warmup:
        return rate * (step + 1) / (warmup + 1)
    if settings.schedule == "cosine":
        progress = (step - warmup) / max(1.0, total - warmup)
        return rate * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    return rate
