"""Example 2's observation is a distribution over sentences, injective where it says so."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_text import METHODS, documents, doubles, exact, first, small_model

from lidcli.models.batch import TokenBatch
from lidcli.models.latent import LatentModel
from lidcli.nn.conditional import metric

END, VOCABULARY = 0, 5
ALL = [*METHODS, "lm"]


@pytest.fixture(autouse=True)
def double_precision() -> Iterator[None]:
    with doubles():
        yield


def of(method: str, *settings: str) -> LatentModel:
    return small_model(method, *settings).requires_grad_(False)


def all_sentences(longest: int) -> TokenBatch:
    """Every sentence that has ended after at most so many tokens, and every one that has not."""
    rows, lengths = [], []
    words = [i for i in range(VOCABULARY) if i != END]
    for length in range(1, longest + 1):
        last = range(VOCABULARY) if length == longest else [END]
        for head in itertools.product(words, repeat=length - 1):
            for token in last:
                rows.append([*head, token] + [END] * (longest - length))
                lengths.append(length)
    return TokenBatch(torch.tensor(rows), torch.tensor(lengths))


@pytest.mark.parametrize("method", ALL)
def test_the_probabilities_of_all_sentences_add_up_to_one(method: str) -> None:
    """log p(x), the latent integrated out: every sentence to four tokens, and what goes on."""
    total = exact(of(method), all_sentences(4)).logsumexp(0)
    assert total.item() == pytest.approx(0, abs=1e-10)


@pytest.mark.parametrize("method", ALL)
def test_sentences_that_are_drawn_have_the_probabilities_that_are_told(method: str) -> None:
    model, count = of(method), 4000
    z = torch.full((count, model.latent), 0.7)
    torch.manual_seed(1)
    drawn = model.observation.sample(z)
    assert isinstance(drawn, TokenBatch)
    ended = (drawn.lengths[:, None] - 1 == torch.arange(drawn.ids.shape[1])) & (drawn.ids == END)
    longest = model.observation.longest
    assert (ended.any(1) | (drawn.lengths == longest)).all()
    short = all_sentences(2)
    some = short.rows(slice(0, 1 + (VOCABULARY - 1)))
    p = model.observation.log_prob(some, z[: len(some)]).exp()
    for ids, length, chance in zip(some.ids, some.lengths, p, strict=True):
        width = int(length)
        seen = (drawn.ids[:, :width] == ids[:width]).all(1).double().mean()
        assert abs(seen - chance) <= 5 * (chance * (1 - chance) / count).sqrt()


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(seed=st.integers(0, 2**31), noise=st.floats(0, 1))
def test_logits_move_at_least_as_far_as_certified_after_any_history(
    seed: int, noise: float
) -> None:
    """In the Fisher metric of the unigram distribution, whatever the weights."""
    model = small_model("lidsvae", latent=2, noise=0).requires_grad_(False)
    torch.manual_seed(seed)
    for parameter in model.parameters():
        parameter.add_(noise * torch.randn_like(parameter))
    certificate = model.observation.certificate()
    assert certificate is not None
    decoder, x = model.observation.decoder, first()
    a, b = 2 * torch.randn(2, len(x), 2)
    logits = [decoder.output.logits(decoder.features(x.ids, z))[..., 1:] for z in (a, b)]
    change = logits[0] - logits[1]
    flat = change.flatten(0, 1).T
    length = (flat * metric(flat, decoder.output.unigram)).sum(0).sqrt().view(change.shape[:2])
    least = certificate.modulus * (a - b).norm(dim=-1, keepdim=True)
    assert certificate.modulus > 0
    assert (length >= least * (1 - 1e-9)).all()


def test_the_joint_map_is_injective_too_in_the_plain_metric() -> None:
    model = of("lidsvae", "decoder.output=joint", "decoder.hidden=2")
    certificate = model.observation.certificate()
    assert certificate is not None
    decoder, x = model.observation.decoder, first()
    a, b = 2 * torch.randn(2, len(x), 1)
    one, two = (decoder.output.logits(decoder.features(x.ids, z)) for z in (a, b))
    least = certificate.modulus * (a - b).norm(dim=-1, keepdim=True)
    assert certificate.modulus > 0
    assert ((one - two).norm(dim=-1) >= least * (1 - 1e-9)).all()


@pytest.mark.parametrize("method", ["svae", "lm"])
def test_a_decoder_that_is_not_injective_certifies_nothing(method: str) -> None:
    assert of(method).observation.certificate() is None


@pytest.mark.parametrize("method", ALL)
def test_padding_changes_no_probability(method: str) -> None:
    model, x = of(method), first()
    z = torch.randn(3, len(x), model.latent)
    wider = torch.randint(VOCABULARY, (len(x), x.ids.shape[1] + 3))
    wider[:, : x.ids.shape[1]][x.mask] = x.ids[x.mask]
    found = model.observation.log_prob(TokenBatch(wider, x.lengths), z)
    torch.testing.assert_close(found, model.observation.log_prob(x, z), rtol=1e-12, atol=1e-12)
    torch.manual_seed(0)
    one = model.posterior(TokenBatch(wider, x.lengths)).tensors()
    for mine, known in zip(one, model.posterior(x).tensors(), strict=True):
        torch.testing.assert_close(mine, known, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("method", ALL)
def test_mean_probabilities_are_those_of_every_position(method: str) -> None:
    model, x = of(method), first()
    z = torch.randn(len(x), model.latent)
    found = model.observation.mean_probabilities(x, z)
    assert found.sum().item() == pytest.approx(1, abs=1e-12)
    known = torch.zeros(VOCABULARY)
    for n, length in enumerate(x.lengths.tolist()):
        for t in range(length):
            for token in range(VOCABULARY):
                ids = torch.cat([x.ids[n, :t], torch.tensor([token])])[None]
                longer = TokenBatch(ids, torch.tensor([t + 1]))
                log_p = model.observation.log_prob(longer, z[n : n + 1])
                if t:
                    shorter = TokenBatch(ids[:, :t], torch.tensor([t]))
                    log_p = log_p - model.observation.log_prob(shorter, z[n : n + 1])
                known[token] += log_p.exp().item()
    torch.testing.assert_close(found, known / x.terms(), rtol=1e-10, atol=1e-12)


def test_the_longest_sentence_drawn_follows_the_training_part() -> None:
    assert small_model("svae", data=documents(longest=30)).observation.longest == 46
