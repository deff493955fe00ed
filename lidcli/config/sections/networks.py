"""Likelihoods of a datum, and encoders of it."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from lidcli.config.kinds import Depth, Kinds, Part, Size

__all__ = [
    "ENCODERS",
    "LIKELIHOODS",
    "Bernoulli",
    "Encoder",
    "Gaussian",
    "LSTMEncoder",
    "Likelihood",
    "MLPEncoder",
]


class Likelihood(Part):
    """log p(x | parameters)."""

    forms: ClassVar[tuple[str, ...]] = ("points", "image")
    """Forms of data that it fits."""
    natural: ClassVar[Literal["gaussian", "bernoulli"]] = "gaussian"
    """Whose natural parameter the data's mean has: gaussian (the mean itself) or bernoulli."""
    kind: str


class Gaussian(Likelihood):
    """Normal, the decoder's output its mean, one sd for all dimensions."""

    code = "lidcli.training.build:gaussian"
    kind: str = "gaussian"
    sigma: float | None = Field(None, gt=0, description="fixed noise sd; null: learned")
    sigma_start: float = Field(0.3, gt=0, description="where a learned noise sd starts")

    def idle(self, config: Any) -> dict[str, str]:
        """The start of a noise sd that is not learned."""
        if self.sigma is None:
            return {}
        return {"sigma_start": f"likelihood.sigma = {self.sigma}; null has"}


class Bernoulli(Likelihood):
    """Independent bits, the decoder's output their logits."""

    forms = ("image",)
    natural = "bernoulli"
    code = "lidcli.training.build:bernoulli"
    kind: str = "bernoulli"

    def completed(self, config: Any) -> dict[str, Any]:
        """Check that the data are bits."""
        if not getattr(config.data, "binarise", True):
            raise ValueError("A Bernoulli likelihood needs bits: leave data.binarise at true")
        return {}


LIKELIHOODS = Kinds("likelihood", "kind", Likelihood, Gaussian, Bernoulli)


class Encoder(Part):
    """A network from data to a posterior's variational parameters."""

    forms: ClassVar[tuple[str, ...]] = ("points", "image")
    kind: str


class MLPEncoder(Encoder):
    """A perceptron on the flattened datum."""

    code = "lidcli.training.build:mlp_encoder"
    kind: str = "mlp"
    hidden: Size = Field(512, ge=1, description="units of each hidden layer")
    layers: Depth = Field(2, ge=1, description="hidden layers")


class LSTMEncoder(Encoder):
    """The states of an LSTM over the tokens."""

    forms = ("text",)
    code = "lidcli.training.text:lstm_encoder"
    kind: str = "lstm"
    embedding: Size = Field(128, ge=1, description="size of a token's embedding")
    hidden: Size = Field(128, ge=1, description="units of the LSTM")
    layers: Depth = Field(2, ge=1, description="layers of the LSTM")
    dropout: float = Field(0.0, ge=0, lt=1, description="of embeddings")
    pooling: Literal["last", "mean"] = Field("last", description="the last state, or their mean")
    scores: Size = Field(0, ge=0, description="directions of the data, scores along which it gets")
    repeats: bool = Field(True, description="scores: repeated words count again")

    def idle(self, config: Any) -> dict[str, str]:
        """What is counted for scores, where there are none."""
        return {} if self.scores else {"repeats": "encoder.scores = 0; more have"}


ENCODERS = Kinds("encoder", "kind", Encoder, MLPEncoder, LSTMEncoder)
