"""Recurrent nets see what they should and nothing else, and can be differentiated twice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import pytest
import torch
from torch import Tensor

from lidcli.nn.hessian import hvp
from lidcli.nn.recurrent import History, LSTMEncoder, double_backward

VOCABULARY, COUNT, LENGTH, LATENT = 11, 3, 6, 2


def sentences() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(VOCABULARY, (COUNT, LENGTH), generator=generator)
    return tokens, torch.tensor([6, 1, 4])


def history(latent: int = 0, layers: int = 1, dropout: float = 0.0) -> History:
    torch.manual_seed(0)
    return History(VOCABULARY, 4, 5, layers, latent=latent, dropout=dropout).double()


def latents(*leading: int) -> Tensor:
    torch.manual_seed(1)
    return torch.randn(*leading, COUNT, LATENT, dtype=torch.float64)


@pytest.mark.parametrize("pooling", ["last", "mean"])
@pytest.mark.parametrize("layers", [1, 2])
def test_the_encoder_reads_the_sentence_and_not_its_padding(
    layers: int, pooling: Literal["last", "mean"]
) -> None:
    torch.manual_seed(0)
    net = LSTMEncoder(VOCABULARY, 4, 5, layers, pooling=pooling).double()
    tokens, lengths = sentences()
    found = net(tokens, lengths)
    for row, length, known in zip(tokens, lengths.tolist(), found, strict=True):
        alone = net(row[None, :length], torch.tensor([length]))
        torch.testing.assert_close(alone[0], known, rtol=1e-12, atol=1e-12)
    changed = tokens.clone()
    changed[1, 1:] = 0
    assert torch.equal(net(changed, lengths)[1], found[1])
    changed[1, 0] = (changed[1, 0] + 1) % VOCABULARY
    assert not torch.equal(net(changed, lengths)[1], found[1])


def test_pooled_features_are_the_mean_of_the_states_after_each_token() -> None:
    torch.manual_seed(0)
    net = LSTMEncoder(VOCABULARY, 4, 5).double()
    tokens, _ = sentences()
    states = [net(tokens, torch.full((COUNT,), count)) for count in range(1, LENGTH + 1)]
    net.pooling = "mean"
    found = net(tokens, torch.full((COUNT,), LENGTH))
    torch.testing.assert_close(found, torch.stack(states).mean(0), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("latent", [0, LATENT])
def test_a_history_never_sees_the_token_it_predicts_nor_a_later_one(latent: int) -> None:
    net, (tokens, _) = history(latent), sentences()
    z = latents() if latent else None
    before = net(tokens, z)
    for t in range(LENGTH):
        changed = tokens.clone()
        changed[:, t] = (changed[:, t] + 1) % VOCABULARY
        after = net(changed, z)
        torch.testing.assert_close(after[:, : t + 1], before[:, : t + 1])
        assert t == LENGTH - 1 or bool((after[:, t + 1] != before[:, t + 1]).any())


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("latent", [0, LATENT])
def test_one_step_at_a_time_gives_the_states_of_teacher_forcing(latent: int, layers: int) -> None:
    net, (tokens, _) = history(latent, layers), sentences()
    z = latents() if latent else None
    forced, state = net(tokens, z), net.begin(COUNT, z)
    for t in range(LENGTH):
        h, state = net.step(tokens[:, t - 1] if t else None, state, z)
        torch.testing.assert_close(h, forced[:, t], rtol=1e-12, atol=1e-12)


def test_every_draw_of_the_latent_has_its_own_history() -> None:
    net, (tokens, _), z = history(LATENT), sentences(), latents(2, 3)
    found = net(tokens, z)
    assert found.shape == (2, 3, COUNT, LENGTH, 5)
    torch.testing.assert_close(found[1, 2], net(tokens, z[1, 2]), rtol=1e-12, atol=1e-12)
    assert bool((found[0, 0, :, 0] != found[1, 0, :, 0]).all())


def test_dropout_acts_in_training_alone() -> None:
    net, (tokens, _) = history(dropout=0.5), sentences()
    assert not torch.equal(net(tokens), net(tokens))
    net.eval()
    assert torch.equal(net(tokens), net(tokens))


def loss_of_latent(net: History, tokens: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda z: net(tokens, z).square().sum()


def test_second_derivatives_are_exact() -> None:
    net, (tokens, _) = history(LATENT), sentences()
    z = latents().requires_grad_()
    with double_backward():
        assert torch.autograd.gradgradcheck(loss_of_latent(net, tokens), (z,))


def test_the_context_leaves_the_backends_as_they_were() -> None:
    before = torch.backends.mkldnn.enabled, torch.backends.cudnn.enabled
    with double_backward():
        assert not torch.backends.mkldnn.enabled
        assert not torch.backends.cudnn.enabled
    assert (torch.backends.mkldnn.enabled, torch.backends.cudnn.enabled) == before


def test_finite_hessian_products_are_near_the_exact_ones() -> None:
    net, (tokens, _) = history(LATENT), sentences()
    z, v = latents(), torch.ones(COUNT, LATENT, dtype=torch.float64)
    f, weights = loss_of_latent(net, tokens), list(net.parameters())
    with double_backward():
        exact = hvp(f, [z], [v], weights)
    found = hvp(f, [z], [v], weights, hessian="finite")
    for mine, known in zip(found, exact, strict=True):
        assert (mine - known).norm() <= 1e-7 * known.norm().clamp_min(1)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: History(0, 1, 1), "sizes >= 1, not vocabulary=0"),
        (lambda: History(3, 1, 1, latent=-1), "latent >= 0, not -1"),
        (lambda: LSTMEncoder(3, 1, 1, dropout=1.0), r"dropout must lie in \[0, 1\), not 1"),
        (lambda: history()(torch.zeros(3, 0, dtype=torch.long)), r"tokens \(N, T\) of int64"),
        (lambda: history()(torch.zeros(3, 2)), "got torch.float32"),
        (lambda: history()(sentences()[0], latents()), "latent=0 was given z=True"),
        (lambda: history(LATENT)(sentences()[0]), "latent=2 was given z=False"),
        (lambda: history(LATENT)(sentences()[0], latents()[:2]), r"z \(..., 3, 2\), got \(2, 2\)"),
        (lambda: LSTMEncoder(11, 1, 1)(sentences()[0], torch.ones(2)), "3 lengths, got"),
    ],
)
def test_wrong_arguments_are_named(call: Callable[[], object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        call()


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_second_derivatives_on_a_gpu_are_those_of_the_cpu() -> None:
    net, (tokens, _) = history(LATENT), sentences()
    z, v = latents(), torch.ones(COUNT, LATENT, dtype=torch.float64)
    with double_backward():
        known = hvp(loss_of_latent(net, tokens), [z], [v])[0]
        net.cuda()
        found = hvp(loss_of_latent(net, tokens.cuda()), [z.cuda()], [v.cuda()])[0]
    torch.testing.assert_close(found.cpu(), known, rtol=1e-9, atol=1e-9)
