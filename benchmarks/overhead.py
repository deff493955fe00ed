"""What the runner costs: `lid train`'s loop against a bare loop over the same model and batches.

    python -m benchmarks.overhead [--data pinwheel] [--model lidgmvae] [--rounds 7] [--epochs 2]

Both loops train the same model; before each round the bare one takes up the runner's weights, and
their epochs are interleaved. Seconds are the process's own on one thread, and the ratio of steps
per second (runner over bare) is that of the medians over rounds. As in `lid train`, numbers too
small for a normal float are taken as zero: with them a step takes up to twice as long.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from torch.nn.utils import clip_grad_norm_

from lidcli.cli.progress import LogLines
from lidcli.config.read import load_files
from lidcli.config.resolve import resolve
from lidcli.config.run import RunConfig
from lidcli.data.registry import load
from lidcli.models.batch import DenseBatch
from lidcli.training.build import build
from lidcli.training.loop import Progress, Trainer
from lidcli.training.optimisers import groups
from lidcli.training.signals import StopRequest
from lidcli.training.sources import split_of


def bare_epoch(model: Any, optimiser: Any, data: torch.Tensor, config: RunConfig) -> None:
    """One epoch as one would write it by hand."""
    parameters = list(model.parameters())
    data = data[torch.randperm(len(data))]
    for x in data.split(config.train.batch_size):
        optimiser.zero_grad(set_to_none=True)
        batch = DenseBatch(x)
        terms = model.terms(batch, model.posterior(batch).draw(config.inference.samples))
        loss = -(terms.reconstruction - terms.kl).mean()
        loss.backward()
        clip_grad_norm_(parameters, config.train.clip)
        optimiser.step()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="pinwheel")
    parser.add_argument("--model", default="lidgmvae")
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--epochs", type=int, default=1, help="epochs a round")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    known = load_files([Path(__file__).resolve().parents[1] / "experiments.yaml"])
    config = resolve(
        known,
        model=arguments.model,
        data=arguments.data,
        overrides=[("train.epochs", 10_000), ("train.validate_every", 10_000)],
    )
    data = load(config.data)
    train = torch.from_numpy(data.train.x)
    saves: list[Progress] = []
    trainer = Trainer(
        config,
        build(config, data),
        split_of(data, "train", config.train.batch_size),
        split_of(data, "valid"),
        observer=LogLines(),
        save=lambda state, progress: saves.append(progress),
        stop=StopRequest(),
    )
    model = build(config, data)
    optimiser = config.train.build(groups(model, config.train.decoder_rate))
    bits = torch.bernoulli(train) if data.stochastic else train

    def runner() -> None:
        trainer.drive(trainer._epoch())
        trainer.progress.epoch += 1
        trainer.progress.batch = 0

    runner()
    bare_epoch(model, optimiser, bits, config)
    seconds: dict[str, list[float]] = {"runner": [], "bare": []}
    for _ in range(arguments.rounds):
        model.load_state_dict(trainer.model.state_dict())
        spent = {"runner": 0.0, "bare": 0.0}
        for _ in range(arguments.epochs):
            started = time.process_time()
            runner()
            between = time.process_time()
            bare_epoch(model, optimiser, bits, config)
            spent["runner"] += between - started
            spent["bare"] += time.process_time() - between
        for loop, value in spent.items():
            seconds[loop].append(value)
    steps = trainer.batches * arguments.epochs
    print(f"{arguments.model} on {arguments.data}, {steps} steps a round")
    middle = {loop: statistics.median(values) for loop, values in seconds.items()}
    least = {loop: min(values) for loop, values in seconds.items()}
    print(f"bare loop: {1e3 * middle['bare'] / steps:.2f} ms a step")
    print(
        f"steps per second, runner / bare: {middle['bare'] / middle['runner']:.3f}"
        f" (of the fastest rounds {least['bare'] / least['runner']:.3f})"
    )


if __name__ == "__main__":
    main()
