"""What is measured of text agrees with sums over everything, where those can be made."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
import torch
from small_text import METHODS, doubles, exact, first, small_model

from lidcli.metrics.evaluation import Evaluation, evaluate
from lidcli.metrics.text import probe, text_figures
from lidcli.models.batch import TokenBatch
from lidcli.models.latent import LatentModel

TOKENS = ("</s>", "<unk>", "a", "b", "c")


@pytest.fixture(autouse=True)
def double_precision() -> Iterator[None]:
    with doubles():
        yield


def decode(ids: Sequence[int]) -> str:
    return " ".join(TOKENS[i] for i in ids)


def measured(model: LatentModel, x: TokenBatch, samples: int = 20) -> Evaluation:
    torch.manual_seed(3)
    out = evaluate(model, x, samples=samples, outer=len(x))
    text_figures(model, x, None, decode, out)
    return out


@pytest.mark.parametrize("latent", [1, 2])
@pytest.mark.parametrize("method", METHODS)
def test_the_importance_weighted_nll_is_that_of_quadrature(method: str, latent: int) -> None:
    model, x = small_model(method, latent=latent), first()
    samples = 4000
    with torch.no_grad():
        weights = (model.log_weights(x, samples) - exact(model, x)).exp()
    errors = weights.std(0) / samples**0.5
    assert ((weights.mean(0) - 1).abs() <= 5 * errors).all()
    nll = measured(model, x, samples).scalars["nll"]
    error = errors.square().sum().sqrt().item() / len(x)
    bias = (errors.square() / 2).mean().item()
    assert abs(nll + exact(model, x).mean().item()) <= 5 * error + bias


@pytest.mark.parametrize("method", METHODS)
def test_the_elbo_is_below_the_weighted_bound_and_that_below_the_truth(method: str) -> None:
    model, x = small_model(method, latent=2), first(24)
    found = measured(model, x, 400).scalars
    assert found["elbo"] < found["ll"]
    assert found["ll"] == -found["nll"]
    assert found["elbo"] < exact(model, x).mean().item()


def test_a_language_model_is_measured_exactly() -> None:
    model, x = small_model("lm"), first(24)
    found = measured(model, x).scalars
    known = exact(model, x)
    assert found["elbo"] == pytest.approx(known.mean().item(), rel=1e-12)
    assert found["ll"] == pytest.approx(known.mean().item(), rel=1e-12)
    assert found["ll_se"] == pytest.approx(known.std().item() / len(x) ** 0.5, rel=1e-9)
    assert found["kl/joint"] == 0
    assert "ll_samples" not in found
    assert not {name for name in found if name.startswith(("mi/", "au/", "kl/z"))}


@pytest.mark.parametrize("method", ["lm", "lidsvae"])
def test_perplexity_is_of_a_token(method: str) -> None:
    x = first(24)
    found = measured(small_model(method), x).scalars
    assert found["tokens"] == int(x.lengths.sum())
    per_token = found["nll"] * len(x) / int(x.lengths.sum())
    assert found["ppl"] == pytest.approx(math.exp(per_token), rel=1e-12)


def test_the_error_of_perplexity_is_that_over_samples_of_documents() -> None:
    model, x = small_model("lm"), first(24)
    found = measured(model, x).scalars
    ll, lengths = exact(model, x), x.lengths.double()
    torch.manual_seed(0)
    chosen = torch.randint(len(x), (4000, len(x)))
    again = (-ll[chosen].sum(1) / lengths[chosen].sum(1)).exp()
    assert found["ppl_se"] == pytest.approx(again.std().item(), rel=0.15)


def test_a_perplexity_that_no_number_holds_is_left_out() -> None:
    x, out = first(24), Evaluation()
    out.ll = torch.full((24,), -1e6)
    out.scalars |= {"ll": -1e6, "ll_se": 0.0}
    text_figures(small_model("lm"), x, None, decode, out)
    assert out.scalars["nll"] == 1e6
    assert "ppl" not in out.scalars


def test_a_text_is_stored_cut_where_it_is_too_long_to_be_read() -> None:
    x, out = first(24), Evaluation()
    out.ll, out.scalars = exact(small_model("lm"), x), {"ll": -3.0, "ll_se": 0.0}
    text_figures(small_model("svae"), x, None, lambda ids: " ".join("a" * 20_000 for _ in ids), out)
    texts = [*out.texts["samples"], *out.texts["interpolation"], *out.texts["words"][0]["raises"]]
    texts += [text for pair in out.texts["reconstructions"] for text in pair]
    assert max(map(len, texts)) == 10_000
    assert all(text.endswith(" …") for text in texts if len(text) > 5_000)


@pytest.mark.parametrize("method", METHODS)
def test_the_words_of_a_latent_are_those_it_moves_the_way_that_is_told(method: str) -> None:
    model, x = small_model(method, latent=2), first(24)
    found = measured(model, x).texts["words"]
    assert len(found) == 2
    for moved in found:
        assert moved["raises"]
        assert moved["lowers"]
        assert not set(moved["raises"]) & set(moved["lowers"])
    mean = model.posterior(x).expectation().detach()
    for k, moved in enumerate(found):
        step = torch.zeros(2)
        step[k] = 1
        above = model.observation.mean_probabilities(x, mean + step)
        below = model.observation.mean_probabilities(x, mean - step)
        score = ((above - below) / (above + below).sqrt()).tolist()
        order = sorted(range(5), key=score.__getitem__)
        assert moved["raises"] == [TOKENS[i] for i in reversed(order) if score[i] > 0]
        assert moved["lowers"] == [TOKENS[i] for i in order if score[i] < 0]


def test_sentences_are_words_and_those_without_a_latent_are_from_the_model_alone() -> None:
    texts = measured(small_model("lidsvae"), first(24)).texts
    assert set(texts) == {"samples", "reconstructions", "interpolation", "words"}
    pairs = [text for pair in texts["reconstructions"] for text in pair]
    every = [*texts["samples"], *texts["interpolation"], *pairs]
    assert {word for text in every for word in text.split()} <= set(TOKENS)
    originals = {original for original, _ in texts["reconstructions"]}
    x = first(24)
    known = {
        decode(ids[:length]) for ids, length in zip(x.ids.tolist(), x.lengths.tolist(), strict=True)
    }
    assert originals <= known
    assert set(measured(small_model("lm"), first(24)).texts) == {"samples"}


def test_one_probe_is_of_the_means_however_wide_the_posterior_is_and_one_of_its_draws() -> None:
    model, x = small_model("svae", latent=2), first(24)
    means = model.posterior(x).expectation().detach()
    labels = (means[:, 0] > means[:, 0].median()).long().numpy()
    found = evaluate(model, x, samples=4, outer=len(x))
    text_figures(model, x, labels, decode, found)
    assert means.std(0).max() < 0.3
    told = probe(means.numpy(), labels)
    assert told is not None
    assert found.scalars["probe"] == told.value > 0.9
    assert found.scalars["probe_draw"] < 0.8


def test_the_probe_reads_a_label_that_the_latent_holds_and_no_other() -> None:
    labels = np.arange(200) % 2
    rng = np.random.default_rng(0)
    held = np.stack([labels + 0.05 * rng.normal(size=200), rng.normal(size=200)], 1)
    found = probe(held, labels)
    assert found is not None
    assert found.value == 1
    blind = probe(rng.normal(size=(200, 2)), labels)
    assert blind is not None
    assert abs(blind.value - 0.5) <= 5 * blind.se


@pytest.mark.parametrize("counts", [(20,), (20, 9), (9, 20, 20)])
def test_too_few_labels_have_no_probe(counts: tuple[int, ...]) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    assert probe(np.zeros((len(labels), 1)), labels) is None
