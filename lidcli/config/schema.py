"""The resolved configuration of one run, as frozen pydantic models."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = [
    "DataConfig",
    "DecoderConfig",
    "EvaluateConfig",
    "InferenceConfig",
    "ModelConfig",
    "RunConfig",
    "Runtime",
    "TrainConfig",
    "brenier_hidden_layers",
]

Family = Literal["continuous", "mixture", "sequential", "ppca", "gmm"]
Likelihood = Literal["gaussian", "bernoulli", "categorical"]
Kind = Literal["points", "image", "text", "classical"]


class Section(BaseModel):
    """A frozen group of settings that refuses unknown keys."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False
    )


def brenier_hidden_layers(layers: int, maps: int) -> int:
    """Hidden layers n of each ICNN, from `layers = maps (n + 2) - 1`.

    Args:
        layers: affine stages from latent to likelihood parameters.
        maps: number of Brenier maps, at least 1.

    Raises:
        ValueError: no n >= 1 fits; the message names the nearest values that do.

    Example:
        >>> brenier_hidden_layers(9, 2)
        3
    """
    n, rest = divmod(layers + 1, maps)
    if rest == 0 and n >= 3:
        return n - 2
    below = maps * max(3, n) - 1
    above = maps * max(3, n + 1) - 1
    choice = f"{above}" if layers < below or above == below else f"{below} or {above}"
    raise ValueError(
        f"decoder.layers = {layers} does not divide into {maps} Brenier maps; use {choice}"
        f" (layers = maps (n + 2) - 1, n >= 1 hidden layers each)"
    )


class DecoderConfig(Section):
    """The map from latent to the likelihood's parameters (DESIGN: `mlp` or `brenier`)."""

    kind: Literal["mlp", "brenier"] = "mlp"
    layers: int = Field(9, ge=1, description="affine stages from latent to parameters")
    hidden: int = Field(512, ge=1, description="units of each hidden layer")
    maps: int = Field(2, ge=1, description="Brenier maps composed")
    activation: Literal["smooth", "leaky"] = Field("smooth", description="leaky is the paper's")
    inverse_lipschitz: float = Field(0.5, ge=0, description="epsilon u added to each map")
    rotations: bool | None = Field(None, description="learned rotations; null: latent <= 256")
    sharpness: float = Field(1.0, gt=0, description="k of the smooth softplus(k t) / k")
    gain: float = Field(0.3, gt=0, description="sd of each map's output at the start")

    @model_validator(mode="after")
    def _layers_divide(self) -> DecoderConfig:
        if self.kind == "brenier":
            brenier_hidden_layers(self.layers, self.maps)
        return self


class ModelConfig(Section):
    """The generative model: family, latents, likelihood and prior."""

    family: Family | None = Field(None, description="null: mixture on points and images")
    latent: int = Field(64, ge=1, description="continuous latent dimensions (K, or M of w)")
    categories: int | None = Field(None, ge=2, description="C; null: the data's classes")
    likelihood: Likelihood | None = Field(None, description="null: gaussian on points, else ...")
    sigma: float | None = Field(None, gt=0, description="fixed noise sd; null: learned")
    sigma_start: float = Field(0.3, gt=0, description="where a learned noise sd starts")
    means: Literal["fixed", "free"] | None = Field(None, description="null: fixed iff brenier")
    separation: float = Field(2.0, gt=0, description="norm of each component mean")
    scale: float = Field(0.3, gt=0, description="sd of w given c (its start, where learned)")
    learn_scale: bool | None = Field(None, description="null: learned iff the means are free")
    max_scale: float | None = Field(None, gt=0, description="upper bound of a learned scale")
    covariance: Literal["diagonal", "full"] = Field("diagonal", description="of w given c")
    theta: Literal["ml", "truth", "shared"] = Field(
        "ml",
        description="exact and nuts: parameters at the maximum of the likelihood, at the data's"
        " own, or with every component at the distribution of all data",
    )


class InferenceConfig(Section):
    """The posterior and the training objective."""

    kind: Literal["amortized", "exact", "nuts"] = "amortized"
    categorical: Literal["explicit", "collapsed"] = "explicit"
    hidden: int = Field(512, ge=1)
    layers: int = Field(2, ge=1, description="hidden layers of the encoder")
    transforms: int = Field(2, ge=0, description="affine couplings of q(w|x,c); 0: Gaussian")
    beta: float = Field(1.0, ge=0, description="weight of the KL in the training objective")
    annealing: Literal["none", "linear", "cyclical"] = "none"
    annealing_epochs: float = Field(10.0, gt=0, description="length of the ramp, or of a cycle")
    free_bits: float = Field(0.0, ge=0, description="nats per datum of KL left unpenalised")
    samples: int = Field(1, ge=1, description="draws S of the training ELBO")
    joint: bool = Field(False, description="nuts: over the parameters too, else at theta")
    chains: int = Field(4, ge=1, description="nuts")
    warmup: int = Field(1000, ge=1, description="nuts")
    draws: int = Field(1000, ge=1, description="nuts, a chain")


class TrainConfig(Section):
    """The optimisation."""

    epochs: int = Field(50, ge=0)
    batch_size: int = Field(100, ge=1)
    optimiser: Literal["adam", "rmsprop"] = "adam"
    learning_rate: float = Field(1e-3, gt=0)
    decoder_rate: float = Field(
        1.0, gt=0, description="the decoder's learning rate over the rest's"
    )
    beta2: float = Field(0.999, ge=0, lt=1, description="adam only: decay of the squared gradient")
    momentum: float = Field(0.5, ge=0, lt=1, description="rmsprop only")
    weight_decay: float = Field(0.0, ge=0)
    schedule: Literal["constant", "cosine"] = "cosine"
    warmup_epochs: float = Field(0.0, ge=0)
    clip: float = Field(5.0, gt=0, description="norm that gradients are clipped at")
    patience: int | None = Field(None, ge=1, description="epochs without improvement to stop at")
    validate_every: int = Field(1, ge=1, description="epochs")


class EvaluateConfig(Section):
    """How a trained model is measured."""

    samples: int = Field(500, ge=2, description="S of the importance-weighted LL")
    outer: int = Field(500, ge=2, description="data in the outer mean of the MI of w and z")
    identifiability: bool = Field(False, description="measure the likelihood's variation too")
    split: Literal["train", "valid", "test"] = "test"


class DataConfig(Section):
    """Which data, and how they are split."""

    name: str
    kind: Kind
    path: Path | None = Field(None, description="a file of yours: .csv, .npz or .txt")
    root: Path = Path("data")
    train: int | None = Field(None, ge=2, description="random training data kept; null: all")
    test: int | None = Field(None, ge=2, description="test data kept, or drawn; null: all")
    valid_fraction: float = Field(0.1, gt=0, lt=1)
    test_fraction: float = Field(0.1, gt=0, lt=1, description="where no test split is published")
    split_seed: int = Field(0, ge=0)
    binarise: bool = Field(True, description="grey images to bits, fresh each epoch")
    standardise: bool = Field(True, description="a .csv of yours: to the training part's sd 1")
    label: str | None = Field("label", description="a .csv of yours: the column of labels")


class Runtime(Section):
    """Where and how a run is executed; none of it changes the run's identity."""

    device: str = "auto"
    threads: int | None = Field(None, ge=1)
    checkpoint_seconds: float = Field(30.0, ge=0)
    batch: int = Field(10_000, ge=1, description="decodings at a time in an evaluation")


class RunConfig(Section):
    """One fully resolved run."""

    method: str = Field(description="what --model named")
    seed: int = Field(0, ge=0)
    decoder: DecoderConfig = DecoderConfig()
    model: ModelConfig = ModelConfig()
    inference: InferenceConfig = InferenceConfig()
    train: TrainConfig = TrainConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    data: DataConfig
    runtime: Runtime = Runtime()

    @property
    def run_id(self) -> str:
        """Short hash of everything but paths, runtime and seed, then the seed."""
        content = self.model_dump(mode="json", exclude={"runtime": True, "seed": True})
        content["data"].pop("root")
        if content["data"]["path"] is not None:
            content["data"]["path"] = Path(content["data"]["path"]).name
        text = json.dumps(content, sort_keys=True)
        return f"{hashlib.sha256(text.encode()).hexdigest()[:10]}-s{self.seed}"

    def document(self) -> dict[str, Any]:
        """The configuration as plain JSON values, for the run store."""
        return self.model_dump(mode="json")
