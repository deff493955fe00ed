"""What an encoder leaves: trained runs, the posterior of each datum climbed on its own ELBO.

python -m benchmarks.amortization RUN [RUN ...] [--split test|own] [--count 96] [--steps 100]

The decoder stays as it is; Adam moves each datum's variational parameters from what the encoder
gives. The gain is the amortization gap (Cremer, Li and Duvenaud, "Inference suboptimality in
variational autoencoders", 2018). RUN is a folder with a checkpoint; `--split own` takes data drawn
from its model, of which the MI of the exact posterior is at most what the decoder allows. MI
saturates at the log of the count.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.timing import table
from lidcli.cli.evaluate import stored
from lidcli.models.batch import Batch
from lidcli.models.latent import Conditional, LatentModel
from lidcli.store.run import Run
from lidcli.training.lifecycle import prepare
from lidcli.training.procedure import procedure
from lidcli.training.sources import split_of

ROWS, SAMPLES, RATE = 32, 20, 0.03
HEADS = ["run", "data", "tokens", "posterior", "-ELBO", "KL", "MI", "NLL"]
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


def trained(folder: Path, split: str, count: int) -> tuple[str, LatentModel, Batch]:
    """A run's data set and model, and random data of a split or of the model itself."""
    run = Run.open(folder)
    config = stored(run)
    prepare(config, 1)
    data = config.data.build()
    made = procedure(config, data)
    made.model.load_state_dict(run.load_weights())
    model = made.model.eval().requires_grad_(False)
    assert isinstance(model, LatentModel)
    if split == "own":
        torch.manual_seed(0)
        return config.data.name, model, model.sample(count)
    whole = split_of(data, split).fixed()
    chosen = torch.randperm(len(whole), generator=torch.Generator().manual_seed(0))[:count]
    return config.data.name, model, whole.rows(chosen.sort().values)


def parts(x: Batch, q: Conditional) -> Iterator[tuple[slice, Batch, Conditional]]:
    """The data and their posteriors, some at a time."""
    for first in range(0, len(x), ROWS):
        rows = slice(first, first + ROWS)
        yield rows, x.rows(rows), q.rows(rows)


def climbed(model: LatentModel, x: Batch, q: Conditional, steps: int) -> Conditional:
    """The posteriors that are each at the top of their datum's ELBO, or near it."""
    values = [part.detach().clone().requires_grad_() for part in q.tensors()]
    adam = torch.optim.Adam(values, lr=RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps, RATE / 10)
    for _ in range(steps):
        adam.zero_grad()
        for _, some, own in parts(x, q.replace(*values)):
            terms = model.terms(some, own.draw(2))
            (terms.kl - terms.reconstruction).mean(0).sum().backward()
        adam.step()
        schedule.step()
    return q.replace(*(value.detach() for value in values))


@torch.no_grad()
def measured(model: LatentModel, x: Batch, q: Conditional) -> tuple[Tensor, list[float]]:
    """The ELBO of each datum, and means of -ELBO, KL, MI and NLL in nats."""
    torch.manual_seed(1)
    elbo, kl, ll = [], [], []
    for _, some, own in parts(x, q):
        terms = model.terms(some, own.draw(SAMPLES))
        ratio = terms.reconstruction - terms.kl
        elbo.append(ratio.mean(0))
        kl.append(terms.kl.mean(0))
        ll.append(ratio.logsumexp(0) - math.log(SAMPLES))
    z = q.draw(8).latent.flatten(0, 1)
    log_q = torch.cat([q.log_prob(some) for some in z.split(ROWS)]).double()
    own = log_q.view(8, len(x), len(x)).diagonal(dim1=1, dim2=2).flatten()
    mi = (own - log_q.logsumexp(1) + math.log(len(x))).mean()
    means = [-torch.cat(elbo).mean(), torch.cat(kl).mean(), mi, -torch.cat(ll).mean()]
    return torch.cat(elbo), [value.item() for value in means]


def main() -> None:
    """Print what the encoders of some runs reach, and what their data's own optima do."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--split", default="test", choices=("train", "valid", "test", "own"))
    parser.add_argument("--count", type=int, default=96)
    parser.add_argument("--steps", type=int, default=100)
    chosen = parser.parse_args()
    rows: list[list[object]] = []
    for folder in chosen.runs:
        name, model, x = trained(folder, chosen.split, chosen.count)
        with torch.no_grad():
            encoded = model.posterior(x)
        best = climbed(model, x, encoded, chosen.steps)
        before, after = measured(model, x, encoded), measured(model, x, best)
        tokens = f"{x.terms() / len(x):.1f}"
        for label, (_, means) in (("encoder's", before), ("climbed", after)):
            rows.append([folder.name, name, tokens, label, *(f"{value:.2f}" for value in means)])
        gains = (after[0] - before[0]).quantile(torch.tensor(QUANTILES)).tolist()
        told = ", ".join(f"{q:.0%} {gain:.1f}" for q, gain in zip(QUANTILES, gains, strict=True))
        print(f"{folder.name}: quantiles of the gain in nats: {told}")
    print(table(HEADS, rows))


if __name__ == "__main__":
    main()
