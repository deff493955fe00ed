"""The smallest settings of every registered kind, and what is built of them.

A contract runs over every kind that is registered in `lidcli.config.sections`. A new kind needs
one `Case` in `CASES`: settings small enough for quadrature (one or two latents), and what of the
other sections it cannot do without. A kind without one fails `test_every_kind_has_a_case`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lidcli.config.run import RunConfig
from lidcli.config.sections import KINDS
from lidcli.data import documents
from lidcli.data.dataset import Dataset, Split, fingerprint
from lidcli.data.documents import TextDataset, documents_of
from lidcli.data.vocabulary import Vocabulary
from lidcli.models.batch import Batch, DenseBatch
from lidcli.models.latent import LatentModel
from lidcli.training.procedure import procedure
from lidcli.training.sources import split_of

Settings = Mapping[str, Any]
Tree = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Case:
    """Settings of one kind.

    Attributes:
        kind: its registered name.
        settings: of its own section.
        beside: settings of other sections, by section.
        data: the name of a generated data set that it needs; None: small data of any form.
        label: tells cases of one kind apart.
        latent: whether it has a latent model, which the contracts of parts are about.
    """

    kind: str
    settings: Settings = field(default_factory=dict)
    beside: Mapping[str, Settings] = field(default_factory=dict)
    data: str | None = None
    label: str = ""
    latent: bool = True


EXACT = {"inference": {"kind": "exact"}}
LSTM = {"embedding": 3, "hidden": 5}
SEQUENTIAL = {"family": "sequential", "latent": 1}
TEXT = {
    "model": SEQUENTIAL,
    "decoder": {"kind": "lstm", **LSTM},
    "encoder": {"kind": "lstm", **LSTM, "layers": 1},
    "inference": {"kind": "amortized", "transforms": 0},
}
CASES: dict[str, tuple[Case, ...]] = {
    "model": (
        Case("continuous", {"latent": 1}, label="one"),
        Case("continuous", {"latent": 2}, label="two"),
        Case("mixture", {"latent": 1, "categories": 3, "means": "fixed"}, label="line"),
        Case("mixture", {"latent": 2, "categories": 3, "scale": 0.6}, label="free"),
        Case(
            "mixture",
            {
                "latent": 2,
                "categories": 4,
                "means": "fixed",
                "learn_scale": True,
                "scale": 0.5,
                "max_scale": 1.0,
                "covariance": "full",
            },
            label="full",
        ),
        Case("sequential", {"latent": 1}, TEXT),
        Case(
            "language",
            beside={"decoder": TEXT["decoder"], "inference": {"kind": "direct"}},
            latent=False,
        ),
        Case("mixture", {"latent": 2, "categories": 3, "means": "data"}, label="data"),
        Case("mixture", {"latent": 2, "categories": 3, "means": "graph"}, label="graph"),
        Case("ppca", {"latent": 2, "sigma": 1.5}, EXACT, data="ppca-2d"),
        Case("gmm", {"categories": 2}, EXACT, data="gmm-overlapping", latent=False),
        Case(
            "two-clusters",
            beside={"inference": {"kind": "exact", "theta": "truth"}},
            data="gmvae-two",
            label="truth",
        ),
        Case(
            "two-clusters",
            beside={"inference": {"kind": "exact", "theta": "shared"}},
            data="gmvae-two",
            label="shared",
        ),
    ),
    "decoder": (
        Case("mlp", {"layers": 3, "hidden": 6}),
        Case("brenier", {"layers": 5, "hidden": 6}, label="smooth"),
        Case("brenier", {"layers": 5, "hidden": 6, "activation": "leaky"}, label="leaky"),
        Case("brenier", {"layers": 5, "hidden": 6, "beta": "zeros"}, label="zeros"),
        Case("skip", {"layers": 3, "hidden": 6}),
        Case("sheared", {"layers": 3, "hidden": 6}, {"model": {"latent": 1}}),
        Case("lstm", LSTM, TEXT),
        Case("skip-lstm", LSTM, TEXT),
        Case("brenier-lstm", {**LSTM, "convex_hidden": 4}, TEXT, label="conditional"),
        Case(
            "brenier-lstm",
            {**LSTM, "hidden": 2, "convex_hidden": 4, "output": "joint"},
            TEXT,
            label="joint",
        ),
    ),
    "likelihood": (
        Case("gaussian", {"sigma": 0.7}, label="fixed"),
        Case("gaussian", {"sigma_start": 0.7}, label="learned"),
        Case("bernoulli"),
    ),
    "encoder": (
        Case("mlp", {"hidden": 8, "layers": 1}),
        Case("lstm", {**LSTM, "layers": 1}, TEXT),
    ),
    "inference": (
        Case(
            "amortized", {"hidden": 8}, {"model": {"family": "continuous", "latent": 2}}, label="z"
        ),
        Case("amortized", {"hidden": 8, "transforms": 0}, {"model": {"latent": 1}}, label="line"),
        Case("amortized", {"hidden": 8}, {"model": {"latent": 2}}, label="explicit"),
        Case(
            "amortized",
            {"hidden": 8, "categorical": "collapsed"},
            {"model": {"latent": 2}},
            label="collapsed",
        ),
        Case(
            "amortized",
            {"hidden": 8, "categorical": "sampled", "likeliest": 1},
            {"model": {"latent": 2}},
            label="sampled",
        ),
        Case("semi-amortized", {"hidden": 8, "steps": 2}, {"model": {"latent": 1}}),
        Case(
            "semi-amortized",
            {"hidden": 8, "steps": 2, "amortized_epochs": 1},
            {"model": {"latent": 1}},
            label="late",
        ),
        Case("lagging", {"hidden": 8, "block": 1, "inner": 3}, {"model": {"latent": 1}}),
        Case(
            "direct",
            beside={"model": {"family": "language"}, "decoder": TEXT["decoder"]},
            latent=False,
        ),
        Case("exact", beside={"model": {"family": "ppca", "latent": 2}}, data="ppca-2d", label="z"),
        Case(
            "exact",
            {"theta": "truth"},
            {"model": {"family": "two-clusters"}},
            data="gmvae-two",
            label="truth",
        ),
        Case(
            "exact",
            {"theta": "shared"},
            {"model": {"family": "two-clusters"}},
            data="gmvae-two",
            label="shared",
        ),
        Case("nuts", beside={"model": {"family": "ppca", "latent": 2}}, data="ppca-2d"),
    ),
    "train": (
        Case("adam", {"learning_rate": 1e-2}),
        Case("rmsprop", {"learning_rate": 1e-3}),
    ),
}

USUAL: Tree = {
    "model": {"family": "mixture", "latent": 2, "categories": 3, "scale": 0.6},
    "decoder": {"kind": "mlp", "layers": 3, "hidden": 6},
    "encoder": {"kind": "mlp", "hidden": 8, "layers": 1},
    "inference": {"kind": "amortized", "hidden": 8},
    "train": {"optimiser": "adam", "batch_size": 8},
}
LIKELIHOOD_OF: dict[str, Settings] = {
    "points": {"kind": "gaussian", "sigma": 1.5},
    "image": {"kind": "bernoulli"},
    "text": {},
}
"""The likelihood where the case names none, by the form of the data, with wide noise."""
SHAPES = {"points": (2,), "image": (2, 2)}


def name_of(case: Case) -> str:
    """How reports name a case."""
    return f"{case.kind}-{case.label}" if case.label else case.kind


def cases(section: str) -> list[Any]:
    """The cases of a section that have a latent model, as parameters of a test."""
    return [pytest.param(case, id=name_of(case)) for case in CASES[section] if case.latent]


def small(form: str, n: int = 24) -> Any:
    """Data of a form, with three labels: two numbers, two by two bits, or some of three words."""
    if form == "text":
        return small_text(n)
    rng = np.random.default_rng(0)
    shape = SHAPES[form]
    parts = []
    for _ in range(3):
        x = rng.normal(size=(n, int(np.prod(shape)))).astype(np.float32)
        if form == "image":
            x = (x > 0).astype(np.float32)
        parts.append(Split(x, rng.integers(3, size=n)))
    return Dataset("small", form, *parts, shape, 3, False, fingerprint(*parts))


def small_text(n: int) -> TextDataset:
    """Documents of one to four words."""
    rng = np.random.default_rng(0)
    parts = [
        documents_of(
            [rng.integers(2, 5, size=rng.integers(1, 5)).tolist() for _ in range(n)],
            rng.integers(3, size=n),
        )
        for _ in range(3)
    ]
    words = Vocabulary(["a", "b", "c"])
    return TextDataset("small", *parts, words, 3, documents.fingerprint(words, *parts))


def tree_of(section: str, case: Case) -> Tree:
    """A run's settings with the case's in their place."""
    own = {KINDS[section].tag: case.kind, **case.settings}
    asked = {**case.beside, section: own}
    tree = {name: dict(usual) for name, usual in USUAL.items()}
    for name, settings in asked.items():
        tag, usual = KINDS[name].tag, tree.get(name, {})
        alike = settings.get(tag, usual.get(tag)) == usual.get(tag)
        tree[name] = {**usual, **settings} if alike else dict(settings)
    return tree


def build_case(section: str, case: Case, form: str | None = None) -> tuple[Any, Any, RunConfig]:
    """The procedure of a case, its model in float64 and evaluation mode, and its data.

    Args:
        section: of the case.
        case: one of `CASES`.
        form: of the data, where the case leaves it open; None: the first that fits.
    """
    tree = tree_of(section, case)
    if case.data is not None:
        drawn = "points" if case.data.startswith("gmvae") else "classical"
        tree["data"] = {"kind": drawn, "name": case.data, "train": 400, "test": 40}
    else:
        decoder: Any = KINDS["decoder"][tree["decoder"]["kind"]]
        form = form or ("text" if "text" in decoder.forms else "points")
        tree["data"] = {"kind": form, "name": "small"}
        tree.setdefault("likelihood", dict(LIKELIHOOD_OF[form]))
    model: Any = KINDS["model"][tree["model"]["family"]]
    inference: Any = KINDS["inference"][tree["inference"]["kind"]]
    needed = {*model.needs, *inference.needs, "model", "inference", "data"}
    config = RunConfig.of(
        {"method": "case", **{name: value for name, value in tree.items() if name in needed}}
    )
    data = config.data.build() if case.data is not None else small(config.data.form)
    torch.manual_seed(0)
    made = procedure(config, data)
    if isinstance(made.model, nn.Module):
        made.model.eval()
    return made, data, config


def latent_model(section: str, case: Case, form: str | None = None) -> tuple[LatentModel, Batch]:
    """The latent model of a case and some of its data in float64."""
    made, data, _ = build_case(section, case, form)
    assert isinstance(made.model, LatentModel)
    return made.model, batch_of(data)


def batch_of(data: Any, n: int = 6) -> Batch:
    """Every fourth of the first training data, in float64 where they are numbers."""
    batch: Batch = split_of(data, "train").fixed().rows(torch.arange(0, 4 * n, 4))
    return DenseBatch(batch.x.double()) if isinstance(batch, DenseBatch) else batch


def grid_over(low: Tensor, high: Tensor) -> tuple[Tensor, float]:
    """Points (G, M) over a box in one, two or three dimensions, and the volume of a cell."""
    count = {1: 4001, 2: 301, 3: 91}[len(low)]
    axes = [torch.linspace(a, b, count) for a, b in zip(low.tolist(), high.tolist(), strict=True)]
    points = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).flatten(0, -2)
    return points, float(np.prod([(axis[1] - axis[0]).item() for axis in axes]))


def agrees(draws: Tensor, exact: Tensor, slack: float = 1e-9) -> bool:
    """Whether the mean of draws (S, ...) is within five standard errors of a value (...).

    Args:
        draws: independent over S.
        exact: what they should average to.
        slack: error of `exact` itself.
    """
    se = draws.std(0) / len(draws) ** 0.5
    return bool(((draws.mean(0) - exact).abs() <= 5 * se + slack).all())
