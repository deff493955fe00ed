"""From grey images of any source to a data set, binarised where asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lidcli.config.sections import Image
from lidcli.data.dataset import Dataset, Split, fingerprint
from lidcli.data.splits import Stream, generator, split

__all__ = ["BINARISATION_SEED", "Images", "grey_dataset"]

BINARISATION_SEED = 0


@dataclass(frozen=True)
class Images:
    """Grey images as a file holds them: (N, H, W) uint8 or floats in [0, 1]; labels (N,)."""

    pixels: NDArray[Any]
    labels: NDArray[np.int64] | None

    def take(self, rows: NDArray[np.int64]) -> Split:
        """Those rows as flattened float32 intensities."""
        chosen = self.pixels[rows].reshape(len(rows), -1)
        scale = np.float32(255 if chosen.dtype == np.uint8 else 1)
        labels = None if self.labels is None else self.labels[rows]
        return Split(chosen.astype(np.float32) / scale, labels)


def bits(part: Split, stream: Stream) -> Split:
    """One draw of bits from intensities, the same in every run."""
    uniform = generator(BINARISATION_SEED, stream).random(part.x.shape, dtype=np.float32)
    return Split((uniform < part.x).astype(np.float32), part.labels)


def grey_dataset(
    config: Image,
    train: Images,
    test: Images | None,
    classes: int | None,
    notes: tuple[str, ...] = (),
) -> Dataset:
    """Split, flatten and binarise grey images.

    Args:
        config: the data's section of the configuration.
        train: the training pool.
        test: the published test set; None: `test_fraction` of the pool is cut off.
        classes: number of labels, or None.
        notes: how the images differ from the published ones.

    Raises:
        ConfigError: more data asked for than there are.
        DataError: too few data to split.
    """
    rows = split(config, len(train.pixels), None if test is None else len(test.pixels))
    parts = train.take(rows.train), train.take(rows.valid), (test or train).take(rows.test)
    if config.binarise:
        tr, va, te = parts
        parts = tr, bits(va, Stream.VALID_BITS), bits(te, Stream.TEST_BITS)
    return Dataset(
        name=config.name,
        form="image",
        train=parts[0],
        valid=parts[1],
        test=parts[2],
        shape=tuple(train.pixels.shape[1:]),
        classes=classes,
        stochastic=config.binarise,
        sha256=fingerprint(*parts),
        notes=notes + _notes(config, train, test),
    )


def _notes(config: Image, train: Images, test: Images | None) -> tuple[str, ...]:
    count = len(train.pixels)
    if test is None:
        return (
            f"{config.name}: no published split; a random {config.test_fraction:.0%} of"
            f" {count:,} images is the test set (split seed {config.split_seed}).",
        )
    notes = []
    if config.train not in (None, count):
        notes.append(
            f"{config.name}: a random {config.train:,} of {count:,} training images"
            f" (split seed {config.split_seed})."
        )
    if config.test not in (None, len(test.pixels)):
        notes.append(
            f"{config.name}: a random {config.test:,} of {len(test.pixels):,} test images"
            f" (split seed {config.split_seed})."
        )
    return tuple(notes)
