"""The evaluation of a latent model on one split, as the settings ask for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lidcli.config.run import RunConfig
from lidcli.config.sections.models import Mixture
from lidcli.data.documents import TextDataset
from lidcli.metrics.evaluation import Evaluation, evaluate
from lidcli.metrics.fisher import fisher_figures
from lidcli.metrics.identifiability import identifiability
from lidcli.metrics.pictures import pictures
from lidcli.metrics.text import text_figures
from lidcli.models.batch import Batch, TokenBatch
from lidcli.models.latent import LatentModel
from lidcli.training.anchored import anchor_purity

__all__ = ["measure_latent"]

FISHER_SEED = 20213


def measure_latent(
    config: RunConfig,
    model: LatentModel,
    x: Batch,
    labels: npt.NDArray[np.int64] | None,
    data: Any,
) -> Evaluation:
    """Bounds, information, pictures and, where asked for, the likelihood's variation.

    Args:
        config: sections evaluate and runtime are read.
        model: with its posterior attached.
        x: N data.
        labels: (N,), or None.
        data: the data set, whose form says what is drawn or written of them.
    """
    wanted, batch = config.evaluate, config.runtime.batch
    model.eval()
    result = evaluate(model, x, labels, samples=wanted.samples, outer=wanted.outer, batch=batch)
    result.arrays = pictures(model, x, labels, result, data.form)
    more = MORE.get(data.form)
    if more is not None:
        more(model, x, labels, data, result, batch)
    if labels is not None and isinstance(config.model, Mixture) and config.model.anchored:
        graph = config.model.graph
        result.put("anchor/purity", anchor_purity(model, x, labels, data, graph=graph))
    figures, information = _fisher(model, x)
    result.scalars |= figures
    if information is not None:
        result.arrays["fisher"] = information.float().numpy()
    if wanted.identifiability and model.latent:
        result.scalars |= identifiability(model, x, batch=batch)
    return result


def _fisher(model: LatentModel, x: Batch) -> tuple[dict[str, float], Tensor | None]:
    """Fisher information, by draws that nothing else shares."""
    with torch.random.fork_rng():
        torch.manual_seed(FISHER_SEED)
        return fisher_figures(model, x)


def _text(
    model: LatentModel,
    x: Batch,
    labels: npt.NDArray[np.int64] | None,
    data: TextDataset,
    result: Evaluation,
    batch: int,
) -> None:
    assert isinstance(x, TokenBatch)
    vocabulary = data.vocabulary
    text_figures(
        model, x, labels, lambda ids: " ".join(vocabulary.decode(ids)), result, batch=batch
    )


MORE: dict[str, Callable[..., None]] = {"text": _text}
"""What is measured beside the figures of every model, by the form of the data."""
