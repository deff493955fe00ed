"""The figures of docs/BRENIER.md, and the numbers quoted beside them.

python docs/figures/brenier.py [grid] [slope] [start]
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path

import matplotlib
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lidcli.config.sections import Image
from lidcli.data.registry import load
from lidcli.nn import ICNN, MLP, BrenierMap, InjectiveDecoder, measured_modulus

matplotlib.use("Agg")
from matplotlib import pyplot as plt

FOLDER = Path(__file__).parent
COLOURS = {"smooth": "#1b6ca8", "leaky": "#c8553d", "MLP": "#6c757d", "clamped": "#e0a100"}


def save(figure: plt.Figure, name: str) -> None:
    """Write a figure beside this script."""
    figure.tight_layout()
    figure.savefig(FOLDER / f"brenier-{name}.png", dpi=140)
    plt.close(figure)


def grid() -> None:
    """A square grid, what a Brenier map makes of it, and a map with rotations around it."""
    torch.manual_seed(3)
    line = torch.linspace(-2, 2, 17)
    fine = torch.linspace(-2, 2, 200)
    lines = [torch.stack([torch.full_like(fine, x), fine], 1) for x in line]
    lines += [torch.stack([fine, torch.full_like(fine, y)], 1) for y in line]
    g = BrenierMap(2, 64, 4, gain=1.5, inverse_lipschitz=0.2)
    flat = BrenierMap(2, 64, 4, gain=1.5, inverse_lipschitz=0.0, activation="leaky")
    f = InjectiveDecoder(2, 2, 64, 9, gain=1.5, inverse_lipschitz=0.2)
    with torch.no_grad():
        for turn in f.rotations:
            turn.skew.fill_(0.6)
    cloud = torch.randn(500, 2)
    maps: list[tuple[str, Callable[[Tensor], Tensor]]] = [
        ("the latent space", lambda u: u),
        ("smooth, ε = 0.2: a monotone map", g),
        ("leaky, ε = 0: torn at every kink", flat),
        ("two maps and their rotations", f),
    ]
    for _, call in maps:
        if isinstance(call, BrenierMap | InjectiveDecoder):
            call.calibrate(cloud)
    figure, axes = plt.subplots(1, 4, figsize=(13, 3.5))
    for axis, (title, call) in zip(axes, maps, strict=True):
        with torch.no_grad():
            for index, points in enumerate(lines):
                out = call(points).numpy()
                jumps = np.linalg.norm(np.diff(out, axis=0), axis=1)
                out[1:][jumps > 8 * np.median(jumps)] = np.nan
                colour = COLOURS["smooth"] if index < len(line) else COLOURS["leaky"]
                axis.plot(*out.T, color=colour, linewidth=0.8)
        axis.set_title(title, fontsize=9)
        axis.set_aspect("equal", "datalim")
        axis.set_xticks([])
        axis.set_yticks([])
    save(figure, "grid")


def slope() -> None:
    """Certified and measured smallest slope of one map without ε, against its depth."""
    depths = list(range(2, 14))
    figure, axis = plt.subplots(figsize=(6.5, 4))
    print("log10 of certified / measured slope of one map, K = D = 8, H = 64, ε = 0, 5 seeds")
    for activation in ("smooth", "leaky"):
        certified, measured, resolution = [], [], []
        for layers in depths:
            rows = []
            for seed in range(5):
                torch.manual_seed(seed)
                g = BrenierMap(8, 64, layers, activation=activation, inverse_lipschitz=0.0).double()
                u = torch.randn(400, 8, dtype=torch.float64)
                g.calibrate(u)
                jacobians = torch.func.vmap(torch.func.jacrev(g))(u[:64])
                largest = torch.linalg.svdvals(jacobians).max().item()
                smallest = measured_modulus(g, u[:64]).singular_value
                limit = torch.finfo(torch.float32).eps * largest
                rows.append((g.certificate().log_modulus, math.log(smallest), math.log(limit)))
            values = np.exp(np.mean(rows, axis=0))
            certified.append(values[0])
            measured.append(values[1])
            resolution.append(values[2])
        colour = COLOURS[activation]
        axis.semilogy(depths, measured, "o-", color=colour, label=f"{activation}, measured")
        axis.semilogy(depths, certified, "s--", color=colour, label=f"{activation}, certified")
        axis.semilogy(
            depths, resolution, ":", color=colour, label=f"{activation}, float32 resolution"
        )
        for depth, low, seen in zip(depths, certified, measured, strict=True):
            print(f"  {activation} L={depth}: {math.log10(low):.1f} / {math.log10(seen):.1f}")
    axis.axhline(0.5, color="black", linewidth=0.8)
    axis.set_ylim(top=5)
    axis.text(2, 0.7, "ε = 0.5 adds this to every curve", fontsize=8)
    axis.set_xlabel("L, layers of the ICNN")
    axis.set_ylabel("smallest slope of the map")
    axis.legend(fontsize=7, loc="lower left")
    save(figure, "slope")


def clamp_at_zero(phi: ICNN) -> None:
    """Overwrite the start of W and w with Glorot's, negative entries at (nearly) zero."""
    with torch.no_grad():
        for v in [*phi.log_weights, phi.log_scalar]:
            fans = v.shape[0] + (v.shape[1] if v.ndim == 2 else 1)
            v.copy_((torch.randn_like(v) * (2 / fans) ** 0.5).clamp_min(1e-30).log())


def start() -> None:
    """First loss against depth, and loss against step at `layers: 19`, on digits."""
    data = load(Image(name="digits"))
    grey = torch.from_numpy(data.train.x)
    latent, hidden, pixels = 16, 128, grey.shape[1]

    def decoder(kind: str, layers: int) -> torch.nn.Module:
        stages = 2 * (layers + 1) - 1
        if kind == "MLP":
            return MLP(latent, pixels, hidden, stages)
        activation = "smooth" if kind == "smooth" else "leaky"
        net = InjectiveDecoder(latent, pixels, hidden, stages, activation=activation)
        if kind == "clamped":
            for g in net.brenier_maps():
                clamp_at_zero(g.icnn)
        else:
            net.calibrate(torch.randn(500, latent))
        return net

    def loss(net: torch.nn.Module, encoder: MLP, x: Tensor) -> Tensor:
        mean, log_sd = encoder(2 * x - 1).chunk(2, dim=1)
        logits = net(mean + log_sd.exp() * torch.randn_like(mean))
        kl = (0.5 * (mean.square() + (2 * log_sd).exp() - 1) - log_sd).sum()
        return (F.binary_cross_entropy_with_logits(logits, x, reduction="sum") + kl) / len(x)

    names = {
        "smooth": "smooth, recommended start",
        "leaky": "leaky, recommended start",
        "clamped": "leaky, Glorot clamped at 0",
        "MLP": "MLP",
    }
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8))
    depths = list(range(2, 14))
    print("first loss, nats per datum, mean of 3 seeds, L = 2, 4, 9, 13")
    for kind, name in names.items():
        first = []
        for layers in depths:
            values = []
            for seed in range(3):
                torch.manual_seed(seed)
                net, encoder = decoder(kind, layers), MLP(pixels, 2 * latent, 256, 3)
                with torch.no_grad():
                    values.append(loss(net, encoder, torch.bernoulli(grey[:500])).item())
            first.append(np.mean(values))
        print(f"  {name}: " + ", ".join(f"{first[depths.index(d)]:.3g}" for d in (2, 4, 9, 13)))
        left.semilogy(depths, first, "o-", color=COLOURS[kind], label=name)
    print("mean loss of steps 551 to 600 at L = 9, nats per datum, seed 0")
    for kind in ("smooth", "leaky", "MLP"):
        torch.manual_seed(0)
        net, encoder = decoder(kind, 9), MLP(pixels, 2 * latent, 256, 3)
        optimiser = torch.optim.Adam([*net.parameters(), *encoder.parameters()], lr=1e-3)
        curve = []
        for _ in range(600):
            value = loss(net, encoder, torch.bernoulli(grey[torch.randint(len(grey), (100,))]))
            optimiser.zero_grad()
            value.backward()
            optimiser.step()
            curve.append(value.item())
        print(f"  {names[kind]}: {np.mean(curve[-50:]):.1f}")
        running = np.convolve(curve, np.ones(10) / 10, "valid")
        right.plot(running, color=COLOURS[kind], label=names[kind])
    left.set_xlabel("L, layers of each ICNN")
    left.set_ylabel("loss at step 0, nats per datum")
    left.legend(fontsize=7)
    right.set_xlabel("step")
    right.set_ylabel("training loss, nats per datum")
    right.set_title("layers: 19 (L = 9)", fontsize=9)
    right.set_ylim(top=min(120.0, right.get_ylim()[1]))
    right.legend(fontsize=7)
    save(figure, "start")


if __name__ == "__main__":
    torch.set_num_threads(1)
    figures = {"grid": grid, "slope": slope, "start": start}
    parser = argparse.ArgumentParser(description="The figures of docs/BRENIER.md.")
    parser.add_argument("names", nargs="*", help=f"of {', '.join(figures)}; all by default")
    names = parser.parse_args().names
    if unknown := set(names) - set(figures):
        parser.error(f"no figure {', '.join(sorted(unknown))}: there are {', '.join(figures)}")
    for name in names or figures:
        figures[name]()
