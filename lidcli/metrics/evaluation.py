"""Everything that is measured on one split of the data, with the invariants it must satisfy."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lidcli.metrics import clustering, information
from lidcli.metrics.activity import activity, exact_activity
from lidcli.metrics.estimate import Estimate, mean, silent
from lidcli.metrics.invariants import broken_invariants
from lidcli.metrics.likelihood import bounds
from lidcli.metrics.quantity import APART, Quantity
from lidcli.metrics.verdict import Verdict, verdict
from lidcli.models.batch import Batch
from lidcli.models.latent import LatentModel
from lidcli.nn.modulus import descended_modulus, measured_modulus

__all__ = ["Evaluation", "evaluate"]

JACOBIANS = 256
"""Posterior draws at which the decoder's slope is measured."""


@dataclass
class Evaluation:
    """Scalars by the names of the run store, arrays for figures, verdict and checks."""

    scalars: dict[str, float] = field(default_factory=dict)
    arrays: dict[str, npt.NDArray[np.float32]] = field(default_factory=dict)
    texts: dict[str, Any] = field(default_factory=dict)
    """What a person reads: lists of strings by name."""
    ll: Tensor | None = None
    """The likelihood bound of each datum, (N,)."""
    verdict: Verdict | None = None
    notes: list[str] = field(default_factory=list)
    checks: list[str] = field(default_factory=list)
    quantities: list[Quantity] = field(default_factory=list)
    """Declarations of the user's."""

    def put(self, name: str, estimate: Estimate) -> None:
        """Store a Monte-Carlo figure and its standard error."""
        self.scalars[name] = estimate.value
        self.scalars[f"{name}_se"] = estimate.se


@torch.no_grad()
def evaluate(
    model: LatentModel,
    x: Batch,
    labels: npt.NDArray[np.int64] | None = None,
    *,
    samples: int = 500,
    outer: int = 500,
    batch: int = 10_000,
    tick: Callable[[str, float], None] | None = None,
) -> Evaluation:
    """Measure a model on one split; the caller sets the seed.

    Args:
        model: in evaluation mode, with its posterior attached.
        x: N data.
        labels: (N,), or None; only the clustering scores see them.
        samples: S >= 2 of the importance-weighted bound.
        outer: data in the outer mean of the MI of the continuous latent.
        batch: decodings held at a time.
        tick: told what share of a part, `bounds` or `mi`, has been done since the last time.

    Returns:
        Scalars in nats per datum under the names of docs/DESIGN.md, and the verdict.
    """
    out = Evaluation()
    facts = model.facts()
    w = facts.symbol
    samples = min(samples, model.posterior.enough)
    ticks = [silent if tick is None else partial(tick, part) for part in ("bounds", "mi")]
    measured = bounds(model, x, samples, batch, ticks[0])
    out.put("elbo", mean(measured.elbo))
    out.put("ll", mean(measured.ll))
    out.ll = measured.ll
    out.put("reconstruction", mean(measured.reconstruction))
    out.put("kl/joint", mean(measured.kl))
    out.scalars["ll_half"] = measured.ll_half.mean().item()
    out.scalars |= {"ll_samples": float(samples), "n": float(len(x)), "log_n": math.log(len(x))}
    if measured.q_c is not None:
        _category(measured.q_c, labels, out)
    if not facts.units[w]:
        del out.scalars["ll_samples"]
        out.verdict = Verdict("no latent", False, "there is nothing to be collapsed")
        out.checks = broken_invariants(out.scalars, facts.categories)
        return out
    out.put(f"kl/{w}", mean(measured.kl_latent))
    low, high = information.mi_between(model, x, outer, batch, tick=ticks[1])
    out.put(f"mi/{w}", low)
    out.put(f"mi_above/{w}", high)
    active = activity(measured.mean)
    out.put(f"au/{w}", active.units)
    out.put(f"active/{w}", active.dimensions)
    most = min(high.value, out.scalars["kl/joint"])
    if most - low.value > APART:
        out.notes.append(
            f"MI of {w} is a lower bound: {len(x)} data tell no more than that it is between"
            f" {low.value:.2f} and {most:.2f} nats (log N = {out.scalars['log_n']:.2f})"
        )
    _identifiability(model, x, out)
    au, mi, kl = (out.scalars[f"{name}/{facts.judged}"] for name in ("au", "mi", "kl"))
    above = out.scalars.get(f"mi_above/{facts.judged}")
    out.verdict = verdict(au, mi, kl, out.scalars["log_n"], above)
    out.checks = broken_invariants(out.scalars, facts.categories)
    if measured.q_c is not None:
        out.arrays["q_c"] = measured.q_c.float().cpu().numpy()
    out.arrays[f"{w}_mean"] = measured.mean.mean(0).float().cpu().numpy()
    out.arrays[f"{w}_variance"] = active.variances.float().numpy()
    out.arrays[f"{w}_variance_se"] = active.errors.float().numpy()
    return out


def _category(q_c: Tensor, labels: npt.NDArray[np.int64] | None, out: Evaluation) -> None:
    """Figures of the category, and its agreement with labels."""
    out.put("kl/c", information.categorical_kl(q_c))
    out.put("mi/c", information.categorical_mi(q_c))
    out.put("au/c", exact_activity(q_c).units)
    out.scalars["perplexity/c"] = information.perplexity(q_c)
    if labels is not None:
        chosen = q_c.argmax(1).cpu().numpy()
        out.put("accuracy", clustering.accuracy(labels, chosen))
        out.put("purity", clustering.purity(labels, chosen))
        out.scalars["nmi"] = clustering.nmi(labels, chosen)


def _identifiability(model: LatentModel, x: Batch, out: Evaluation) -> None:
    """The decoder's proven and measured inverse-Lipschitz constants."""
    certificate = model.observation.certificate()
    if certificate is not None:
        out.scalars["certificate"] = certificate.modulus
        out.scalars["certificate_log10"] = certificate.log_modulus / math.log(10)
    decode = model.observation.map()
    if decode is None:
        return
    drawn = information.marginal_draws(model.posterior(x.rows(slice(0, JACOBIANS))), 1)
    if len(drawn) >= 2:
        modulus = measured_modulus(decode, drawn)
        out.scalars["min_singular_value"] = modulus.singular_value
        out.scalars["min_secant"] = modulus.secant
        out.scalars["min_descended"] = descended_modulus(decode, drawn)
