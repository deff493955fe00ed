"""From the sections of a configuration to the parts of a text model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lidcli.config import sections
from lidcli.config.run import RunConfig
from lidcli.data.cooccurrence import (
    Directions,
    cooccurrence_directions,
    distinct,
    padding_directions,
    random_directions,
    unigram_distribution,
)
from lidcli.data.documents import TextDataset
from lidcli.data.vocabulary import END_ID, UNKNOWN_ID
from lidcli.errors import ConfigError
from lidcli.models.batch import Batch, TokenBatch
from lidcli.models.priors import Prior, StandardNormal
from lidcli.models.sequence import SequenceObservation
from lidcli.nn.conditional import ConditionalOutput, minimal
from lidcli.nn.joint import JointOutput
from lidcli.nn.recurrent import History, LSTMEncoder
from lidcli.nn.sequence import SequenceDecoder
from lidcli.nn.token_output import LinearOutput, SkipOutput, TokenOutput

__all__ = [
    "brenier_lstm",
    "columns",
    "lstm",
    "lstm_encoder",
    "minimal_beta",
    "no_prior",
    "skip_lstm",
]

SPECIAL = (END_ID, UNKNOWN_ID)
REFERENCE = END_ID
"""The token whose logit is 0: the one that every document has."""
MARGIN = 1.5
"""Length of sentences that are drawn at most, over the longest of the training part."""


def no_prior(settings: sections.Language, data: TextDataset) -> Prior:
    """A latent of no dimension."""
    return StandardNormal(0)


def _history(settings: sections.LSTMDecoder, data: TextDataset, latent: int) -> History:
    return History(
        len(data.vocabulary),
        settings.embedding,
        settings.hidden,
        settings.layers,
        latent=latent,
        dropout=settings.dropout,
    )


def _observation(
    settings: sections.LSTMDecoder, data: TextDataset, history: History, output: TokenOutput
) -> SequenceObservation:
    decoder = SequenceDecoder(history, output, chunk=settings.chunk)
    longest = max(8, int(MARGIN * int(data.train.lengths.max())))
    return SequenceObservation(decoder, END_ID, longest)


def _latent(config: RunConfig) -> int:
    latent: int = config.model.latent  # type: ignore[attr-defined]
    return latent


def _odds(data: TextDataset) -> Tensor:
    """Log odds (V - 1,) of the other tokens to the reference, in the training part."""
    p = torch.from_numpy(unigram_distribution(data.train.ids, len(data.vocabulary)))
    log_p = p.log()
    others = torch.arange(len(p)) != REFERENCE
    return (log_p - log_p[REFERENCE])[others]


def lstm(
    settings: sections.LSTMDecoder, config: RunConfig, data: TextDataset
) -> SequenceObservation:
    """The classical sequential VAE's decoder, or without a latent a language model."""
    history = _history(settings, data, _latent(config))
    output = LinearOutput(
        len(data.vocabulary), settings.hidden, reference=REFERENCE, start=_odds(data)
    )
    return _observation(settings, data, history, output)


def columns(
    settings: sections.SkipLSTMDecoder | sections.BrenierLSTMDecoder,
    config: RunConfig,
    data: TextDataset,
) -> Directions:
    """β's columns for a data set: zero padding, or orthonormal in the unigram Fisher metric."""
    latent = _latent(config)
    found = _directions(data, latent, settings.repeats)
    if settings.columns == "random":
        drawn = random_directions(found.unigram, latent, excluded=SPECIAL, seed=config.seed)
        return replace(found, columns=drawn)
    if settings.columns == "zeros":
        size = len(data.vocabulary)
        return replace(found, columns=padding_directions(size, latent, excluded=SPECIAL))
    return found


def _counted(data: TextDataset, repeats: bool) -> tuple[Any, Any]:
    """Tokens of the training part that its statistics count, and where each document begins."""
    ids, offsets = data.train.ids, data.train.offsets
    return (ids, offsets) if repeats else distinct(ids, offsets, len(data.vocabulary))


def _directions(data: TextDataset, count: int, repeats: bool) -> Directions:
    size = len(data.vocabulary)
    p = unigram_distribution(data.train.ids, size)
    ids, offsets = _counted(data, repeats)
    try:
        return cooccurrence_directions(ids, offsets, size, count, excluded=SPECIAL, unigram=p)
    except ValueError as error:
        raise ConfigError(f"No directions from the documents of {data.name}: {error}.") from None


def minimal_beta(found: Directions, c: float) -> dict[str, Any]:
    """Columns, probabilities and strengths ε_k = c √λ_k of the V - 1 free logits.

    Args:
        found: directions of the training part, of all V words.
        c: the dial, above 0.
    """
    b, p = minimal(
        torch.from_numpy(found.columns), torch.from_numpy(found.unigram), reference=REFERENCE
    )
    dispersion = torch.from_numpy(found.dispersion)
    floor = SMALLEST * dispersion.max().clamp(min=SMALLEST)
    return {"columns": b, "unigram": p, "strengths": c * dispersion.clamp(min=floor).sqrt()}


SMALLEST = 0.01
"""λ_k over the largest, at least: no latent is left without its column."""


def skip_lstm(
    settings: sections.SkipLSTMDecoder, config: RunConfig, data: TextDataset
) -> SequenceObservation:
    """The classical decoder with a linear path along β's columns."""
    latent = _latent(config)
    beta = minimal_beta(columns(settings, config, data), settings.c)
    output = SkipOutput(
        beta["columns"],
        beta["strengths"],
        settings.hidden,
        reference=REFERENCE,
        start=_odds(data),
        unigram=beta["unigram"],
    )
    return _observation(settings, data, _history(settings, data, latent), output)


def brenier_lstm(
    settings: sections.BrenierLSTMDecoder, config: RunConfig, data: TextDataset
) -> SequenceObservation:
    """The identifiable decoder: conditional on the history, or joint with it."""
    latent = _latent(config)
    history = _history(settings, data, 0)
    maps: dict[str, Any] = {
        "reference": REFERENCE,
        "hidden": settings.convex_hidden,
        "layers": settings.convex_layers,
        "rotations": settings.rotations,
        "gain": settings.gain,
    }

    def conditional() -> TokenOutput:
        beta = minimal_beta(columns(settings, config, data), settings.c)
        return ConditionalOutput(
            beta["columns"],
            beta["unigram"],
            beta["strengths"],
            settings.hidden,
            width=settings.rank,
            dropout=settings.dropout,
            inner_lipschitz=settings.inverse_lipschitz,
            **maps,
        )

    def joint() -> TokenOutput:
        return JointOutput(
            len(data.vocabulary),
            latent,
            settings.hidden,
            width=settings.hidden,
            dropout=settings.dropout,
            inverse_lipschitz=settings.inverse_lipschitz,
            **maps,
        )

    output = {"conditional": conditional, "joint": joint}[settings.output]()
    return _observation(settings, data, history, output)


class TokenEncoder(nn.Module):
    """An LSTM, as an encoder of batches, beside the document's scores along directions.

    Args:
        network: of the tokens.
        scores: (V, R) what each token adds to a document's scores, or None.
        repeats: whether a token adds to them again where the document repeats it.
    """

    scores: Tensor | None

    def __init__(
        self, network: LSTMEncoder, scores: Tensor | None = None, *, repeats: bool = True
    ) -> None:
        super().__init__()
        self.network, self.repeats = network, repeats
        self.register_buffer("scores", scores)

    def forward(self, x: Batch) -> Tensor:
        """Features (N, hidden + R)."""
        assert isinstance(x, TokenBatch)
        out: Tensor = self.network(x.ids, x.lengths)
        if self.scores is None:
            return out
        counted = x.mask if self.repeats else x.first
        total = (self.scores[x.ids] * counted.unsqueeze(2)).sum(1)
        return torch.cat([out, total / counted.sum(1, keepdim=True).to(total.dtype).sqrt()], 1)


def token_scores(data: TextDataset, count: int, *, repeats: bool) -> Tensor:
    """What each token adds to a document's scores (V, R).

    A score is the sum along a direction in which documents of the training part differ, over the
    square root of the length, with mean 0 and a variance of about 1 (a little less where documents
    are short): what the unigram model with a linear path along the direction would infer the latent
    from. Without repeats sum and length are of different tokens.

    Raises:
        ConfigError: the documents have fewer such directions.
    """
    found = _directions(data, count, repeats)
    ids, offsets = _counted(data, repeats)
    centred = found.columns - unigram_distribution(ids, len(found.columns)) @ found.columns
    sd = np.sqrt(1 + np.diff(offsets).mean() * found.dispersion)
    return torch.from_numpy(centred / sd).to(torch.get_default_dtype())


def lstm_encoder(
    settings: sections.LSTMEncoder, data: TextDataset
) -> tuple[Callable[[], nn.Module], int]:
    """Makes LSTMs over the tokens, and says how many features they give."""
    repeats = settings.repeats
    scores = token_scores(data, settings.scores, repeats=repeats) if settings.scores else None

    def make() -> nn.Module:
        network = LSTMEncoder(
            len(data.vocabulary),
            settings.embedding,
            settings.hidden,
            settings.layers,
            dropout=settings.dropout,
            pooling=settings.pooling,
        )
        return TokenEncoder(network, scores, repeats=repeats)

    return make, settings.hidden + settings.scores
