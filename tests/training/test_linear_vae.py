"""A linear VAE, trained by the ordinary loop, ends at the PPCA optimum."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lidcli.cli.progress import Silent
from lidcli.config.run import RunConfig
from lidcli.data.registry import load
from lidcli.metrics.information import marginal_draws
from lidcli.models.batch import DenseBatch
from lidcli.models.latent import LatentModel
from lidcli.models.ppca import PPCA, fit_ppca
from lidcli.training.build import build
from lidcli.training.lifecycle import execute

SIGMA = 1.2


def configuration() -> RunConfig:
    return RunConfig.of(
        {
            "method": "vae",
            "data": {"name": "ppca-2d", "kind": "classical"},
            "model": {"family": "continuous", "latent": 3},
            "likelihood": {"kind": "gaussian", "sigma": SIGMA},
            "decoder": {"kind": "mlp", "layers": 1},
            "encoder": {"kind": "mlp", "hidden": 32, "layers": 1},
            "inference": {"kind": "amortized", "transforms": 0, "samples": 8},
            "train": {
                "optimiser": "adam",
                "epochs": 500,
                "batch_size": 100,
                "learning_rate": 1e-2,
                "validate_every": 500,
            },
            "evaluate": {"samples": 100, "split": "train"},
        }
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[LatentModel, dict[str, float]]:
    config = configuration()
    run = execute(config, tmp_path_factory.mktemp("results"), "linear", Silent())
    model = build(config, load(config.data))
    state, _ = run.load_checkpoint()
    model.load_state_dict(state["best"])
    return model.eval(), run.evaluation["train"]


@pytest.fixture(scope="module")
def x() -> torch.Tensor:
    return torch.from_numpy(load(configuration().data).train.x).double()


@pytest.fixture(scope="module")
def optimum(x: torch.Tensor) -> PPCA:
    return fit_ppca(x, 3, SIGMA)


Trained = tuple[LatentModel, dict[str, float]]


def learned(model: LatentModel) -> PPCA:
    """The trained decoder as a PPCA."""
    (linear,) = (m for m in model.observation.decoder.modules() if isinstance(m, nn.Linear))
    return PPCA(linear.weight.double(), linear.bias.double(), SIGMA)


def test_the_optimum_uses_two_of_three_latents(optimum: PPCA) -> None:
    assert (optimum.weight.norm(dim=0) > 0).tolist() == [True, True, False]


def test_it_reaches_the_likelihood_of_the_optimum(
    trained: Trained, optimum: PPCA, x: torch.Tensor
) -> None:
    best = optimum.log_marginal(x).mean().item()
    assert learned(trained[0]).log_marginal(x).mean().item() == pytest.approx(best, abs=1e-2)
    assert trained[1]["ll"] == pytest.approx(best, abs=1e-2)


def test_it_spans_the_same_subspace(trained: Trained, optimum: PPCA) -> None:
    found = torch.linalg.svd(learned(trained[0]).weight)[0][:, :2]
    wanted = torch.linalg.svd(optimum.weight)[0][:, :2]
    cosines = torch.linalg.svdvals(found.T @ wanted)
    assert cosines.min() > 0.999


def test_the_same_directions_are_collapsed(
    trained: Trained, optimum: PPCA, x: torch.Tensor
) -> None:
    lengths = torch.linalg.svdvals(learned(trained[0]).weight)
    wanted = torch.linalg.svdvals(optimum.weight)
    assert torch.allclose(lengths, wanted, atol=0.15)
    model = trained[0]
    torch.manual_seed(0)
    drawn = marginal_draws(model.posterior(DenseBatch(x.float())), 20)
    drawn = drawn.view(len(x), 20, 3).mean(1).detach()
    active = torch.linalg.eigvalsh(torch.cov(drawn.T)).flip(0)
    assert active[1] > 0.5
    assert active[2] < 0.08
