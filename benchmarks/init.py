"""How deep decoders start and train: first loss, loss after 1,000 steps, active units, test ELBO.

    python -m benchmarks.init [--data digits] [--hidden 128] [--layers 2,4,6,9,13] [--seeds 0,1,2]
    python -m benchmarks.init --table --write     # the table of what has been run so far

Every finished run is a line of results/.bench/init.jsonl, and is not run again.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import statistics
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.reference import perceptron_of_equal_size
from benchmarks.timing import publish, table
from lidcli.config.sections import Image
from lidcli.data.registry import load
from lidcli.nn import MLP, InjectiveDecoder

STORE = Path(__file__).parent.parent / "results" / ".bench" / "init.jsonl"
LATENT, BATCH, STEPS, RATE = 16, 100, 1000, 1e-3
KEYS = ("data", "hidden", "layers", "setting", "optimiser", "rate", "seed")
SETTINGS = ("smooth", "leaky", "mlp")
WARMUP = {"Adam": 1, "RMSprop": 100}
"""Steps over which the rate rises: RMSprop's first steps, not corrected for bias, are ten-fold."""
OPTIMISERS = {"Adam": torch.optim.Adam, "RMSprop": torch.optim.RMSprop}


def default_rate(setting: str, optimiser: str, data: str) -> float:
    """A decoder's learning rate.

    MLPs gain nothing at a higher one, and diverge on MNIST with RMSprop; so do, at 3e-3, some of
    the deep Brenier decoders there.
    """
    if setting == "mlp":
        return 2e-3 if optimiser == "Adam" else 1e-3
    return 1.5e-3 if optimiser == "RMSprop" and data == "mnist" else 3e-3


class GaussianVAE(nn.Module):
    """z ~ N(0, I), Bernoulli pixels, a diagonal Gaussian posterior: as plain as it can be."""

    def __init__(self, decoder: nn.Module, pixels: int) -> None:
        super().__init__()
        self.decoder = decoder
        self.encoder = MLP(pixels, 2 * LATENT, 256, 3)

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log standard deviation (N, K)."""
        mean, log_sd = self.encoder(2 * x - 1).chunk(2, dim=1)
        return mean, log_sd

    def loss(self, x: Tensor) -> Tensor:
        """Negative ELBO, nats per datum."""
        mean, log_sd = self.posterior(x)
        logits = self.decoder(mean + log_sd.exp() * torch.randn_like(mean))
        kl = 0.5 * (mean.square() + (2 * log_sd).exp() - 1) - log_sd
        pixels = F.binary_cross_entropy_with_logits(logits, x, reduction="sum")
        return (pixels + kl.sum()) / len(x)


def build(setting: str, layers: int, hidden: int, pixels: int) -> nn.Module:
    """A decoder of L layers an ICNN, calibrated, or an MLP of as many stages and parameters."""
    stages = 2 * (layers + 1) - 1
    decoder = InjectiveDecoder(
        LATENT,
        pixels,
        hidden,
        stages,
        activation="leaky" if setting.startswith("leaky") else "smooth",
        inverse_lipschitz=float(setting.partition("ε = ")[2] or 0.5),
    )
    if setting == "mlp":
        return perceptron_of_equal_size(decoder, stages)
    decoder.calibrate(torch.randn(500, LATENT))
    return decoder


def train(run: dict[str, Any]) -> dict[str, Any]:
    """One run, its figures added to its description."""
    root = Path(os.environ.get("LID_MIRROR", "data"))
    few = 20_000 if run["data"] == "mnist" else None
    data = load(Image(name=run["data"], root=root, train=few))
    torch.manual_seed(run["seed"])
    rng = np.random.default_rng(run["seed"])
    pixels = data.train.x.shape[1]
    decoder = build(run["setting"], run["layers"], run["hidden"], pixels)
    model = GaussianVAE(decoder, pixels)
    groups = [
        {"params": model.encoder.parameters()},
        {"params": decoder.parameters(), "lr": run["rate"]},
    ]
    optimiser = OPTIMISERS[run["optimiser"]](groups, lr=RATE)
    grey, losses = torch.from_numpy(data.train.x), []
    warmup = WARMUP[run["optimiser"]]
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda i: min(1.0, (i + 1) / warmup))
    for _ in range(STEPS):
        rows = torch.from_numpy(rng.integers(0, len(grey), BATCH))
        loss = model.loss(torch.bernoulli(grey[rows]))
        losses.append(loss.item())
        if not math.isfinite(losses[-1]):
            break
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    with torch.no_grad():
        test = torch.from_numpy(data.test.x)
        active = (model.posterior(test)[0].var(0) >= 0.01).float().mean().item()
        bound = statistics.fmean(model.loss(test).item() for _ in range(10))
    return run | {
        "first": losses[0],
        "peak": max(losses),
        "last": statistics.fmean(losses[-50:]),
        "test": bound,
        "active": active,
    }


def finished() -> list[dict[str, Any]]:
    """The runs in the file."""
    if not STORE.exists():
        return []
    return [json.loads(line) for line in STORE.read_text().splitlines()]


class Cell(NamedTuple):
    """What shares a mean over seeds."""

    data: str
    hidden: int
    optimiser: str
    layers: int
    setting: str
    rate: float


Figures = dict[str, list[float]]


def grouped(runs: list[dict[str, Any]]) -> dict[Cell, Figures]:
    """The figures of all seeds of each cell."""
    groups: dict[Cell, Figures] = {}
    for run in runs:
        group = groups.setdefault(Cell(*(run[name] for name in Cell._fields)), {})
        for name in ("first", "test", "active"):
            group.setdefault(name, []).append(run[name])
    return groups


def described(group: Figures | None) -> list[str]:
    """Seeds, first loss, test bound and active units, means over the seeds."""
    if group is None:
        return [""] * 4
    mean = statistics.fmean(group["test"])
    test = f"{mean:.1f}" if mean < 1e4 else f"{mean:.0e}"
    if len(group["test"]) > 1:
        test += f" ± {statistics.stdev(group['test']):.1f}"
    means = [f"{statistics.fmean(group['first']):.0f}", test]
    return [str(len(group["test"])), *means, f"{statistics.fmean(group['active']):.2f}"]


def by_depth(groups: dict[Cell, Figures]) -> str:
    """A table for each data set, width and optimiser: a row for each L, decoders side by side."""
    chosen = {
        cell: group
        for cell, group in groups.items()
        if cell.rate == default_rate(cell.setting, cell.optimiser, cell.data)
    }
    parts = []
    for data, hidden, optimiser in sorted({cell[:3] for cell in chosen}):
        same = sorted({cell.layers for cell in chosen if cell[:3] == (data, hidden, optimiser)})
        rows = []
        for layers in same:
            where = data, hidden, optimiser, layers
            found = [
                described(chosen.get(Cell(*where, name, default_rate(name, optimiser, data))))
                for name in SETTINGS
            ]
            seeds = [cells[0] or "0" for cells in found]
            rows.append(
                [
                    layers,
                    seeds[0] if len(set(seeds)) == 1 else "/".join(seeds),
                    *itertools.chain(*(cells[1:] for cells in found)),
                ]
            )
        head = [f"{name}: {part}" for name in SETTINGS for part in ("first loss", "test", "active")]
        parts.append(
            f"`{data}`, H = {hidden}, {optimiser}:\n\n{table(['L', 'seeds', *head], rows)}"
        )
    return "\n\n".join(parts)


def by_rate(groups: dict[Cell, Figures]) -> str:
    """What was run at several rates, and what the other table has no column for."""
    rates: dict[tuple[Any, ...], int] = {}
    for cell in groups:
        rates[cell[:-1]] = rates.get(cell[:-1], 0) + 1
    rows = [
        [*cell[:-1], f"{cell.rate:g}", *described(groups[cell])]
        for cell in sorted(groups)
        if rates[cell[:-1]] > 1 or cell.setting not in SETTINGS
    ]
    head = [
        "data",
        "H",
        "optimiser",
        "L",
        "decoder",
        "rate",
        "seeds",
        "first loss",
        "test",
        "active",
    ]
    return table(head, rows)


def main() -> None:
    """Run what is missing of the grid asked for, then print the table of everything so far."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--hidden", default="128")
    parser.add_argument("--layers", default="2,4,6,9,13")
    parser.add_argument(
        "--settings",
        default="smooth;leaky;mlp",
        help='separated by ;, an ε of its own behind a comma: "leaky, ε = 0"',
    )
    parser.add_argument("--optimisers", default="Adam,RMSprop")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--rates", help="of the decoders; by default each its own")
    parser.add_argument("--table", action="store_true", help="run nothing")
    parser.add_argument("--write", action="store_true", help="update docs/PERFORMANCE.md")
    options = parser.parse_args()
    torch.set_num_threads(1)

    done = {tuple(run[key] for key in KEYS) for run in finished()}
    grid = itertools.product(
        map(int, options.seeds.split(",")),
        options.data.split(","),
        map(int, options.hidden.split(",")),
        map(int, options.layers.split(",")),
        options.settings.split(";"),
        options.optimisers.split(","),
        [float(rate) for rate in options.rates.split(",")] if options.rates else [None],
    )
    for seed, data, hidden, layers, setting, optimiser, asked in () if options.table else grid:
        rate = asked or default_rate(setting, optimiser, data)
        values = (data, hidden, layers, setting, optimiser, rate, seed)
        if values in done:
            continue
        result = train(dict(zip(KEYS, values, strict=True)))
        STORE.parent.mkdir(parents=True, exist_ok=True)
        with STORE.open("a") as file:
            file.write(json.dumps(result, ensure_ascii=False) + "\n")
    groups = grouped(finished())
    text = f"""## How deep decoders start

`python -m benchmarks.init`: a VAE with {LATENT} Gaussian latents and Bernoulli pixels, {STEPS}
steps, batch {BATCH}. Learning rates: {RATE:g} for the encoder, 3e-3 for Brenier decoders (1.5e-3
with RMSprop on MNIST), for the MLP 2e-3 (Adam) and 1e-3 (RMSprop, whose rates all rise over
the first 100 steps). Decoders: two maps with L layers an ICNN (L = 4 is `layers: 9`, L = 9 is
`layers: 19`), ε = 0.5; the MLP has as many affine stages and as many parameters. Negative ELBOs in
nats per datum, means over the seeds (± sd): at the first step, and on the binarised test set at the
end; active units by the variance of the posterior mean (>= 0.01). Seeds: of smooth/leaky/MLP where
their numbers differ.

{by_depth(groups)}

Decoders at several learning rates (`--rates 1e-3,2e-3,3e-3`), and without ε
(`--settings "smooth, ε = 0;leaky, ε = 0"`):

{by_rate(groups)}
"""
    publish("init", text, options.write)


if __name__ == "__main__":
    main()
