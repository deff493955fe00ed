"""A mixture whose components are clusters of the training data: its start and its figures."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from lidcli.data.anchor import anchor, clusters_of, coordinates
from lidcli.data.dataset import Dataset
from lidcli.inference.category import CategoryNetwork
from lidcli.metrics import clustering
from lidcli.metrics.estimate import Estimate
from lidcli.models.batch import Batch, DenseBatch
from lidcli.models.latent import LatentModel
from lidcli.training.device import device_of

__all__ = ["anchor_purity", "anchored_components", "start_categories"]

STEPS = 15
"""For each category."""
BATCH = 100
LEARNING_RATE = 1e-3
STREAM = 7
"""Tells these random numbers from those of an epoch."""


def anchored_components(
    data: Dataset, latent: int, categories: int, *, graph: bool
) -> tuple[Tensor, Tensor]:
    """Means and sds (C, M) of p(w | c): those of clusters of the training data.

    Args:
        data: points or images.
        latent: M.
        categories: C.
        graph: the clusters are those of the graph of neighbours.

    Raises:
        DataError: data of which there are no such clusters.
        ValueError: M exceeds the data's dimensions.
    """
    found = anchor(data.train.x, latent, categories, graph=graph)
    dtype = torch.get_default_dtype()
    return torch.from_numpy(found.means).to(dtype), torch.from_numpy(found.scales).to(dtype)


def start_categories(model: LatentModel, data: Dataset, seed: int, *, graph: bool) -> None:
    """Start q(c | x) at the clusters that the components stand for, where it has a network.

    Where the network has a linear path beside it, that starts as the posterior of Gaussians at the
    clusters, and the rest at 0. Else the network learns their labels: 15 C steps of Adam on the
    cross-entropy, on batches of 100. No class label is used, and torch's own generator is left as
    it is.

    Args:
        model: with its posterior attached; its prior has the clusters' means.
        data: points or images.
        seed: of the run.
        graph: the clusters are those of the graph of neighbours.
    """
    network = model.posterior.category_network()
    if network is None:
        return
    if isinstance(network, CategoryNetwork) and network.path is not None:
        frame = coordinates(data.train.x, model.latent)
        weight, bias = frame.posterior(data.train.x, _means(model))
        network.start_at(torch.from_numpy(weight), torch.from_numpy(bias))
        return
    x = torch.from_numpy(data.train.x)
    labels = torch.from_numpy(_clusters(model, data, data.train.x, graph))
    steps = STEPS * model.facts().units["c"]
    state = np.random.SeedSequence([seed, STREAM, steps]).generate_state(1)
    generator = torch.Generator().manual_seed(int(state[0]))
    device = device_of(model)
    optimiser = torch.optim.Adam(network.parameters(), LEARNING_RATE)
    network.train()
    for _ in range(steps):
        rows = torch.randint(len(x), (BATCH,), generator=generator)
        some = torch.bernoulli(x[rows], generator=generator) if data.stochastic else x[rows]
        logits = network(DenseBatch(some).to(device))
        loss = nn.functional.cross_entropy(logits, labels[rows].to(device))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    optimiser.zero_grad(set_to_none=True)


def anchor_purity(
    model: LatentModel, x: Batch, labels: npt.NDArray[np.int64], data: Dataset, *, graph: bool
) -> Estimate:
    """Purity of the clusters themselves on data with labels, which training never sees.

    Args:
        model: whose prior has the clusters' means.
        x: N data.
        labels: (N,).
        data: whose training part gave the clusters.
        graph: the clusters are those of the graph of neighbours.
    """
    assert isinstance(x, DenseBatch)
    rows = x.x.cpu().numpy().astype(np.float32)
    return clustering.purity(labels, _clusters(model, data, rows, graph))


def _clusters(
    model: LatentModel, data: Dataset, x: npt.NDArray[np.float32], graph: bool
) -> npt.NDArray[np.int64]:
    return clusters_of(x, data.train.x, _means(model), graph=graph)


def _means(model: LatentModel) -> npt.NDArray[np.float64]:
    """Of the components, (C, M)."""
    means = model.prior.component_means()
    assert means is not None
    return means.detach().cpu().double().numpy()
