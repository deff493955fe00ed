"""Runs that no model made, written through the run store, for the tests of the reports."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from lidcli.store.run import Run

ENTROPY = {"pinwheel": 0.849}
SHAPES = {"pinwheel": [2], "digits": [8, 8], "mnist": [28, 28]}


def configuration(
    method: str, data: str, seed: int, settings: tuple[tuple[str, Any], ...] = ()
) -> dict[str, Any]:
    """A resolved configuration, as a record keeps it: nested, with every setting spelled out."""
    out: dict[str, Any] = {
        "method": method,
        "seed": seed,
        "data": {"name": data, "kind": "points" if data == "pinwheel" else "image", "root": "data"},
        "model": {"family": "mixture", "latent": 2},
        "decoder": {"kind": "brenier" if method.startswith("lid") else "mlp", "layers": 9},
        "likelihood": {"kind": "gaussian" if data == "pinwheel" else "bernoulli"},
        "inference": {"kind": "amortized", "categorical": "explicit", "beta": 1.0},
        "train": {"epochs": 20},
        "evaluate": {"split": "test", "samples": 500},
        "runtime": {"device": "cpu"},
    }
    if method == "beta-vae":
        out["inference"]["beta"] = 0.2
    for key, value in settings:
        section, _, name = key.partition(".")
        out[section][name] = value
    return out


def write(
    results: Path,
    config: dict[str, Any],
    experiment: str,
    *,
    provenance: dict[str, Any],
    **contents: Any,
) -> Run:
    """Write a record of a configuration, its folder named as runs are."""
    identity = json.dumps({**config, "seed": 0}, sort_keys=True, default=str)
    name = f"{hashlib.sha256(identity.encode()).hexdigest()[:10]}-s{config['seed']}"
    run = Run.create(results / experiment / name, config, {})
    run.update(provenance=provenance, **contents)
    return run


def scalars(ll: float, mi_c: float, categories: int, accuracy: float) -> dict[str, float]:
    """An evaluation that satisfies the invariants."""
    kl_c = min(mi_c + 0.01, math.log(categories))
    return {
        "elbo": ll - 0.05,
        "elbo_se": 0.004,
        "ll": ll,
        "ll_se": 0.004,
        "ll_samples": 500.0,
        "reconstruction": ll + 2.0,
        "reconstruction_se": 0.01,
        "kl/c": kl_c,
        "kl/c_se": 0.001,
        "mi/c": mi_c,
        "mi/c_se": 0.001,
        "au/c": 1.0 if mi_c > 0.5 else 0.0,
        "kl/w": 2.5,
        "kl/w_se": 0.01,
        "mi/w": 2.2,
        "mi/w_se": 0.02,
        "au/w": 1.0,
        "kl/joint": kl_c + 2.5,
        "kl/joint_se": 0.01,
        "perplexity/c": math.exp(mi_c),
        "accuracy": accuracy,
        "accuracy_se": 0.002,
        "purity": accuracy,
        "purity_se": 0.002,
        "nmi": mi_c / math.log(categories),
        "n": 5000.0,
        "log_n": math.log(5000),
    }


def points(classes: int, seed: int, sharp: bool) -> dict[str, Any]:
    """Arrays for figures of a 2-D data set."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, 400)
    angle = 2 * np.pi * labels / classes
    centres = np.stack([np.cos(angle), np.sin(angle)], 1)
    x = centres + 0.15 * rng.normal(size=(400, 2))
    category = (labels + 1) % classes if sharp else np.zeros(400)
    turn = 2 * np.pi * np.arange(classes) / classes
    return {
        "x": x,
        "labels": labels,
        "category": category,
        "q_c": np.eye(classes)[category.astype(int)],
        "w_mean": 2 * centres + 0.3 * rng.normal(size=(400, 2)),
        "prior_means": 2 * np.stack([np.cos(turn), np.sin(turn)], 1),
        "samples": centres + 0.3 * rng.normal(size=(400, 2)),
    }


def images(seed: int) -> dict[str, Any]:
    """Arrays for figures of 8x8 images."""
    rng = np.random.default_rng(seed)
    return {
        "samples": rng.random((64, 64)),
        "originals": rng.random((16, 64)).round(),
        "reconstructions": rng.random((16, 64)),
        "w_mean": rng.normal(size=(200, 16)),
        "prior_means": rng.normal(size=(10, 16)),
        "labels": rng.integers(0, 10, 200),
    }


def curves(epochs: int, ll: float, seed: int) -> dict[str, Any]:
    """Training curves of one validation an epoch."""
    epoch = np.arange(1, epochs + 1)
    noise = np.random.default_rng(seed).normal(0, 0.02, epochs)
    rise = 1 - np.exp(-epoch / 5)
    return {
        "epoch": epoch,
        "train/elbo": ll - 3 * (1 - rise) + noise,
        "train/kl": 4 * rise,
        "valid/elbo": ll - 3.2 * (1 - rise) + noise,
        "valid/kl/c": 1.6 * rise,
        "valid/kl/joint": 4 * rise,
        "valid/mi/c": 1.5 * rise,
        "valid/au/c": np.round(rise * 5) / 5,
    }


def add(
    results: Path,
    method: str,
    data: str = "pinwheel",
    *,
    experiment: str = "demo",
    seed: int = 0,
    ll: float = -1.0,
    mi: float = 1.6,
    accuracy: float = 0.99,
    status: str = "complete",
    settings: tuple[tuple[str, Any], ...] = (),
    provenance: dict[str, Any] | None = None,
    evaluation: dict[str, float] | None = None,
) -> Run:
    """Write one run as training and evaluation would."""
    config = configuration(method, data, seed, settings)
    classes = 5 if data == "pinwheel" else 10
    verdict = "informative" if mi > 0.5 else "collapsed"
    told = {
        "facts": {
            "symbol": "w",
            "judged": "c",
            "units": {"c": classes, "w": 2},
            "categories": classes,
            "exact": False,
            "data_form": "points" if data == "pinwheel" else "image",
        },
        "status": status,
        "message": "" if status == "complete" else "the loss is not finite",
        "seed": seed,
        "experiment": experiment,
        "argv": ["lid", "sweep", experiment],
        "git_commit": "0123456789abcdef",
        "git_dirty": False,
        "versions": {"torch": "2.6"},
        "device": "cpu, 1 threads",
        "data_sha256": "ab" * 32,
        "data_notes": [],
        "data_shape": SHAPES.get(data, [8, 8]),
        "data_entropy": ENTROPY.get(data),
        "classes": classes,
        "started": f"2026-01-0{seed % 9 + 1}T00:00:00+00:00",
        "wall_seconds": 12.5,
        "peak_memory_mb": 300.0,
        "epochs_done": 20,
        "parameters": {"decoder": 900, "posterior": 100, "total": 1000},
        "checks": [],
    }
    contents: dict[str, Any] = {"curves": curves(20, ll, seed)}
    if status == "complete":
        measured = scalars(ll, mi, classes, accuracy)
        if method.startswith("lid"):
            measured |= {
                "certificate": 0.04,
                "certificate_log10": -1.4,
                "min_singular_value": 0.21,
                "min_secant": 0.3,
            }
        told |= {
            "verdict": verdict,
            "verdict_reason": f"MI {mi:.2f}",
            "unused_prior": False,
            "verdict_notes": [],
        }
        contents["evaluation"] = ("test", measured | (evaluation or {}))
        contents["arrays"] = points(classes, seed, mi > 0.5) if data == "pinwheel" else images(seed)
    return write(results, config, experiment, provenance=told | (provenance or {}), **contents)


def continuous(
    results: Path,
    method: str = "vae",
    data: str = "digits",
    *,
    experiment: str = "demo",
    seed: int = 0,
    facts: dict[str, Any] | None = None,
    evaluation: dict[str, float] | None = None,
) -> Run:
    """A run with one continuous latent z of 16 units, whose curves have a joint KL and no MI."""
    rng = np.random.default_rng(seed)
    epoch = np.arange(1, 21)
    measured = {
        "elbo": -20.0,
        "elbo_se": 0.1,
        "ll": -18.0,
        "ll_se": 0.1,
        "ll_samples": 500.0,
        "kl/joint": 6.0,
        "kl/joint_se": 0.02,
        "kl/z": 6.0,
        "kl/z_se": 0.02,
        "mi/z": 4.5,
        "mi/z_se": 0.02,
        "au/z": 0.5,
        "n": 5000.0,
        "log_n": math.log(5000),
    }
    settings = (("model.family", "continuous"), ("model.latent", 16))
    return write(
        results,
        configuration(method, data, seed, settings),
        experiment,
        provenance={"status": "complete", "verdict": "informative", "data_shape": SHAPES[data]}
        | ({} if facts is None else {"facts": facts}),
        evaluation=("test", measured | (evaluation or {})),
        arrays={
            "z_mean": rng.normal(size=(200, 16)),
            "labels": rng.integers(0, 10, 200),
            "samples": rng.random((64, 64)),
        },
        curves={
            "epoch": epoch,
            "train/elbo": -20 - 10 / epoch,
            "valid/elbo": -20 - 11 / epoch,
            "valid/kl/joint": 6 - 5 / epoch,
            "valid/au/z": 1 - 0.5 * (epoch > 5),
        },
    )


def plane(results: Path, data: str, sigma: float, experiment: str = "planes") -> Run:
    """A PPCA with two latents at the maximum of its likelihood, from its formulas.

    The data's covariance is diagonal, of eigenvalues 16 and 8 (1.3 in `ppca-1d`), then 1.
    """
    eigenvalues = np.array([16.0, 8.0 if data == "ppca-2d" else 1.3, 1.0, 1.0, 1.0])
    rho = np.maximum(eigenvalues[:2] / sigma**2, 1.0)
    weight = np.zeros((5, 2))
    weight[[0, 1], [0, 1]] = sigma * np.sqrt(rho - 1)
    x = np.random.default_rng(0).normal(size=5) * np.sqrt(eigenvalues)
    kl, variation = 0.5 * np.log(rho), rho * (rho - 1) + 0.5 * (rho - 1) ** 2
    ll = -0.5 * float(np.log(2 * np.pi * eigenvalues).sum() + 5)
    metrics = {
        "elbo": ll,
        "elbo_se": 0.01,
        "ll": ll,
        "ll_se": 0.01,
        "kl/joint": float(kl.sum()),
        "kl/joint_se": 0.01,
        "kl/z": float(kl.sum()),
        "kl/z_se": 0.01,
        "mi/z": float(kl.sum()),
        "mi/z_se": 0.01,
        "au/z": float((rho > 1.01).mean()),
        "sigma": sigma,
        "min_singular_value": float(np.sqrt(rho - 1).min()),
        "identifiability_exact": 1.0,
        "log_n": math.log(500),
    }
    for k in (0, 1):
        metrics[f"kl_unit/z/{k + 1}"] = float(kl[k])
        metrics[f"variation/z/{k + 1}"] = float(variation[k])
        metrics[f"posterior_variance/z/{k + 1}"] = float(1 / rho[k])
    settings = (("model.sigma", sigma), ("inference.theta", "ml"), ("model.family", "ppca"))
    return write(
        results,
        configuration("ppca", data, 0, settings),
        experiment,
        provenance={"status": "complete", "verdict": "informative", "data_shape": [5]},
        evaluation=("test", metrics),
        arrays={
            "eigenvalues": eigenvalues,
            "weight": weight,
            "shown_datum": x,
            "shown_mean": (1 / rho) * (weight.T @ x) / sigma**2,
            "z_mean": np.zeros((500, 2)),
        },
    )


def clusters(results: Path, data: str, theta: str, *, joint: bool = False) -> Run:
    """A Gaussian mixture: a category and no other latent, and a posterior of its weight."""
    metrics = {
        "elbo": -1.4,
        "elbo_se": 0.01,
        "ll": -1.4,
        "ll_se": 0.01,
        "kl/joint": 0.42,
        "kl/joint_se": 0.01,
        "kl/c": 0.42,
        "kl/c_se": 0.01,
        "mi/c": 0.41,
        "mi/c_se": 0.01,
        "au/c": 1.0,
        "perplexity/c": 1.5,
        "kl_unit/c": 0.42,
        "variation/c": 1.0,
        "kl/alpha": 3.0,
        "kl_unit/alpha": 3.0,
        "variation/alpha": 9.0,
        "alpha/mean": 0.15,
        "alpha/sd": 0.01,
        "log_n": math.log(2000),
    }
    alpha = np.linspace(0.01, 0.99, 99)
    level = 0.0 if theta == "shared" else -0.5
    arrays = {
        "x": np.random.default_rng(0).normal(size=(200, 1)),
        "alpha": alpha,
        "alpha_density": np.exp(-0.5 * ((alpha - 0.15) / 0.1) ** 2),
        "likelihood_alpha": alpha,
        "likelihood": level * ((alpha - 0.15) / 0.1) ** 2,
    }
    if joint:
        metrics |= {"nuts/alpha/mean": 0.5, "nuts/alpha/sd": 0.15, "nuts/rhat": 1.3}
        arrays["nuts_alpha"] = np.random.default_rng(0).beta(5, 5, size=500)
    settings = (
        ("model.family", "gmm"),
        ("model.categories", 2),
        ("inference.theta", theta),
        ("inference.joint", joint),
    )
    name = "gmm-joint" if joint else f"gmm-{theta}"
    return write(
        results,
        configuration(name, data, 0, settings),
        "weights",
        provenance={"status": "complete", "verdict": "informative", "converged": not joint},
        evaluation=("test", metrics),
        arrays=arrays,
    )


def fill(results: Path, seeds: int = 3) -> None:
    """A depth experiment on the pinwheel with a diverged run, and a demo with images."""
    rng = np.random.default_rng(0)
    for layers in (5, 9, 13):
        for seed in range(seeds):
            grid = (("decoder.layers", layers),)
            depth = {"experiment": "pinwheel-depth", "seed": seed, "settings": grid}
            add(results, "gmvae", ll=-1.5 + 0.02 * rng.normal(), mi=0.01, accuracy=0.2, **depth)
            bad = (layers, seed) == (13, 1)
            add(
                results,
                "lidgmvae",
                ll=-0.95 + 0.02 * rng.normal(),
                mi=1.58 + 0.005 * rng.normal(),
                accuracy=0.98 + 0.005 * rng.normal(),
                status="diverged" if bad else "complete",
                **depth,
            )
    for method in ("vae", "beta-vae", "lidvae"):
        add(results, method, ll=-1 - len(method) / 100)
        add(results, method, "digits", ll=-18.0, mi=1.9, accuracy=0.7)
