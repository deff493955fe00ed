"""What an evaluation holds at a time grows with `runtime.batch` alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from lidcli.data.documents import documents_of
from lidcli.inference.flow import CategoryPosterior, FlowPosterior
from lidcli.inference.refined import Refined
from lidcli.metrics.fisher import fisher_figures
from lidcli.metrics.identifiability import unit_kl, variation
from lidcli.metrics.information import encode
from lidcli.metrics.likelihood import bounds
from lidcli.models.batch import Batch, DenseBatch, TokenBatch
from lidcli.models.latent import LatentModel
from lidcli.models.likelihoods import Bernoulli
from lidcli.models.observations import DenseObservation, Observation
from lidcli.models.priors import GaussianMixture, StandardNormal, separated_means
from lidcli.training.build import RowsEncoder
from lidcli.training.sources import TokenSource

CATEGORIES, WIDE = 5, 500


class Counted(DenseObservation):
    """The largest number of decodings at a time, of data that count as two each."""

    most = 0

    def log_prob(self, x: Batch, z: Tensor) -> Tensor:
        assert isinstance(x, DenseBatch)
        self.most = max(self.most, x.size() * z[..., 0].numel() // len(x))
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


class Padded(Observation):
    """log p(x | z) of a length, and the largest number of padded positions at a time."""

    informed = True

    def __init__(self) -> None:
        super().__init__()
        self.positions: list[int] = []

    def log_prob(self, x: Batch, z: Tensor) -> Tensor:
        assert isinstance(x, TokenBatch)
        self.positions.append(x.ids.numel() * z[..., 0].numel() // len(x))
        return -x.lengths * (z[..., 0] - 0.1).square()

    def sample(self, z: Tensor) -> Batch:
        raise NotImplementedError

    def fisher(self, z: Tensor) -> Tensor:
        return torch.ones(len(z), 1, 1)


class Lengths(nn.Module):
    """An encoder of lengths that counts the padded positions it is given."""

    def __init__(self, positions: list[int]) -> None:
        super().__init__()
        self.positions = positions

    def forward(self, x: Batch) -> Tensor:
        assert isinstance(x, TokenBatch)
        self.positions.append(x.ids.numel())
        return x.lengths[:, None].float().log()


def of_lengths() -> tuple[LatentModel, list[int]]:
    torch.manual_seed(0)
    observation = Padded()
    model = LatentModel(StandardNormal(1), observation)
    positions = observation.positions
    model.posterior = FlowPosterior(lambda: Lengths(positions), 1, latent=1, hidden=2, transforms=0)
    return model.eval(), positions


SHORT = [5 + i % 31 for i in range(2000)]


@pytest.mark.parametrize("lengths", [SHORT, sorted(SHORT)], ids=["mixed", "sorted"])
@pytest.mark.parametrize("batch", [1, 500, 10_000])
def test_one_long_document_does_not_pad_the_others(lengths: list[int], batch: int) -> None:
    longest = 3000
    counts = torch.tensor([*lengths[:1000], longest, *lengths[1000:]])
    x = TokenBatch(torch.zeros(len(counts), longest, dtype=torch.long), counts)
    model, positions = of_lengths()
    for measure in (
        lambda: encode(model, x, batch),
        lambda: bounds(model, x, 2, batch),
        lambda: variation(model, x, draws=2, pairs=1, batch=batch),
        lambda: unit_kl(model, x, draws=2, batch=batch),
    ):
        positions.clear()
        measure()
        assert 0 < max(positions) <= max(batch, 2 * longest)
    positions.clear()
    fisher_figures(model, x)
    assert max(positions) <= 10_000


def test_parts_hold_every_datum_once_and_in_order() -> None:
    lengths = torch.tensor([3, 1, 2, 9, 1, 1, 4])
    x = TokenBatch(torch.arange(63).view(7, 9), lengths)
    parts = x.parts(6)
    assert [part.lengths.tolist() for part in parts] == [[3, 1], [2], [9], [1, 1], [4]]
    assert torch.equal(torch.cat([part.ids[:, 0] for part in parts]), x.ids[:, 0])
    assert [part.size() for part in parts] == [6, 2, 9, 2, 4]
    wide = DenseBatch(torch.zeros(7, 401))
    assert [len(part) for part in wide.parts(6)] == [3, 3, 1]
    assert [len(part) for part in wide.parts(0)] == [1] * 7
    assert wide.size() == 14


def test_the_first_of_a_source_are_padded_to_the_longest_of_them() -> None:
    source = TokenSource(documents_of([[2] * 50, [3], [4, 5]]), 2)
    assert source.fixed(2).ids.shape == (2, 3)
    assert source.fixed().ids.shape == (3, 51)
