"""Categories of next to no probability: left out of q(w | x) where it is evaluated."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor

from lidcli.inference.flow import CategoryFlow
from lidcli.models.latent import NEGLIGIBLE, without_negligible
from lidcli.nn.flows import ConditionalRealNVP

C, N, M, CONTEXT, B = 6, 5, 3, 32, 7


@pytest.fixture
def posterior() -> CategoryFlow:
    torch.manual_seed(0)
    flow = ConditionalRealNVP(M, CONTEXT, 2, 8).double()
    for p in flow.parameters():
        torch.nn.init.normal_(p, std=0.3)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(N, C, *shape, dtype=torch.float64)

    return CategoryFlow(drawn(M), drawn(M), drawn(CONTEXT), flow, drawn())


@pytest.fixture
def latents() -> Tensor:
    return torch.randn(B, M, dtype=torch.float64)


def over_all(posterior: CategoryFlow, latents: Tensor) -> Tensor:
    """log q(w_b | x_n), (B, N), every category in the sum."""
    with torch.no_grad():
        log_q = posterior._log_base(latents) + torch.log_softmax(posterior.logits, 1)
    return log_q.logsumexp(2)


def test_likely_categories_are_all_summed(posterior: CategoryFlow, latents: Tensor) -> None:
    with torch.no_grad():
        assert torch.allclose(posterior.log_prob(latents), over_all(posterior, latents))


@pytest.mark.parametrize("far", [1, 3, C - 1])
def test_what_is_left_out_counts_for_nothing_where_w_is_drawn(
    posterior: CategoryFlow, far: int
) -> None:
    logits = posterior.logits.clone()
    for n in range(N):
        logits[n, torch.randperm(C)[:far]] = -40.0
    unlikely = replace(posterior, logits=logits)
    with torch.no_grad():
        drawn = unlikely.draw(50).marginal()
        found, exact = (
            torch.stack([f(w) for w in drawn])
            for f in (unlikely.log_prob, partial(over_all, unlikely))
        )
    own = [log_q.diagonal(dim1=1, dim2=2) for log_q in (found, exact)]
    assert torch.allclose(own[0], own[1], atol=1e-9)
    assert torch.allclose(found.logsumexp(2), exact.logsumexp(2), atol=1e-9)


def test_no_draw_is_of_a_category_that_is_left_out(posterior: CategoryFlow) -> None:
    posterior.logits[:] = torch.full((N, C), -0.9 * abs(torch.tensor(NEGLIGIBLE).log()))
    posterior.logits[:, 2] = 0.0
    posterior.logits[:, 4] = 1.1 * torch.tensor(NEGLIGIBLE).log()
    kept = without_negligible(torch.log_softmax(posterior.logits, 1))
    assert (kept == -torch.inf).nonzero()[:, 1].unique().tolist() == [4]
    with torch.no_grad():
        drawn = posterior.draw(400)
        marginal = drawn.marginal()
    left_out = drawn.latent[:, 4]
    assert not (marginal[:, None] == left_out[None]).all(-1).any()


def test_the_likeliest_is_always_kept() -> None:
    many = torch.full((2, 300_000), 1.0).log_softmax(1)
    assert torch.equal(without_negligible(many), many)


def test_a_category_that_is_not_a_number_is_not_hidden(
    posterior: CategoryFlow, latents: Tensor
) -> None:
    posterior.logits[1, 0] = torch.nan
    with torch.no_grad():
        assert posterior.log_prob(latents)[:, 1].isnan().all()
