"""Posteriors, and the ways to fit them."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from lidcli.config.kinds import Depth, Kinds, Part, Size, locate

__all__ = [
    "INFERENCES",
    "NUTS",
    "Amortized",
    "Direct",
    "Exact",
    "Inference",
    "Lagging",
    "SemiAmortized",
]


class Inference(Part):
    """The posterior, and the procedure that fits model and posterior."""

    needs: ClassVar[tuple[str, ...]] = ()
    """Sections that the procedure has."""
    procedure: ClassVar[str] = ""
    """gradient, exact or nuts."""
    kind: str

    @property
    def alone(self) -> str | None:
        """Why runs are trained one by one and not as one batched model; None where they may be."""
        return f"inference.kind = {self.kind} is not trained by steps that a stack could share"

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
    category_start: Literal["labels", "centres"] = Field(
        "labels",
        description="of q(c|x) where model.means = data: its network learns the clusters' labels,"
        " or a linear path beside it starts as the posterior of Gaussians at their centres",
    )
    hidden: Size = Field(512, ge=1, description="units of the couplings' networks")
    transforms: Depth = Field(2, ge=0, description="affine couplings of q(w|x,c); 0: Gaussian")
    beta: float = Field(1.0, ge=0, description="weight of the KL in the training objective")
    annealing: Literal["none", "linear", "cyclical"] = "none"
    annealing_epochs: float = Field(10.0, gt=0, description="length of the ramp, or of a cycle")
    free_bits: float = Field(0.0, ge=0, description="nats per datum of KL left unpenalised")
    samples: int = Field(1, ge=1, description="draws S of the training ELBO")

    @property
    def alone(self) -> str | None:
        """Batches draw the same categories, or the runs go apart."""
        if self.categorical == "sampled":
            return "inference.categorical = sampled draws other categories in every run"
        return None

    def idle(self, config: Any) -> dict[str, str]:
        """Settings of a category, of the categories that are drawn, of a ramp and of couplings."""
        found = {}
        if self.annealing == "none":
            found["annealing_epochs"] = "inference.annealing = 'none'; linear and cyclical have"
        if self.categorical != "sampled":
            found["likeliest"] = f"inference.categorical = {self.categorical!r}; sampled has"
        if not config.model.categorical:
            why = f"model.family = {config.model.family!r}; mixture has"
            found |= dict.fromkeys(("categorical", "likeliest", "category_start"), why)
        elif (means := getattr(config.model, "means", None)) != "data":
            found["category_start"] = f"model.means = {means!r}; data has"
        elif self.categorical == "collapsed":
            found["category_start"] = "inference.categorical = 'collapsed'; the others have"
        if self.transforms == 0:
            found["hidden"] = "inference.transforms = 0; 1 and more have"
        if config.model.latent == 1:
            found |= dict.fromkeys(("hidden", "transforms"), "model.latent = 1; 2 and more have")
        return found

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
    amortized_epochs: int = Field(0, ge=0, description="epochs of training before refinements")
    hessian: Literal["exact", "finite"] = Field(
        "exact", description="how a refinement is differentiated: twice, or by finite differences"
    )

    @model_validator(mode="after")
    def _same_draws(self) -> SemiAmortized:
        if self.hessian == "finite" and self.categorical == "sampled":
            raise ValueError(
                "inference.hessian = 'finite' needs inference.categorical = 'explicit' or"
                " 'collapsed', not 'sampled', whose draws jump"
            )
        return self

    @property
    def alone(self) -> str | None:
        """Its steps are its own."""
        return super(Amortized, self).alone

    def posterior(self, config: Any, model: Any, data: Any) -> Any:
        """The amortized posterior, refined."""
        base = super().posterior(config, model, data)
        return locate("lidcli.training.build:refined")(self, base, model)

    def update(self, training: Any, model: Any, batches: int, guard: Any) -> Any:
        """Amortized updates, then refined ones."""
        return locate("lidcli.training.updates:SemiAmortized")(
            self, training, model, batches, guard
        )


class Lagging(Amortized):
    """Lagging VAE (He et al. 2019): many updates of the encoder before each of the decoder."""

    kind: str = "lagging"
    block: int = Field(10, ge=1, description="encoder updates whose losses are averaged")
    inner: int = Field(100, ge=1, description="encoder updates before one of the decoder, at most")
    aggressive_epochs: int | None = Field(
        None, ge=1, description="epochs of the aggressive phase at most; null: while MI rises"
    )

    @property
    def alone(self) -> str | None:
        """Its steps are its own."""
        return super(Amortized, self).alone

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
