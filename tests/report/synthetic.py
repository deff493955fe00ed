"""Runs that no model made, written through the run store, for the tests of the reports."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from lidcli.config.load import load_files, resolve
from lidcli.store.run import Run

EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments.yaml"
ENTROPY = {"pinwheel": 0.849}


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
    known = load_files([EXPERIMENTS])
    config = resolve(
        known,
        model=method,
        data=data,
        experiment=experiment if experiment in known.experiments else None,
        overrides=settings,
        seed=seed,
    )
    classes = 5 if data == "pinwheel" else 10
    run = Run.create(results / experiment / config.run_id, config.document(), {})
    verdict = "informative" if mi > 0.5 else "collapsed"
    facts = {
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
        "data_shape": [2] if data == "pinwheel" else [8, 8],
        "data_entropy": ENTROPY.get(data),
        "classes": classes,
        "started": f"2026-01-0{seed % 9 + 1}T00:00:00+00:00",
        "wall_seconds": 12.5,
        "peak_memory_mb": 300.0,
        "epochs_done": 20,
        "parameters": {"decoder": 900, "posterior": 100, "total": 1000},
        "checks": [],
    }
    if status == "complete":
        measured = scalars(ll, mi, classes, accuracy)
        if method.startswith("lid"):
            measured |= {
                "certificate": 0.04,
                "certificate_log10": -1.4,
                "min_singular_value": 0.21,
                "min_secant": 0.3,
            }
        facts |= {
            "verdict": verdict,
            "verdict_reason": f"MI {mi:.2f}",
            "unused_prior": False,
            "verdict_notes": [],
        }
        run.update(
            evaluation=("test", measured | (evaluation or {})),
            arrays=points(classes, seed, mi > 0.5) if data == "pinwheel" else images(seed),
        )
    run.update(provenance=facts | (provenance or {}), curves=curves(20, ll, seed))
    return run


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
