"""What the strengths of β alone predict of a text latent's information, by c.

python -m benchmarks.floor [--data synthetic,short-yelp,yahoo,yelp] [--c 0.01,0.03,0.1,0.3,1]
                          [--tokens T]

½ Σ_k log(1 + κ T ε_k²) nats: T the tokens of a document, the training part's mean if it is
not given, ε_k = c √λ_k the strengths of `lidsvae`'s columns, κ the share of the unigram
distribution's Fisher information that its contexts leave. A certified decoder of slope 1 before the
columns has at least about that.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from benchmarks.timing import table
from lidcli.config.read import load_files
from lidcli.config.resolve import resolve
from lidcli.training import text

EXPERIMENTS = Path(__file__).parents[1] / "experiments.yaml"
KAPPAS = (0.55, 0.95)
"""Between which κ was in trials with several decoders."""


def floors(data: str, cs: list[float], tokens: float | None) -> list[list[object]]:
    """A row for each c: the data, c, and the floor at either κ."""
    config = resolve(load_files([EXPERIMENTS]), model="lidsvae", data=data)
    documents = config.data.build()
    if tokens is None:
        tokens = float(np.mean(documents.train.lengths))
    found = text.columns(config.decoder, config, documents)  # type: ignore[arg-type]
    rows: list[list[object]] = []
    for c in cs:
        squared = text.minimal_beta(found, c)["strengths"].square()
        told = [0.5 * torch.log1p(kappa * tokens * squared).sum().item() for kappa in KAPPAS]
        rows.append([data, c, *(round(value, 3) for value in told)])
    return rows


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", default="synthetic,short-yelp,yahoo,yelp")
    parser.add_argument("--c", default="0.01,0.03,0.1,0.3,1")
    parser.add_argument("--tokens", type=float)
    chosen = parser.parse_args()
    cs = [float(c) for c in chosen.c.split(",")]
    rows = [row for data in chosen.data.split(",") for row in floors(data, cs, chosen.tokens)]
    print(table(["data", "c", *(f"κ {kappa}" for kappa in KAPPAS)], rows))


if __name__ == "__main__":
    main()
