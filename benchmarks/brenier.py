"""Whole image decoder: closed form, by hand, compiled, double backpropagation, MLP.

python -m benchmarks.brenier [--write] [--rounds 15] [--compile 1]
"""

from __future__ import annotations

import torch

from benchmarks.reference import double_decoder, perceptron_of_equal_size
from benchmarks.timing import (
    arguments,
    flops,
    interleave,
    machine,
    publish,
    saved_activations,
    slope,
    table,
    train_step,
)
from lidcli.nn import InjectiveDecoder, count_parameters

LATENT, OUT, HIDDEN, BATCH = 64, 784, 512, 128
MANY = 1000


def decoder(layers: int, activation: str, backward: str, hidden: int = HIDDEN) -> InjectiveDecoder:
    """A decoder of two maps of L layers each, always the same one."""
    torch.manual_seed(0)
    return InjectiveDecoder(
        LATENT, OUT, hidden, 2 * (layers + 1) - 1, activation=activation, backward=backward
    )


def compare(activation: str, layers: int, batch: int, rounds: int, compiled: bool) -> list[object]:
    """One row: times, ratios, operations and memory of every form."""
    plain = decoder(layers, activation, "plain")
    by_hand = decoder(layers, activation, "by-hand")
    mlp = perceptron_of_equal_size(plain, 2 * (layers + 1) - 1)
    u = torch.randn(batch, LATENT, requires_grad=True)
    weight = torch.randn(batch, OUT)
    double = double_decoder(plain)
    torch.testing.assert_close(plain(u), double(u), rtol=1e-3, atol=1e-3)
    steps = {
        "plain": train_step(plain, u, weight, plain),
        "by hand": train_step(by_hand, u, weight, by_hand),
        "double": train_step(double, u, weight, double),
        "MLP": train_step(mlp, u, weight, mlp),
    }
    if compiled:
        torch.compiler.reset()
        twin = decoder(layers, activation, "plain")
        steps["compiled"] = train_step(torch.compile(twin), u, weight, twin)
    times = interleave(steps, rounds)
    operations = {case: flops(steps[case]) for case in ("plain", "double", "MLP")}
    memory = {
        case: saved_activations(call, u)
        for case, call in {"plain": plain, "by hand": by_hand, "double": double}.items()
    }
    return [
        activation,
        layers,
        batch,
        f"{count_parameters(plain) / 1e6:.2f} M",
        1e3 * times.median("by hand"),
        times.ratio("double", "plain"),
        times.ratio("double", "by hand"),
        times.ratio("double", "compiled") if compiled else "–",
        times.ratio("plain", "MLP"),
        times.ratio("by hand", "MLP"),
        operations["plain"] / operations["double"],
        operations["plain"] / operations["MLP"],
        memory["double"] / memory["plain"],
        memory["double"] / memory["by hand"],
    ]


def scaling(activation: str, rounds: int) -> list[object]:
    """Time of a step against the number of parameters from H = 256 to 2048."""
    widths = [256, 512, 1024, 2048]
    u = torch.randn(BATCH, LATENT, requires_grad=True)
    weight = torch.randn(BATCH, OUT)
    nets = {str(width): decoder(5, activation, "by-hand", width) for width in widths}
    steps = {name: train_step(net, u, weight, net) for name, net in nets.items()}
    times = interleave(steps, rounds, warmup=1)
    sizes = [float(count_parameters(net)) for net in nets.values()]
    seconds = [times.median(name) for name in nets]
    return [activation, *(1e3 * s for s in seconds), slope(sizes, seconds)]


def main() -> None:
    """Measure and print both tables."""
    options = arguments(str(__doc__), compile=(int, 0, "1: also torch.compile (needs a compiler)"))
    rows = [
        compare(activation, layers, batch, options.rounds, bool(options.compile))
        for activation in ("leaky", "smooth")
        for batch in (BATCH, MANY)
        for layers in (2, 5, 9)
    ]
    head = ["setting", "L", "batch", "parameters", "by hand, ms", "double / plain",
            "double / by hand", "double / compiled", "plain / MLP", "by hand / MLP",
            "FLOPs, plain / double", "FLOPs, plain / MLP", "saved, double / plain",
            "saved, double / by hand"]  # fmt: skip
    widths = [
        scaling(activation, max(3, options.rounds // 3)) for activation in ("leaky", "smooth")
    ]
    widths_head = ["setting", "H = 256, ms", "512", "1024", "2048", "log-log slope"]
    command = "python -m benchmarks.brenier" + (" --compile 1" if options.compile else "")
    text = f"""## The image decoder

`{command} --rounds {options.rounds}`: two maps of L layers each, K = {LATENT}, D = {OUT},
H = {HIDDEN}, rotations on; a step is forward and backward for the input and every parameter.
Ratios are medians over {options.rounds} interleaved rounds, times milliseconds of processor time.
"Double" is double backpropagation with the padding materialised; "compiled" is the plain
form; the MLP has as many affine stages and as many parameters. {machine()}.

{table(head, rows)}

Time of a step (by hand, L = 5, batch {BATCH}) against the number of parameters:

{table(widths_head, widths)}
"""
    publish("brenier", text, options.write)


if __name__ == "__main__":
    main()
