"""Training on text: its batches, its updates, and what a killed run takes up again."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_text import configuration, documents, doubles, first, small_model

from lidcli.cli.progress import Silent
from lidcli.config.run import RunConfig
from lidcli.data.documents import documents_of
from lidcli.data.vocabulary import Vocabulary
from lidcli.errors import ConfigError
from lidcli.inference.objective import objective
from lidcli.inference.refined import Refined
from lidcli.models.batch import Batch, TokenBatch
from lidcli.models.latent import LatentModel
from lidcli.training.build import build
from lidcli.training.guard import Guard
from lidcli.training.loop import Trainer
from lidcli.training.signals import StopRequest
from lidcli.training.sources import TokenSource, split_of
from lidcli.training.updates import Lagging

REFINED = ("inference.kind=semi-amortized", "inference.steps=3")


def source(lengths: list[int], size: int) -> TokenSource:
    """Documents of those lengths, each of one word of its own, labelled by it."""
    rows = [[2 + i] * (length - 1) for i, length in enumerate(lengths)]
    return TokenSource(documents_of(rows, np.arange(len(lengths))), size)


@pytest.mark.parametrize("method", ["skip-svae", "lidsvae"])
def test_random_columns_are_of_the_runs_seed_and_the_datas_of_no_seed(method: str) -> None:
    def columns(seed: int, kind: str) -> torch.Tensor:
        config = configuration(method, f"decoder.columns={kind}").model_copy(update={"seed": seed})
        found: torch.Tensor = build(config, documents()).observation.decoder.output.columns
        return found

    assert torch.equal(columns(0, "random"), columns(0, "random"))
    assert not torch.equal(columns(0, "random"), columns(1, "random"))
    assert torch.equal(columns(0, "data"), columns(1, "data"))
    padding = columns(0, "zeros")
    assert torch.equal(padding.sum(0), torch.ones(padding.shape[1]))
    assert int((padding != 0).sum()) == padding.shape[1]


def epoch(of: TokenSource, seed: int = 5) -> list[TokenBatch]:
    return list(of.epoch(torch.Generator().manual_seed(seed)))


def same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a if k != "seconds")
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


@settings(max_examples=50, deadline=None)
@given(
    lengths=st.lists(st.integers(2, 40), min_size=1, max_size=40),
    size=st.integers(1, 12),
    at=st.integers(0, 40),
)
def test_an_epoch_taken_up_at_a_batch_is_the_rest_of_it(
    lengths: list[int], size: int, at: int
) -> None:
    of = source(lengths, size)
    batches = epoch(of)
    assert len(batches) == of.batches
    seen = torch.cat([batch.ids[:, 0] for batch in batches])
    assert sorted(seen.tolist()) == [2 + i for i in range(len(lengths))]
    rest = list(itertools.islice(of.epoch(torch.Generator().manual_seed(5)), at, None))
    for mine, known in zip(rest, batches[at:], strict=True):
        assert torch.equal(mine.ids, known.ids)
        assert torch.equal(mine.lengths, known.lengths)


def test_epochs_differ_and_labels_stay_with_their_documents() -> None:
    of = source([9, 2, 5, 3, 30, 4, 2, 8], 3)
    assert [b.ids.tolist() for b in epoch(of, 1)] != [b.ids.tolist() for b in epoch(of, 2)]
    fixed = of.fixed()
    assert of.labels is not None
    assert (fixed.ids[:, 0] - 2).tolist() == of.labels.tolist()
    assert fixed.lengths.tolist() == sorted([9, 2, 5, 3, 30, 4, 2, 8])


@pytest.mark.parametrize("method", ["svae", "skip-svae", "lidsvae", "lm"])
def test_the_company_of_a_document_changes_no_probability(method: str) -> None:
    with doubles():
        data = documents(longest=9)
        model, train = small_model(method, data=data), split_of(data, "train", 5)
        for batch in epoch(train):
            z = torch.randn(2, len(batch), model.latent)
            found = model.observation.log_prob(batch, z)
            for n in range(len(batch)):
                alone = batch.rows(slice(n, n + 1))
                known = model.observation.log_prob(alone, z[:, n : n + 1])
                torch.testing.assert_close(found[:, n : n + 1], known, rtol=1e-12, atol=1e-12)


@pytest.fixture
def double_precision() -> Iterator[None]:
    with doubles():
        yield


@pytest.mark.parametrize("method", ["svae", "skip-svae", "lidsvae"])
@pytest.mark.parametrize("part", ["observation", "posterior"])
def test_gradients_through_refinement_are_those_of_finite_differences(
    double_precision: None, method: str, part: str
) -> None:
    model = small_model(method, *REFINED, latent=2).train()
    assert isinstance(model.posterior, Refined)
    inference = configuration(method, *REFINED).inference
    x = first()

    def loss() -> torch.Tensor:
        torch.manual_seed(4)
        return objective(model, x, inference, 1.0).loss  # type: ignore[arg-type]

    torch.manual_seed(7)
    parameters = [p for p in getattr(model, part).parameters() if p.requires_grad]
    along = [torch.randn_like(p) for p in parameters]
    slopes = torch.autograd.grad(loss(), parameters, allow_unused=True)
    slope = sum((s * v).sum().item() for s, v in zip(slopes, along, strict=True) if s is not None)

    def moved(by: float) -> float:
        with torch.no_grad():
            for p, v in zip(parameters, along, strict=True):
                p.add_(by * v)
        value = loss().item()
        with torch.no_grad():
            for p, v in zip(parameters, along, strict=True):
                p.sub_(by * v)
        return value

    h = 1e-5
    assert abs(slope) > 1e-3
    assert slope == pytest.approx((moved(h) - moved(-h)) / (2 * h), rel=1e-5, abs=1e-6)


def test_refinement_raises_the_bound_of_a_posterior_that_is_far_off(double_precision: None) -> None:
    model = small_model("svae", *REFINED, "inference.steps=40", "inference.rate=0.05", latent=2)
    x = first()
    model.posterior.base.start_at(torch.full((2,), 3.0), torch.zeros(2))  # type: ignore[operator]
    bound = []
    for posterior in (model.posterior.base, model.posterior):
        torch.manual_seed(0)
        terms = model.terms(x, posterior(x).draw(4000))
        bound.append((terms.reconstruction - terms.kl).mean(0))
    assert (bound[1] > bound[0]).all()


def lagging(
    inner: int = 3, block: int = 10, epochs: str = "null"
) -> tuple[LatentModel, Lagging, TokenSource]:
    config = configuration(
        "lagging-vae",
        f"inference.inner={inner}",
        f"inference.block={block}",
        f"inference.aggressive_epochs={epochs}",
        latent=2,
    )
    torch.manual_seed(0)
    data = documents()
    model = build(config, data).train()
    train = split_of(data, "train", 8)
    assert config.train is not None
    update = config.inference.update(config.train, model, train.batches, Guard(torch.device("cpu")))
    assert isinstance(update, Lagging)
    return model, update, train


def weights(model: LatentModel) -> tuple[dict[str, Any], dict[str, Any]]:
    """Copies of what the posterior learns, and of the rest."""
    own = {name: p.detach().clone() for name, p in model.named_parameters()}
    encoder = {name: p for name, p in own.items() if name.startswith("posterior.")}
    return encoder, {name: p for name, p in own.items() if name not in encoder}


def test_the_encoder_is_trained_alone_and_then_the_decoder_alone() -> None:
    model, update, train = lagging(inner=3)
    x, seen = epoch(train)[0], [weights(model)]

    def more() -> Batch:
        seen.append(weights(model))
        return train.draw(torch.Generator().manual_seed(len(seen)))

    update.step(x, 0, more)
    seen.append(weights(model))
    *inner, last = seen
    assert len(inner) == 1 + 3
    for before, after in itertools.pairwise(inner):
        assert not same(before[0], after[0])
        assert same(before[1], after[1]), "the decoder moved with the encoder"
    assert same(inner[-1][0], last[0]), "the encoder moved with the decoder"
    assert not same(inner[-1][1], last[1])


def test_no_gradient_of_the_decoder_is_computed_in_inner_steps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, update, train = lagging(inner=3)
    asked, descend = [], update._descend

    def spied(*args: Any) -> Any:
        asked.append({p.requires_grad for p in update.rest})
        return descend(*args)

    monkeypatch.setattr(update, "_descend", spied)
    update.step(epoch(train)[0], 0, lambda: train.draw(torch.Generator().manual_seed(1)))
    assert asked == [{False}, {False}, {False}, {True}]
    assert all(p.requires_grad for p in model.parameters())


def test_inner_steps_end_when_a_block_is_no_better_than_the_one_before() -> None:
    model, update, train = lagging(inner=100, block=2)
    calls = []

    def more() -> Batch:
        calls.append(0)
        for p in model.posterior.parameters():
            p.data.add_(0.5 * torch.randn_like(p))
        return train.draw(torch.Generator().manual_seed(len(calls)))

    update.step(epoch(train)[0], 0, more)
    assert 2 <= len(calls) < 99


@pytest.mark.parametrize("every", [1, 3])
def test_the_phase_ends_after_its_epochs_however_often_they_are_validated(every: int) -> None:
    _, update, train = lagging(inner=1, epochs="2")
    x, drawn, asked = epoch(train)[0], [], []

    def more() -> Batch:
        drawn.append(step // train.batches + 1)
        return x

    for step in range(5 * train.batches):
        update.step(x, step, more)
        done, rest = divmod(step + 1, train.batches)
        if not rest and done % every == 0:
            update.validated(lambda done=done: asked.append(done) or 1.0)  # type: ignore[misc]
    assert sorted(set(drawn)) == [1, 2]
    assert len(drawn) == 2 * train.batches
    assert asked == ([1, 2] if every == 1 else [])


def test_a_stored_phase_that_counted_its_epochs_is_taken_up() -> None:
    _, update, _ = lagging(epochs="2")
    state = update.state()
    state["phase"] = {"aggressive": False, "best": 0.3, "epochs": 1}
    update.restore(state)
    assert (update.aggressive, update.best) == (False, 0.3)


def test_the_phase_ends_for_good_when_the_information_falls() -> None:
    model, update, train = lagging()
    for information in (0.1, 0.3):
        update.validated(lambda mi=information: mi)  # type: ignore[misc]
        assert update.aggressive
    update.validated(lambda: 0.2)
    assert not update.aggressive
    update.validated(lambda: pytest.fail("nobody asks any more"))

    def more() -> Batch:
        pytest.fail("a joint step needs no further batch")

    before = weights(model)
    update.step(epoch(train)[0], 0, more)
    after = weights(model)
    assert not same(before[0], after[0])
    assert not same(before[1], after[1])


def trainer(config: RunConfig) -> tuple[Trainer, list[Any]]:
    data, saved = documents(), []  # type: tuple[Any, list[Any]]
    torch.manual_seed(config.seed)
    assert config.train is not None
    save: Callable[[Any, Any], None] = lambda state, _: saved.append(copy.deepcopy(state))  # noqa: E731
    made = Trainer(
        config,
        build(config, data),
        split_of(data, "train", config.train.batch_size),
        split_of(data, "valid"),
        observer=Silent(),
        save=save,
        stop=StopRequest(),
    )
    return made, saved


@pytest.mark.parametrize(
    "settings",
    [
        ("lm",),
        ("skip-svae",),
        ("lidsvae", "inference.free_bits=0.1", "decoder.dropout=0.2"),
        ("sa-vae", "inference.steps=2"),
        ("sa-vae", "inference.steps=2", "inference.hessian=finite", "decoder.dropout=0.2"),
        ("lagging-vae", "inference.inner=3", "inference.block=2"),
        ("lagging-vae", "inference.inner=2", "inference.aggressive_epochs=1"),
    ],
    ids=" ".join,
)
def test_a_training_taken_up_from_any_checkpoint_ends_in_the_same_bits(
    settings: tuple[str, ...],
) -> None:
    config = configuration(*settings, "train.epochs=3", "runtime.checkpoint_seconds=0")
    whole, states = trainer(config)
    whole.run()
    assert len(states) > 8
    for state in states[1::4]:
        torch.manual_seed(12345)
        again, _ = trainer(config)
        again.restore(copy.deepcopy(state))
        again.run()
        assert same(again.state(), whole.state())


@pytest.mark.parametrize("method", ["skip-svae", "lidsvae"])
def test_documents_of_one_word_have_no_directions_and_say_so(method: str) -> None:
    data = documents(longest=1)
    with pytest.raises(ConfigError, match="No directions from the documents of small"):
        build(configuration(method), data)
    build(configuration("svae"), data)


@pytest.mark.parametrize("repeats", [True, False])
def test_scores_of_documents_are_centred_and_of_unit_variance_and_blind_to_padding(
    repeats: bool,
) -> None:
    rng = np.random.default_rng(1)
    topics = rng.integers(2, size=400)
    chances = np.where(topics[:, None] == np.arange(10) // 5, 0.15, 0.05)
    rows = [(2 + rng.choice(10, 9, p=p)).tolist() for p in chances]
    train = documents_of(rows)
    data = replace(documents(), train=train, vocabulary=Vocabulary(list("abcdefghij")))
    with doubles():
        changes = ("encoder.scores=1", f"encoder.repeats={str(repeats).lower()}")
        settings = configuration("lidsvae", *changes).encoder
        assert settings is not None
        make, count = settings.build(data)
        torch.manual_seed(0)
        net, batch = make(), split_of(data, "train").fixed()
        found = net(batch)
    assert found.shape == (400, count)
    score = found[:, -1].detach()
    assert abs(score.mean()) < 0.2
    assert 0.7 < score.std() < 1.4
    assert np.corrcoef(score.numpy(), topics)[0, 1] ** 2 > 0.4
    some = TokenBatch(batch.ids[:5], batch.lengths[:5])
    longer = torch.nn.functional.pad(some.ids, (0, 3), value=2)
    torch.testing.assert_close(net(TokenBatch(longer, some.lengths)), net(some))


def test_without_repeats_scores_are_those_of_the_document_that_says_each_word_once() -> None:
    with doubles():
        settings = configuration("lidsvae", "encoder.scores=1", "encoder.repeats=false").encoder
        assert settings is not None
        net = settings.build(documents())[0]()
    said = TokenBatch(torch.tensor([[3, 2, 3, 3, 4, 0], [4, 3, 2, 0, 3, 3]]), torch.tensor([6, 4]))
    once, twice = net(said)[:, -1]
    torch.testing.assert_close(once, twice)


@given(rows=st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=7), min_size=1, max_size=5))
def test_first_positions_are_those_of_words_not_said_before(rows: list[list[int]]) -> None:
    longest = max(map(len, rows))
    ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
    batch = TokenBatch(ids, torch.tensor([len(row) for row in rows]))
    told = [[word not in row[:at] for at, word in enumerate(row)] for row in rows]
    assert [part[: len(row)] for part, row in zip(batch.first.tolist(), rows, strict=True)] == told
    assert int(batch.first.sum()) == sum(map(sum, told))
