"""The optimisation, the evaluation, and where both are executed."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from lidcli.config.kinds import Kinds, Part, Section

__all__ = ["TRAININGS", "Adam", "Evaluate", "RMSprop", "Runtime", "Training"]


class Training(Part):
    """The optimisation. Builds the optimiser."""

    optimiser: str
    epochs: int = Field(50, ge=0)
    batch_size: int = Field(100, ge=1)
    learning_rate: float = Field(1e-3, gt=0)
    decoder_rate: float = Field(
        1.0, gt=0, description="the decoder's learning rate over the rest's"
    )
    category_rate: float = Field(
        1.0, gt=0, description="that of the network of q(c|x) over the rest's"
    )
    weight_decay: float = Field(0.0, ge=0)
    schedule: Literal["constant", "cosine"] = "cosine"
    warmup_epochs: float = Field(0.0, ge=0)
    clip: float = Field(5.0, gt=0, description="norm that gradients are clipped at")
    patience: int | None = Field(None, ge=1, description="epochs without improvement to stop at")
    validate_every: int = Field(1, ge=1, description="epochs")

    @property
    def alone(self) -> str | None:
        """Why runs are trained one by one and not as one batched model; None where they may be."""
        return f"train.optimiser = {self.optimiser} is not written for stacks; adam is"

    def idle(self, config: Any) -> dict[str, str]:
        """The rate of the network of q(c|x), where there is none."""
        if not config.model.categorical:
            return {"category_rate": f"model.family = {config.model.family!r}; mixture has"}
        if getattr(config.inference, "categorical", None) == "collapsed":
            why = "inference.categorical = 'collapsed'; explicit and sampled have"
            return {"category_rate": why}
        return {}


class Adam(Training):
    """Adam."""

    code = "lidcli.training.optimisers:adam"
    optimiser: str = "adam"
    beta2: float = Field(0.999, ge=0, lt=1, description="decay of the squared gradient")

    @property
    def alone(self) -> str | None:
        """Its steps are batched."""
        return None


class RMSprop(Training):
    """RMSprop."""

    code = "lidcli.training.optimisers:rmsprop"
    optimiser: str = "rmsprop"
    momentum: float = Field(0.5, ge=0, lt=1)


TRAININGS = Kinds("train", "optimiser", Training, Adam, RMSprop)


class Evaluate(Section):
    """How a trained model is measured."""

    samples: int = Field(500, ge=2, description="S of the importance-weighted LL")
    outer: int = Field(500, ge=2, description="data in the outer mean of the MI of w and z")
    identifiability: bool = Field(False, description="measure the likelihood's variation too")
    metrics: tuple[str, ...] = Field((), description="figures of yours, each as module:name")
    split: Literal["train", "valid", "test"] = "test"

    def idle(self, config: Any) -> dict[str, str]:
        """What is measured of a latent, where there is none."""
        if getattr(config.model, "latent", 1):
            return {}
        why = f"model.family = {config.model.family!r}; families with a latent have"
        return dict.fromkeys(("samples", "outer", "identifiability"), why)


class Runtime(Section):
    """Where and how a run is executed; none of it changes the run's identity."""

    device: str = "auto"
    threads: int | None = Field(None, ge=1, le=1024)
    checkpoint_seconds: float = Field(30.0, ge=0)
    batch: int = Field(10_000, ge=1, description="decodings at a time in an evaluation")
