"""Which data, and how they are split."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from lidcli.config.kinds import Count, Kinds, Part

__all__ = ["DATA", "Classical", "Data", "Image", "Points", "Text"]


class Data(Part):
    """Which data, and how they are split. Builds a data set."""

    form: ClassVar[str] = "points"
    """What a datum is: points (a row of numbers) or image."""
    likelihood: ClassVar[str] = "gaussian"
    """The likelihood where none is named."""
    family: ClassVar[str] = "mixture"
    """The family of a model that names none."""
    families: ClassVar[tuple[str, ...]] = ()
    """The families of such data, where they are no others'."""
    encoder: ClassVar[str] = "mlp"
    """The encoder where none is named."""
    decoders: ClassVar[dict[str, str]] = {}
    """What a decoder of other data is for these."""
    usual: ClassVar[dict[str, dict[str, Any]]] = {}
    """Settings of other sections, over their defaults and below everything else."""
    alone: ClassVar[str | None] = None
    """Why runs are trained one by one and not as one batched model; None where they may be."""
    code = "lidcli.data.registry:load"
    name: str
    kind: str
    root: Path = Path("data")
    train: Count | None = Field(None, ge=2, description="random training data kept; null: all")
    test: Count | None = Field(None, ge=2, description="test data kept, or drawn; null: all")
    split_seed: int = Field(0, ge=0)


class Points(Data):
    """Real-valued points; yours in a .csv."""

    kind: str = "points"
    path: Path | None = Field(None, description="a .csv file of yours")
    valid_fraction: float = Field(0.1, gt=0, lt=1)
    test_fraction: float = Field(0.1, gt=0, lt=1, description="where no test split is published")
    standardise: bool = Field(True, description="a .csv of yours: to the training part's sd 1")
    label: str | None = Field("label", description="a .csv of yours: the column of labels")

    def idle(self, config: Any) -> dict[str, str]:
        """Settings of a file, where there is none."""
        if self.path is not None:
            return {}
        return dict.fromkeys(OF_YOUR_POINTS, f"data.name = {self.name!r}; a data.path of yours has")


class Image(Data):
    """Grey images; yours in a .npz."""

    form = "image"
    likelihood = "bernoulli"
    kind: str = "image"
    path: Path | None = Field(None, description="an .npz file of yours")
    valid_fraction: float = Field(0.1, gt=0, lt=1)
    test_fraction: float = Field(0.1, gt=0, lt=1, description="where no test split is published")
    binarise: bool = Field(True, description="grey images to bits, fresh each epoch")

    def idle(self, config: Any) -> dict[str, str]:
        """The size of a test split that is published."""
        if self.path is not None or self.name in UNSPLIT:
            return {}
        own = f"{' and '.join(UNSPLIT)} and a data.path of yours have"
        return {"test_fraction": f"data.name = {self.name!r}, whose test split is published; {own}"}


class Classical(Data):
    """Drawn from the models of section 2.2 and appendix A."""

    kind: str = "classical"


class Text(Data):
    """Documents; yours one a line in a .txt, as `label<TAB>text` where they have labels."""

    form = "text"
    family = "sequential"
    families = ("sequential", "language")
    encoder = "lstm"
    decoders: ClassVar = {"mlp": "lstm", "brenier": "brenier-lstm", "skip": "skip-lstm"}
    usual: ClassVar = {"inference": {"transforms": 0}}
    alone = "text is trained one by one: its batches differ in length"
    kind: str = "text"
    path: Path | None = Field(None, description="a .txt file of yours")
    train: Count | None = Field(None, ge=2, description="documents kept for training; null: all")
    valid: Count | None = Field(None, ge=1, description="documents kept for validation; null: all")
    test: Count | None = Field(None, ge=1, description="documents kept for the test; null: all")
    vocabulary: int | Path = Field(20_000, description="entries at most, or a file of tokens")
    max_length: int | None = Field(None, ge=1, description="words after which documents are cut")
    labels: Literal["auto", "none", "tab", "space"] = Field(
        "auto", description="a .txt of yours: where its labels are"
    )
    valid_fraction: float = Field(0.1, gt=0, lt=1)
    test_fraction: float = Field(0.1, gt=0, lt=1, description="of a .txt of yours")

    def completed(self, config: Any) -> dict[str, Any]:
        """Check that every setting does something for these documents, and the vocabulary."""
        fields = type(self).model_fields
        changed = [key for key in fields if getattr(self, key) != fields[key].default]
        if self.path is None:
            idle = [key for key in changed if key in OF_YOUR_TEXT]
            if self.name == "synthetic":
                idle += [key for key in changed if key in OF_FILES]
            if idle:
                raise ValueError(f"data.{idle[0]} does nothing for {self.name}")
        if isinstance(self.vocabulary, int) and self.vocabulary < LEAST_VOCABULARY:
            raise ValueError(
                f"data.vocabulary = {self.vocabulary} is too few entries: </s>, <unk> and a word"
                f" are {LEAST_VOCABULARY}"
            )
        return {}


LEAST_VOCABULARY = 3
OF_YOUR_POINTS = ("label", "standardise", "test_fraction")
"""Settings of a .csv."""
UNSPLIT = ("digits",)
"""Images of ours without a published test split."""
OF_YOUR_TEXT = ("labels", "valid_fraction", "test_fraction", "split_seed")
"""Settings of documents that have no published split."""
OF_FILES = ("vocabulary", "max_length")
"""Settings of documents that are read, not generated."""


DATA = Kinds("data", "kind", Data, Points, Image, Classical, Text)
