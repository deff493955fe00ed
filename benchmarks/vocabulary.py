"""An output layer of a vocabulary's size: closed form, factored, double backpropagation, linear.

python -m benchmarks.vocabulary [--write] [--rounds 5]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.reference import DoubleBackpropagation
from benchmarks.timing import Step, flops, interleave, machine, publish, table
from lidcli.nn import BrenierMap, FactoredBrenierMap, count_parameters

VOCABULARY, HIDDEN, LAYERS, STATE, LATENT, TOKENS, CHUNK = 20_000, 1024, 3, 1024, 32, 2560, 1280
ACTIVE = STATE + LATENT


def unfactored(activation: str, backward: str) -> BrenierMap:
    """One Brenier map onto all logits."""
    torch.manual_seed(0)
    return BrenierMap(
        VOCABULARY, HIDDEN, LAYERS, active=ACTIVE, activation=activation, backward=backward
    )


def factored(activation: str, hidden: int) -> FactoredBrenierMap:
    """The same through one embedding, the latent's columns dense."""
    torch.manual_seed(0)
    return FactoredBrenierMap(
        VOCABULARY,
        hidden,
        LAYERS,
        width=HIDDEN,
        active=ACTIVE,
        dense=LATENT,
        activation=activation,
    )


CASES: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: nn.Linear(ACTIVE, VOCABULARY),
    **{
        f"{name}, {activation}": (lambda make=make, activation=activation: make(activation))
        for activation in ("leaky", "smooth")
        for name, make in {
            "double backpropagation": lambda a: DoubleBackpropagation(unfactored(a, "plain")),
            "plain": lambda a: unfactored(a, "plain"),
            "by hand": lambda a: unfactored(a, "by-hand"),
            "by hand, in chunks": lambda a: unfactored(a, "by-hand"),
            "factored, H = 1024": lambda a: factored(a, HIDDEN),
            "factored, H = 256": lambda a: factored(a, HIDDEN // 4),
        }.items()
    },
}


def step(name: str) -> Step:
    """Forward, cross-entropy and backward for the input and every parameter."""
    net = CASES[name]()
    u = torch.randn(TOKENS, ACTIVE, requires_grad=True)
    words = torch.randint(VOCABULARY, (TOKENS,))
    size = CHUNK if "chunks" in name else TOKENS

    def run() -> None:
        net.zero_grad(set_to_none=True)
        u.grad = None
        for part, target in zip(torch.split(u, size), torch.split(words, size), strict=True):
            loss: Tensor = F.cross_entropy(net(part), target, reduction="sum") / TOKENS
            loss.backward()

    return run


def peak_memory(name: str) -> float:
    """Peak resident memory in MiB that one step adds, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.vocabulary", "--memory", name]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def highest_resident_size() -> float:
    """MiB, of this process since it began (getrusage would inherit its parent's)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def report_memory(name: str) -> None:
    """What `peak_memory` reads: the highest resident size, less that before the net was made."""
    before = highest_resident_size()
    step(name)()
    print(highest_resident_size() - before)


def main() -> None:
    """Time and weigh every case, setting by setting."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="update docs/PERFORMANCE.md")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory", choices=list(CASES), help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.memory:
        report_memory(options.memory)
        return
    rows = []
    for activation in ("leaky", "smooth"):
        names = ["linear", *(name for name in CASES if name.endswith(activation))]
        double = f"double backpropagation, {activation}"
        steps = {name: step(name) for name in names}
        times = interleave(steps, options.rounds, warmup=1)
        memory = {name: peak_memory(name) for name in names}
        for name in names:
            rows.append(
                [
                    name,
                    f"{count_parameters(CASES[name]()) / 1e6:.1f} M",
                    times.median(name),
                    times.ratio(double, name),
                    times.ratio(name, "linear"),
                    flops(steps[name]) / flops(steps["linear"]),
                    f"{memory[name]:.0f}",
                    memory[name] / memory[double],
                ]
            )
    head = ["output layer", "parameters", "step, s", "double / it", "it / linear",
            "FLOPs, it / linear", "peak, MiB", "peak, it / double"]  # fmt: skip
    text = f"""## A vocabulary's output layer

`python -m benchmarks.vocabulary --rounds {options.rounds}`:
V = {VOCABULARY:,} logits, H = H' = {HIDDEN}, L = {LAYERS},
K = {ACTIVE} inputs ({LATENT} of them the latent's), {TOKENS:,} tokens; a step is forward,
cross-entropy and backward for the input and every parameter. "In chunks" runs {CHUNK} tokens at a
time. Ratios are medians over {options.rounds} interleaved rounds, times seconds of processor time;
peak resident memory of one step in a process of its own. {machine()}.

{table(head, rows)}
"""
    publish("vocabulary", text, options.write)


if __name__ == "__main__":
    main()
