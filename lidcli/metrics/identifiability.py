"""How much the likelihood varies with the latent (Definition 2), beside the KL of each unit."""

from __future__ import annotations

import torch
from torch import Tensor

from lidcli.metrics.estimate import Estimate, mean
from lidcli.metrics.information import categorical_kl, encode, marginal_draws
from lidcli.metrics.quadrature import LARGEST, exact_units
from lidcli.models.batch import Batch
from lidcli.models.latent import CATEGORY_DRAWS, LatentModel

__all__ = [
    "identifiability",
    "stored",
    "unit_kl",
    "variation",
]

DATA, DRAWS, PAIRS, POSTERIOR_DRAWS = 256, 64, 16, 400
"""Data measured; prior draws a datum; pairs a datum and unit; draws of q a datum."""


@torch.no_grad()
def variation(
    model: LatentModel, x: Batch, *, draws: int = DRAWS, pairs: int = PAIRS, batch: int = 10_000
) -> dict[str, Estimate]:
    """Variance under the prior of log p(x | latent): zero iff the latent is non-identifiable.

    The joint value is the sample variance over prior draws of each datum's own; a unit's is
    half the mean squared difference between draws that differ in that unit alone, redrawn from
    the prior given the others. Both are unbiased. The category's is the variance over c of
    log p(x | c), the covariance of two independent importance-weighted estimates of it.

    Args:
        model: with its posterior attached (read for the category only).
        x: N >= 2 data.
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
        >>> from lidcli.models.batch import DenseBatch
        >>> from lidcli.models.ppca import PPCA
        >>> model = PPCA(torch.zeros(3, 1), torch.zeros(3), 1.0)
        >>> variation(model, DenseBatch(torch.randn(5, 3, dtype=torch.float64)))["joint"].value
        0.0
    """
    if len(x) < 2 or draws < 2 or pairs < 1:
        raise ValueError(f"need 2 data, 2 draws and a pair, not {len(x)}, {draws} and {pairs}")
    parts = x.parts(batch // max(draws, 2 * pairs))
    out = {"joint": mean(torch.cat([_joint(model, part, draws) for part in parts]))}
    for k in range(model.latent):
        moved = torch.cat([_unit(model, part, k, pairs) for part in parts])
        out[f"{model.prior.symbol}/{k + 1}"] = mean(moved)
    if model.prior.categories is not None:
        parts = x.parts(batch // (draws * model.prior.categories))
        out["c"] = mean(torch.cat([_category(model, part, draws) for part in parts]))
    return out


def _joint(model: LatentModel, x: Batch, draws: int) -> Tensor:
    latent = model.prior.sample(draws * len(x)).view(draws, len(x), -1)
    return model.observation.log_prob(x, latent).double().var(dim=0)


def _unit(model: LatentModel, x: Batch, k: int, pairs: int) -> Tensor:
    latent = model.prior.sample(pairs * len(x)).view(pairs, len(x), -1)
    other = latent.clone()
    other[..., k] = model.prior.redraw(latent, k)
    log_prob = model.observation.log_prob
    gap = log_prob(x, latent).double() - log_prob(x, other).double()
    return gap.square().mean(0) / 2


def _category(model: LatentModel, x: Batch, draws: int) -> Tensor:
    """Covariance over c of two estimates of log p(x | c), (N,)."""
    conditional = model.posterior(x)
    halves = []
    for _ in range(2):
        drawn = conditional.draw(max(1, draws // 2))
        ratios = drawn.log_ratios(x, model.prior, model.observation)
        assert ratios is not None
        log_p = ratios.double().logsumexp(0)
        halves.append(log_p - log_p.mean(1, keepdim=True))
    covariance: Tensor = (halves[0] * halves[1]).mean(1)
    return covariance


@torch.no_grad()
def unit_kl(
    model: LatentModel, x: Batch, draws: int = POSTERIOR_DRAWS, batch: int = 10_000
) -> dict[str, Estimate]:
    """KL(q(unit | x) ‖ p(unit)) of every unit alone, averaged over data.

    The entropy of each unit's posterior is estimated from the spacings of its draws, so that any
    posterior will do, and what the same estimate makes of draws from the prior, about 0.01 nats,
    is subtracted: a collapsed unit averages zero. The category's is that of q(c | x), exact where
    it is explicit.

    Args:
        model: with its posterior attached.
        x: N >= 2 data.
        draws: of q for each datum, >= 2.
        batch: decodings at a time, were each of the data decoded.

    Returns:
        Nats per datum under the names that `variation` uses; units whose own prior density is
        not known are left out.

    References:
        Vasicek (1976); the digamma correction is the mean of uniform spacings.
    """
    conditional, prior = encode(model, x, batch), model.prior
    latent = marginal_draws(conditional, draws).view(len(x), draws, -1)
    drawn = prior.sample(len(x) * draws).view(len(x), draws, -1)
    out = {}
    own, none = _divergence(model, latent), _divergence(model, drawn)
    if own is not None and none is not None:
        kl = own - none.mean(0)
        out = {f"{prior.symbol}/{k + 1}": mean(kl[:, k]) for k in range(model.latent)}
    q_c = conditional.draw(CATEGORY_DRAWS).categories(prior)
    if q_c is not None:
        out["c"] = categorical_kl(q_c)
    return out


def _divergence(model: LatentModel, latent: Tensor) -> Tensor | None:
    """KL of draws (N, S, M) to the prior, unit by unit, (N, M); ties lie one float apart."""
    s, latent = latent.shape[1], latent.double()
    log_prior = model.prior.unit_log_prob(latent)
    if log_prior is None:
        return None
    gap = latent.sort(dim=1).values.diff(dim=1)
    resolution = torch.finfo(torch.float32).eps * latent.abs().amax(1, keepdim=True)
    constant = torch.digamma(torch.tensor([s + 1.0, 1.0], dtype=torch.float64))
    entropy = torch.maximum(gap, resolution).log().mean(1) + constant[0] - constant[1]
    return -entropy - log_prior.mean(1)


@torch.no_grad()
def identifiability(model: LatentModel, x: Batch, *, batch: int = 10_000) -> dict[str, float]:
    """Variation of the likelihood and KL, per unit and joint, under the names of the run store.

    For one or two latent dimensions both are of the model's own posterior, by quadrature, and
    exact for each datum, a unit being a latent by itself with the others integrated out. With
    more latents the KL is that of q and a unit's variation that of `variation`, the others held;
    `identifiability_exact` says which, 1 or 0.

    Args:
        model: with its posterior attached.
        x: N data; 256 of them, drawn without replacement, are measured.
        batch: decodings held at a time.

    Returns:
        `variation/joint`, `variation/z/<k>` (or w, c) in squared nats and `kl_unit/z/<k>` in
        nats per datum, each with `_se`.
    """
    x = x.rows(torch.randperm(len(x))[:DATA])
    if model.latent > LARGEST:
        return stored(variation(model, x, batch=batch), unit_kl(model, x, batch=batch), exact=False)
    varied, kl = ({name: mean(v) for name, v in part.items()} for part in exact_units(model, x))
    return stored(varied, kl, exact=True)


def stored(
    varied: dict[str, Estimate], kl: dict[str, Estimate], *, exact: bool
) -> dict[str, float]:
    """Variation and KL under the names of the run store."""
    out = {"identifiability_exact": float(exact)}
    for prefix, found in (("variation", varied), ("kl_unit", kl)):
        for name, estimate in found.items():
            out[f"{prefix}/{name}"] = estimate.value
            out[f"{prefix}/{name}_se"] = estimate.se
    return out
