"""The ceilings of the synthetic sentences: their entropy, and what they say about the latent.

python -m benchmarks.synthetic [--sentences 2000] [--samples 500]

Prints the constants of lidcli/data/synthetic.py.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from pathlib import Path

from lidcli.data.marginal import ceiling, marginal
from lidcli.data.synthetic import LANGUAGE, sentences, synthetic


def main() -> None:
    """Estimate and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sentences", type=int, default=2000, help="of the test part")
    parser.add_argument("--samples", type=int, default=500, help="draws of z a sentence")
    chosen = parser.parse_args()
    words, z = sentences("test", chosen.sentences)
    estimates = marginal(LANGUAGE, words, z, chosen.samples)
    found = ceiling(estimates)
    print(f"entropy      {found.entropy:.3f} ± {found.entropy_se:.3f} nats a sentence")
    print(f"information  {found.information:.3f} ± {found.information_se:.3f} nats a sentence")
    print(f"effective    {estimates.effective.mean():.2f} of the draws, least"
          f" {estimates.effective.min():.3f}")  # fmt: skip
    bias = (1 / estimates.effective - 1).mean() / (2 * chosen.samples)
    noise = math.sqrt((1 / estimates.effective - 1).mean() / chosen.samples / chosen.sentences)
    print(f"of the draws bias {-bias:.4f}, standard error {noise:.4f}")
    print(f"given z      {-estimates.log_conditional.mean():.3f} = -log p(x | z)")
    with tempfile.TemporaryDirectory() as folder:
        print(f"sha256       {synthetic(Path(folder) / 'none').sha256}")


if __name__ == "__main__":
    main()
