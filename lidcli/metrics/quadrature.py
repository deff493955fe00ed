"""Theorem 1 without Monte Carlo: the model's posterior by quadrature, one or two latents."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lidcli.models.batch import Batch
from lidcli.models.latent import LatentModel

__all__ = ["LARGEST", "exact_units"]

LARGEST = 2
"""Latent dimensions that a grid can cover."""
NODES = {1: 4001, 2: 401}


@torch.no_grad()
def exact_units(model: LatentModel, x: Batch, *, rows: int = 8) -> tuple[dict[str, Tensor], ...]:
    """Variation of the likelihood and KL of the exact posterior, unit by unit, for each datum.

    The posterior is the model's own p(w | x), not q: a grid over the prior carries every
    integral. Each unit is a latent by itself, the others integrated out: its variation is the
    variance under its prior of log p(x | w_k), its KL that of p(w_k | x) to p(w_k), and Theorem 1
    says that they are zero together. The category's are those of p(x | c) in the same way.

    Args:
        model: with 1 or 2 latent dimensions; its posterior is not looked at.
        x: N data.
        rows: data at a time.

    Returns:
        Variation in squared nats and KL in nats, each under `joint`, `<symbol>/<k>` (from 1)
        and `c`, (N,).

    Raises:
        ValueError: more latent dimensions than a grid can cover.

    References:
        Paper, Definitions 1 and 2 and Theorem 1.
    """
    if model.latent not in NODES:
        raise ValueError(f"a grid covers 1 or 2 latent dimensions, not {model.latent}")
    grid, log_cell, shape = _grid(model)
    log_prior = _normalised(model.prior.log_prob(grid).double())
    joint = model.prior.log_joint(grid)
    log_given_c = None
    if joint is not None:
        log_given_c = _normalised(joint.double() + math.log(joint.shape[1]) + log_cell)
    evaluate = model.observation.on_grid(grid)
    parts = []
    for i in range(0, len(x), rows):
        ll = evaluate(x.rows(slice(i, i + rows))).double()
        parts.append(_measures(model, ll, log_prior, log_given_c, shape))
    return tuple(
        {name: torch.cat([part[i][name] for part in parts]) for name in parts[0][i]}
        for i in range(2)
    )


def _grid(model: LatentModel) -> tuple[Tensor, float, tuple[int, ...]]:
    """Points (G, M), the log of a cell's volume, and the grid's shape."""
    low, high = model.prior.reach()
    count = NODES[model.latent]
    axes = [
        torch.linspace(a, b, count, dtype=low.dtype, device=low.device)
        for a, b in zip(low.tolist(), high.tolist(), strict=True)
    ]
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).flatten(0, -2)
    log_cell = sum(math.log((axis[1] - axis[0]).item()) for axis in axes)
    return grid, log_cell, (count,) * model.latent


def _normalised(log_mass: Tensor) -> Tensor:
    return log_mass - log_mass.logsumexp(0)


def _measures(
    model: LatentModel,
    ll: Tensor,
    log_prior: Tensor,
    log_given_c: Tensor | None,
    shape: tuple[int, ...],
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Variation and KL of the data whose log-likelihoods over the grid are `ll` (N, G)."""
    varied, kl = {}, {}
    varied["joint"], kl["joint"] = _moves(ll, log_prior)
    for k in range(model.latent):
        name, table = f"{model.prior.symbol}/{k + 1}", log_prior.view(shape)
        others = tuple(i for i in range(model.latent) if i != k)
        own, alone = table, (ll + log_prior).view(-1, *shape)
        for i in reversed(others):
            own, alone = own.logsumexp(i), alone.logsumexp(i + 1)
        there = torch.isfinite(own)
        varied[name], kl[name] = _moves(alone[:, there] - own[there], own[there])
    if log_given_c is not None:
        log_p = torch.stack([(ll + column).logsumexp(1) for column in log_given_c.T], dim=1)
        uniform = torch.full_like(log_p[0], -math.log(log_p.shape[1]))
        varied["c"], kl["c"] = _moves(log_p, uniform)
    return varied, kl


def _moves(ll: Tensor, log_prior: Tensor) -> tuple[Tensor, Tensor]:
    """Variance of ll (N, G) under the prior (G,), and KL of the posterior to it, each (N,)."""
    prior = log_prior.exp()
    centred = ll - (ll @ prior)[:, None]
    log_joint = ll + log_prior
    evidence = log_joint.logsumexp(1, keepdim=True)
    kl = ((log_joint - evidence).exp() * (ll - evidence)).sum(1)
    return centred.square() @ prior, kl
