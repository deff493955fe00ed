"""What an evaluation holds at a time grows with `runtime.batch` alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from lidcli.inference.flow import CategoryPosterior
from lidcli.inference.refined import Refined
from lidcli.metrics.information import encode
from lidcli.metrics.likelihood import bounds
from lidcli.models.batch import Batch, DenseBatch
from lidcli.models.latent import LatentModel
from lidcli.models.likelihoods import Bernoulli
from lidcli.models.observations import DenseObservation
from lidcli.models.priors import GaussianMixture, separated_means
from lidcli.training.build import RowsEncoder

CATEGORIES, WIDE = 5, 500


class Counted(DenseObservation):
    """The largest number of decodings at a time, of data that count as two each."""

    most = 0

    def log_prob(self, x: Batch, z: Tensor) -> Tensor:
        self.most = max(self.most, x.width() * z[..., 0].numel())
        return super().log_prob(x, z)


def refined() -> tuple[LatentModel, Counted]:
    torch.manual_seed(0)
    prior = GaussianMixture(separated_means(CATEGORIES, 2, 2.0), 0.4)
    observation = Counted(nn.Linear(2, WIDE), Bernoulli())
    model = LatentModel(prior, observation)
    base = CategoryPosterior(
        CATEGORIES,
        lambda: RowsEncoder(nn.Linear(WIDE, 8)),
        8,
        latent=2,
        hidden=8,
        transforms=0,
    )
    model.posterior = Refined(base, model, steps=2, rate=0.1, momentum=0.5, clip=5.0)
    return model.eval(), observation


@pytest.mark.parametrize("batch", [1, 100, 1000, 10_000])
def test_a_refined_posterior_of_categories_is_encoded_in_parts(batch: int) -> None:
    model, observation = refined()
    conditional = encode(model, DenseBatch(torch.rand(150, WIDE).round()), batch)
    assert [len(tensor) for tensor in conditional.tensors()] == [150] * 3
    assert observation.most <= max(batch, 2 * CATEGORIES)


def test_the_bounds_hold_no_more() -> None:
    model, observation = refined()
    bounds(model, DenseBatch(torch.rand(150, WIDE).round()), 3, batch=100)
    assert observation.most == 100
