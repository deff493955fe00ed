"""The evaluation of the classical models: the same figures as elsewhere, from formulas."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lidcli.metrics import clustering, information
from lidcli.metrics.activity import exact_activity
from lidcli.metrics.estimate import Estimate, mean
from lidcli.metrics.evaluation import Evaluation
from lidcli.metrics.fisher import told
from lidcli.metrics.identifiability import stored
from lidcli.metrics.invariants import broken_invariants
from lidcli.metrics.pictures import NUMBERS, rows_kept
from lidcli.metrics.verdict import Verdict, verdict
from lidcli.models.gmm import GMM
from lidcli.models.likelihoods import LOG_2PI
from lidcli.models.ppca import PPCA, principal_axes

__all__ = [
    "COLLAPSED",
    "SHOWN",
    "Quadratic",
    "evaluate_gmm",
    "evaluate_ppca",
    "ppca_variation",
    "weight_verdict",
]

COLLAPSED = 0.05
"""KL of α, in nats of the whole data set, below which its posterior counts as collapsed."""
SHOWN = 0
"""The datum whose likelihood surface and posterior the figures show."""
KEPT = 2000
AGGREGATE_DRAWS, AGGREGATE_SEED = 20, 20213


class Quadratic(NamedTuple):
    """The variation of a likelihood that is quadratic in z, in squared nats, for each datum."""

    joint: Tensor
    """(N,)."""
    units: Tensor
    """(N, K)."""


def ppca_variation(model: PPCA, x: Tensor) -> Quadratic:
    """Exact variance under the prior of log p(x | z), for every datum of a PPCA.

    With g = Wᵀ(x - b)/σ² and A = WᵀW/σ², log p(x | z) = gᵀz - zᵀAz/2 + const, so the joint
    variance is |g|² + tr(A²)/2. A unit's is that of log p(x | z_k), the others integrated out:
    the same formula for one latent, their part of W counted as noise.

    Args:
        model: any parameters.
        x: data (N, D).

    Example:
        >>> model = PPCA(torch.zeros(3, 2), torch.zeros(3), 1.0)
        >>> ppca_variation(model, torch.ones(4, 3, dtype=torch.float64)).joint.tolist()
        [0.0, 0.0, 0.0, 0.0]
    """
    g, a, w = model.score(x), model.information(), model.weight
    noise = model.variance * torch.eye(len(w), dtype=w.dtype, device=w.device)
    units = []
    for k in range(model.latent):
        others = w[:, [j for j in range(model.latent) if j != k]]
        pull = torch.linalg.solve(noise + others @ others.T, w[:, k])
        units.append(((x - model.bias) @ pull).square() + 0.5 * (w[:, k] @ pull).square())
    return Quadratic(g.square().sum(1) + 0.5 * a.square().sum(), torch.stack(units, dim=1))


@torch.no_grad()
def evaluate_ppca(model: PPCA, x: Tensor) -> Evaluation:
    """Everything about a PPCA under its exact posterior, in closed form.

    The ELBO equals the LL. MI is E_x KL(p(z|x) ‖ q(z)) with q(z) the aggregate over the split, as
    everywhere, by draws from the exact posteriors; `mi_gaussian` takes for q(z) the Gaussian of
    the aggregate's moments, in closed form, and is at most the KL but not at most log N.

    Args:
        model: any PPCA.
        x: data (N, D) in float64.

    Returns:
        Scalars under the names of the run store, the likelihood's variation among them; each
        mean over data with its standard error.
    """
    out = Evaluation()
    k = model.latent
    mu, v = model.posterior_mean(x), model.posterior_covariance()
    ll = model.log_marginal(x)
    log_det = torch.logdet(v)
    kl = 0.5 * (mu.square().sum(1) + v.trace() - k - log_det)
    gap = (x - model.decode(mu)).square().sum(1) / model.variance
    spread = torch.trace(model.information() @ v)
    constant = x.shape[1] * (LOG_2PI + torch.log(model.variance))
    centred = mu - mu.mean(0)
    aggregate = v + centred.T @ centred / len(x)
    shift = centred @ torch.linalg.inv(aggregate)
    mi = 0.5 * (torch.logdet(aggregate) - log_det + (shift * centred).sum(1))
    mi = mi + 0.5 * (torch.trace(torch.linalg.solve(aggregate, v)) - k)
    for name, values in (
        ("elbo", ll),
        ("ll", ll),
        ("reconstruction", -0.5 * (gap + spread + constant)),
        ("kl/joint", kl),
        ("kl/z", kl),
        ("mi/z", _aggregate_mi(mu, v)),
        ("mi_gaussian/z", mi),
    ):
        out.put(name, mean(values))
    active = exact_activity(mu)
    out.put("au/z", active.units)
    out.put("active/z", active.dimensions)
    out.scalars |= {
        "n": float(len(x)),
        "log_n": math.log(len(x)),
        "sigma": model.variance.sqrt().item(),
        "min_singular_value": torch.linalg.svdvals(model.weight)[-1].item(),
        **_ppca_identifiability(model, x, mu, v),
        **told(model, model.information(), model.information()[None]),
    }
    for i, value in enumerate(v.diagonal().tolist(), start=1):
        out.scalars[f"posterior_variance/z/{i}"] = value
    out.verdict = verdict(*(out.scalars[f"{name}/z"] for name in ("au", "mi", "kl")))
    out.checks = broken_invariants(out.scalars, None)
    shown = x[SHOWN] - model.bias
    out.arrays = _float32(
        z_mean=mu[: rows_kept(KEPT, mu.shape[1:])],
        weight=model.weight,
        posterior_covariance=v,
        z_variance=mu.var(0, correction=0),
        eigenvalues=principal_axes(x)[0],
        shown_datum=shown,
        shown_mean=mu[SHOWN],
    )
    return out


def _aggregate_mi(mu: Tensor, v: Tensor) -> Tensor:
    """KL of N(mu_n, v) to the mean of all N of them, (N,), by draws that nothing else shares."""
    n, k = mu.shape
    with torch.random.fork_rng():
        torch.manual_seed(AGGREGATE_SEED)
        noise = torch.randn(AGGREGATE_DRAWS, n, k, dtype=mu.dtype).to(mu.device)
    root = torch.linalg.cholesky(v)
    white = torch.linalg.solve_triangular(root, mu.T, upper=False).T
    found = torch.zeros(n, dtype=mu.dtype, device=mu.device)
    for drawn in noise:
        gap = torch.cdist(white + drawn, white).square()
        found += (-0.5 * gap.diagonal()) - (-0.5 * gap).logsumexp(1) + math.log(n)
    return found / AGGREGATE_DRAWS


def _ppca_identifiability(model: PPCA, x: Tensor, mu: Tensor, v: Tensor) -> dict[str, float]:
    """Variation and KL of every unit, the others integrated out."""
    variance = v.diagonal()
    closed = ppca_variation(model, x)
    kl = 0.5 * (mu.square() + variance - 1 - variance.log())
    varied = {"joint": mean(closed.joint)}
    varied |= {f"z/{k + 1}": mean(closed.units[:, k]) for k in range(model.latent)}
    units = {f"z/{k + 1}": mean(kl[:, k]) for k in range(model.latent)}
    return stored(varied, units, exact=True)


@torch.no_grad()
def evaluate_gmm(
    model: GMM, x: Tensor, labels: np.ndarray[tuple[int], np.dtype[np.int64]] | None
) -> Evaluation:
    """Everything about a Gaussian mixture under its exact p(c | x), from its formulas.

    KL of c is to the model's own weights π. Nothing is said of the weight as a latent.

    Args:
        model: any mixture.
        x: data (N, D) in float64.
        labels: (N,), or None.

    Returns:
        Scalars under the names of the run store; each mean over data with its standard error.
    """
    out = Evaluation()
    q, density = model.responsibilities(x), model.component_log_density(x)
    log_pi = model.log_pi
    kl = (torch.xlogy(q, q) - q * log_pi).sum(1)
    ll = model.log_marginal(x)
    pi = model.weights
    moved = density - (density @ pi)[:, None]
    out.put("elbo", mean(ll))
    out.put("ll", mean(ll))
    out.put("reconstruction", mean((q * density).sum(1)))
    out.put("kl/joint", mean(kl))
    out.put("kl/c", mean(kl))
    out.put("mi/c", information.categorical_mi(q))
    out.put("au/c", exact_activity(q).units)
    out.put("kl_unit/c", mean(kl))
    out.put("variation/c", mean(moved.square() @ pi))
    out.put("variation/joint", mean(moved.square() @ pi))
    out.scalars |= {
        "n": float(len(x)),
        "log_n": math.log(len(x)),
        "perplexity/c": information.perplexity(q),
    }
    if labels is not None:
        chosen = q.argmax(1).cpu().numpy()
        out.put("accuracy", clustering.accuracy(labels, chosen))
        out.put("purity", clustering.purity(labels, chosen))
        out.scalars["nmi"] = clustering.nmi(labels, chosen)
    out.verdict = verdict(*(out.scalars[f"{name}/c"] for name in ("au", "mi", "kl")))
    out.checks = broken_invariants(out.scalars, None)
    sds = model.covariances.diagonal(dim1=-2, dim2=-1).sqrt()
    out.arrays = _float32(
        x=x[: rows_kept(KEPT, x.shape[1:])], means=model.means, sds=sds, weights=pi
    )
    return out


def weight_verdict(mean_: Estimate, sd: float, kl: float) -> Verdict:
    """Judge the weight α of a mixture, a latent of the whole data set.

    Args:
        mean_: posterior mean of α.
        sd: posterior sd.
        kl: KL(p(α|x) ‖ p(α)) in nats of the whole data set.

    Example:
        >>> weight_verdict(Estimate(0.5, 0.0), 0.1508, 0.0).label
        'collapsed'
    """
    if kl < COLLAPSED:
        return Verdict("collapsed", False, f"KL of the weight {kl:.3f} < {COLLAPSED} nats")
    reason = f"KL of the weight {kl:.2f} nats: {mean_.value:.4f} ± {sd:.4f}"
    return Verdict("informative", False, reason)


def _float32(**arrays: Tensor) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
    """Arrays for the figures; those of more than `NUMBERS` numbers are left out."""
    kept = {name: value for name, value in arrays.items() if value.numel() <= NUMBERS}
    return {name: value.float().cpu().numpy() for name, value in kept.items()}
