"""Example 2's observation: tokens one after the other, given z and those before."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor

from lidcli.models.batch import Batch, TokenBatch
from lidcli.models.observations import Observation
from lidcli.nn.certificate import Certificate
from lidcli.nn.conditional import ConditionalOutput
from lidcli.nn.joint import JointOutput
from lidcli.nn.recurrent import double_backward
from lidcli.nn.sequence import SequenceDecoder

__all__ = ["SequenceObservation"]

POSITIONS = 10_000
"""Of tokens whose states are held at once."""


class SequenceObservation(Observation):
    """p(x | z) = Π_t p(x_t | z, x_<t), categorical, by teacher forcing.

    Args:
        decoder: of the history and z; of the history alone in a language model.
        end: the token that ends a sentence.
        longest: tokens at most of a sentence that is drawn.

    References:
        Paper, Example 2.

    Example:
        >>> from lidcli.nn.recurrent import History
        >>> from lidcli.nn.token_output import LinearOutput
        >>> decoder = SequenceDecoder(History(10, 3, 4, latent=2), LinearOutput(10, 4))
        >>> x = TokenBatch(torch.zeros(2, 5, dtype=torch.long), torch.tensor([5, 3]))
        >>> SequenceObservation(decoder, 0, 20).log_prob(x, torch.zeros(7, 2, 2)).shape
        torch.Size([7, 2])
    """

    def __init__(self, decoder: SequenceDecoder, end: int, longest: int) -> None:
        super().__init__()
        self.decoder: SequenceDecoder = decoder
        self.end, self.longest = end, longest
        self._refining = False

    def log_prob(self, x: Batch, z: Tensor) -> Tensor:
        """log p(x_n | z_n) in nats, (*L, N), for latents (*L, N, M)."""
        assert isinstance(x, TokenBatch)
        if not self.decoder.latent:
            return self.decoder.log_prob(x.ids, x.lengths).expand(z.shape[:-1])
        return self.decoder.log_prob(x.ids, x.lengths, z, refining=self._refining)

    def sample(self, z: Tensor) -> TokenBatch:
        """A sentence for each latent (N, M)."""
        ids, lengths = self.decoder.sample(
            z if self.decoder.latent else len(z), self.end, self.longest
        )
        return TokenBatch(ids, lengths)

    informed = True

    def fisher(self, z: Tensor) -> Tensor:
        """Summed over the tokens of a sentence drawn at each latent, (N, M, M)."""
        x = self.sample(z)
        return self.decoder.fisher(x.ids, x.lengths, z)

    @torch.no_grad()
    def mean_probabilities(self, x: TokenBatch, z: Tensor) -> Tensor:
        """Mean over all positions of x of the next token's distribution, (V,), for z (N, M)."""
        total = z.new_zeros(self.decoder.output.vocabulary).double()
        first = 0
        for part in x.parts(POSITIONS):
            own, first = z[first : first + len(part)], first + len(part)
            features = self.decoder.features(part.ids, own if self.decoder.latent else None)
            for some in torch.split(features[part.mask], self.decoder.chunk):
                total += self.decoder.output.logits(some).softmax(-1).double().sum(0)
        return total / x.terms()

    def certificate(self) -> Certificate | None:
        """Of z -> logits, for every history, where the output is injective."""
        return self.decoder.certificate()

    def calibrates(self) -> bool:
        """Outputs with potentials do."""
        return True

    def calibrate(self, z: Tensor, x: Batch) -> None:
        """Set the gains of the output's potentials."""
        assert isinstance(x, TokenBatch)
        output = self.decoder.output
        if isinstance(output, ConditionalOutput | JointOutput):
            output.calibrate(z, self.decoder.history(x.ids))

    @contextlib.contextmanager
    def refining(self) -> Iterator[None]:
        """LSTMs by operations with second derivatives, and gradients of z alone."""
        self._refining = True
        try:
            with double_backward():
                yield
        finally:
            self._refining = False
