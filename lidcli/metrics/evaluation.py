"""Everything that is measured on one split of the data, with the invariants it must satisfy."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lidcli.metrics import clustering, information
from lidcli.metrics.estimate import Estimate, mean
from lidcli.metrics.likelihood import bounds
from lidcli.metrics.verdict import Verdict, verdict
from lidcli.models.base import Model
from lidcli.nn.injective import InjectiveDecoder
from lidcli.nn.modulus import measured_modulus

__all__ = ["Evaluation", "broken_invariants", "evaluate"]

SATURATION = 0.5
"""Nats below log N from which an estimate of MI is flagged as saturated."""
SLACK = 4.0
"""Standard errors by which a Monte-Carlo invariant may be missed."""
JACOBIANS = 256
"""Posterior draws at which the decoder's slope is measured."""


@dataclass
class Evaluation:
    """Scalars by the names of the run store, arrays for figures, verdict and checks."""

    scalars: dict[str, float] = field(default_factory=dict)
    arrays: dict[str, npt.NDArray[np.float32]] = field(default_factory=dict)
    verdict: Verdict | None = None
    notes: list[str] = field(default_factory=list)
    checks: list[str] = field(default_factory=list)

    def put(self, name: str, estimate: Estimate) -> None:
        """Store a Monte-Carlo figure and its standard error."""
        self.scalars[name] = estimate.value
        self.scalars[f"{name}_se"] = estimate.se


class Split(NamedTuple):
    """Data on the device, with labels that only the clustering scores see."""

    x: Tensor
    labels: npt.NDArray[np.int64] | None


@torch.no_grad()
def evaluate(
    model: Model, split: Split, *, samples: int = 500, outer: int = 500, batch: int = 10_000
) -> Evaluation:
    """Measure a model on one split; the caller sets the seed.

    Args:
        model: in evaluation mode, with its posterior attached.
        split: data (N, D) and labels (N,) or None.
        samples: S >= 2 of the importance-weighted bound.
        outer: data in the outer mean of the MI of the continuous latent.
        batch: decodings held at a time.

    Returns:
        Scalars in nats per datum under the names of DESIGN section 10, and the verdict.
    """
    x, labels = split
    out = Evaluation()
    w = model.symbol
    measured = bounds(model, x, samples, batch)
    out.put("elbo", mean(measured.elbo))
    out.put("ll", mean(measured.ll))
    out.put("reconstruction", mean(measured.reconstruction))
    out.put("kl/joint", mean(measured.kl))
    out.scalars["ll_half"] = measured.ll_half.mean().item()
    out.scalars |= {"ll_samples": float(samples), "n": float(len(x)), "log_n": math.log(len(x))}
    kl_w = measured.kl
    if measured.q_c is not None:
        q_c = measured.q_c
        out.put("kl/c", information.categorical_kl(q_c))
        out.put("mi/c", information.categorical_mi(q_c))
        out.scalars["au/c"] = information.active_units(q_c)
        out.scalars["perplexity/c"] = information.perplexity(q_c)
        if model.posterior.explicit:
            kl_w = kl_w - math.log(q_c.shape[1]) - torch.xlogy(q_c, q_c).sum(1)
        if labels is not None:
            chosen = q_c.argmax(1).cpu().numpy()
            out.put("accuracy", clustering.accuracy(labels, chosen))
            out.put("purity", clustering.purity(labels, chosen))
            out.scalars["nmi"] = clustering.nmi(labels, chosen)
    out.put(f"kl/{w}", mean(kl_w))
    out.put(f"mi/{w}", information.continuous_mi(model, x, outer, batch))
    out.scalars[f"au/{w}"] = information.active_units_of_halves(measured.mean)
    if out.scalars[f"mi/{w}"] > out.scalars["log_n"] - SATURATION:
        out.notes.append(
            f"MI of {w} is within {SATURATION} nats of log N = {out.scalars['log_n']:.2f},"
            " where its estimate saturates: a lower bound"
        )
    _identifiability(model, x, out)
    unit = "c" if measured.q_c is not None else w
    out.verdict = verdict(*(out.scalars[f"{name}/{unit}"] for name in ("au", "mi", "kl")))
    out.checks = broken_invariants(out.scalars, model.categories)
    if measured.q_c is not None:
        out.arrays["q_c"] = measured.q_c.float().cpu().numpy()
    out.arrays[f"{w}_mean"] = measured.mean.mean(0).float().cpu().numpy()
    return out


def _identifiability(model: Model, x: Tensor, out: Evaluation) -> None:
    """The decoder's proven and measured inverse-Lipschitz constants."""
    decoder = model.decoder
    if isinstance(decoder, InjectiveDecoder):
        certificate = decoder.certificate()
        out.scalars["certificate"] = certificate.modulus
        out.scalars["certificate_log10"] = certificate.log_modulus / math.log(10)
    drawn = information.marginal_draw(model, model.posterior.encode(x[:JACOBIANS]), 1)
    if len(drawn) >= 2:
        modulus = measured_modulus(decoder, drawn)
        out.scalars["min_singular_value"] = modulus.singular_value
        out.scalars["min_secant"] = modulus.secant


def broken_invariants(scalars: dict[str, float], categories: int | None) -> list[str]:
    """What no correct evaluation can show, in words; empty when all is well.

    Args:
        scalars: an evaluation under the names of DESIGN section 10.
        categories: C, or None.

    The mutual information of w is held to the joint KL: in the explicit posterior the KL of w is
    conditional on c, and what w tells of x through c is no part of it.
    """
    rounding = 1e-4
    s = scalars
    half = s.get("ll_half", s["ll"])
    joint = s["kl/joint"] + SLACK * s["kl/joint_se"]
    found: list[tuple[bool, str]] = [
        (s["elbo"] <= half + rounding * abs(s["ll"]), "ELBO exceeds LL"),
        (half <= s["ll"] + rounding * abs(s["ll"]), "LL falls as draws are added"),
        (joint >= -rounding, "the joint KL is negative"),
    ]
    for unit in "wz":
        if f"mi/{unit}" in s:
            spread = SLACK * s[f"mi/{unit}_se"] + rounding
            found += [
                (s[f"mi/{unit}"] >= -spread, f"MI of {unit} is negative"),
                (s[f"mi/{unit}"] <= joint + spread, f"MI of {unit} exceeds the joint KL"),
            ]
    if categories is not None:
        found += [
            (s["mi/c"] >= -rounding, "MI of c is negative"),
            (s["mi/c"] <= s["kl/c"] + rounding, "MI of c exceeds its KL"),
            (s["kl/c"] <= math.log(categories) + rounding, "KL of c exceeds log C"),
        ]
    found += [
        (0 <= value <= 1, f"{name} = {value} is no fraction")
        for name, value in s.items()
        if name.startswith("au/")
    ]
    if "certificate_log10" in s and "min_secant" in s:
        held = s["min_secant"] >= s["certificate"] * (1 - 1e-2) - 1e-5
        found.append((held, "a measured slope is below the certificate"))
    return [text for holds, text in found if not holds]
