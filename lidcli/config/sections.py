"""The settings of every kind of every section."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from lidcli.config.kinds import Kinds, Part, Section, locate

__all__ = [
    "DATA",
    "DECODERS",
    "ENCODERS",
    "INFERENCES",
    "KINDS",
    "LIKELIHOODS",
    "MODELS",
    "TRAININGS",
    "Amortized",
    "Data",
    "Decoder",
    "Encoder",
    "Evaluate",
    "Inference",
    "Likelihood",
    "Model",
    "Runtime",
    "Training",
    "brenier_hidden_layers",
]


class Model(Part):
    """The generative model: its family and latents. Builds a prior, and so a latent model."""

    needs: ClassVar[tuple[str, ...]] = ("decoder", "likelihood")
    """Sections that the family has, beside the posterior's."""
    procedures: ClassVar[tuple[str, ...]] = ("gradient",)
    """Ways to fit it."""
    inference: ClassVar[str] = "amortized"
    """The inference where none is named."""
    family: str

    def begin(self, model: Any, data: Any, seed: int) -> None:
        """What is done once with a new model before it is trained, by the run's seed."""


class Continuous(Model):
    """Definition 3: z ~ N(0, I_K), x ~ EF(f(z))."""

    code = "lidcli.training.build:continuous"
    family: str = "continuous"
    latent: int = Field(64, ge=1, description="latent dimensions K")


class Mixture(Model):
    """Example 1: c ~ Cat(1/C), w | c ~ N(m_c, s_c²), x ~ EF(f(w))."""

    code = "lidcli.training.build:mixture"
    family: str = "mixture"
    latent: int = Field(64, ge=1, description="dimensions M of w")
    categories: int | None = Field(None, ge=2, description="C; null: the data's classes")
    means: Literal["fixed", "free", "data"] | None = Field(
        None,
        description="data: fixed, at clusters of the training data in β's coordinates, with their"
        " sds; null: fixed where the decoder is injective",
    )
    separation: float = Field(
        2.0, gt=0, description="norm of each component mean (not of those of data)"
    )
    scale: float = Field(
        0.3, gt=0, description="sd of w given c (its start, where learned; not of those of data)"
    )
    learn_scale: bool | None = Field(None, description="null: learned iff the means are free")
    max_scale: float | None = Field(None, gt=0, description="upper bound of a learned scale")
    covariance: Literal["diagonal", "full"] = Field("diagonal", description="of w given c")

    def completed(self, config: Any) -> dict[str, Any]:
        """Means, and whether scales are learned, where left open."""
        means = self.means or ("fixed" if config.decoder.injective else "free")
        learned = means == "free" if self.learn_scale is None else self.learn_scale
        if means != "free" and learned and self.max_scale is None:
            raise ValueError("Learned scales around fixed means need a bound: set model.max_scale")
        if learned and means != "data" and self.max_scale and self.scale >= self.max_scale:
            raise ValueError(
                f"model.max_scale = {self.max_scale} must exceed model.scale = {self.scale}"
            )
        return {"means": means, "learn_scale": learned}

    def begin(self, model: Any, data: Any, seed: int) -> None:
        """Start q(c|x) from the clusters that gave the means."""
        if self.means == "data":
            locate("lidcli.training.anchored:start_categories")(model, data, seed)


class Sequential(Model):
    """Example 2: z ~ N(0, I_K), x_t | z, x_<t ~ Cat(f(z, h_t)), h_t an LSTM over x_<t."""

    needs = ("decoder",)
    code = "lidcli.training.build:continuous"
    family: str = "sequential"
    latent: int = Field(32, ge=1, description="latent dimensions K")


class Language(Model):
    """A language model: no latent."""

    needs = ("decoder",)
    procedures = ("likelihood",)
    inference = "direct"
    code = "lidcli.training.text:no_prior"
    family: str = "language"
    latent: ClassVar[int] = 0


class PPCA(Model):
    """Probabilistic PCA (section 4.2, appendix A.1)."""

    needs = ()
    procedures = ("exact", "nuts")
    code = "lidcli.training.exact:ppca"
    family: str = "ppca"
    latent: int = Field(64, ge=1, description="latent dimensions K")
    sigma: float | None = Field(None, gt=0, description="noise sd; null: of maximum likelihood")


class GMM(Model):
    """A Gaussian mixture model (appendix A.2)."""

    needs = ()
    procedures = ("exact", "nuts")
    code = "lidcli.training.exact:gmm"
    family: str = "gmm"
    categories: int = Field(2, ge=1, description="components C")


class TwoClusters(Model):
    """Section 2.2: a GMVAE at two maximisers of one likelihood, on gmvae-two and gmvae-one."""

    needs = ()
    procedures = ("exact",)
    code = "lidcli.training.exact:two_clusters"
    family: str = "two-clusters"


MODELS = Kinds(
    "model", "family", Model, Continuous, Mixture, Sequential, Language, PPCA, GMM, TwoClusters
)


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
    layers: int = Field(9, ge=1, description="affine stages from latent to parameters")
    hidden: int = Field(512, ge=1, description="units of each hidden layer")


class BrenierDecoder(Decoder):
    """The injective decoder of the LIDVAE: Brenier maps composed."""

    injective = True
    code = "lidcli.training.build:brenier"
    kind: str = "brenier"
    layers: int = Field(9, ge=1, description="affine stages from latent to parameters")
    hidden: int = Field(512, ge=1, description="units of each hidden layer")
    maps: int = Field(2, ge=1, description="Brenier maps composed")
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

    What an injective decoder with the same β has, without the certificate (Dieng et al. 2019).
    """

    code = "lidcli.training.build:skip"
    kind: str = "skip"
    layers: int = Field(9, ge=1, description="affine stages from latent to parameters")
    hidden: int = Field(512, ge=1, description="units of each hidden layer")

    def uses_directions(self) -> bool:
        """Always."""
        return True


class LSTMDecoder(Decoder):
    """Tokens one after the other, from an LSTM that is fed z at every step and at the start."""

    forms = ("text",)
    kind: str = "lstm"
    embedding: int = Field(128, ge=1, description="size of a token's embedding")
    hidden: int = Field(128, ge=1, description="units of the LSTM")
    layers: int = Field(1, ge=1, description="layers of the LSTM")
    dropout: float = Field(0.3, ge=0, lt=1, description="of embeddings and of the states")
    chunk: int = Field(128, ge=1, description="tokens whose logits are held at once")

    def observation(self, config: Any, data: Any) -> Any:
        """p(x | z) by teacher forcing."""
        return locate("lidcli.training.text:lstm")(self, config, data)


class SkipLSTMDecoder(LSTMDecoder):
    """The same with a linear path from z to the logits along β's columns, without a certificate."""

    kind: str = "skip-lstm"
    columns: Literal["data", "random"] = Field(
        "data", description="β: along which documents differ more than chance, or random signs"
    )
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
    columns: Literal["data", "random"] = Field(
        "data",
        description="conditional: β, along which documents differ more than chance, or"
        " random signs",
    )
    c: float = Field(0.3, gt=0, description="conditional: β's strength, ε_k = c √λ_k")
    convex_hidden: int = Field(64, ge=1, description="units of the potentials' hidden layers")
    convex_layers: int = Field(2, ge=2, description="layers of the potentials")
    inverse_lipschitz: float = Field(1.0, gt=0, description="ε of the map of z (joint: of both)")
    rotations: bool = Field(True, description="a learned rotation of z")
    gain: float = Field(0.3, gt=0, description="sd of the potentials' output at the start")

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
    LSTMDecoder,
    SkipLSTMDecoder,
    BrenierLSTMDecoder,
)


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
    hidden: int = Field(512, ge=1, description="units of each hidden layer")
    layers: int = Field(2, ge=1, description="hidden layers")


class LSTMEncoder(Encoder):
    """The last state of an LSTM over the tokens."""

    forms = ("text",)
    code = "lidcli.training.text:lstm_encoder"
    kind: str = "lstm"
    embedding: int = Field(128, ge=1, description="size of a token's embedding")
    hidden: int = Field(128, ge=1, description="units of the LSTM")
    layers: int = Field(2, ge=1, description="layers of the LSTM")
    dropout: float = Field(0.0, ge=0, lt=1, description="of embeddings")


ENCODERS = Kinds("encoder", "kind", Encoder, MLPEncoder, LSTMEncoder)


class Inference(Part):
    """The posterior, and the procedure that fits model and posterior."""

    needs: ClassVar[tuple[str, ...]] = ()
    """Sections that the procedure has."""
    procedure: ClassVar[str] = ""
    """gradient, exact or nuts."""
    kind: str

    def posterior(self, config: Any, model: Any, data: Any) -> Any:
        """The posterior of a model for a run's configuration and its data."""
        raise ValueError(f"inference.kind = {self.kind!r} is not trained")

    def update(self, training: Any, model: Any, batches: int, guard: Any) -> Any:
        """What a step does, with the settings of section train and so many batches an epoch."""
        return locate("lidcli.training.updates:Joint")(self, training, model, batches, guard)


class Direct(Inference):
    """Maximum likelihood of a model without latents."""

    needs = ("train",)
    procedure = "likelihood"
    code = "lidcli.training.gradient:Gradient"
    kind: str = "direct"
    beta: ClassVar[float] = 1.0
    annealing: ClassVar[str] = "none"
    annealing_epochs: ClassVar[float] = 1.0
    free_bits: ClassVar[float] = 0.0
    samples: ClassVar[int] = 1

    def posterior(self, config: Any, model: Any, data: Any) -> Any:
        """None of anything."""
        return locate("lidcli.inference.none:NoPosterior")()


class Amortized(Inference):
    """q(latent | x) from an encoder, trained with the model on the ELBO."""

    needs = ("encoder", "train")
    procedure = "gradient"
    code = "lidcli.training.gradient:Gradient"
    kind: str = "amortized"
    categorical: Literal["explicit", "collapsed", "sampled"] = Field(
        "explicit",
        description="of a mixture: q(c|x) summed exactly, c summed out of the model, or in"
        " training the likeliest categories and a random one, unbiased",
    )
    likeliest: int = Field(3, ge=1, description="categories that sampled always sums")
    hidden: int = Field(512, ge=1, description="units of the couplings' networks")
    transforms: int = Field(2, ge=0, description="affine couplings of q(w|x,c); 0: Gaussian")
    beta: float = Field(1.0, ge=0, description="weight of the KL in the training objective")
    annealing: Literal["none", "linear", "cyclical"] = "none"
    annealing_epochs: float = Field(10.0, gt=0, description="length of the ramp, or of a cycle")
    free_bits: float = Field(0.0, ge=0, description="nats per datum of KL left unpenalised")
    samples: int = Field(1, ge=1, description="draws S of the training ELBO")

    def posterior(self, config: Any, model: Any, data: Any) -> Any:
        """The posterior of a model for a run's configuration and its data."""
        return locate("lidcli.training.build:flow_posterior")(self, config, model, data)


class SemiAmortized(Amortized):
    """SA-VAE (Kim et al. 2018): the encoder's parameters refined by steps on each datum's ELBO."""

    kind: str = "semi-amortized"
    steps: int = Field(20, ge=1, description="refinements of a datum's posterior")
    rate: float = Field(0.1, gt=0, description="learning rate of a refinement")
    momentum: float = Field(0.5, ge=0, lt=1, description="of the refinements")
    refinement_clip: float = Field(5.0, gt=0, description="norm of a datum's gradient")

    def posterior(self, config: Any, model: Any, data: Any) -> Any:
        """The amortized posterior, refined."""
        base = super().posterior(config, model, data)
        return locate("lidcli.training.build:refined")(self, base, model)


class Lagging(Amortized):
    """Lagging VAE (He et al. 2019): many updates of the encoder before each of the decoder."""

    kind: str = "lagging"
    block: int = Field(10, ge=1, description="encoder updates whose losses are averaged")
    inner: int = Field(100, ge=1, description="encoder updates before one of the decoder, at most")
    aggressive_epochs: int | None = Field(
        None, ge=1, description="epochs of the aggressive phase at most; null: while MI rises"
    )

    def update(self, training: Any, model: Any, batches: int, guard: Any) -> Any:
        """Aggressive updates, then joint ones."""
        return locate("lidcli.training.updates:Lagging")(self, training, model, batches, guard)


class Exact(Inference):
    """The exact posterior, at parameters in closed form or by EM."""

    procedure = "exact"
    code = "lidcli.training.exact:Exact"
    kind: str = "exact"
    theta: Literal["ml", "truth", "shared"] = Field(
        "ml",
        description="parameters at the maximum of the likelihood, at the data's own, or with"
        " every component at the distribution of all data",
    )


class NUTS(Inference):
    """Hamiltonian Monte Carlo, beside the exact posterior."""

    procedure = "nuts"
    code = "lidcli.training.nuts:NUTS"
    kind: str = "nuts"
    theta: Literal["ml", "truth", "shared"] = Field("ml", description="as of exact inference")
    joint: bool = Field(False, description="over the parameters too, else at theta")
    chains: int = Field(4, ge=1)
    warmup: int = Field(1000, ge=1)
    draws: int = Field(1000, ge=1, description="a chain")


INFERENCES = Kinds(
    "inference", "kind", Inference, Amortized, SemiAmortized, Lagging, Direct, Exact, NUTS
)


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


class Adam(Training):
    """Adam."""

    code = "lidcli.training.optimisers:adam"
    optimiser: str = "adam"
    beta2: float = Field(0.999, ge=0, lt=1, description="decay of the squared gradient")


class RMSprop(Training):
    """RMSprop."""

    code = "lidcli.training.optimisers:rmsprop"
    optimiser: str = "rmsprop"
    momentum: float = Field(0.5, ge=0, lt=1)


TRAININGS = Kinds("train", "optimiser", Training, Adam, RMSprop)


class Data(Part):
    """Which data, and how they are split. Builds a data set."""

    form: ClassVar[str] = "points"
    """What a datum is: points (a row of numbers) or image."""
    likelihood: ClassVar[str] = "gaussian"
    """The likelihood where none is named."""
    family: ClassVar[str] = "mixture"
    """The family of a model that names none."""
    encoder: ClassVar[str] = "mlp"
    """The encoder where none is named."""
    decoders: ClassVar[dict[str, str]] = {}
    """What a decoder of other data is for these."""
    usual: ClassVar[dict[str, dict[str, Any]]] = {}
    """Settings of other sections, over their defaults and below everything else."""
    code = "lidcli.data.registry:load"
    name: str
    kind: str
    root: Path = Path("data")
    train: int | None = Field(None, ge=2, description="random training data kept; null: all")
    test: int | None = Field(None, ge=2, description="test data kept, or drawn; null: all")
    split_seed: int = Field(0, ge=0)


class Points(Data):
    """Real-valued points; yours in a .csv."""

    kind: str = "points"
    path: Path | None = Field(None, description="a .csv file of yours")
    valid_fraction: float = Field(0.1, gt=0, lt=1)
    test_fraction: float = Field(0.1, gt=0, lt=1, description="where no test split is published")
    standardise: bool = Field(True, description="a .csv of yours: to the training part's sd 1")
    label: str | None = Field("label", description="a .csv of yours: the column of labels")


class Image(Data):
    """Grey images; yours in a .npz."""

    form = "image"
    likelihood = "bernoulli"
    kind: str = "image"
    path: Path | None = Field(None, description="an .npz file of yours")
    valid_fraction: float = Field(0.1, gt=0, lt=1)
    test_fraction: float = Field(0.1, gt=0, lt=1, description="where no test split is published")
    binarise: bool = Field(True, description="grey images to bits, fresh each epoch")


class Classical(Data):
    """Drawn from the models of section 2.2 and appendix A."""

    kind: str = "classical"


class Text(Data):
    """Documents; yours one a line in a .txt, as `label<TAB>text` where they have labels."""

    form = "text"
    family = "sequential"
    encoder = "lstm"
    decoders: ClassVar = {"mlp": "lstm", "brenier": "brenier-lstm", "skip": "skip-lstm"}
    usual: ClassVar = {"inference": {"transforms": 0}}
    kind: str = "text"
    path: Path | None = Field(None, description="a .txt file of yours")
    train: int | None = Field(None, ge=2, description="documents kept for training; null: all")
    valid: int | None = Field(None, ge=1, description="documents kept for validation; null: all")
    test: int | None = Field(None, ge=1, description="documents kept for the test; null: all")
    vocabulary: int | Path = Field(20_000, description="entries at most, or a file of tokens")
    max_length: int | None = Field(None, ge=1, description="words after which documents are cut")
    labels: Literal["auto", "none", "tab", "space"] = Field(
        "auto", description="a .txt of yours: where its labels are"
    )
    valid_fraction: float = Field(0.1, gt=0, lt=1)
    test_fraction: float = Field(0.1, gt=0, lt=1, description="of a .txt of yours")

    def completed(self, config: Any) -> dict[str, Any]:
        """Check that every setting does something for these documents."""
        fields = type(self).model_fields
        changed = [key for key in fields if getattr(self, key) != fields[key].default]
        if self.path is None:
            idle = [key for key in changed if key in OF_YOUR_TEXT]
            if self.name == "synthetic":
                idle += [key for key in changed if key in OF_FILES]
            if idle:
                raise ValueError(f"data.{idle[0]} does nothing for {self.name}")
        return {}


OF_YOUR_TEXT = ("labels", "valid_fraction", "test_fraction", "split_seed")
"""Settings of documents that have no published split."""
OF_FILES = ("vocabulary", "max_length")
"""Settings of documents that are read, not generated."""


DATA = Kinds("data", "kind", Data, Points, Image, Classical, Text)


class Evaluate(Section):
    """How a trained model is measured."""

    samples: int = Field(500, ge=2, description="S of the importance-weighted LL")
    outer: int = Field(500, ge=2, description="data in the outer mean of the MI of w and z")
    identifiability: bool = Field(False, description="measure the likelihood's variation too")
    metrics: tuple[str, ...] = Field((), description="figures of yours, each as module:name")
    split: Literal["train", "valid", "test"] = "test"


class Runtime(Section):
    """Where and how a run is executed; none of it changes the run's identity."""

    device: str = "auto"
    threads: int | None = Field(None, ge=1)
    checkpoint_seconds: float = Field(30.0, ge=0)
    batch: int = Field(10_000, ge=1, description="decodings at a time in an evaluation")


KINDS = {
    kinds.section: kinds
    for kinds in (MODELS, DECODERS, LIKELIHOODS, ENCODERS, INFERENCES, TRAININGS, DATA)
}
"""The sections that come in kinds, by key."""
