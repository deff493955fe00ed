"""LSTMs over sentences: an encoder, and histories for teacher forcing and for sampling.

Shape suffixes: N sentences, T tokens, V vocabulary, H hidden units, M latent, L leading axes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor, nn

State = tuple[Tensor, Tensor]


@contextlib.contextmanager
def double_backward() -> Iterator[None]:
    """Run LSTMs of this context by operations with second derivatives, and on CPUs forward ones.

    cuDNN's LSTM has no second derivative; oneDNN's has none in forward mode and is slower when
    differentiated twice.

    Example:
        >>> net = History(10, 3, 4)
        >>> with double_backward():
        ...     net(torch.zeros(2, 5, dtype=torch.long)).shape
        torch.Size([2, 5, 4])
    """
    before = torch.backends.mkldnn.set_flags(_enabled=False)  # type: ignore[no-untyped-call]
    try:
        with torch.backends.cudnn.flags(enabled=False):
            yield
    finally:
        torch.backends.mkldnn.set_flags(_enabled=before[0])  # type: ignore[no-untyped-call]


class LSTMEncoder(nn.Module):
    """A sentence as the last layer's hidden state: after the last token, or the mean over all.

    Args:
        vocabulary: V, number of tokens.
        embedding: size of a token's embedding.
        hidden: H.
        layers: LSTM layers.
        dropout: of embeddings, in [0, 1).
        pooling: `last` or `mean`.

    Raises:
        ValueError: when a size is out of range.

    References:
        Hochreiter and Schmidhuber, "Long short-term memory" (Neural Computation, 1997).
        Long et al., "Preventing posterior collapse in sequence VAEs with pooling" (2019).

    Example:
        >>> net = LSTMEncoder(10, 3, 4)
        >>> net(torch.zeros(2, 5, dtype=torch.long), torch.tensor([5, 2])).shape
        torch.Size([2, 4])
    """

    def __init__(
        self,
        vocabulary: int,
        embedding: int,
        hidden: int,
        layers: int = 2,
        *,
        dropout: float = 0.0,
        pooling: Literal["last", "mean"] = "last",
    ) -> None:
        super().__init__()
        _check_sizes(vocabulary, embedding, hidden, layers, dropout)
        self.hidden, self.pooling = hidden, pooling
        self.embedding = _embedding(vocabulary, embedding)
        self.dropout = nn.Dropout(dropout)
        self.lstm = nn.LSTM(embedding, hidden, layers, batch_first=True)

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Encode tokens (N, T), of which the first `lengths` (N,) >= 1 count: (N, H)."""
        check_tokens(tokens)
        if lengths.shape != tokens.shape[:1]:
            raise ValueError(f"expected {len(tokens)} lengths, got {tuple(lengths.shape)}")
        states, _ = self.lstm(self.dropout(self.embedding(tokens)))
        counts = lengths.to(tokens.device).view(-1, 1, 1)
        found: Tensor
        if self.pooling == "mean":
            inside = torch.arange(tokens.shape[1], device=tokens.device).view(1, -1, 1) < counts
            found = (states * inside).sum(1) / counts[:, 0]
        else:
            found = states.gather(1, (counts - 1).expand(-1, 1, self.hidden)).squeeze(1)
        return found


class History(nn.Module):
    """The state h_t of an LSTM over x_<t, the first input a learned start.

    Without a latent, nothing of z enters h, which is what identifiability given the history needs.
    With one, z is part of every input and sets the first state.

    Args:
        vocabulary: V, number of tokens.
        embedding: size of a token's embedding.
        hidden: H.
        layers: LSTM layers.
        latent: M, size of the latent it is fed, or 0.
        dropout: of embeddings and of the states handed out, in [0, 1).

    Raises:
        ValueError: when a size is out of range.

    References:
        He et al., "Lagging inference networks and posterior collapse in variational autoencoders"
        (ICLR 2019), for how z is fed.

    Example:
        >>> tokens = torch.zeros(2, 5, dtype=torch.long)
        >>> History(10, 3, 4)(tokens).shape
        torch.Size([2, 5, 4])
        >>> History(10, 3, 4, latent=6)(tokens, torch.zeros(7, 2, 6)).shape
        torch.Size([7, 2, 5, 4])
    """

    def __init__(
        self,
        vocabulary: int,
        embedding: int,
        hidden: int,
        layers: int = 1,
        *,
        latent: int = 0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        _check_sizes(vocabulary, embedding, hidden, layers, dropout)
        if latent < 0:
            raise ValueError(f"a history needs latent >= 0, not {latent}")
        self.hidden, self.layers, self.latent = hidden, layers, latent
        self.embedding = _embedding(vocabulary, embedding)
        self.start = nn.Parameter(torch.empty(embedding).uniform_(-0.1, 0.1))
        self.dropout = nn.Dropout(dropout)
        self.lstm = nn.LSTM(embedding + latent, hidden, layers, batch_first=True)
        self.first = nn.Linear(latent, layers * hidden) if latent else None

    def forward(self, tokens: Tensor, z: Tensor | None = None) -> Tensor:
        """h (N, T, H) before each of tokens (N, T); with z (*L, N, M) it is (*L, N, T, H).

        What stands after a sentence's end changes no state before it: mask, do not pack.
        """
        check_tokens(tokens)
        self._check_latent(z, len(tokens))
        count, length = tokens.shape
        start = self.start.to(self.embedding.weight.dtype).expand(count, 1, -1)
        inputs = self.dropout(torch.cat([start, self.embedding(tokens[:, :-1])], dim=1))
        if z is None:
            states, _ = self.lstm(inputs)
            found: Tensor = self.dropout(states)
            return found
        rows = z.reshape(-1, self.latent)
        inputs = inputs.expand(*z.shape[:-2], *inputs.shape).reshape(len(rows), length, -1)
        fed = torch.cat([inputs, rows.unsqueeze(1).expand(-1, length, -1)], dim=2)
        states, _ = self.lstm(fed, self.begin(len(rows), rows))
        every: Tensor = self.dropout(states)
        return every.reshape(*z.shape[:-1], length, self.hidden)

    def begin(self, count: int, z: Tensor | None = None) -> State:
        """The states (layers, count, H) before the first token, of z (count, M) where it is fed."""
        self._check_latent(z, count)
        if self.first is None:
            zeros = self.start.new_zeros(self.layers, count, self.hidden)
            return zeros, zeros
        cells = self.first(z).reshape(count, self.layers, self.hidden).transpose(0, 1).contiguous()
        return torch.tanh(cells), cells

    def step(
        self, tokens: Tensor | None, state: State, z: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """h (B, H) after one more token (B,), or None at the start, and the new state."""
        count = state[0].shape[1]
        self._check_latent(z, count)
        inputs = self.start.expand(count, -1) if tokens is None else self.embedding(tokens)
        inputs = self.dropout(inputs)
        fed = inputs if z is None else torch.cat([inputs, z], dim=1)
        h, state = self.lstm(fed.unsqueeze(1), state)
        return self.dropout(h.squeeze(1)), state

    def _check_latent(self, z: Tensor | None, count: int) -> None:
        """Raise ValueError unless z is there where it is fed, and only there."""
        if z is None and not self.latent:
            return
        if z is None or not self.latent:
            raise ValueError(f"a history of latent={self.latent} was given z={z is not None}")
        if z.ndim < 2 or z.shape[-2:] != (count, self.latent):
            raise ValueError(f"expected z (..., {count}, {self.latent}), got {tuple(z.shape)}")


def check_tokens(tokens: Tensor) -> None:
    """Raise ValueError unless tokens are (N, T >= 1) int64."""
    if tokens.ndim != 2 or tokens.shape[1] < 1 or tokens.dtype != torch.long:
        raise ValueError(
            f"expected tokens (N, T) of int64, T >= 1, got {tokens.dtype} {tuple(tokens.shape)}"
        )


def _check_sizes(vocabulary: int, embedding: int, hidden: int, layers: int, rate: float) -> None:
    if min(vocabulary, embedding, hidden, layers) < 1:
        raise ValueError(
            f"an LSTM needs sizes >= 1, not vocabulary={vocabulary}, embedding={embedding}, "
            f"hidden={hidden}, layers={layers}"
        )
    if not 0 <= rate < 1:
        raise ValueError(f"dropout must lie in [0, 1), not {rate}")


def _embedding(vocabulary: int, size: int) -> nn.Embedding:
    table = nn.Embedding(vocabulary, size)
    nn.init.uniform_(table.weight, -0.1, 0.1)
    return table
