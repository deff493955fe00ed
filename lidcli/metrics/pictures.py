"""Small arrays from which reports draw a model: data, categories, samples, reconstructions."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from lidcli.metrics.evaluation import Evaluation, Split
from lidcli.metrics.information import marginal_draw
from lidcli.metrics.likelihood import MINIMUM_DRAWS
from lidcli.models.base import Model

__all__ = ["pictures"]

POINTS, SAMPLES, RECONSTRUCTIONS = 2000, 64, 16


@torch.no_grad()
def pictures(
    model: Model, split: Split, evaluation: Evaluation, kind: str
) -> dict[str, npt.NDArray[np.float32]]:
    """Arrays for the figures of one run, under the names of the run store.

    Args:
        model: with its posterior attached.
        split: the data that `evaluation` measured.
        evaluation: its arrays are cut to the rows that are drawn.
        kind: points or image.
    """
    rows = POINTS if kind == "points" else RECONSTRUCTIONS
    out = {"x": split.x[:rows].float().cpu().numpy()}
    kept = POINTS
    out |= {name: array[:kept] for name, array in evaluation.arrays.items()}
    if "q_c" in out:
        out["category"] = out["q_c"].argmax(1).astype(np.float32)
    if split.labels is not None:
        out["labels"] = split.labels[:kept].astype(np.float32)
    means = model.prior_means()
    if means is not None:
        out["prior_means"] = means.float().cpu().numpy()
    if kind == "points":
        samples = model.sample(POINTS)
        out["samples"] = samples.float().cpu().numpy()
        q_c = model.category_probabilities(
            model.posterior.draw(model.posterior.encode(samples), MINIMUM_DRAWS)
        )
        if q_c is not None:
            out["samples_c"] = q_c.argmax(1).float().cpu().numpy()
    else:
        decoded = model.decode(model.sample_prior(SAMPLES))
        out["samples"] = model.likelihood.mean(decoded).float().cpu().numpy()
        latent = marginal_draw(model, model.posterior.encode(split.x[:rows]), 1)
        mean = model.likelihood.mean(model.decode(latent))
        out["reconstructions"] = mean.float().cpu().numpy()
        out["originals"] = out.pop("x")
    return out
