"""A language with a latent: sentences from a sequential VAE with random weights."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Language"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

GRID = 1 << 20
"""Probabilities are summed on this grid, so that a machine's last bits do not choose words."""
CHUNK = 1000


@dataclass(frozen=True)
class Language:
    """Sentences x_1 .. x_T given z ~ N(0, I_K), after Example 2 of the paper.

    An LSTM reads x_<t and never sees z; a net of two layers takes its state h_t and z to the
    logits of the next word, O tanh(A h_t + B z) + b, with b falling like a Zipf law. All weights
    are normal draws, scaled by one over the root of their inputs.

    Attributes:
        seed: of the weights.
        latent: K.
        hidden: H, of the LSTM, of its input and of the net.
        vocabulary: V, words.
        length: T, of every sentence.
        latent_gain: scale of B; the larger, the more a sentence says about z.
        logit_gain: scale of O; the larger, the lower the entropy of a word.
        zipf: b_v = -zipf log(v + 1).

    Example:
        >>> words, z = Language(vocabulary=30).draw(4, np.random.default_rng(0))
        >>> words.shape, z.shape
        ((4, 10), (4, 5))
    """

    seed: int = 2019
    latent: int = 5
    hidden: int = 100
    vocabulary: int = 1000
    length: int = 10
    latent_gain: float = 1.0
    logit_gain: float = 2.5
    zipf: float = 0.9

    def __post_init__(self) -> None:
        random = np.random.Generator(np.random.PCG64(self.seed))
        size, root = self.hidden, math.sqrt(self.hidden)
        weights = {
            "embedding": random.standard_normal((self.vocabulary + 1, size)),
            "read": random.standard_normal((size, 4 * size)) / root,
            "recur": random.standard_normal((size, 4 * size)) / root,
            "state": random.standard_normal((size, size)) / root,
            "topic": random.standard_normal((self.latent, size))
            * (self.latent_gain / math.sqrt(self.latent)),
            "out": random.standard_normal((size, self.vocabulary)) * (self.logit_gain / root),
            "bias": -self.zipf * np.log(np.arange(1, self.vocabulary + 1)),
        }
        for name, value in weights.items():
            object.__setattr__(self, f"_{name}", value)

    _embedding = _read = _recur = _state = _topic = _out = _bias = np.zeros(0)

    def draw(self, count: int, random: np.random.Generator) -> tuple[Ints, Floats]:
        """Independent sentences; fewer are the beginning of more.

        Args:
            count: N.
            random: gives z and the uniforms that choose the words.

        Returns:
            words (N, T) in 0 .. V - 1, and their latents (N, K).
        """
        latents, uniforms = random.spawn(2)
        z = latents.standard_normal((count, self.latent))
        u = uniforms.integers(GRID, size=(count, self.length))
        starts = range(0, count, CHUNK)
        parts = [self._draw(z[i : i + CHUNK], u[i : i + CHUNK]) for i in starts]
        return np.concatenate([np.zeros((0, self.length), np.int64), *parts]), z

    def _draw(self, z: Floats, u: Ints) -> Ints:
        words = np.empty(u.shape, np.int64)
        previous = np.full(len(z), self.vocabulary)
        hidden = cell = np.zeros((len(z), self.hidden))
        for t in range(self.length):
            hidden, cell = self._step(previous, hidden, cell)
            sums = self._logits(hidden, z)
            sums -= sums.max(axis=1, keepdims=True)
            np.cumsum(np.exp(sums, out=sums), axis=1, out=sums)
            sums *= GRID / sums[:, -1:]
            np.floor(sums, out=sums)
            previous = (sums[:, :-1] <= u[:, t, None]).sum(axis=1)
            words[:, t] = previous
        return words

    def states(self, words: Ints) -> Floats:
        """What is known of x_<t before each word.

        Args:
            words: (N, T).

        Returns:
            A h_t, (N, T, H).
        """
        previous = np.full(len(words), self.vocabulary)
        hidden = cell = np.zeros((len(words), self.hidden))
        states = np.empty((*words.shape, self.hidden))
        for t in range(words.shape[1]):
            hidden, cell = self._step(previous, hidden, cell)
            states[:, t] = hidden @ self._state
            previous = words[:, t]
        return states

    def log_prob(self, words: Ints, states: Floats, z: Floats) -> Floats:
        """log p(x | z) of one sentence for many latents.

        Args:
            words: (T,).
            states: (T, H) as from `states`.
            z: (S, K).

        Returns:
            (S,) nats.
        """
        logits = np.tanh(states + (z @ self._topic)[:, None]) @ self._out + self._bias
        top = logits.max(axis=-1, keepdims=True)
        chosen = np.take_along_axis(logits - top, words[None, :, None], axis=-1)[..., 0]
        logits -= top
        total: Floats = np.exp(logits, out=logits).sum(axis=-1)
        return np.asarray((chosen - np.log(total)).sum(axis=-1))

    def score(self, words: Ints, states: Floats, z: Floats) -> tuple[Floats, Floats]:
        """Gradient of log p(x | z) and Fisher information of the words, at one latent.

        Args:
            words: (T,).
            states: (T, H).
            z: (K,).

        Returns:
            gradient (K,) and information (K, K).
        """
        active = np.tanh(states + z @ self._topic)
        logits = active @ self._out + self._bias
        p = np.exp(logits - logits.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        slopes = self._topic[None] * (1 - active**2)[:, None]
        jacobian = slopes @ self._out
        mean = np.einsum("tkv,tv->tk", jacobian, p)
        chosen = jacobian[np.arange(len(words)), :, words]
        second = (jacobian * p[:, None]) @ jacobian.transpose(0, 2, 1)
        information = (second - mean[:, :, None] * mean[:, None]).sum(axis=0)
        return (chosen - mean).sum(axis=0), information

    def _step(self, previous: Ints, hidden: Floats, cell: Floats) -> tuple[Floats, Floats]:
        gates = self._embedding[previous] @ self._read + hidden @ self._recur
        into, forget, out, new = np.split(gates, 4, axis=1)
        cell = _sigmoid(forget + 1) * cell + _sigmoid(into) * np.tanh(new)
        return _sigmoid(out) * np.tanh(cell), cell

    def _logits(self, hidden: Floats, z: Floats) -> Floats:
        mixed: Floats = np.tanh(hidden @ self._state + z @ self._topic) @ self._out
        mixed += self._bias
        return mixed


def _sigmoid(x: Floats) -> Floats:
    return 0.5 * (1 + np.tanh(0.5 * x))
