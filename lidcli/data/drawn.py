"""Data drawn from the classical models of the paper: section 2.2 and appendix A."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lidcli.config.sections import Data
from lidcli.data.dataset import Dataset, Split, fingerprint
from lidcli.data.splits import Stream

__all__ = ["SOURCES", "Clusters", "Linear", "classical"]

Floats = NDArray[np.float64]
SEED = 2021


@dataclass(frozen=True)
class Linear:
    """x ~ N(W z, σ² I), z standard normal (appendix A.1, Eqs. 10 and 11)."""

    weight: Floats
    """W (D, K)."""
    sigma: float
    size: int = 500

    def draw(self, n: int, rng: np.random.Generator) -> tuple[Floats, None]:
        """n data (n, D), without labels."""
        inputs, latent = self.weight.shape
        z = rng.normal(size=(n, latent))
        return z @ self.weight.T + self.sigma * rng.normal(size=(n, inputs)), None

    @property
    def entropy(self) -> float:
        """Nats per datum."""
        inputs = len(self.weight)
        covariance = self.weight @ self.weight.T + self.sigma**2 * np.eye(inputs)
        return float(0.5 * np.linalg.slogdet(2 * math.pi * math.e * covariance)[1])


@dataclass(frozen=True)
class Clusters:
    """A mixture of round Gaussians with centres on the first axis (appendix A.2, section 2.2)."""

    weights: tuple[float, ...]
    centres: tuple[float, ...]
    sd: float = 1.0
    width: int = 1
    size: int = 100_000
    noise: float = 0.0
    """The part of `sd` that the GMVAE of section 2.2 calls σ, below the decoder."""

    def draw(self, n: int, rng: np.random.Generator) -> tuple[Floats, NDArray[np.int64] | None]:
        """n data (n, D) and the cluster each is from, if there are several."""
        c = rng.choice(len(self.weights), size=n, p=self.weights)
        x = self.sd * rng.normal(size=(n, self.width))
        x[:, 0] += np.asarray(self.centres)[c]
        return x, c.astype(np.int64) if len(self.weights) > 1 else None

    @property
    def entropy(self) -> float:
        """Nats per datum, the first axis by the trapezium rule."""
        reach = 12 * self.sd
        t = np.linspace(min(self.centres) - reach, max(self.centres) + reach, 40_001)
        gaps = (t[:, None] - np.asarray(self.centres)) / self.sd
        log_p = np.log(self.weights) - 0.5 * gaps**2 - math.log(self.sd * math.sqrt(2 * math.pi))
        p = np.exp(log_p).sum(1)
        first = -float(np.trapezoid(np.where(p > 0, p * np.log(np.maximum(p, 1e-300)), 0.0), t))
        others = 0.5 * math.log(2 * math.pi * math.e * self.sd**2)
        return first + (self.width - 1) * others


def _axes(lengths: tuple[float, ...], inputs: int = 5) -> Floats:
    """W (D, K) with orthogonal columns of given lengths, in fixed oblique directions."""
    rng = np.random.default_rng(SEED)
    directions = np.linalg.qr(rng.normal(size=(inputs, inputs)))[0]
    return np.asarray(directions[:, : len(lengths)] * np.asarray(lengths), dtype=np.float64)


SOURCES: dict[str, Linear | Clusters] = {
    "ppca-1d": Linear(_axes((4.0,)), 1.0),
    "ppca-2d": Linear(_axes((4.0, 2.7)), 1.0),
    "gmm-separated": Clusters((0.15, 0.85), (-10.0, 10.0)),
    "gmm-overlapping": Clusters((0.15, 0.85), (-0.5, 0.5)),
    "gmm-single": Clusters((1.0,), (-1.0,)),
    "gmvae-two": Clusters((0.5, 0.5), (-2.0, 2.0), math.hypot(0.5, 0.3), 2, 5000, 0.3),
    "gmvae-one": Clusters((1.0,), (0.0,), math.hypot(0.5, 0.3), 2, 5000, 0.3),
}
"""What each data set is drawn from, with the paper's sizes."""


def classical(config: Data) -> Dataset:
    """Draw one of the classical data sets: all of the paper's size are for training.

    Validation and test are further draws, a tenth and as many.

    Args:
        config: `train` and `test` say how many are drawn, the paper's number by default;
            `split_seed` draws others.

    Example:
        >>> from lidcli.config.sections import Classical
        >>> data = classical(Classical(name="ppca-2d"))
        >>> data.train.x.shape, data.valid.x.shape, data.test.x.shape
        ((500, 5), (50, 5), (500, 5))
    """
    source = SOURCES[config.name]
    n = config.train or source.size
    sizes = (n, max(2, n // 10), config.test or n)
    streams = (Stream.TRAIN_DRAWS, Stream.VALID, Stream.TEST_DRAWS)
    parts = []
    for size, stream in zip(sizes, streams, strict=True):
        rng = np.random.Generator(
            np.random.PCG64([SEED, config.split_seed, int(stream), *config.name.encode()])
        )
        x, labels = source.draw(size, rng)
        parts.append(Split(x.astype(np.float32), labels))
    clusters = isinstance(source, Clusters) and len(source.weights) > 1
    return Dataset(
        name=config.name,
        form="points",
        train=parts[0],
        valid=parts[1],
        test=parts[2],
        shape=(parts[0].x.shape[1],),
        classes=len(source.weights) if clusters and isinstance(source, Clusters) else None,
        stochastic=False,
        sha256=fingerprint(*parts),
        entropy=source.entropy,
    )
