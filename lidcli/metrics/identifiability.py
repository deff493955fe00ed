"""How much the likelihood varies with the latent (Definition 2), beside the KL of each unit."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from lidcli.metrics.estimate import Estimate, mean
from lidcli.metrics.information import categorical_kl, marginal_draw
from lidcli.metrics.quadrature import LARGEST, exact_units
from lidcli.models.base import Model, normal_log_prob
from lidcli.models.likelihoods import LOG_2PI
from lidcli.models.mixture import Mixture
from lidcli.models.ppca import PPCA

__all__ = [
    "Quadratic",
    "identifiability",
    "ppca_relation",
    "ppca_variation",
    "unit_kl",
    "variation",
]

DATA, DRAWS, PAIRS, POSTERIOR_DRAWS = 256, 64, 16, 400
"""Data measured; prior draws a datum; pairs a datum and unit; draws of q a datum."""


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


def ppca_relation(kl: float) -> float:
    """The variation of a unit of a maximum-likelihood PPCA, from its KL.

    In the principal axes KL_k = ½ log ρ with ρ = max(λ_k / σ², 1), and the variation, averaged
    over the data, is ρ(ρ - 1) + (ρ - 1)²/2: increasing in KL_k, and zero exactly where it is.

    Args:
        kl: nats per datum, >= 0.

    Returns:
        Squared nats.

    Example:
        >>> ppca_relation(0.0)
        0.0
    """
    above = math.expm1(2 * kl)
    return (1 + above) * above + 0.5 * above**2


@torch.no_grad()
def variation(
    model: Model, x: Tensor, *, draws: int = DRAWS, pairs: int = PAIRS, batch: int = 10_000
) -> dict[str, Estimate]:
    """Variance under the prior of log p(x | latent): zero iff the latent is non-identifiable.

    The joint value is the sample variance over prior draws of each datum's own; a unit's is
    half the mean squared difference between draws that differ in that unit alone, redrawn from
    the prior given the others. Both are unbiased. The category's is the variance over c of
    log p(x | c), the covariance of two independent importance-weighted estimates of it.

    Args:
        model: with its posterior attached (read for the category only).
        x: data (N, D), N >= 2.
        draws: prior draws a datum, >= 2.
        pairs: pairs a datum and unit, >= 1.
        batch: decodings held at a time.

    Returns:
        Squared nats, averaged over data, under `joint`, `<symbol>/<k>` (from 1) and `c`, each
        with its standard error.

    Raises:
        ValueError: too few data or draws.

    References:
        Paper, Definition 2 and Theorem 1.

    Example:
        >>> model = PPCA(torch.zeros(3, 1), torch.zeros(3), 1.0)
        >>> variation(model, torch.randn(5, 3, dtype=torch.float64))["joint"].value
        0.0
    """
    if len(x) < 2 or draws < 2 or pairs < 1:
        raise ValueError(f"need 2 data, 2 draws and a pair, not {len(x)}, {draws} and {pairs}")
    parts = torch.split(x, max(1, batch // max(draws, 2 * pairs)))
    out = {"joint": mean(torch.cat([_joint(model, part, draws) for part in parts]))}
    for k in range(model.latent):
        moved = torch.cat([_unit(model, part, k, pairs) for part in parts])
        out[f"{model.symbol}/{k + 1}"] = mean(moved)
    if isinstance(model, Mixture):
        parts = torch.split(x, max(1, batch // (draws * model.categories)))
        out["c"] = mean(torch.cat([_category(model, part, draws) for part in parts]))
    return out


def _joint(model: Model, x: Tensor, draws: int) -> Tensor:
    latent = model.sample_prior(draws * len(x)).view(draws, len(x), -1)
    return model.log_likelihood(x, latent).double().var(dim=0)


def _unit(model: Model, x: Tensor, k: int, pairs: int) -> Tensor:
    latent = model.sample_prior(pairs * len(x)).view(pairs, len(x), -1)
    other = latent.clone()
    other[..., k] = _redraw(model, latent, k)
    gap = model.log_likelihood(x, latent).double() - model.log_likelihood(x, other).double()
    return gap.square().mean(0) / 2


def _redraw(model: Model, latent: Tensor, k: int) -> Tensor:
    """A new value of unit k from the prior given the other units."""
    noise = torch.randn_like(latent[..., k])
    if not isinstance(model, Mixture):
        return noise
    precision = torch.linalg.inv(_covariances(model))
    centred = latent[..., None, :] - model.means
    log_sd = -0.5 * precision[:, k, k].log()
    pull = torch.einsum("...cj,cj->...c", centred, precision[:, k]) / precision[:, k, k]
    centre = latent[..., None, k] - pull
    own = normal_log_prob(latent[..., None, [k]], centre[..., None], log_sd[:, None])
    log_joint = model.log_joint_prior(latent[..., None, :])
    share = torch.softmax(log_joint - own, dim=-1)
    c = torch.multinomial(share.flatten(0, -2), 1).view(*share.shape[:-1], 1)
    sd = log_sd.exp().expand(centre.shape).gather(-1, c)[..., 0]
    moved: Tensor = centre.gather(-1, c)[..., 0] + sd * noise
    return moved


def _covariances(model: Mixture) -> Tensor:
    """Σ_c of w given c, (C, M, M)."""
    variance = torch.diag_embed((2 * model.log_scale()).exp())
    turns = model.turns()
    if turns is not None:
        variance = turns @ variance @ turns.mT
    return variance


def _category(model: Mixture, x: Tensor, draws: int) -> Tensor:
    """Covariance over c of two estimates of log p(x | c), (N,)."""
    parameters = model.posterior.encode(x)
    halves = []
    for _ in range(2):
        drawn = model.posterior.draw(parameters, max(1, draws // 2))
        explicit = drawn.log_q_c is not None
        latent = drawn.latent if explicit else drawn.latent[..., None, :]
        log_q = drawn.log_q if explicit else drawn.log_q[..., None]
        likelihood = model.log_likelihood(x[:, None], latent)
        ratio = likelihood + model.log_joint_prior(latent) - log_q
        log_p = ratio.double().logsumexp(0)
        halves.append(log_p - log_p.mean(1, keepdim=True))
    return (halves[0] * halves[1]).mean(1)


@torch.no_grad()
def unit_kl(model: Model, x: Tensor, draws: int = POSTERIOR_DRAWS) -> dict[str, Estimate]:
    """KL(q(unit | x) ‖ p(unit)) of every unit alone, averaged over data.

    For a PPCA in closed form. Otherwise the entropy of each unit's posterior is estimated from
    the spacings of its draws, so that any posterior will do, and what the same estimate makes
    of draws from the prior, about 0.01 nats, is subtracted: a collapsed unit averages zero. The
    category's is that of q(c | x), exact where it is explicit.

    Args:
        model: with its posterior attached.
        x: data (N, D), N >= 2.
        draws: of q for each datum, >= 2.

    Returns:
        Nats per datum under the names that `variation` uses.

    References:
        Vasicek (1976); the digamma correction is the mean of uniform spacings.
    """
    if isinstance(model, PPCA):
        mu, v = model.posterior_mean(x), model.posterior_covariance().diagonal()
        kl = 0.5 * (mu.square() + v - 1 - v.log())
        return {f"z/{k + 1}": mean(kl[:, k]) for k in range(model.latent)}
    parameters = model.posterior.encode(x)
    latent = marginal_draw(model, parameters, draws).view(len(x), draws, -1)
    prior = model.sample_prior(len(x) * draws).view(len(x), draws, -1)
    kl = _divergence(model, latent) - _divergence(model, prior).mean(0)
    out = {f"{model.symbol}/{k + 1}": mean(kl[:, k]) for k in range(model.latent)}
    q_c = model.category_probabilities(model.posterior.draw(parameters, 64))
    if q_c is not None:
        out["c"] = categorical_kl(q_c)
    return out


def _divergence(model: Model, latent: Tensor) -> Tensor:
    """KL of draws (N, S, M) to the prior, unit by unit, (N, M); ties lie one float apart."""
    s, latent = latent.shape[1], latent.double()
    gap = latent.sort(dim=1).values.diff(dim=1)
    resolution = torch.finfo(torch.float32).eps * latent.abs().amax(1, keepdim=True)
    constant = torch.digamma(torch.tensor([s + 1.0, 1.0], dtype=torch.float64))
    entropy = torch.maximum(gap, resolution).log().mean(1) + constant[0] - constant[1]
    return -entropy - _unit_log_prior(model, latent).mean(1)


def _unit_log_prior(model: Model, latent: Tensor) -> Tensor:
    """log p(latent_k) of each unit alone, of the shape of the latents (..., M)."""
    if not isinstance(model, Mixture):
        return -(latent.square() + LOG_2PI) / 2
    variance = _covariances(model).diagonal(dim1=-2, dim2=-1).double()
    squared = (latent[..., None, :] - model.means).square() / variance
    log_p = -(squared + variance.log() + LOG_2PI) / 2
    return log_p.logsumexp(-2) - math.log(model.categories)


@torch.no_grad()
def identifiability(model: Model, x: Tensor, *, batch: int = 10_000) -> dict[str, float]:
    """Variation of the likelihood and KL, per unit and joint, under the names of the run store.

    For a PPCA, and by quadrature for one or two latent dimensions, both are of the model's own
    posterior and exact for each datum, a unit being a latent by itself with the others
    integrated out. With more latents the KL is that of q and a unit's variation that of
    `variation`, the others held; `identifiability_exact` says which, 1 or 0.

    Args:
        model: with its posterior attached.
        x: data (N, D); 256 of them, drawn without replacement, are measured, all of a PPCA's.
        batch: decodings held at a time.

    Returns:
        `variation/joint`, `variation/z/<k>` (or w, c) in squared nats and `kl_unit/z/<k>` in
        nats per datum, each with `_se`.
    """
    exact = isinstance(model, PPCA) or model.latent <= LARGEST
    if isinstance(model, PPCA):
        closed = ppca_variation(model, x)
        varied = {"joint": mean(closed.joint)}
        varied |= {f"z/{k + 1}": mean(closed.units[:, k]) for k in range(model.latent)}
        kl = unit_kl(model, x)
    else:
        x = x[torch.randperm(len(x), device=x.device)[:DATA]]
        if exact:
            both = exact_units(model, x)
            varied, kl = ({name: mean(v) for name, v in part.items()} for part in both)
        else:
            varied, kl = variation(model, x, batch=batch), unit_kl(model, x)
    out = {"identifiability_exact": float(exact)}
    for prefix, found in (("variation", varied), ("kl_unit", kl)):
        for name, estimate in found.items():
            out[f"{prefix}/{name}"] = estimate.value
            out[f"{prefix}/{name}_se"] = estimate.se
    return out
