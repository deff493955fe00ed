"""The families of generative models."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from lidcli.config.kinds import Kinds, Part, Size, locate

__all__ = [
    "GMM",
    "MODELS",
    "PPCA",
    "Continuous",
    "Language",
    "Mixture",
    "Model",
    "Sequential",
    "TwoClusters",
]

ANCHORED = ("data", "graph")
"""Means that are those of clusters of the training data."""


class Model(Part):
    """The generative model: its family and latents. Builds a prior, and so a latent model."""

    needs: ClassVar[tuple[str, ...]] = ("decoder", "likelihood")
    """Sections that the family has, beside the posterior's."""
    procedures: ClassVar[tuple[str, ...]] = ("gradient",)
    """Ways to fit it."""
    thetas: ClassVar[tuple[str, ...]] = ("ml",)
    """Parameters at which its posterior is exact, where that is a way."""
    inference: ClassVar[str] = "amortized"
    """The inference where none is named."""
    categorical: ClassVar[bool] = True
    """Whether there may be a category among the latents."""
    family: str

    def begin(self, model: Any, data: Any, seed: int) -> None:
        """What is done once with a new model before it is trained, by the run's seed."""


class Continuous(Model):
    """Definition 3: z ~ N(0, I_K), x ~ EF(f(z))."""

    categorical = False
    code = "lidcli.training.build:continuous"
    family: str = "continuous"
    latent: Size = Field(64, ge=1, description="latent dimensions K")


class Mixture(Model):
    """Example 1: c ~ Cat(1/C), w | c ~ N(m_c, s_c²), x ~ EF(f(w))."""

    code = "lidcli.training.build:mixture"
    family: str = "mixture"
    latent: Size = Field(64, ge=1, description="dimensions M of w")
    categories: Size | None = Field(None, ge=2, description="C; null: the data's classes")
    means: Literal["fixed", "free", "data", "graph"] | None = Field(
        None,
        description="data: fixed, at clusters of the training data in β's coordinates, with their"
        " sds, found by k-means; graph: at those of the graph of nearest neighbours; null: fixed"
        " where the decoder is injective",
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
        if learned and means not in ANCHORED and self.max_scale and self.scale >= self.max_scale:
            raise ValueError(
                f"model.max_scale = {self.max_scale} must exceed model.scale = {self.scale}"
            )
        return {"means": means, "learn_scale": learned}

    def idle(self, config: Any) -> dict[str, str]:
        """What clusters of the data give, the bound of a fixed scale, and turns of a line."""
        found: dict[str, str] = {}
        if self.anchored:
            why = f"model.means = {self.means!r}; fixed and free have"
            found |= dict.fromkeys(("separation", "scale"), why)
        if not self.learn_scale:
            found["max_scale"] = "model.learn_scale = false; true has"
        if self.latent == 1:
            found["covariance"] = "model.latent = 1; 2 and more have"
        return found

    def begin(self, model: Any, data: Any, seed: int) -> None:
        """Start q(c|x) from the clusters that gave the means."""
        if self.anchored:
            start = locate("lidcli.training.anchored:start_categories")
            start(model, data, seed, graph=self.graph)

    @property
    def anchored(self) -> bool:
        """Whether the components are clusters of the training data."""
        return self.means in ANCHORED

    @property
    def graph(self) -> bool:
        """Whether those clusters are of the graph of neighbours."""
        return self.means == "graph"


class Sequential(Model):
    """Example 2: z ~ N(0, I_K), x_t | z, x_<t ~ Cat(f(z, h_t)), h_t an LSTM over x_<t."""

    categorical = False
    needs = ("decoder",)
    code = "lidcli.training.build:continuous"
    family: str = "sequential"
    latent: Size = Field(32, ge=1, description="latent dimensions K")


class Language(Model):
    """A language model: no latent."""

    categorical = False
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
    thetas = ("ml", "truth")
    code = "lidcli.training.exact:ppca"
    family: str = "ppca"
    latent: Size = Field(64, ge=1, description="latent dimensions K")
    sigma: float | None = Field(None, gt=0, description="noise sd; null: of maximum likelihood")


class GMM(Model):
    """A Gaussian mixture model (appendix A.2)."""

    needs = ()
    procedures = ("exact", "nuts")
    thetas = ("ml", "truth", "shared")
    code = "lidcli.training.exact:gmm"
    family: str = "gmm"
    categories: Size = Field(2, ge=1, description="components C")


class TwoClusters(Model):
    """Section 2.2: a GMVAE at two maximisers of one likelihood, on gmvae-two and gmvae-one."""

    needs = ()
    procedures = ("exact",)
    thetas = ("truth", "shared")
    code = "lidcli.training.exact:two_clusters"
    family: str = "two-clusters"


MODELS = Kinds(
    "model", "family", Model, Continuous, Mixture, Sequential, Language, PPCA, GMM, TwoClusters
)
