"""Components at clusters of the data: the prior, the start of q(c|x), and its learning rate."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lidcli.cli.progress import Silent
from lidcli.config.plan import plan_experiment
from lidcli.config.read import load_files, parse_override
from lidcli.config.resolve import resolve
from lidcli.config.run import RunConfig
from lidcli.data.anchor import anchor, clusters_of
from lidcli.data.dataset import Dataset, Split, fingerprint
from lidcli.data.registry import load
from lidcli.errors import ConfigError, DataError
from lidcli.metrics.clustering import purity
from lidcli.metrics.evaluation import Evaluation
from lidcli.metrics.pictures import pictures
from lidcli.models.batch import DenseBatch
from lidcli.models.latent import LatentModel
from lidcli.models.priors import GaussianMixture
from lidcli.training.anchored import anchor_purity, start_categories
from lidcli.training.build import build
from lidcli.training.lifecycle import execute
from lidcli.training.optimisers import groups

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = load_files([ROOT / "experiments.yaml"])
DATA = "model.means=data"


def configuration(*settings: str, model: str = "lidvae", data: str = "pinwheel") -> RunConfig:
    small = ["decoder.hidden=16", "encoder.hidden=32", "inference.hidden=16", "decoder.layers=5"]
    if data == "pinwheel":
        small += ["data.train=400", "data.test=300"]
    pairs = [parse_override(text) for text in [*small, *settings]]
    return resolve(SHIPPED, model=model, data=data, overrides=pairs)


def built(config: RunConfig) -> tuple[LatentModel, Dataset]:
    data = load(config.data)
    assert isinstance(data, Dataset)
    torch.manual_seed(config.seed)
    return build(config, data), data


def agreement(model: LatentModel, data: Dataset) -> float:
    """The share of training data whose likeliest category is their cluster."""
    found = anchor(data.train.x, model.latent, model.prior.categories or 0)
    clusters = found.coordinates.nearest(data.train.x, found.means)
    network = model.posterior.category_network()
    assert network is not None
    with torch.no_grad():
        chosen = network(DenseBatch(torch.from_numpy(data.train.x))).argmax(1).numpy()
    return float((chosen == clusters).mean())


def test_sds_of_each_component_are_its_own() -> None:
    means = torch.tensor([[0.0, 1.0], [2.0, -1.0], [4.0, 0.5]], dtype=torch.float64)
    scales = torch.tensor([[0.2, 1.0], [0.5, 0.7], [1.5, 0.3]], dtype=torch.float64)
    prior = GaussianMixture(means, scales)
    w = torch.randn(9, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    by_hand = torch.stack(
        [
            torch.distributions.Normal(m, s).log_prob(w).sum(-1) - math.log(3)
            for m, s in zip(means, scales, strict=True)
        ],
        -1,
    )
    torch.testing.assert_close(prior.log_joint(w), by_hand, rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(prior.component_log_scales(), scales.log(), rtol=0, atol=0)
    learned = GaussianMixture(means, scales, learn_scale=True, max_scale=2.0)
    torch.testing.assert_close(learned.component_log_scales().exp(), scales)
    assert [name for name, _ in learned.named_parameters()] == ["raw_scale"]


@pytest.mark.parametrize(
    ("scales", "settings", "words"),
    [
        (torch.ones(2, 3), {}, r"scales must be positive and \(3, 2\)"),
        (torch.zeros(3, 2), {}, "scales must be positive"),
        (torch.full((3, 2), math.nan), {}, "scales must be positive"),
        (
            torch.tensor([[0.1, 0.1], [0.1, 3.5], [0.1, 0.1]]),
            {"learn_scale": True, "max_scale": 3.0},
            r"model\.max_scale = 3\.0 must exceed the clusters' largest sd, 3\.5",
        ),
    ],
)
def test_sds_that_are_none_are_refused(scales, settings, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        GaussianMixture(torch.eye(3, 2), scales, **settings)


@pytest.mark.parametrize(
    ("data", "more"),
    [
        ("pinwheel", ("model.learn_scale=false", "model.covariance=diagonal")),
        ("digits", ("model.latent=8",)),
    ],
)
def test_prior_and_bases_start_at_the_clusters_and_stay(data: str, more: tuple[str, ...]) -> None:
    config = configuration(DATA, *more, data=data)
    model, loaded = built(config)
    found = anchor(loaded.train.x, model.latent, model.prior.categories or 0)
    means, scales = model.prior.component_means(), model.prior.component_log_scales().exp()
    np.testing.assert_allclose(means.numpy(), found.means, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(scales.numpy(), found.scales, rtol=1e-6)
    assert not list(model.prior.parameters())
    for p in model.posterior.base_head.parameters():
        outputs = 2 * means.numel()
        if p.ndim == 1:
            start = p.detach()[:outputs].view(*means.shape[:1], 2, -1)
            torch.testing.assert_close(start[:, 0], means)
            torch.testing.assert_close(start[:, 1].exp(), scales)


@pytest.mark.parametrize("data", ["pinwheel", "digits"])
def test_categories_start_at_the_clusters_whatever_torchs_generator(data: str) -> None:
    config = configuration(DATA, "encoder.hidden=64", data=data)
    model, loaded = built(config)
    others = [p.clone() for p in model.observation.parameters()]
    assert agreement(model, loaded) < 0.6
    before = torch.get_rng_state()
    config.model.begin(model, loaded, config.seed)
    assert torch.equal(torch.get_rng_state(), before)
    assert agreement(model, loaded) > 0.8
    assert all(map(torch.equal, others, model.observation.parameters()))
    again, _ = built(config)
    torch.manual_seed(99)
    config.model.begin(again, loaded, config.seed)
    assert all(map(torch.equal, model.state_dict().values(), again.state_dict().values()))
    start_categories(again, loaded, config.seed + 1, graph=False)
    network, other = model.posterior.category_network(), again.posterior.category_network()
    assert not torch.equal(next(network.parameters()), next(other.parameters()))


CENTRES = "inference.category_start=centres"


@pytest.mark.parametrize("method", ["lidvae", "vae", "sa-vae"])
def test_categories_may_start_as_the_posterior_of_gaussians_at_the_centres(method: str) -> None:
    config = configuration(DATA, CENTRES, model=method)
    model, data = built(config)
    config.model.begin(model, data, config.seed)
    assert agreement(model, data) == 1.0
    found = anchor(data.train.x, 2, 5)
    y = found.coordinates.of(data.test.x) * found.coordinates.sd
    centres = found.means * found.coordinates.sd
    own = found.coordinates.of(data.train.x) * found.coordinates.sd
    clusters = found.coordinates.nearest(data.train.x, found.means)
    half = np.square(own - centres[clusters]).mean() / 2
    log_q = -np.square(y[:, None] - centres).sum(-1) / (2 * half)
    log_q -= np.logaddexp.reduce(log_q, axis=1, keepdims=True)
    logits = model.posterior.category_network()(DenseBatch(torch.from_numpy(data.test.x)))
    np.testing.assert_allclose(logits.log_softmax(1).detach().numpy(), log_q, rtol=1e-3, atol=1e-3)


def test_a_path_to_the_category_learns_at_the_category_s_rate_and_resumes(tmp_path: Path) -> None:
    settings = ("train.epochs=2", "evaluate.samples=4", "evaluate.outer=20")
    config = configuration(DATA, CENTRES, *settings)
    model, _ = built(config)
    _, _, category = groups(model, 2.0, 0.1)
    path = model.posterior.category_path
    assert {id(p) for p in path.parameters()} <= {id(p) for p in category["params"]}
    run = execute(config, tmp_path, "train", Silent())
    first = dict(run.evaluation["test"])
    run.update(provenance={"status": "interrupted"})
    assert execute(config, tmp_path, "train", Silent()).evaluation["test"] == first


def test_data_that_are_their_clusters_centres_give_a_posterior_no_variance() -> None:
    x = np.array([[-3.0, 0.0], [2.0, 1.0], [0.0, 5.0]])
    found = anchor(x, 2, 3)
    with pytest.raises(DataError, match="no variance to start with"):
        found.coordinates.posterior(x, found.means)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (("model.means=graph", CENTRES), "model.means = 'graph'; data has"),
        ((CENTRES,), "model.means = 'fixed'; data has"),
        ((DATA, CENTRES, "inference.categorical=collapsed"), "the others have"),
        (("model.family=continuous", CENTRES), "model.family = 'continuous'; mixture has"),
    ],
)
def test_a_start_at_centres_is_refused_where_there_are_none(
    settings: tuple[str, ...], reason: str
) -> None:
    with pytest.raises(ConfigError, match=reason):
        configuration(*settings)


def test_with_the_graph_s_clusters_components_and_categories_are_theirs(tmp_path: Path) -> None:
    settings = ("model.means=graph", "encoder.hidden=64", "train.epochs=1", "evaluate.samples=4")
    config = configuration(*settings, "evaluate.outer=20", data="pinwheel")
    model, data = built(config)
    found = anchor(data.train.x, 2, 5, graph=True)
    means = model.prior.component_means().detach().numpy()
    np.testing.assert_allclose(means, found.means, rtol=1e-5)
    own = clusters_of(data.train.x, data.train.x, means, graph=True)
    config.model.begin(model, data, config.seed)
    q = model.posterior.category_network()(DenseBatch(torch.from_numpy(data.train.x)))
    assert (q.argmax(1).numpy() == own).mean() > 0.8
    scalars = execute(config, tmp_path, "train", Silent()).evaluation["test"]
    theirs = clusters_of(data.test.x, data.train.x, found.means, graph=True)
    expected = purity(data.test.labels, theirs).value
    assert scalars["anchor/purity"] == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("means", ["fixed", "free"])
def test_without_clusters_nothing_is_started(means: str) -> None:
    config = configuration(f"model.means={means}", model="vae")
    model, loaded = built(config)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    config.model.begin(model, loaded, config.seed)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_a_category_that_is_summed_out_has_no_network_to_start() -> None:
    config = configuration(DATA, "inference.categorical=collapsed")
    model, loaded = built(config)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    config.model.begin(model, loaded, config.seed)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert len(groups(model, 1.0, 0.1)) == 2


@pytest.mark.parametrize("method", ["lidvae", "sa-vae"])
def test_the_category_s_network_has_a_rate_of_its_own(method: str) -> None:
    model, _ = built(configuration(model=method))
    plain, same = groups(model, 2.0), groups(model, 2.0, 1.0)
    assert [group["factor"] for group in plain] == [2.0, 1.0]
    for one, other in zip(plain, same, strict=True):
        assert [id(p) for p in one["params"]] == [id(p) for p in other["params"]]
    decoder, rest, category = groups(model, 2.0, 0.1)
    assert [group["factor"] for group in (decoder, rest, category)] == [2.0, 1.0, 0.1]
    assert [id(p) for p in decoder["params"]] == [id(p) for p in plain[0]["params"]]
    both = {id(p) for p in [*rest["params"], *category["params"]]}
    assert both == {id(p) for p in plain[1]["params"]}
    network = model.posterior.category_network()
    assert [id(p) for p in network.parameters()] == [id(p) for p in category["params"]]


def test_a_run_stores_the_clusters_own_purity_and_resumes_without_a_new_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = ["train.epochs=1", "evaluate.samples=4", "evaluate.outer=20", "train.category_rate=0.1"]
    config = configuration(DATA, *more)
    run = execute(config, tmp_path, "train", Silent())
    scalars = run.evaluation["test"]
    data = load(config.data)
    found = anchor(data.train.x, 2, 5)
    own = found.coordinates.nearest(data.test.x, found.means)
    assert scalars["anchor/purity"] == pytest.approx(purity(data.test.labels, own).value, abs=1e-3)
    started: list[Any] = []
    monkeypatch.setattr(
        "lidcli.training.anchored.start_categories", lambda *a, **k: started.append(a)
    )
    longer = configuration(DATA, *more, "train.epochs=0")
    execute(longer, tmp_path, "train", Silent())
    assert len(started) == 1
    run = execute(config, tmp_path, "train", Silent())
    run.update(provenance={"status": "interrupted"})
    again = execute(config, tmp_path, "train", Silent())
    assert (again.status, len(started)) == ("complete", 1)
    assert again.evaluation["test"]["elbo"] == scalars["elbo"]


def test_a_model_of_images_keeps_what_the_means_of_its_components_decode_to() -> None:
    settings = (DATA, "model.latent=8", "data.train=300")
    model, data = built(configuration(*settings, data="digits"))
    x = DenseBatch(torch.from_numpy(data.test.x[:20]))
    arrays = pictures(model.eval(), x, None, Evaluation(), "image")
    with torch.no_grad():
        decoded = model.observation.mean(model.prior.component_means())
    np.testing.assert_array_equal(arrays["components"], decoded.numpy())
    assert arrays["components"].shape == (10, 64)
    assert (arrays["components"] > 0).all()
    assert (arrays["components"] < 1).all()
    plain, _ = built(configuration("model.family=continuous", model="vae", data="digits"))
    assert "components" not in pictures(plain.eval(), x, None, Evaluation(), "image")


IMAGES = ("mnist", "fashion-mnist", "omniglot")
CONTINUOUS = ("images-depth", "images-ramp", "epsilon-dial")


@pytest.mark.parametrize("data", IMAGES)
@pytest.mark.parametrize("method", ["vae", "skip-vae", "beta-vae", "lidvae", "lidgmvae"])
def test_on_images_components_are_clusters_and_categories_learn_slowly(
    method: str, data: str
) -> None:
    config = resolve(SHIPPED, model=method, data=data)
    assert (config.model.means, config.model.learn_scale) == ("data", False)
    slowest = method in ("lidvae", "lidgmvae")
    assert config.train.category_rate == (0.03 if slowest else 0.1)
    assert config.inference.categorical == "sampled"


@pytest.mark.parametrize("experiment", CONTINUOUS)
def test_what_is_of_a_category_says_nothing_of_a_continuous_latent(experiment: str) -> None:
    for run in plan_experiment(SHIPPED, experiment).runs:
        assert run.model.family == "continuous"
        assert (run.train.category_rate, run.inference.categorical) == (1.0, "explicit")


@pytest.mark.parametrize("experiment", ["table1-images", "table2", "figure1"])
def test_tables_have_a_laptops_scale_and_the_papers(experiment: str) -> None:
    usual = plan_experiment(SHIPPED, experiment)
    laptop = plan_experiment(SHIPPED, experiment, profile="laptop")
    paper = plan_experiment(SHIPPED, experiment, profile="paper", seeds="0-9")
    assert {run.run_id for run in laptop.runs} == {run.run_id for run in usual.runs}
    for plan, hidden, samples in ((laptop, 128, 50), (paper, 512, 500)):
        images = [run for run in plan.runs if run.data.name in IMAGES]
        assert {run.decoder.hidden for run in images} == {hidden}
        assert {run.encoder.hidden for run in images} == {hidden}
        assert {run.evaluate.samples for run in images} == {samples}
        assert {run.model.latent for run in images} == {64}
        assert {run.data.train for run in images} == {20_000}
        assert {run.decoder.hidden for run in plan.runs if run.data.name == "pinwheel"} <= {64}
    assert {run.data.test for run in paper.runs if run.data.name in IMAGES} == {None}


def test_labels_are_looked_at_by_the_purity_alone() -> None:
    config = configuration(DATA)
    model, data = built(config)
    relabelled = Split(data.train.x, np.roll(data.train.labels, 7))
    parts = relabelled, data.valid, data.test
    other = Dataset("o", "points", *parts, (2,), 5, False, fingerprint(*parts))
    torch.manual_seed(config.seed)
    same = build(config, other)
    for one, its in ((model, data), (same, other)):
        config.model.begin(one, its, config.seed)
    assert all(map(torch.equal, model.state_dict().values(), same.state_dict().values()))
    x = DenseBatch(torch.from_numpy(data.test.x))
    assert anchor_purity(model, x, data.test.labels, data, graph=False).value > 0.4


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        (["model.categories=361"], DataError, "are 360 distinct ones, fewer than the 361"),
        (
            ["model.latent=3", "decoder.kind=mlp"],
            ConfigError,
            "3 principal directions of data in 2 dimensions",
        ),
        (
            ["model.max_scale=0.2"],
            ConfigError,
            "model.max_scale = 0.2 must exceed the clusters' largest",
        ),
    ],
)
def test_what_does_not_fit_is_refused_in_one_sentence(settings, error, words: str) -> None:
    with pytest.raises(error) as caught:
        built(configuration(DATA, *settings))
    assert words in str(caught.value)
