"""Seeds as one batched model: a step of several beside a step of one, and whole sweeps.

python -m benchmarks.stack steps [--runs 5] [--rounds 30] [--device cpu]
python -m benchmarks.stack sweep [--runs 10] [--epochs 110]

`steps` takes turns between a step of one run and of a stack, on one thread, in processor time (in
wall time on a GPU); `sweep` is wall and processor time of commands, which take both cores.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.queue import timed
from benchmarks.timing import Times, interleave
from lidcli.cli.progress import Silent
from lidcli.config.read import load_files
from lidcli.config.resolve import resolve
from lidcli.data.registry import load
from lidcli.models.batch import DenseBatch
from lidcli.training.build import build
from lidcli.training.device import pick_device
from lidcli.training.loop import Trainer
from lidcli.training.signals import StopRequest
from lidcli.training.sources import split_of
from lidcli.training.stack import Stack, noise_of, skeleton

ROOT = Path(__file__).resolve().parents[1]
LAYERS = ("decoder.layers", 9)
CASES = (("gmvae", "pinwheel"), ("lidgmvae", "pinwheel"), ("vae", "digits"), ("lidvae", "digits"))


def trainer(model: str, data: str, seed: int, device: str) -> Trainer:
    """One run of a case, at its beginning."""
    known = load_files([ROOT / "experiments.yaml"])
    config = resolve(known, model=model, data=data, seed=seed, overrides=[LAYERS])
    rows = load(config.data)
    torch.manual_seed(seed)
    assert config.train is not None
    made = Trainer(
        config,
        build(config, rows).to(pick_device(device)),
        split_of(rows, "train", config.train.batch_size),
        split_of(rows, "valid"),
        observer=Silent(),
        save=lambda state, progress: None,
        stop=StopRequest(),
    )
    made.model.train()
    return made


def measured(model: str, data: str, runs: int, rounds: int, device: str) -> Times:
    """A step of one run and of a stack, in turns."""
    one = trainer(model, data, 0, device)
    several = [trainer(model, data, seed, device) for seed in range(runs)]
    stack = Stack(several, skeleton(several[0]))
    epoch = one.train.epoch(torch.Generator().manual_seed(0))
    x: Any = next(iter(epoch)).to(one.device)
    assert isinstance(x, DenseBatch)
    states = [single.generators() for single in several]

    def stacked() -> None:
        """As `train_together` does it: every run's generators are set and kept twice a step."""
        noise = []
        for index, single in enumerate(several):
            single.set_generators(states[index])
            noise.append(noise_of(single, x))
            states[index] = single.generators()
        stack.step([x] * runs, noise)
        for index, single in enumerate(several):
            single.set_generators(states[index])
            states[index] = single.generators()

    return interleave({"one": lambda: one.step(x), "stack": stacked}, rounds)


def on_a_gpu(model: str, data: str, runs: int, rounds: int) -> float:
    """A stack's step over one run's in wall time, the device waited for."""
    one = trainer(model, data, 0, "cuda")
    several = [trainer(model, data, seed, "cuda") for seed in range(runs)]
    stack = Stack(several, skeleton(several[0]))
    x: Any = next(iter(one.train.epoch(torch.Generator().manual_seed(0)))).to(one.device)
    spent = {"one": 0.0, "stack": 0.0}
    for round_ in range(rounds + 3):
        for name in spent:
            torch.cuda.synchronize()
            started = time.perf_counter()
            if name == "one":
                one.step(x)
            else:
                stack.step([x] * runs, [noise_of(single, x) for single in several])
            torch.cuda.synchronize()
            spent[name] += (time.perf_counter() - started) * (round_ >= 3)
    return spent["stack"] / spent["one"]


def steps(runs: int, rounds: int, device: str) -> None:
    """Print every case."""
    torch.set_flush_denormal(True)
    print(f"| model, data | one, ms | {runs} stacked, ms | of one | each by one |\n{'| --- ' * 5}|")
    for model, data in CASES:
        if device != "cpu":
            print(f"| {model}, {data} | | | {on_a_gpu(model, data, runs, rounds):.2f} | |")
            continue
        times = measured(model, data, runs, rounds, device)
        ratio = times.ratio("stack", "one")
        one, stack = (1e3 * times.median(case) for case in ("one", "stack"))
        print(
            f"| {model}, {data} | {one:.1f} | {stack:.1f} | {ratio:.2f} | {runs / ratio:.2f} |",
            flush=True,
        )


def sweeps(runs: int, epochs: int) -> None:
    """Print wall and processor seconds of one run, of all by `local`, and of all stacked."""
    seeds = ["--seeds", f"0-{runs - 1}", "-w", "2"]
    ways = {"one": ["--seeds", "0", "-w", "1"], "local": seeds}
    ways["stacked"] = [*seeds, "--stack", "seeds"]
    print(f"| model, data | runs | wall s | processor s | wall of one |\n{'| --- ' * 5}|")
    for model, data in CASES:
        words = ["sweep", "-m", model, "-d", data, "--set", f"train.epochs={epochs}"]
        words += ["--set", "decoder.layers=9", "--set", "evaluate.samples=100"]
        words += ["--set", "evaluate.outer=200"]
        first = 0.0
        for name, more in ways.items():
            with tempfile.TemporaryDirectory() as folder:
                wall, spent = timed([*words, *more], folder)
            first = first or wall
            row = f"| {model}, {data} | {name} | {wall:.0f} | {spent:.0f} | {wall / first:.2f} |"
            print(row, flush=True)


def main() -> None:
    """Do one of the two."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("steps", "sweep"))
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--epochs", type=int, default=110)
    parser.add_argument("--device", default="cpu")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    if chosen.what == "steps":
        steps(chosen.runs, chosen.rounds, chosen.device)
    else:
        sweeps(chosen.runs, chosen.epochs)


if __name__ == "__main__":
    main()
