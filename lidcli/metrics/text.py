"""What is measured and shown of text beside the figures of every model."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lidcli.metrics.estimate import Estimate, mean
from lidcli.metrics.evaluation import Evaluation
from lidcli.metrics.information import encode, marginal_draws, posterior_means
from lidcli.models.batch import TokenBatch
from lidcli.models.latent import Conditional, LatentModel
from lidcli.models.sequence import SequenceObservation

__all__ = ["probe", "sentences", "text_figures", "words"]

FOLDS = 5
SHOWN, STEPS, WORDS = 8, 7, 10
CONTEXTS = 64
"""Documents in whose contexts the words of a latent are found."""
STRIDE = 1.0
"""Prior sds that a latent is moved either way to see which words it raises."""
CHARACTERS = 10_000
"""Of a text that is stored; a longer one is cut."""
SMALLEST_CLASS = 10


@torch.no_grad()
def text_figures(
    model: LatentModel,
    x: TokenBatch,
    labels: npt.NDArray[np.int64] | None,
    decode: Callable[[Sequence[int]], str],
    out: Evaluation,
    batch: int = 10_000,
) -> None:
    """Add NLL, perplexity, a probe of z for labels, and sentences that a person can read.

    A perplexity beyond what a number holds, above 709 nats a token, is left out.

    Args:
        model: of sequences, in evaluation mode.
        x: N documents.
        labels: (N,), or None.
        decode: from token ids to text.
        out: an evaluation of the same data, which takes the figures and the texts.
        batch: tokens at a time.
    """

    def cut(ids: Sequence[int]) -> str:
        text = decode(ids)
        return text if len(text) <= CHARACTERS else f"{text[: CHARACTERS - 2]} …"

    assert out.ll is not None
    out.scalars["nll"] = -out.scalars["ll"]
    out.scalars["nll_se"] = out.scalars["ll_se"]
    if (found := _perplexity(out.ll, x.lengths)) is not None:
        out.put("ppl", found)
    out.scalars["tokens"] = float(x.terms())
    if model.latent:
        if labels is not None:
            _probes(encode(model, x, batch), labels, out)
        if isinstance(model.observation, SequenceObservation):
            out.texts["words"] = words(model, x, cut)
    out.texts |= sentences(model, x, cut)


def _probes(posteriors: Conditional, labels: npt.NDArray[np.int64], out: Evaluation) -> None:
    """Of posterior means, as is usual, and of one draw from each posterior."""
    told = {"probe": posterior_means(posteriors), "probe_draw": marginal_draws(posteriors, 1)}
    for name, latent in told.items():
        found = probe(latent.double().cpu().numpy(), labels)
        if found is not None:
            out.put(name, found)


def _perplexity(ll: Tensor, lengths: Tensor) -> Estimate | None:
    """exp(-Σ ll / Σ lengths) of data (N,), and its standard error by the delta method.

    Long documents have more nats and more tokens, so that the error is that of what is left.
    """
    ll, lengths = ll.double().cpu(), lengths.double().cpu()
    rate = -ll.sum() / lengths.sum()
    left = mean(ll + rate * lengths).se * len(ll) / lengths.sum()
    value = rate.exp().item()
    return Estimate(value, value * left.item()) if math.isfinite(value) else None


def probe(means: npt.NDArray[np.float64], labels: npt.NDArray[np.int64]) -> Estimate | None:
    """Accuracy of a linear classifier of a latent's means or draws, by five-fold cross-validation.

    Args:
        means: (N, K).
        labels: (N,).

    Returns:
        None where a class has fewer than ten data.

    Example:
        >>> means = np.repeat([[-1.0], [1.0]], 20, axis=0)
        >>> probe(means, np.repeat([0, 1], 20)).value
        1.0
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    counts = np.unique(labels, return_counts=True)[1]
    if len(counts) < 2 or counts.min() < SMALLEST_CLASS:
        return None
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    right = cross_val_predict(classifier, means, labels, cv=folds) == labels
    share = float(right.mean())
    return Estimate(share, math.sqrt(share * (1 - share) / len(labels)))


def sentences(
    model: LatentModel, x: TokenBatch, decode: Callable[[Sequence[int]], str]
) -> dict[str, Any]:
    """Sentences from the prior and, where there is a latent, reconstructions and a path.

    Args:
        model: of sequences.
        x: documents, of which some in the middle are reconstructed.
        decode: from token ids to text.
    """

    def drawn(z: Tensor) -> list[str]:
        found = model.observation.sample(z)
        assert isinstance(found, TokenBatch)
        return _texts(found, decode)

    texts: dict[str, Any] = {"samples": drawn(model.prior.sample(SHOWN))}
    if not model.latent:
        return texts
    middle = torch.linspace(0, len(x) - 1, SHOWN + 2)[1:-1].long()
    chosen = x.rows(middle)
    latent = marginal_draws(model.posterior(chosen), 1)
    texts["reconstructions"] = [
        list(pair) for pair in zip(_texts(chosen, decode), drawn(latent), strict=True)
    ]
    share = torch.linspace(0, 1, STEPS, device=latent.device)[:, None]
    texts["interpolation"] = drawn((1 - share) * latent[:1] + share * latent[-1:])
    return texts


def _texts(batch: TokenBatch, decode: Callable[[Sequence[int]], str]) -> list[str]:
    rows = zip(batch.ids.tolist(), batch.lengths.tolist(), strict=True)
    return [decode(ids[:length]) for ids, length in rows]


def words(
    model: LatentModel, x: TokenBatch, decode: Callable[[Sequence[int]], str]
) -> list[dict[str, list[str]]]:
    """For each latent, the words whose probability it raises and lowers most.

    The change of a word's mean probability over contexts of the data, when the latent moves from
    one prior sd below its posterior mean to one above, over the root of that probability.

    Args:
        model: of sequences.
        x: documents that give the contexts.
        decode: from token ids to text.
    """
    observation = model.observation
    assert isinstance(observation, SequenceObservation)
    chosen = x.rows(torch.linspace(0, len(x) - 1, min(CONTEXTS, len(x))).long())
    mean = posterior_means(encode(model, chosen))
    found = []
    for k in range(model.latent):
        step = torch.zeros_like(mean)
        step[:, k] = STRIDE
        above, below = (
            observation.mean_probabilities(chosen, mean + sign * step) for sign in (1.0, -1.0)
        )
        score = (above - below) / (above + below).sqrt()
        order = score.argsort().tolist()
        raised = [i for i in reversed(order[-WORDS:]) if score[i] > 0]
        lowered = [i for i in order[:WORDS] if score[i] < 0]
        found.append(
            {
                "raises": [decode([i]) for i in raised],
                "lowers": [decode([i]) for i in lowered],
            }
        )
    return found
