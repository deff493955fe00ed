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
from lidcli.data.dataset import Dataset, Split, fingerprint
from lidcli.models.batch import Batch, DenseBatch
from lidcli.models.latent import LatentModel
from lidcli.training.procedure import procedure

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
    ),
    "likelihood": (
        Case("gaussian", {"sigma": 0.7}, label="fixed"),
        Case("gaussian", {"sigma_start": 0.7}, label="learned"),
        Case("bernoulli"),
    ),
    "encoder": (Case("mlp", {"hidden": 8, "layers": 1}),),
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
}
"""The likelihood where the case names none, by the form of the data, with wide noise."""
SHAPES = {"points": (2,), "image": (2, 2)}


def name_of(case: Case) -> str:
    """How reports name a case."""
    return f"{case.kind}-{case.label}" if case.label else case.kind


def cases(section: str) -> list[Any]:
    """The cases of a section that have a latent model, as parameters of a test."""
    return [pytest.param(case, id=name_of(case)) for case in CASES[section] if case.latent]


def small(form: str, n: int = 24) -> Dataset:
    """Data of a form, two numbers or two by two bits a datum, with three labels."""
    rng = np.random.default_rng(0)
    shape = SHAPES[form]
    parts = []
    for _ in range(3):
        x = rng.normal(size=(n, int(np.prod(shape)))).astype(np.float32)
        if form == "image":
            x = (x > 0).astype(np.float32)
        parts.append(Split(x, rng.integers(3, size=n)))
    return Dataset("small", form, *parts, shape, 3, False, fingerprint(*parts))


def tree_of(section: str, case: Case) -> Tree:
    """A run's settings with the case's in their place."""
    tag = KINDS[section].tag
    asked = {**case.beside, section: {tag: case.kind, **case.settings}}
    tree = {name: dict(usual) for name, usual in USUAL.items()}
    for name, settings in asked.items():
        other = KINDS[name].tag in settings and settings[KINDS[name].tag] != USUAL.get(
            name, {}
        ).get(KINDS[name].tag)
        tree[name] = dict(settings) if other else {**tree.get(name, {}), **settings}
    return tree


def build_case(section: str, case: Case, form: str | None = None) -> tuple[Any, Dataset, RunConfig]:
    """The procedure of a case, its model in float64 and evaluation mode, and its data.

    Args:
        section: of the case.
        case: one of `CASES`.
        form: of the data, where the case leaves it open; None: the first that fits.
    """
    tree = tree_of(section, case)
    if case.data is not None:
        kind = "points" if case.data.startswith("gmvae") else "classical"
        tree["data"] = {"kind": kind, "name": case.data, "train": 400, "test": 40}
    else:
        kind = KINDS[section][case.kind]
        form = form or getattr(kind, "forms", ("points",))[0]
        tree["data"] = {"kind": form, "name": "small"}
        tree.setdefault("likelihood", dict(LIKELIHOOD_OF[form]))
    model = KINDS["model"][tree["model"]["family"]]
    inference = KINDS["inference"][tree["inference"]["kind"]]
    needed = {*model.needs, *inference.needs, "model", "inference", "data"}
    config = RunConfig.of(
        {"method": "case", **{name: value for name, value in tree.items() if name in needed}}
    )
    data: Dataset = config.data.build() if case.data is not None else small(config.data.form)
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


def batch_of(data: Dataset, n: int = 6) -> Batch:
    """The first n training data."""
    return DenseBatch(torch.from_numpy(data.train.x[:n]).double())


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
