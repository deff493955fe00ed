"""Proposition 2, tried: data of a known MLP VAE, fitted with a Brenier decoder and with an MLP.

python -m benchmarks.capacity [--write] [--seeds 5] [--steps 2000] [--tasks NAME;NAME]
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.reference import perceptron_of_equal_size
from benchmarks.timing import publish, table
from lidcli.nn import MLP, InjectiveDecoder

STORE = Path(__file__).parent.parent / "results" / ".bench" / "capacity.jsonl"
BATCH, SAMPLES, STAGES, RATE = 100, 500, 9, 2e-3


@dataclass(frozen=True)
class Task:
    """A VAE to draw data from: sizes, noise of a Gaussian likelihood or None for Bernoulli."""

    latent: int
    out: int
    hidden: int
    sigma: float | None
    train: int
    test: int


@dataclass(frozen=True)
class Start:
    """How a Brenier decoder starts and learns; None of these matter to the MLP but its rate."""

    sharpness: float = 1.0
    gain: float = 0.3
    rate: float = 2e-3


DECODERS = {"sharp": Start(4.0, 1.0, 1.2e-2), "plain": Start(), "mlp": Start()}
TASKS = {
    "2-D, Gaussian": Task(2, 2, 64, 0.1, 5000, 1000),
    "784-D, Bernoulli": Task(8, 784, 128, None, 5000, 300),
}


class VAE(nn.Module):
    """A decoder, its likelihood (Gaussian with a learned noise, or Bernoulli) and a posterior."""

    def __init__(self, task: Task, decoder: nn.Module) -> None:
        super().__init__()
        self.decoder, self.latent = decoder, task.latent
        self.encoder = MLP(task.out, 2 * task.latent, 128, 3)
        sigma = None if task.sigma is None else nn.Parameter(torch.tensor(math.log(0.3)))
        self.log_sigma = sigma

    def log_weights(self, x: Tensor, samples: int) -> Tensor:
        """log p(x, z) - log q(z | x) of draws from the posterior, (S, N)."""
        mean, log_sd = self.encoder(x).chunk(2, dim=1)
        noise = torch.randn(samples, *mean.shape)
        z = mean + log_sd.exp() * noise
        ratio = (0.5 * (noise.square() - z.square()) + log_sd).sum(2)
        out = self.decoder(z)
        if self.log_sigma is None:
            fit = -F.binary_cross_entropy_with_logits(out, x.expand_as(out), reduction="none")
        else:
            scaled = (x - out) * (-self.log_sigma).exp()
            fit = -0.5 * scaled.square() - self.log_sigma - 0.5 * math.log(2 * math.pi)
        return ratio + fit.sum(2)


def draw(task: Task, count: int, teacher: MLP) -> Tensor:
    """Data of a VAE whose decoder is the given MLP."""
    with torch.no_grad():
        out = teacher(torch.randn(count, task.latent))
        if task.sigma is None:
            return torch.bernoulli(torch.sigmoid(out))
        return out + task.sigma * torch.randn_like(out)


def fit(name: str, kind: str, seed: int, steps: int) -> dict[str, Any]:
    """Train one decoder on one draw of the task; test LL, active units."""
    task = TASKS[name]
    torch.manual_seed(seed)
    teacher = MLP(task.latent, task.out, 32, 4)
    with torch.no_grad():
        for stage in teacher.stages:
            if isinstance(stage, nn.Linear):
                stage.weight.mul_(1.5)
                stage.bias.normal_()
        last = teacher.stages[-1]
        scale = (1.0 if task.sigma else 3.0) / teacher(torch.randn(1000, task.latent)).std()
        last.weight.mul_(scale)
        last.bias.mul_(scale)
    train, test = draw(task, task.train, teacher), draw(task, task.test, teacher)
    start = DECODERS[kind]
    decoder = InjectiveDecoder(
        task.latent,
        task.out,
        task.hidden,
        STAGES,
        inverse_lipschitz=0.1,
        sharpness=start.sharpness,
        gain=start.gain,
    )
    decoder.calibrate(torch.randn(500, task.latent))
    chosen = perceptron_of_equal_size(decoder, STAGES) if kind == "mlp" else decoder
    model = VAE(task, chosen)
    rest = [p for name, p in model.named_parameters() if not name.startswith("decoder")]
    groups = [{"params": chosen.parameters(), "lr": start.rate}, {"params": rest}]
    optimiser = torch.optim.Adam(groups, lr=RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        loss = -model.log_weights(train[torch.randint(task.train, (BATCH,))], 1).mean()
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 100.0)
        optimiser.step()
        schedule.step()
    with torch.no_grad():
        parts = [model.log_weights(x, SAMPLES) for x in torch.split(test, 20)]
        bound = torch.cat([part.logsumexp(0) - math.log(SAMPLES) for part in parts])
        active = model.encoder(test)[:, : task.latent].var(0) >= 0.01
    return {
        "task": name,
        "decoder": kind,
        "seed": seed,
        "steps": steps,
        "ll": bound.mean().item(),
        "active": active.float().mean().item(),
    }


def main() -> None:
    """Run what is missing, then print paired differences over seeds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="update docs/PERFORMANCE.md")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--tasks", default=";".join(TASKS), help="separated by ;")
    options = parser.parse_args()
    torch.set_num_threads(1)
    runs = [json.loads(line) for line in STORE.read_text().splitlines()] if STORE.exists() else []
    done = {(run["task"], run["decoder"], run["seed"], run["steps"]): run for run in runs}
    rows = []
    for name in options.tasks.split(";"):
        found: dict[str, list[dict[str, Any]]] = {kind: [] for kind in DECODERS}
        for seed, kind in itertools.product(range(options.seeds), DECODERS):
            key = (name, kind, seed, options.steps)
            if key not in done:
                done[key] = fit(*key)
                STORE.parent.mkdir(parents=True, exist_ok=True)
                with STORE.open("a") as file:
                    file.write(json.dumps(done[key]) + "\n")
            found[kind].append(done[key])
        for kind in ("sharp", "plain"):
            gaps = [a["ll"] - b["ll"] for a, b in zip(found[kind], found["mlp"], strict=True)]
            error = statistics.stdev(gaps) / math.sqrt(len(gaps)) if len(gaps) > 1 else math.nan
            means = [
                [run[part] for run in found[k]] for part in ("ll", "active") for k in (kind, "mlp")
            ]
            rows.append(
                [name, kind, options.seeds]
                + [f"{statistics.fmean(values):.3f}" for values in means[:2]]
                + [f"{statistics.fmean(gaps):+.3f} ± {error:.3f}"]
                + [f"{statistics.fmean(values):.2f}" for values in means[2:]]
            )
    head = ["data", "start", "seeds", "test LL, Brenier", "test LL, MLP", "paired difference ± se",
            "active, Brenier", "active, MLP"]  # fmt: skip
    text = f"""## Capacity

`python -m benchmarks.capacity`: data drawn from a VAE whose decoder is a random MLP (4 stages of 32
units, outputs of sd 1 with noise 0.1, or logits of sd 3), another for every seed; fitted with
`layers: {STAGES}` (smooth, ε = 0.1, rotations) and with an MLP of as many stages and parameters,
{options.steps} steps of Adam at {RATE:g} with a cosine schedule, diagonal Gaussian posterior. Start
"plain": sharpness 1, gain 0.3, the same learning rate for all; "sharp": sharpness 4, gain 1, the
decoder learning six times as fast. Test LL: importance-weighted bound with {SAMPLES} samples, in
nats per datum.

{table(head, rows)}
"""
    publish("capacity", text, options.write)


if __name__ == "__main__":
    main()
