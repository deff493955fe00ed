"""Small arrays from which reports draw a model: data, categories, samples, reconstructions."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lidcli.metrics.evaluation import Evaluation
from lidcli.metrics.information import marginal_draws
from lidcli.models.batch import Batch, DenseBatch
from lidcli.models.latent import CATEGORY_DRAWS, LatentModel
from lidcli.models.observations import DenseObservation

__all__ = ["NUMBERS", "PICTURES", "pictures", "rows_kept"]

POINTS, SAMPLES, RECONSTRUCTIONS = 2000, 64, 16
NUMBERS = 500_000
"""Numbers in one array at most, whatever the size of a datum."""

Pictures = dict[str, npt.NDArray[np.float32]]


@torch.no_grad()
def pictures(
    model: LatentModel,
    x: Batch,
    labels: npt.NDArray[np.int64] | None,
    evaluation: Evaluation,
    form: str,
) -> Pictures:
    """Arrays for the figures of one run, under the names of the run store.

    What an observation of the user's does not have, such as a mean, is not drawn.

    Args:
        model: with its posterior attached.
        x: the data that `evaluation` measured.
        labels: of the data, or None.
        evaluation: its arrays are cut to the rows that are drawn.
        form: a key of `PICTURES`; nothing is drawn of another.
    """
    out = {
        name: array[: rows_kept(POINTS, array.shape[1:])]
        for name, array in evaluation.arrays.items()
    }
    if "q_c" in out:
        out["category"] = out["q_c"].argmax(1).astype(np.float32)
    if labels is not None:
        out["labels"] = labels[:POINTS].astype(np.float32)
    means = model.prior.component_means()
    if means is not None:
        out["prior_means"] = _array(means[: rows_kept(POINTS, means.shape[1:])])
    draw = PICTURES.get(form)
    return out | draw(model, x) if draw is not None else out


def rows_kept(most: int, shape: tuple[int, ...]) -> int:
    """Rows of a shape that are kept: at most so many, and no more numbers than `NUMBERS`.

    Example:
        >>> rows_kept(64, (784,)), rows_kept(64, (125, 125))
        (64, 32)
    """
    return max(1, min(most, NUMBERS // max(1, int(np.prod(shape)))))


def _array(value: Tensor) -> npt.NDArray[np.float32]:
    array: npt.NDArray[np.float32] = value.float().cpu().numpy()
    return array


def _points(model: LatentModel, x: Batch) -> Pictures:
    assert isinstance(x, DenseBatch)
    rows = rows_kept(POINTS, x.x.shape[1:])
    sampled = model.sample(rows)
    out = {"x": _array(x.x[:rows])}
    if not isinstance(sampled, DenseBatch):
        return out
    out["samples"] = _array(sampled.x)
    q_c = model.posterior(sampled).draw(CATEGORY_DRAWS).categories(model.prior)
    return out if q_c is None else {**out, "samples_c": _array(q_c.argmax(1))}


def _images(model: LatentModel, x: Batch) -> Pictures:
    observation = model.observation
    assert isinstance(x, DenseBatch)
    if not isinstance(observation, DenseObservation):
        drawn = model.sample(rows_kept(SAMPLES, x.x.shape[1:]))
        return {"samples": _array(drawn.x)} if isinstance(drawn, DenseBatch) else {}
    originals = x.rows(slice(0, rows_kept(RECONSTRUCTIONS, x.x.shape[1:])))
    samples = observation.mean(model.prior.sample(rows_kept(SAMPLES, x.x.shape[1:])))
    latent = marginal_draws(model.posterior(originals), 1)
    out = {
        "samples": _array(samples),
        "reconstructions": _array(observation.mean(latent)),
        "originals": _array(originals.x),
    }
    means = model.prior.component_means()
    if means is None:
        return out
    means = means[: rows_kept(POINTS, x.x.shape[1:])]
    return {**out, "components": _array(observation.mean(means))}


PICTURES = {"points": _points, "image": _images}
"""What is drawn of each form of data."""
