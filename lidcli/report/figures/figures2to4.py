"""Figures 2 to 4 of the paper, from runs in the store."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lidcli.report.collect import Record
from lidcli.report.figures.style import COLOURS, GREY, Sketch, legend, new

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["by_sigma_sketches", "latents_sketches", "weight_sketches"]

Array = npt.NDArray[np.floating[Any]]
Arrays = dict[str, Array]
PRIOR = (5.0, 5.0)
BLUE, ORANGE = COLOURS[0], COLOURS[1]


def by_sigma_sketches(records: Sequence[Record]) -> Iterator[Sketch]:
    """Figure 2, for each data set with three noise levels."""
    for data in dict.fromkeys(r.data for r in records):
        shown = sorted((r for r in records if r.data == data and _planar(r)), key=_sigma)
        if len({_sigma(r) for r in shown}) >= 3:
            yield Sketch(
                f"likelihood-by-sigma-{data}",
                f"{data}: likelihood of the first datum over its two latents, and the posterior"
                " of each latent against the prior, by the noise sd σ; lines exact, bars NUTS."
                " Above each its variance and its KL, averaged over the data. Latent k collapses"
                " exactly where σ² reaches the k-th eigenvalue of the sample covariance. The"
                " paper's figure prints the surface of σ = 2 over σ = 1.5, and nothing collapses"
                " there.",
                partial(_by_sigma, shown),
            )


def latents_sketches(records: Sequence[Record]) -> Iterator[Sketch]:
    """Figure 3, where two data sets have runs of the same noise level."""
    pairs = _pairs(records)
    if pairs:
        one, two = pairs[0]
        yield Sketch(
            "latents",
            f"PPCA with two latents on {one.data} (a, b) and on {two.data} (c, d): likelihood of"
            " the first datum, and the posteriors of z_1 and z_2 against the prior. Where the data"
            " have one dimension, the second latent at the true σ is nearly, not exactly,"
            " collapsed; it is exactly where σ² is above its eigenvalue.",
            partial(_latents, pairs),
        )


def weight_sketches(records: Sequence[Record]) -> Iterator[Sketch]:
    """Figure 4, where runs have a posterior of the weight."""
    yield Sketch(
        "weight",
        "Two-component mixtures: likelihood of the weight α at fixed components, its"
        " posterior there by quadrature, and jointly with the components by NUTS, each"
        " against the prior Beta(5, 5). They differ: only the joint posterior leaves α open"
        " where the clusters overlap. With equal components the likelihood of α is constant on"
        " any data; they are the best single Gaussian, not the maximum.",
        partial(_weight, records),
    )


def _sigma(record: Record) -> float:
    return float(record.metrics.get("sigma", math.nan))


def _planar(record: Record) -> bool:
    """Two latents, at the maximum of the likelihood."""
    return record.held["weight"][1:] == (2,) and record.setting("theta", "ml") == "ml"


def _converged(record: Record) -> bool:
    return bool(record.provenance.get("converged", True))


def _pairs(records: Sequence[Record]) -> list[tuple[Record, Record]]:
    """Runs of the same σ on the first two data sets, by name."""
    at: dict[str, dict[float, Record]] = {}
    for r in sorted(records, key=lambda r: r.data):
        if _planar(r):
            at.setdefault(r.data, {}).setdefault(_sigma(r), r)
    if len(at) < 2:
        return []
    one, two = list(at.values())[:2]
    return [(one[sigma], two[sigma]) for sigma in sorted(set(one) & set(two))]


def _surface(axes: Axes, arrays: Arrays, sigma: float, reach: float = 4.0) -> None:
    """The likelihood of the shown datum, relative to its maximum over the plane of z."""
    grid = np.linspace(-reach, reach, 121)
    z = np.stack(np.meshgrid(grid, grid, indexing="xy"), axis=-1)
    gap = arrays["shown_datum"] - z @ arrays["weight"].T
    log_p = -0.5 * (gap**2).sum(-1) / sigma**2
    relative = np.exp(log_p - log_p.max())
    axes.contourf(
        grid, grid, relative, levels=np.linspace(0, 1, 11), cmap="Blues", vmin=0, vmax=1.2
    )
    axes.contour(grid, grid, relative, levels=[0.1, 0.5, 0.9], colors="#333333", linewidths=0.5)
    axes.set_aspect("equal")
    axes.set_xlabel("z₁")
    axes.set_xticks([-4, 0, 4])
    axes.set_yticks([-4, 0, 4])


def _normal(t: Array, mean: float, sd: float) -> Array:
    value: Array = np.exp(-0.5 * ((t - mean) / sd) ** 2) / (sd * math.sqrt(2 * math.pi))
    return value


def _posterior(axes: Axes, record: Record, arrays: Arrays, k: int) -> None:
    """Prior, exact posterior and NUTS draws of one latent of the shown datum."""
    mean = float(arrays["shown_mean"][k])
    sd = math.sqrt(record.metrics[f"posterior_variance/z/{k + 1}"])
    t = np.unique(np.concatenate([np.linspace(-4, 4, 201), mean + sd * np.linspace(-5, 5, 201)]))
    if "nuts_z" in arrays:
        axes.hist(
            arrays["nuts_z"][:, k], bins=40, density=True, color=ORANGE, alpha=0.55, label="NUTS"
        )
    axes.plot(t, _normal(t, mean, sd), color=BLUE, linewidth=1.3, label="exact posterior")
    axes.plot(t, _normal(t, 0.0, 1.0), color="black", linestyle="--", linewidth=1, label="prior")
    axes.set_xlim(-4, 4)
    axes.set_xticks([-4, 0, 4])
    axes.set_xlabel(f"z{'₁₂'[k]}")
    kl = record.metrics[f"kl_unit/z/{k + 1}"]
    said = "collapsed" if sd >= 1 - 1e-9 else f"KL {kl:.2g}"
    axes.set_title(f"var {sd**2:.3g}, {said}", fontsize=8)
    if not _converged(record):
        axes.text(0.5, 0.5, "not converged", transform=axes.transAxes, color="#D55E00", ha="center")


def _by_sigma(shown: Sequence[Record]) -> Figure:
    figure, grid = new(len(shown), 3, 1.5, 1.75)
    for column, record in enumerate(shown):
        arrays = record.arrays()
        _surface(grid[0][column], arrays, _sigma(record))
        grid[0][column].set_title(f"σ = {_sigma(record):g}")
        for k in range(2):
            _posterior(grid[k + 1][column], record, arrays, k)
    grid[0][0].set_ylabel("likelihood\nz₂")
    grid[1][0].set_ylabel("p(z₁ | x)")
    grid[2][0].set_ylabel("p(z₂ | x)")
    legend(figure, [grid[1][0]])
    roots = " and ".join(
        f"{math.sqrt(value):.2f}" for value in shown[0].arrays()["eigenvalues"][:2]
    )
    figure.suptitle(f"{shown[0].data}: latents 1 and 2 collapse from σ = {roots} on", fontsize=9)
    return figure


def _latents(pairs: Sequence[tuple[Record, Record]]) -> Figure:
    figure, grid = new(6, len(pairs), 1.75, 2.0)
    for row, pair in enumerate(pairs):
        for half, record in enumerate(pair):
            arrays = record.arrays()
            axes = grid[row][3 * half : 3 * half + 3]
            _surface(axes[0], arrays, _sigma(record))
            letter = "ac"[half] if row == 0 else ""
            axes[0].set_title(f"{f'({letter}) ' if letter else ''}σ = {_sigma(record):g}")
            axes[0].set_ylabel(f"{record.data}\nz₂")
            for k in range(2):
                _posterior(axes[k + 1], record, arrays, k)
                if row == 0 and k == 0:
                    axes[1].set_title(f"({'bd'[half]}) {axes[1].get_title()}", fontsize=8)
    legend(figure, [grid[0][1]])
    return figure


CASES = ("gmm-single", "gmm-overlapping", "gmm-separated")
"""The paper's order of data sets; others follow by name."""
FIXED = {
    "ml": "EM's maximum",
    "truth": "true components",
    "shared": "equal components",
}


def _weight(records: Sequence[Record]) -> Figure:
    data = [name for name in CASES if any(r.data == name for r in records)]
    data += sorted({r.data for r in records} - set(data))
    figure, grid = new(len(data), 3, 2.7, 1.9)
    for column, name in enumerate(data):
        axes = [row[column] for row in grid]
        _weight_of(axes, [r for r in records if r.data == name])
        axes[0].set_title(name)
        axes[2].set_xlabel("α")
    grid[0][0].set_ylabel("(a) p(x | α; θ) / max")
    grid[1][0].set_ylabel("(b) p(α | x; θ)")
    grid[2][0].set_ylabel("(b) p(α | x), joint")
    legend(figure, (axes for row in grid[1:] for axes in row), 9)
    return figure


def _weight_of(axes: Sequence[Axes], records: Sequence[Record]) -> None:
    """Likelihood, posterior and joint posterior of the weight on one data set."""
    for record in sorted((r for r in records if not r.setting("joint")), key=_theta):
        _at_fixed(axes[0], axes[1], record)
    for record in (r for r in records if r.setting("joint")):
        _jointly(axes[2], record)
    t = np.linspace(0.001, 0.999, 300)
    beta = t ** (PRIOR[0] - 1) * (1 - t) ** (PRIOR[1] - 1)
    beta /= np.trapezoid(beta, t)
    for one in axes[1:]:
        one.plot(t, beta, color=GREY, linestyle="-.", linewidth=1, label="prior")
    for one in axes:
        one.set_xlim(0, 1)
        one.set_ylim(bottom=0)


def _theta(record: Record) -> tuple[int, str]:
    """Which components a run holds fixed, and their place in the order of `FIXED`."""
    theta = str(record.setting("theta", "ml"))
    return list(FIXED).index(theta) if theta in FIXED else len(FIXED), theta


def _at_fixed(above: Axes, below: Axes, record: Record) -> None:
    """Likelihood and posterior of the weight at fixed components."""
    i, theta = _theta(record)
    style: dict[str, Any] = {
        "color": COLOURS[i],
        "linestyle": ("-", "--", ":", "-.")[i],
        "linewidth": 1.3,
        "label": FIXED.get(theta, theta),
    }
    arrays = record.arrays()
    above.plot(arrays["likelihood_alpha"], np.exp(arrays["likelihood"].astype(float)), **style)
    below.plot(arrays["alpha"], arrays["alpha_density"], **style)


def _jointly(axes: Axes, record: Record) -> None:
    """Draws of the weight from its posterior with the components."""
    draws = record.arrays()["nuts_alpha"]
    axes.hist(draws, bins=40, density=True, color=ORANGE, alpha=0.6, label="NUTS, joint")
    m = record.metrics
    axes.set_title(f"{m['nuts/alpha/mean']:.3f} ± {m['nuts/alpha/sd']:.4f}", fontsize=8)
    if not _converged(record):
        axes.text(
            0.98,
            0.9,
            f"not converged\nR-hat {m['nuts/rhat']:.2f}",
            transform=axes.transAxes,
            color="#D55E00",
            ha="right",
            va="top",
            fontsize=8,
        )
