"""The evaluation of a latent model on one split, as the settings ask for it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from lidcli.config.run import RunConfig
from lidcli.metrics.evaluation import Evaluation, evaluate
from lidcli.metrics.identifiability import identifiability
from lidcli.metrics.pictures import pictures
from lidcli.models.batch import Batch
from lidcli.models.latent import LatentModel

__all__ = ["measure_latent"]


def measure_latent(
    config: RunConfig,
    model: LatentModel,
    x: Batch,
    labels: npt.NDArray[np.int64] | None,
    form: str,
) -> Evaluation:
    """Bounds, information, pictures and, where asked for, the likelihood's variation.

    Args:
        config: sections evaluate and runtime are read.
        model: with its posterior attached.
        x: N data.
        labels: (N,), or None.
        form: of the data, which says what is drawn of them.
    """
    wanted, batch = config.evaluate, config.runtime.batch
    model.eval()
    result = evaluate(model, x, labels, samples=wanted.samples, outer=wanted.outer, batch=batch)
    result.arrays = pictures(model, x, labels, result, form)
    if wanted.identifiability:
        result.scalars |= identifiability(model, x, batch=batch)
    return result
