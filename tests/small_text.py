"""Small models of text in float64, as `lid train` builds them, for the tests of their assembly."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lidcli.config.read import load_files, parse_override
from lidcli.config.resolve import resolve
from lidcli.config.run import RunConfig
from lidcli.data.documents import TextDataset, documents_of, fingerprint
from lidcli.data.vocabulary import Vocabulary
from lidcli.models.batch import TokenBatch
from lidcli.models.latent import LatentModel
from lidcli.training.build import build
from lidcli.training.sources import split_of

ROOT = Path(__file__).resolve().parents[1]
SIZES = ("decoder.embedding=3", "decoder.hidden=4", "encoder.embedding=3", "encoder.hidden=4")
METHODS = ("svae", "skip-svae", "lidsvae")
"""Decoders with a latent."""


@contextmanager
def doubles() -> Iterator[None]:
    """Build and draw in float64."""
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


def documents(n: int = 24, longest: int = 4) -> TextDataset:
    """Documents of one to `longest` of three words, with three labels."""
    rng = np.random.default_rng(0)
    parts = [
        documents_of(
            [rng.integers(2, 5, size=rng.integers(1, longest + 1)).tolist() for _ in range(n)],
            rng.integers(3, size=n),
        )
        for _ in range(3)
    ]
    words = Vocabulary(["a", "b", "c"])
    return TextDataset("small", *parts, words, 3, fingerprint(words, *parts))


def configuration(method: str, *settings: str, latent: int = 1) -> RunConfig:
    """The settings of a method, made small."""
    sizes = SIZES if method != "lm" else SIZES[:2]
    sizes = (*sizes, f"model.latent={latent}") if method != "lm" else sizes
    if method.startswith("lid"):
        sizes = (*sizes, "decoder.convex_hidden=4")
    pairs = [parse_override(text) for text in (*sizes, "train.batch_size=8", *settings)]
    known = load_files([ROOT / "lidcli" / "experiments.yaml"])
    return resolve(known, model=method, data="synthetic", overrides=pairs)


def small_model(
    method: str, *settings: str, latent: int = 1, data: Any = None, noise: float = 0.2
) -> LatentModel:
    """A model in evaluation mode, its weights moved at random.

    Args:
        method: for `--model`.
        settings: as of `--set`.
        latent: K.
        data: what it is built for; `documents()` by default.
        noise: sd of what is added to each weight.
    """
    torch.manual_seed(0)
    model = build(configuration(method, *settings, latent=latent), data or documents())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(noise * torch.randn_like(parameter))
    return model.eval()


def first(n: int = 6, data: Any = None) -> TokenBatch:
    """The first documents of the training part, the shortest first."""
    batch = split_of(data or documents(), "train").fixed()
    step = max(1, len(batch) // n)
    return batch.rows(slice(0, n * step, step))


def grid(latent: int, nodes: int = 161) -> tuple[Tensor, Tensor]:
    """Points (G, K) and log weights (G,) of evenly spaced quadrature over N(0, I), to 8 sds.

    Outputs with sharp potentials are far from polynomials, which Gauss–Hermite's 40 nodes are for:
    its sums were 6% off.
    """
    points = torch.linspace(-8, 8, nodes)
    log_weight = (-points.square() / 2).log_softmax(0)
    axes = torch.meshgrid(*[points] * latent, indexing="ij")
    weights = torch.meshgrid(*[log_weight] * latent, indexing="ij")
    return torch.stack(axes, -1).flatten(0, -2), sum(weights).flatten()  # type: ignore[union-attr]


@torch.no_grad()
def exact(model: LatentModel, x: TokenBatch) -> Tensor:
    """log p(x_n), (N,), by quadrature over the latent; of a language model itself."""
    if not model.latent:
        return model.observation.log_prob(x, torch.zeros(len(x), 0))
    points, log_weight = grid(model.latent)
    log_prob = [
        model.observation.log_prob(x, z[:, None].expand(-1, len(x), -1)) for z in points.split(2000)
    ]
    return (torch.cat(log_prob) + log_weight[:, None]).logsumexp(0)
