"""The maps from latents to the likelihood's parameters."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from lidcli.config.kinds import Depth, Kinds, Part, Size, locate

__all__ = [
    "DECODERS",
    "BrenierDecoder",
    "BrenierLSTMDecoder",
    "Decoder",
    "LSTMDecoder",
    "MLPDecoder",
    "ShearedDecoder",
    "SkipDecoder",
    "SkipLSTMDecoder",
    "brenier_hidden_layers",
]


class Decoder(Part):
    """The map from latents (..., M) to the likelihood's parameters (..., D)."""

    injective: ClassVar[bool] = False
    forms: ClassVar[tuple[str, ...]] = ("points", "image")
    """Forms of data that it decodes to."""
    kind: str

    def uses_directions(self) -> bool:
        """Whether `build` is given the data's principal `directions` and an `offset` too."""
        return False

    def observation(self, config: Any, data: Any) -> Any:
        """p(x | latent): this decoder, from `build(latent, outputs)`, before the likelihood."""
        return locate("lidcli.training.build:dense_observation")(self, config, data)


class MLPDecoder(Decoder):
    """Any network."""

    code = "lidcli.training.build:mlp"
    kind: str = "mlp"
    layers: Depth = Field(9, ge=1, description="affine stages from latent to parameters")
    hidden: Size = Field(512, ge=1, description="units of each hidden layer")


class BrenierDecoder(Decoder):
    """The injective decoder of the LIDVAE: Brenier maps composed."""

    injective = True
    code = "lidcli.training.build:brenier"
    kind: str = "brenier"
    layers: Depth = Field(9, ge=1, description="affine stages from latent to parameters")
    hidden: Size = Field(512, ge=1, description="units of each hidden layer")
    maps: Depth = Field(2, ge=1, description="Brenier maps composed")
    activation: Literal["smooth", "leaky"] = Field("smooth", description="leaky is the paper's")
    beta: Literal["principal", "zeros"] = Field(
        "principal",
        description="columns of β: the data's principal directions, or the paper's zero padding",
    )
    inverse_lipschitz: float = Field(0.5, ge=0, description="epsilon u added to each map")
    rotations: bool | None = Field(None, description="learned rotations; null: latent <= 256")
    sharpness: float = Field(1.0, gt=0, description="k of the smooth softplus(k t) / k")
    gain: float = Field(0.3, gt=0, description="sd of each map's output at the start")

    @model_validator(mode="after")
    def _layers_divide(self) -> BrenierDecoder:
        brenier_hidden_layers(self.layers, self.maps)
        return self

    def uses_directions(self) -> bool:
        """With the data's own β."""
        return self.beta == "principal"

    def completed(self, config: Any) -> dict[str, Any]:
        """Rotations, where left open."""
        few = config.model.latent <= 256
        return {"rotations": few if self.rotations is None else self.rotations}


class SkipDecoder(Decoder):
    """A perceptron that meets the latent at every layer, and a linear path along the data's β.

    What an injective decoder with the same β has, without its maps (Dieng et al. 2019).
    """

    code = "lidcli.training.build:skip"
    kind: str = "skip"
    layers: Depth = Field(9, ge=1, description="affine stages from latent to parameters")
    hidden: Size = Field(512, ge=1, description="units of each hidden layer")

    def uses_directions(self) -> bool:
        """Always."""
        return True


class ShearedDecoder(Decoder):
    """The injective decoder of images whose network is unconstrained.

    A perceptron that meets the latent at every layer moves what is off the data's β freely, and
    along it by a bounded shear, beside a linear path of a least slope.
    """

    injective = True
    code = "lidcli.training.build:sheared"
    kind: str = "sheared"
    layers: Depth = Field(9, ge=1, description="affine stages from latent to parameters")
    hidden: Size = Field(512, ge=1, description="units of each hidden layer")
    inverse_lipschitz: float = Field(4.0, gt=0, description="epsilon, least slope along beta")
    shear: float = Field(1.0, ge=0, description="L, greatest norm of the shear")

    def uses_directions(self) -> bool:
        """Always."""
        return True


class LSTMDecoder(Decoder):
    """Tokens one after the other, from an LSTM that is fed z at every step and at the start."""

    forms = ("text",)
    kind: str = "lstm"
    embedding: Size = Field(128, ge=1, description="size of a token's embedding")
    hidden: Size = Field(128, ge=1, description="units of the LSTM")
    layers: Depth = Field(1, ge=1, description="layers of the LSTM")
    dropout: float = Field(0.3, ge=0, lt=1, description="of embeddings, states and ∇φ")
    chunk: int = Field(128, ge=1, description="tokens whose logits are held at once")

    def observation(self, config: Any, data: Any) -> Any:
        """p(x | z) by teacher forcing."""
        return locate("lidcli.training.text:lstm")(self, config, data)


class SkipLSTMDecoder(LSTMDecoder):
    """The same with a linear path from z to the logits along β's columns."""

    kind: str = "skip-lstm"
    columns: Literal["data", "random", "zeros"] = Field(
        "data",
        description="β: along which documents differ more than chance, random signs, or single"
        " words",
    )
    repeats: bool = Field(True, description="columns and λ: repeated words count again")
    c: float = Field(0.3, gt=0, description="β's strength: ε_k = c √λ_k")

    def observation(self, config: Any, data: Any) -> Any:
        """p(x | z) by teacher forcing."""
        return locate("lidcli.training.text:skip_lstm")(self, config, data)


class BrenierLSTMDecoder(LSTMDecoder):
    """The decoder of the LIDSVAE: an LSTM that never sees z, and logits injective in z."""

    injective = True
    kind: str = "brenier-lstm"
    output: Literal["conditional", "joint"] = Field(
        "conditional",
        description="Brenier in z for every history, along β's columns; or the paper's map of"
        " [z, h], zero-padded",
    )
    columns: Literal["data", "random", "zeros"] = Field(
        "data",
        description="conditional: β, along which documents differ more than chance, random"
        " signs, or the paper's zero padding: single words",
    )
    repeats: bool = Field(
        True, description="conditional: for columns and λ, repeated words count again"
    )
    c: float = Field(0.3, gt=0, description="conditional: β's strength, ε_k = c √λ_k")
    rank: Size = Field(
        32, ge=1, description="conditional: columns of E, through which the potential reads z"
    )
    convex_hidden: Size = Field(64, ge=1, description="units of the potentials' hidden layers")
    convex_layers: Depth = Field(2, ge=2, description="layers of the potentials")
    inverse_lipschitz: float = Field(1.0, gt=0, description="ε of the map of z (joint: of both)")
    rotations: bool = Field(True, description="a learned rotation of z")
    gain: float = Field(0.3, gt=0, description="sd of the potentials' output at the start")

    def idle(self, config: Any) -> dict[str, str]:
        """Settings of the map for every history, beside the joint one."""
        if self.output == "conditional":
            return {}
        why = "decoder.output = 'joint'; conditional has"
        return dict.fromkeys(("columns", "repeats", "c", "rank"), why)

    def observation(self, config: Any, data: Any) -> Any:
        """p(x | z) by teacher forcing."""
        return locate("lidcli.training.text:brenier_lstm")(self, config, data)


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


DECODERS = Kinds(
    "decoder",
    "kind",
    Decoder,
    MLPDecoder,
    BrenierDecoder,
    SkipDecoder,
    ShearedDecoder,
    LSTMDecoder,
    SkipLSTMDecoder,
    BrenierLSTMDecoder,
)
