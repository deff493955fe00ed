"""A decoder of sentences is a distribution over them, its Fisher information the dense one."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from lidcli.nn.conditional import ConditionalOutput
from lidcli.nn.joint import JointOutput
from lidcli.nn.recurrent import History, double_backward
from lidcli.nn.sequence import SequenceDecoder
from lidcli.nn.token_fisher import directional_derivatives, reversed_derivatives, token_fisher
from lidcli.nn.token_output import LinearOutput, SkipOutput

VOCABULARY, HISTORY, LATENT = 12, 4, 2
KINDS = ["svae", "skip", "conditional", "joint"]


def decoder(kind: str, vocabulary: int = VOCABULARY, **options: Any) -> SequenceDecoder:
    torch.manual_seed(0)
    fed = LATENT if kind in ("svae", "skip") else 0
    history = History(vocabulary, 3, HISTORY, latent=fed)
    p = torch.full((vocabulary - 1,), 1 / vocabulary)
    columns, strengths = torch.randn(vocabulary - 1, LATENT), torch.tensor([0.7, 0.4])
    made: Any
    if kind in ("svae", "lm"):
        made = LinearOutput(vocabulary, HISTORY, reference=0)
    elif kind == "skip":
        made = SkipOutput(columns, strengths, HISTORY, reference=0)
    elif kind == "conditional":
        made = ConditionalOutput(columns, p, strengths, HISTORY, reference=0, width=5, hidden=6)
    else:
        made = JointOutput(vocabulary, LATENT, HISTORY, reference=0, width=8, hidden=8)
    net = SequenceDecoder(history, made, chunk=3, **options).double()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return net


def sentences() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(VOCABULARY, (3, 5), generator=generator)
    return tokens, torch.tensor([5, 1, 3])


def latents(*leading: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(*leading, 3, LATENT, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("kind", KINDS)
def test_log_probabilities_are_those_of_each_sentence_alone(kind: str) -> None:
    net, (tokens, lengths), z = decoder(kind), sentences(), latents(2, 3)
    found = net.log_prob(tokens, lengths, z)
    assert found.shape == (2, 3, 3)
    for n, length in enumerate(lengths.tolist()):
        row = tokens[n : n + 1, :length]
        logits = net.output.logits(net.features(row, z[1, 2, n : n + 1]))
        known = F.log_softmax(logits, -1).gather(-1, row.unsqueeze(-1)).sum()
        torch.testing.assert_close(found[1, 2, n], known, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("kind", KINDS)
def test_what_stands_behind_the_end_changes_nothing(kind: str) -> None:
    net, (tokens, lengths), z = decoder(kind), sentences(), latents()
    changed = tokens.clone()
    changed[1, 1:] = 0
    changed[2, 3:] = 1
    found = net.token_log_prob(changed, lengths, z)
    assert torch.equal(found, net.token_log_prob(tokens, lengths, z))
    assert (found[1, 1:] == 0).all()


@pytest.mark.parametrize("kind", [*KINDS, "lm"])
def test_the_probabilities_of_all_sentences_of_a_length_add_up_to_one(kind: str) -> None:
    net = decoder(kind, vocabulary=7)
    tokens = torch.tensor(list(itertools.product(range(7), repeat=3)))
    z = None if kind == "lm" else latents()[:1].expand(-1, -1)[:1].repeat(len(tokens), 1)
    total = net.log_prob(tokens, torch.full((len(tokens),), 3), z).logsumexp(0)
    assert total.item() == pytest.approx(0, abs=1e-10)


@pytest.mark.parametrize("kind", [*KINDS, "lm"])
def test_fused_training_has_the_same_gradients(kind: str) -> None:
    (tokens, lengths), z = sentences(), None if kind == "lm" else latents(2)
    found = []
    for fused in (True, False):
        net = decoder(kind, fused=fused)
        net.log_prob(tokens, lengths, z).mean().backward()
        found.append({name: p.grad for name, p in net.named_parameters()})
    for name, gradient in found[0].items():
        if gradient is None:
            assert found[1][name] is None
        else:
            torch.testing.assert_close(gradient, found[1][name], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fused", [True, False])
def test_refining_the_latent_can_be_trained_through(kind: str, fused: bool) -> None:
    net, (tokens, lengths) = decoder(kind, fused=fused), sentences()
    z = latents().requires_grad_()
    with double_backward():
        assert torch.autograd.gradgradcheck(lambda z: net.log_prob(tokens, lengths, z), (z,))


@pytest.mark.parametrize("kind", KINDS)
def test_a_refined_latent_gives_the_same_gradients_to_everything(kind: str) -> None:
    (tokens, lengths), found = sentences(), []
    for refining in (True, False):
        net, z = decoder(kind), latents().requires_grad_()
        with double_backward():
            inner = net.log_prob(tokens, lengths, z, refining=refining).sum()
            refined = z + 0.1 * torch.autograd.grad(inner, z, create_graph=True)[0]
            net.log_prob(tokens, lengths, refined).mean().backward()
        found.append([z.grad, *(p.grad for p in net.parameters())])
    for mine, known in zip(*found, strict=True):
        assert (mine is None) == (known is None)
        if mine is not None:
            torch.testing.assert_close(mine, known, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_an_evaluation_refines_by_the_same_gradient_computed_with_the_value(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tokens, lengths), net = sentences(), decoder(kind).eval()
    z = latents().requires_grad_()
    (known,) = torch.autograd.grad(net.log_prob(tokens, lengths, z).sum(), z)
    value = net.log_prob(tokens, lengths, z, refining=True).sum()
    monkeypatch.setattr("lidcli.nn.cross_entropy.gradients", None)
    (found,) = torch.autograd.grad(value, z)
    torch.testing.assert_close(found, known, rtol=1e-10, atol=1e-12)


def processor_has_lstms_in_half() -> bool:
    """Whether torch's LSTMs run in bfloat16 here: on older processors they refuse."""
    try:
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            torch.nn.LSTM(2, 2)(torch.zeros(1, 1, 2))
    except RuntimeError:
        return False
    return True


@pytest.mark.skipif(not processor_has_lstms_in_half(), reason="no LSTMs in bfloat16 here")
@pytest.mark.parametrize("kind", KINDS)
def test_under_autocast_it_trains_to_the_precision_in_use(kind: str) -> None:
    (tokens, lengths), z, found = sentences(), latents().float(), []
    for mixed in (True, False):
        net = decoder(kind).float()
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            loss = net.log_prob(tokens, lengths, z).mean()
        loss.backward()
        slopes = [p.grad for p in net.parameters() if p.grad is not None]
        assert all(slope.dtype == torch.float32 for slope in slopes)
        found.append(torch.cat([loss.detach()[None], *(slope.flatten() for slope in slopes)]))
    assert (found[0] - found[1]).norm() < 0.05 * found[1].norm()


@pytest.mark.parametrize("kind", ["svae", "conditional"])
def test_samples_have_the_probabilities_of_the_model(kind: str) -> None:
    net, draws, end = decoder(kind, vocabulary=5 if kind == "svae" else 7), 4000, 2
    z = latents()[:1].repeat(draws, 1)
    drawn, lengths = net.sample(z, end, 3, torch.Generator().manual_seed(3))
    for row, length in zip(drawn[:100], lengths[:100].tolist(), strict=True):
        assert (row[: length - 1] != end).all()
        assert length == 3 or (row[length - 1 :] == end).all()
    vocabulary = net.output.vocabulary
    for first in range(vocabulary):
        token = torch.tensor([[first]])
        p = net.log_prob(token, torch.ones(1, dtype=torch.long), z[:1]).exp().item()
        share = (drawn[:, 0] == first).double().mean().item()
        assert abs(share - p) < 5 * (p * (1 - p) / draws) ** 0.5
    pair = torch.tensor([[0, 1]])
    p = net.log_prob(pair, torch.tensor([2]), z[:1]).exp().item()
    share = (drawn[:, :2] == pair).all(1).double().mean().item()
    assert abs(share - p) < 5 * (p * (1 - p) / draws) ** 0.5


def test_a_language_model_draws_sentences_without_a_latent() -> None:
    net = decoder("lm")
    tokens, lengths = net.sample(4, end=1, longest=6, generator=torch.Generator().manual_seed(0))
    assert tokens.shape == (4, int(lengths.max()))
    assert bool(((lengths >= 1) & (lengths <= 6)).all())


def test_samples_are_as_wide_as_the_longest_of_them() -> None:
    net = decoder("lm")
    tokens, lengths = net.sample(2, 1, 100_000, torch.Generator().manual_seed(0))
    assert tokens.shape == (2, int(lengths.max()))
    assert int(lengths.max()) < 1000


@pytest.mark.parametrize("kind", KINDS)
def test_fisher_information_does_not_read_what_stands_behind_every_end(kind: str) -> None:
    net, (tokens, lengths), z, seen = decoder(kind), sentences(), latents(), []
    wide = F.pad(tokens, (0, 50), value=1)
    known = net.fisher(tokens, lengths, z)
    net.history.register_forward_hook(lambda _, given, out: seen.append(given[0].shape[1]))
    torch.testing.assert_close(net.fisher(wide, lengths, z), known, rtol=1e-11, atol=1e-11)
    assert max(seen) == int(lengths.max())


def dense_fisher(net: SequenceDecoder, tokens: Tensor, z: Tensor) -> Tensor:
    """Σ_t Jᵀ (diag p - p pᵀ) J of one sentence, everything formed."""

    def logits(z: Tensor) -> Tensor:
        return net.output.logits(net.features(tokens, z))[0]

    J, p = torch.autograd.functional.jacobian(logits, z)[:, :, 0], logits(z).softmax(-1)
    return sum(j.T @ (torch.diag(q) - torch.outer(q, q)) @ j for j, q in zip(J, p, strict=True))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rows", [1, 2, 8])
def test_fisher_information_is_the_dense_one(kind: str, rows: int) -> None:
    net, (tokens, lengths), z = decoder(kind), sentences(), latents(2)
    found = net.fisher(tokens, lengths, z, rows=rows)
    assert found.shape == (2, 3, LATENT, LATENT)
    for draw in range(2):
        for n, length in enumerate(lengths.tolist()):
            known = dense_fisher(net, tokens[n : n + 1, :length], z[draw, n : n + 1])
            torch.testing.assert_close(found[draw, n], known, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("reference", [None, 3])
@pytest.mark.parametrize(("chunk", "block"), [(1, 1), (3, 4), (32, 2048)])
def test_token_fisher_is_the_same_in_any_pieces(
    reference: int | None, chunk: int, block: int
) -> None:
    torch.manual_seed(0)
    features, slopes = torch.randn(7, 5).double(), torch.randn(7, 2, 5).double()
    weight, bias = torch.randn(11, 5).double(), torch.randn(11).double()
    found = token_fisher(
        features, slopes, weight, bias=bias, reference=reference, chunk=chunk, block=block
    )
    logits, J = features @ weight.T + bias, slopes @ weight.T
    if reference is not None:
        logits, J = F.pad(logits, (1, 0)), F.pad(J, (1, 0))
    p = logits.softmax(1)
    middle = torch.diag_embed(p) - p.unsqueeze(2) * p.unsqueeze(1)
    torch.testing.assert_close(found, J @ middle @ J.transpose(1, 2), rtol=1e-11, atol=1e-12)
    assert torch.equal(found, found.transpose(1, 2))


def test_a_function_without_the_latent_has_no_derivative() -> None:
    z = torch.ones(2, 3)
    assert torch.equal(directional_derivatives(lambda z: torch.ones(2, 4), z), torch.zeros(3, 2, 4))


def test_derivatives_at_a_latent_that_stands_for_many_are_those_of_each() -> None:
    one = torch.tensor([[0.5, -1.0]])
    wide, whole = one.expand(4, 2), one.repeat(4, 1)
    found, known = (directional_derivatives(torch.sin, z) for z in (wide, whole))
    assert torch.equal(found, known)


def test_only_injective_outputs_are_certified_and_none_takes_a_history_fed_with_z() -> None:
    assert decoder("svae").certificate() is decoder("skip").certificate() is None
    for kind in ("conditional", "joint"):
        found = decoder(kind).certificate()
        assert found is not None
        assert found.modulus > 0
        with pytest.raises(ValueError, match="never sees z"):
            SequenceDecoder(History(VOCABULARY, 3, HISTORY, latent=LATENT), decoder(kind).output)


def test_parts_that_do_not_fit_are_named() -> None:
    with pytest.raises(ValueError, match="history of 11 tokens, an output of 12"):
        SequenceDecoder(History(11, 3, HISTORY), decoder("svae").output)
    with pytest.raises(ValueError, match="is fed latent=3, the output reads 2"):
        SequenceDecoder(History(VOCABULARY, 3, HISTORY, latent=3), decoder("skip").output)
    net, (tokens, lengths) = decoder("conditional"), sentences()
    with pytest.raises(ValueError, match=r"latents \(..., 3, 2\), got None"):
        net.log_prob(tokens, lengths)
    with pytest.raises(ValueError, match="3 lengths, got"):
        net.log_prob(tokens, lengths[:2], latents())
    with pytest.raises(ValueError, match=r"features .* and slopes"):
        token_fisher(torch.zeros(3, 4), torch.zeros(3, 2, 5), torch.zeros(6, 4))
    with pytest.raises(ValueError, match="chunk and block"):
        token_fisher(torch.zeros(3, 4), torch.zeros(3, 2, 4), torch.zeros(6, 4), chunk=0)


@pytest.mark.parametrize("kind", ["svae", "skip"])
def test_derivatives_by_two_reverse_passes_are_those_of_the_forward_mode(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, (tokens, lengths), z = decoder(kind), sentences(), latents()
    mask = torch.arange(tokens.shape[1]) < lengths.unsqueeze(1)

    def features(z: Tensor) -> Tensor:
        return net.features(tokens, z)[mask]

    with double_backward(), torch.no_grad():
        found, known = reversed_derivatives(features, z), directional_derivatives(features, z)
    assert not found.requires_grad
    torch.testing.assert_close(found, known, rtol=1e-10, atol=1e-10)
    usual = net.fisher(tokens, lengths, z)
    monkeypatch.setattr("lidcli.nn.sequence.directional_derivatives", reversed_derivatives)
    torch.testing.assert_close(net.fisher(tokens, lengths, z), usual, rtol=1e-10, atol=1e-10)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("kind", KINDS)
def test_fisher_information_on_a_gpu_is_that_of_the_cpu(kind: str) -> None:
    net, (tokens, lengths), z = decoder(kind), sentences(), latents(2)
    known = net.fisher(tokens, lengths, z)
    found = net.cuda().fisher(tokens.cuda(), lengths.cuda(), z.cuda())
    torch.testing.assert_close(found.cpu(), known, rtol=1e-9, atol=1e-9)
