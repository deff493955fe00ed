"""What padding awareness, rotations, directions, batched categories and stacked seeds save or cost.

python -m benchmarks.decoder [--write] [--rounds 11]
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.nn import functional as F

from benchmarks.timing import (
    Step,
    arguments,
    flops,
    interleave,
    machine,
    publish,
    table,
    train_step,
)
from lidcli.nn import BrenierMap, InjectiveDecoder

OUT, HIDDEN, BATCH, CATEGORIES, SEEDS = 784, 512, 128, 10, 10
FEWER = 100


class Padded(nn.Module):
    """A map that is handed its zeros: what padding awareness is measured against."""

    def __init__(self, g: BrenierMap) -> None:
        super().__init__()
        self.whole = BrenierMap(g.dim, g.icnn.hidden, g.icnn.layers, activation=g.icnn.activation)
        self.whole.load_state_dict(g.state_dict())

    def forward(self, u: Tensor) -> Tensor:
        """The same (N, K) -> (N, D)."""
        out: Tensor = self.whole(F.pad(u, (0, self.whole.dim - u.shape[1])))
        return out


def padding(activation: str, active: int, layers: int, rounds: int) -> list[object]:
    """The last map, K active inputs of D, against the same map on padded input."""
    torch.manual_seed(0)
    g = BrenierMap(OUT, HIDDEN, layers, active=active, activation=activation)
    steps = _steps({"aware": g, "padded": Padded(g)}, active)
    times = interleave(steps, rounds)
    saved = flops(steps["padded"]) / flops(steps["aware"])
    return [activation, layers, active, 1e3 * times.median("aware"),
            times.ratio("padded", "aware"), saved]  # fmt: skip


def rotations(latent: int, rounds: int) -> list[object]:
    """The whole decoder with and without its rotations."""
    torch.manual_seed(0)
    nets = {
        str(turned): InjectiveDecoder(latent, OUT, HIDDEN, 9, rotations=turned)
        for turned in (True, False)
    }
    times = interleave(_steps(nets, latent), rounds)
    return [latent, 1e3 * times.median("False"), times.ratio("True", "False")]


def beta(latent: int, layers: int, rounds: int) -> list[object]:
    """The whole decoder along K principal directions against the zero-padded one."""
    torch.manual_seed(0)
    directions = torch.linalg.qr(torch.randn(OUT, latent)).Q
    nets = {
        "zeros": InjectiveDecoder(latent, OUT, HIDDEN, layers),
        "principal": InjectiveDecoder(latent, OUT, HIDDEN, layers, directions=directions),
    }
    steps = _steps(nets, latent, FEWER)
    times = interleave(steps, rounds)
    return [latent, layers, 1e3 * times.median("zeros"), times.ratio("principal", "zeros"),
            f"{flops(steps['principal']) / flops(steps['zeros']):.4f}"]  # fmt: skip


def categories(rounds: int) -> list[object]:
    """All C categories of a batch decoded at once, or one after the other."""
    torch.manual_seed(0)
    net = InjectiveDecoder(64, OUT, HIDDEN, 9)
    w = torch.randn(CATEGORIES * BATCH, 64)

    def at_once() -> None:
        net.zero_grad(set_to_none=True)
        net(w).sum().backward()

    def looped() -> None:
        net.zero_grad(set_to_none=True)
        sum(net(part).sum() for part in torch.split(w, BATCH)).backward()

    times = interleave({"at once": at_once, "looped": looped}, rounds)
    return [f"{CATEGORIES} categories of {BATCH} data", 1e3 * times.median("at once"),
            times.ratio("looped", "at once")]  # fmt: skip


def seeds(hidden: int, rounds: int) -> list[object]:
    """Ten seeds stacked under vmap against ten steps one after the other."""
    torch.manual_seed(0)
    nets = [InjectiveDecoder(2, 2, hidden, 9) for _ in range(SEEDS)]
    parameters, buffers = stack_module_state(nets)
    u = torch.randn(BATCH, 2)

    def stacked() -> None:
        for value in parameters.values():
            value.grad = None
        call: Callable[..., Tensor] = lambda p, b: functional_call(nets[0], (p, b), (u,))  # noqa: E731
        vmap(call)(parameters, buffers).sum().backward()

    def looped() -> None:
        for net in nets:
            net.zero_grad(set_to_none=True)
            net(u).sum().backward()

    times = interleave({"stacked": stacked, "looped": looped}, rounds)
    return [f"{SEEDS} seeds, K = D = 2, H = {hidden}", 1e3 * times.median("stacked"),
            times.ratio("looped", "stacked")]  # fmt: skip


def _steps(
    nets: dict[str, nn.Module] | dict[str, InjectiveDecoder], latent: int, batch: int = BATCH
) -> dict[str, Step]:
    """Training steps of nets that take the same input."""
    u, weight = torch.randn(batch, latent, requires_grad=True), torch.randn(batch, OUT)
    return {name: train_step(net, u, weight, net) for name, net in nets.items()}


def main() -> None:
    """Measure and print the tables."""
    options = arguments(str(__doc__))
    rounds = options.rounds
    padded = table(
        ["setting", "L", "K", "padding-aware, ms", "padded / aware", "FLOPs, padded / aware"],
        [
            padding(activation, active, layers, rounds)
            for activation in ("leaky", "smooth")
            for layers in (2, 5, 9)
            for active in (16, 64, 256)
        ],
    )
    turned = table(
        ["K", "without, ms", "with / without"], [rotations(k, rounds) for k in (2, 16, 64, 256)]
    )
    turned_padding = table(
        ["K", "layers", "zeros, ms", "principal / zeros", "FLOPs, principal / zeros"],
        [beta(64, layers, rounds) for layers in (5, 7, 9, 11)],
    )
    batched = table(
        ["what", "in one batch, ms", "one after the other / in one batch"],
        [categories(rounds), *(seeds(hidden, rounds) for hidden in (32, 128, 512))],
    )
    text = f"""## Padding, rotations and batching

`python -m benchmarks.decoder --rounds {rounds}`:
D = {OUT}, H = {HIDDEN}, batch {BATCH} unless said otherwise,
backward by hand (plain under vmap); a step is forward and backward. Ratios are medians over
{rounds} interleaved rounds, times milliseconds of processor time. {machine()}.

The last map (K active inputs of D) against the same map on zero-padded input:

{padded}

The decoder of `layers: 9`, smooth, with and without its learned rotations:

{turned}

The decoder along principal directions (`beta: principal`) against zero padding, batch {FEWER}:

{turned_padding}

Many small decodings in one batch:

{batched}
"""
    publish("decoder", text, options.write)


if __name__ == "__main__":
    main()
