"""Optimisers and learning-rate schedules."""

from __future__ import annotations

import math

import torch

from lidcli.config.schema import TrainConfig
from lidcli.models.base import Model

__all__ = ["learning_rate", "make_optimiser"]


def make_optimiser(config: TrainConfig, model: Model) -> torch.optim.Optimizer:
    """Adam or RMSprop with two groups: the decoder's parameters, and the rest.

    Args:
        config: `optimiser` and its settings.
        model: whose parameters are updated; each group carries its `factor` of the learning rate.
    """
    own = {id(p) for p in model.decoder.parameters()}
    trainable = [p for p in model.parameters() if p.requires_grad]
    parameters = [
        {"params": [p for p in trainable if id(p) in own], "factor": config.decoder_rate},
        {"params": [p for p in trainable if id(p) not in own], "factor": 1.0},
    ]
    if config.optimiser == "adam":
        return torch.optim.Adam(
            parameters,
            lr=config.learning_rate,
            betas=(0.9, config.beta2),
            weight_decay=config.weight_decay,
        )
    return torch.optim.RMSprop(
        parameters,
        lr=config.learning_rate,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
    )


def learning_rate(config: TrainConfig, step: int, steps_per_epoch: int) -> float:
    """The learning rate of a step: linear warm-up, then constant or cosine to zero.

    Args:
        config: the schedule.
        step: steps done, at least 0.
        steps_per_epoch: at least 1.

    Example:
        >>> learning_rate(TrainConfig(epochs=2, learning_rate=1.0), 2, 2)
        0.5
    """
    total = max(1, config.epochs * steps_per_epoch)
    warmup = config.warmup_epochs * steps_per_epoch
    rate = config.learning_rate
    if step < warmup:
        return rate * (step + 1) / (warmup + 1)
    if config.schedule == "cosine":
        progress = (step - warmup) / max(1.0, total - warmup)
        return rate * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    return rate
