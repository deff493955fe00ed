"""Synthetic sentences whose latent matters, generated here, with what no model can exceed."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lidcli.data.cache import keep, recall
from lidcli.data.documents import (
    Ceiling,
    Documents,
    TextDataset,
    documents_of,
    fingerprint,
    pack,
    unpack,
)
from lidcli.data.language import Language
from lidcli.data.vocabulary import Vocabulary

__all__ = ["LANGUAGE", "SYNTHETIC_CEILING", "SYNTHETIC_SHA256", "sentences", "synthetic"]

LANGUAGE = Language()
PARTS = {"train": 16_000, "valid": 2_000, "test": 2_000}
FORMAT_VERSION = 1
FIRST_WORD = 2
"""The id of word 0: `</s>` and `<unk>` come first."""

SYNTHETIC_SHA256 = "307494f17fd49a3a980f5344d863529c416ee7301451a08d6b633f6edfda64e0"
"""Of the data set in its full sizes, which the ceiling is of."""
SYNTHETIC_CEILING = Ceiling(
    entropy=52.376, entropy_se=0.167, information=3.964, information_se=0.039
)
"""From the 2,000 test sentences, by `python -m benchmarks.synthetic`."""


def sentences(part: str, count: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The first sentences of a part, and the latents that generated them.

    Args:
        part: train, valid or test.
        count: N, any number.

    Returns:
        words (N, 10) in 0 .. 999 and z (N, 5).

    Example:
        >>> words, z = sentences("test", 3)
        >>> words.shape, z.shape
        ((3, 10), (3, 5))
    """
    stream = list(PARTS).index(part)
    return LANGUAGE.draw(count, np.random.Generator(np.random.PCG64([LANGUAGE.seed, stream])))


def synthetic(
    root: Path, train: int | None = None, valid: int | None = None, test: int | None = None
) -> TextDataset:
    """Sentences of ten words out of 1,000 from a two-layer sequential VAE with five latents.

    A smaller part is the beginning of a larger one. The vocabulary is that of the generator, so
    that its entropy bounds what a model can reach; `</s>` after ten words costs nothing.

    The ceiling was measured on the 2,000 test sentences: on those, its entropy is what the
    generator itself reaches, to 0.002 nats; its standard error is that of the population.

    Args:
        root: the folder of data; the sentences are kept in `.cache` there.
        train: sentences; None: 16,000.
        valid: None: 2,000.
        test: None: 2,000.

    References:
        He, Spokoyny, Neubig and Berg-Kirkpatrick, Lagging Inference Networks and Posterior
        Collapse in Variational Autoencoders, ICLR 2019.
    """
    asked = dict(zip(PARTS, (train, valid, test), strict=True))
    sizes = {name: asked[name] or size for name, size in PARTS.items()}
    plan = f"synthetic {FORMAT_VERSION} {asdict(LANGUAGE)} {sizes}"
    key = hashlib.sha256(plan.encode()).hexdigest()
    if (kept := recall(root, key)) is not None:
        data = unpack(kept)
    else:
        data = _generate(sizes)
        keep(root, key, pack(data))
    if sizes == PARTS and data.sha256 != SYNTHETIC_SHA256:
        note = "synthetic: this machine's arithmetic gave other sentences than the ceiling's."
        return replace(data, notes=(note,), ceiling=SYNTHETIC_CEILING)
    return replace(data, ceiling=SYNTHETIC_CEILING)


def _generate(sizes: dict[str, int]) -> TextDataset:
    vocabulary = Vocabulary(f"w{i}" for i in range(LANGUAGE.vocabulary))
    train, valid, test = (_documents(name, size) for name, size in sizes.items())
    return TextDataset(
        name="synthetic",
        train=train,
        valid=valid,
        test=test,
        vocabulary=vocabulary,
        classes=None,
        sha256=fingerprint(vocabulary, train, valid, test),
    )


def _documents(part: str, size: int) -> Documents:
    words, _ = sentences(part, size)
    return documents_of([[word + FIRST_WORD for word in row] for row in words.tolist()])
