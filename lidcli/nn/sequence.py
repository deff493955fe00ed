"""A decoder of sentences: a history and an output layer.

Shape suffixes: N sentences, T tokens, V vocabulary, M latent, L leading axes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lidcli.nn.certificate import Certificate
from lidcli.nn.cross_entropy import CHUNK
from lidcli.nn.recurrent import History, check_tokens, double_backward
from lidcli.nn.token_fisher import directional_derivatives, reversed_derivatives, token_fisher
from lidcli.nn.token_output import TokenOutput


class SequenceDecoder(nn.Module):
    """x_t | z, x_<t ~ Cat(output(z, h_t)), h_t the history of x_<t.

    Without a latent in either part it is a language model, with one in the history alone the
    classical sequential VAE's decoder; an output of Brenier maps takes a history that is not fed z,
    so that all dependence on z passes through the output.

    Args:
        history: of the tokens before, and of z where it is fed.
        output: of the history, and of z where it reads it.
        chunk: tokens whose logits are held at once.
        fused: compute the gradient of the log-probabilities in the forward pass while training,
            which pays where every token has the same weight in the objective.

    Raises:
        ValueError: when the parts do not fit.

    Example:
        >>> from lidcli.nn.token_output import LinearOutput
        >>> net = SequenceDecoder(History(10, 3, 4), LinearOutput(10, 4))
        >>> net.log_prob(torch.zeros(2, 5, dtype=torch.long), torch.tensor([5, 3])).shape
        torch.Size([2])
    """

    def __init__(
        self, history: History, output: TokenOutput, *, chunk: int = CHUNK, fused: bool = True
    ) -> None:
        super().__init__()
        vocabulary = history.embedding.num_embeddings
        if output.vocabulary != vocabulary:
            raise ValueError(f"a history of {vocabulary} tokens, an output of {output.vocabulary}")
        sizes = {size for size in (history.latent, output.latent) if size}
        if len(sizes) > 1:
            raise ValueError(
                f"the history is fed latent={history.latent}, the output reads {output.latent}"
            )
        certifies = type(output).certificate is not TokenOutput.certificate
        if history.latent and certifies and not output.certifies_fed_histories:
            raise ValueError("an injective output needs a history that never sees z: latent=0")
        self.history, self.output = history, output
        self.latent = max(sizes, default=0)
        self.chunk, self.fused = chunk, fused

    def features(self, tokens: Tensor, z: Tensor | None = None) -> Tensor:
        """What the output layer multiplies, (*L, N, T, H), for tokens (N, T), z (*L, N, M)."""
        self._check(tokens, z)
        h = self.history(tokens, z if self.history.latent else None)
        return self.output.features(z if self.output.latent else None, h)

    def token_log_prob(
        self,
        tokens: Tensor,
        lengths: Tensor,
        z: Tensor | None = None,
        *,
        refining: bool = False,
    ) -> Tensor:
        """log p(x_t | z, x_<t) in nats, 0 after a sentence's end.

        Args:
            tokens: (N, T) int64.
            lengths: (N,), how many of them count, in [1, T].
            z: (*L, N, M), or None where nothing reads it.
            refining: leave the first gradient of the output's weights out, as a step that refines
                z does; to train through that step, in training mode, is exact all the same.

        Returns:
            (*L, N, T).
        """
        features = self.features(tokens, z)
        mask = self._mask(tokens, lengths).expand(features.shape[:-1])
        rows, targets = features[mask], tokens.expand(mask.shape)[mask]
        anticipated = None
        if self.fused and torch.is_grad_enabled() and self.training != refining:
            anticipated = torch.ones(len(rows), device=rows.device)
        found = self.output.log_prob(
            rows, targets, chunk=self.chunk, anticipated=anticipated, features_only=refining
        )
        return found.new_zeros(mask.shape).masked_scatter(mask, found)

    def log_prob(
        self,
        tokens: Tensor,
        lengths: Tensor,
        z: Tensor | None = None,
        *,
        refining: bool = False,
    ) -> Tensor:
        """log p(x | z) in nats per sentence, (*L, N); arguments as in `token_log_prob`."""
        return self.token_log_prob(tokens, lengths, z, refining=refining).sum(-1)

    @torch.no_grad()
    def sample(
        self,
        z: Tensor | int,
        end: int,
        longest: int,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Draw sentences up to and with the token `end`, or of `longest` tokens.

        Args:
            z: latents (N, M), or how many sentences where nothing reads one.
            end: the token that ends a sentence; it also fills what stands behind the end.
            longest: T >= 1.
            generator: of the draws.

        Returns:
            Tokens (N, T) int64, T that of the longest sentence, and lengths (N,).
        """
        latent = None if isinstance(z, int) else z
        count = z if isinstance(z, int) else len(z)
        fed = latent if self.history.latent else None
        read = latent if self.output.latent else None
        state, device = self.history.begin(count, fed), self.history.start.device
        tokens = torch.full((count, longest), end, device=device)
        lengths = torch.full((count,), longest, device=device)
        going, last = torch.ones(count, dtype=torch.bool, device=device), None
        for t in range(longest):
            h, state = self.history.step(last, state, fed)
            logits = self.output.logits(self.output.features(read, h.unsqueeze(1)).squeeze(1))
            drawn = torch.multinomial(logits.softmax(1), 1, generator=generator).squeeze(1)
            last = torch.where(going, drawn, end)
            tokens[:, t] = last
            ending = going & (last == end)
            lengths[ending] = t + 1
            going = going & ~ending
            if not bool(going.any()):
                break
        return tokens[:, : int(lengths.max())], lengths

    @torch.no_grad()
    def fisher(self, tokens: Tensor, lengths: Tensor, z: Tensor, rows: int = 8) -> Tensor:
        """Σ_t J_tᵀ (diag p_t - p_t p_tᵀ) J_t along given sentences, the Fisher information in z.

        Args:
            tokens: (N, T) int64.
            lengths: (N,).
            z: (*L, N, M).
            rows: sentences at once, >= 1.

        Returns:
            (*L, N, M, M).
        """
        mask = self._mask(tokens, lengths)
        flat = z.reshape(-1, *z.shape[-2:])
        out = z.new_zeros(*flat.shape, z.shape[-1])
        for draw, some in enumerate(flat):
            for start in range(0, len(tokens), rows):
                part = slice(start, start + rows)
                wide = int(lengths[part].max())
                out[draw, part] = self._fisher(tokens[part, :wide], mask[part, :wide], some[part])
        return out.reshape(*z.shape, z.shape[-1])

    def certificate(self) -> Certificate | None:
        """What is proven of z -> logits for every history, or None."""
        return self.output.certificate()

    def _fisher(self, tokens: Tensor, mask: Tensor, z: Tensor) -> Tensor:
        """(N, M, M) of z (N, M); the LSTM of a GPU has no forward mode."""
        fed = self.history.latent and z.is_cuda
        derivatives = reversed_derivatives if fed else directional_derivatives
        with double_backward():
            features = self.features(tokens, z)[mask]
            slopes = derivatives(lambda z: self.features(tokens, z)[mask], z)
        found = token_fisher(
            features,
            slopes.transpose(0, 1),
            self.output.weight(),
            bias=self.output.bias(),
            reference=self.output.reference,
        )
        sentence = torch.arange(len(tokens), device=z.device).unsqueeze(1).expand_as(mask)[mask]
        return z.new_zeros(*z.shape, z.shape[-1]).index_add(0, sentence, found)

    def _mask(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Which of tokens (N, T) count."""
        if lengths.shape != tokens.shape[:1]:
            raise ValueError(f"expected {len(tokens)} lengths, got {tuple(lengths.shape)}")
        return torch.arange(tokens.shape[1], device=tokens.device) < lengths.unsqueeze(1)

    def _check(self, tokens: Tensor, z: Tensor | None) -> None:
        """Raise ValueError unless z is (..., N, M) where a part reads it."""
        check_tokens(tokens)
        expected = (len(tokens), self.latent)
        if self.latent and (z is None or z.ndim < 2 or z.shape[-2:] != expected):
            given = None if z is None else tuple(z.shape)
            raise ValueError(f"expected latents (..., {expected[0]}, {expected[1]}), got {given}")
