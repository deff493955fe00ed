"""How deep decoders start and train: first loss, loss after 1,000 steps, active units, test ELBO.

    python -m benchmarks.init [--data digits] [--hidden 128] [--layers 2,4,6,9,13] [--seeds 0,1,2]
    python -m benchmarks.init --steps 0 --write     # the table of what has been run so far

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

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.reference import perceptron_of_equal_size
from benchmarks.timing import publish, table
from lidcli.config.schema import DataConfig
from lidcli.data.registry import load
from lidcli.nn import MLP, InjectiveDecoder

STORE = Path(__file__).parent.parent / "results" / ".bench" / "init.jsonl"
LATENT, BATCH, RATE = 16, 100, 1e-3
KEYS = ("data", "hidden", "layers", "setting", "optimiser", "rate", "seed", "steps")
RATES = {"mlp": 2e-3, "leaky": 3e-3, "smooth": 3e-3}
"""Learning rates of the decoders, each its best of 1e-3, 2e-3, 3e-3 (docs/PERFORMANCE.md)."""
OPTIMISERS = {"Adam": torch.optim.Adam, "RMSprop": torch.optim.RMSprop}


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


def train(run: dict[str, object]) -> dict[str, object]:
    """One run, its figures added to its description."""
    root = Path(os.environ.get("LID_MIRROR", "data"))
    few = 20_000 if run["data"] == "mnist" else None
    data = load(DataConfig(name=str(run["data"]), kind="image", root=root, train=few))
    torch.manual_seed(int(str(run["seed"])))
    rng = np.random.default_rng(int(str(run["seed"])))
    pixels = data.train.x.shape[1]
    decoder = build(str(run["setting"]), int(str(run["layers"])), int(str(run["hidden"])), pixels)
    model = GaussianVAE(decoder, pixels)
    groups = [
        {"params": model.encoder.parameters()},
        {"params": decoder.parameters(), "lr": float(str(run["rate"]))},
    ]
    optimiser = OPTIMISERS[str(run["optimiser"])](groups, lr=RATE)
    grey, losses = torch.from_numpy(data.train.x), []
    for _ in range(int(str(run["steps"]))):
        rows = torch.from_numpy(rng.integers(0, len(grey), BATCH))
        loss = model.loss(torch.bernoulli(grey[rows]))
        losses.append(loss.item())
        if not math.isfinite(losses[-1]):
            break
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
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


def finished() -> list[dict[str, object]]:
    """The runs in the file."""
    if not STORE.exists():
        return []
    return [json.loads(line) for line in STORE.read_text().splitlines()]


def summary(runs: list[dict[str, object]]) -> str:
    """Means over seeds, a row for each combination, with how many seeds there are."""
    groups: dict[tuple[object, ...], list[dict[str, object]]] = {}
    for run in runs:
        groups.setdefault(tuple(run[key] for key in KEYS if key != "seed"), []).append(run)

    def order(key: tuple[object, ...]) -> tuple[object, ...]:
        data, hidden, layers, setting, optimiser, rate, steps = key
        return data, hidden, optimiser, setting, layers, rate, steps

    rows = []
    for key in sorted(groups, key=order):
        data, hidden, layers, setting, optimiser, rate, steps = key
        group = groups[key]
        values = {
            name: [float(str(run[name])) for run in group]
            for name in ("first", "peak", "last", "test", "active")
        }
        spread = f" ± {statistics.stdev(values['test']):.1f}" if len(group) > 1 else ""
        rows.append(
            [data, hidden, optimiser, setting, layers, f"{rate:g}", steps, len(group)]
            + [f"{statistics.fmean(values[name]):.1f}" for name in ("first", "last")]
            + [f"{statistics.fmean(values['test']):.1f}{spread}"]
            + [f"{statistics.fmean(values['active']):.2f}", f"{max(values['peak']):.0f}"]
        )
    head = ["data", "H", "optimiser", "decoder", "L", "rate", "steps", "seeds", "first loss",
            "loss at the end", "test −ELBO", "active units", "highest loss seen"]  # fmt: skip
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
    parser.add_argument("--steps", type=int, default=1000)
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
    for seed, data, hidden, layers, setting, optimiser, asked in grid if options.steps else ():
        rate = asked or RATES[setting.partition(",")[0]]
        values = (data, hidden, layers, setting, optimiser, rate, seed, options.steps)
        if values in done:
            continue
        result = train(dict(zip(KEYS, values, strict=True)))
        STORE.parent.mkdir(parents=True, exist_ok=True)
        with STORE.open("a") as file:
            file.write(json.dumps(result, ensure_ascii=False) + "\n")
    text = f"""## How deep decoders start

`python -m benchmarks.init`: a VAE with {LATENT} Gaussian latents and Bernoulli pixels, batch
{BATCH}, learning rate {RATE:g} for the encoder and that of the column "rate" for the decoder: two
maps with L layers an ICNN (L = 4 is `layers: 9`, L = 9 is `layers: 19`), ε = 0.5 unless said
otherwise; the MLP has as many affine stages and as many parameters. Losses are negative ELBOs in
nats per datum, means over the seeds (± sd); the test bound on the binarised test set; active units
by the variance of the posterior mean (>= 0.01).

{summary(finished())}
"""
    publish("init", text, options.write)


if __name__ == "__main__":
    main()
