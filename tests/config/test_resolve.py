"""Resolution of one run from experiment files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lidcli.config.plan import parse_seeds, part_of, plan_experiment, plan_grid, relatives
from lidcli.config.read import load_files, parse_override
from lidcli.config.resolve import resolve, resolve_loosely
from lidcli.config.run import RunConfig
from lidcli.config.sections import brenier_hidden_layers
from lidcli.errors import ConfigError
from lidcli.names import nearest

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = load_files([ROOT / "experiments.yaml"])


def write(tmp_path: Path, text: str, name: str = "e.yaml") -> Path:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


BASE = """
defaults: {train: {epochs: 1}}
models:
  vae: {train: {epochs: 2}}
data:
  toy: {kind: points, train: {epochs: 3}}
experiments:
  trial: {models: [vae], data: [toy], set: {train: {epochs: 4}}, seeds: 0-1}
profiles:
  quick: {train: {epochs: 5}}
"""


def test_precedence_is_defaults_model_data_experiment_profile_set(tmp_path: Path) -> None:
    known = load_files([write(tmp_path, BASE)])
    common = {"model": "vae", "data": "toy"}
    assert resolve(known, **common).train.epochs == 3
    assert resolve(known, **common, experiment="trial").train.epochs == 4
    assert resolve(known, **common, experiment="trial", profile="quick").train.epochs == 5
    last = resolve(known, **common, profile="quick", overrides=[("train.epochs", 6)])
    assert last.train.epochs == 6


def test_a_data_entry_may_set_something_for_one_model_alone(tmp_path: Path) -> None:
    text = BASE.replace("train: {epochs: 3}}", "train: {epochs: 3}, models: {vae: {scale: 0.7}}}")
    known = load_files([write(tmp_path, text.replace("  vae:", "  other: {}\n  vae:"))])
    assert resolve(known, model="vae", data="toy").model.scale == 0.7
    assert resolve(known, model="other", data="toy").model.scale != 0.7
    wrong = text.replace("scale: 0.7", "scle: 0.7")
    with pytest.raises(ConfigError, match="did you mean scale"):
        load_files([write(tmp_path, wrong)])


def test_later_files_add_to_and_override_earlier_ones(tmp_path: Path) -> None:
    more = write(tmp_path, "data: {toy: {train: {epochs: 9}}, other: {kind: image}}", "more.yaml")
    known = load_files([write(tmp_path, BASE), more])
    assert resolve(known, model="vae", data="toy").train.epochs == 9
    assert resolve(known, model="vae", data="other").data.kind == "image"


def test_a_method_takes_the_family_of_its_data() -> None:
    assert resolve(SHIPPED, model="lidvae", data="pinwheel").model.family == "mixture"
    asked = [("model.family", "continuous")]
    assert (
        resolve(SHIPPED, model="vae", data="digits", overrides=asked).model.family == "continuous"
    )


def test_means_are_fixed_behind_an_injective_decoder_and_free_behind_an_mlp() -> None:
    assert resolve(SHIPPED, model="lidgmvae", data="pinwheel").model.means == "fixed"
    assert resolve(SHIPPED, model="gmvae", data="pinwheel").model.means == "free"


def test_the_run_id_ignores_paths_and_runtime_and_ends_in_the_seed() -> None:
    base = resolve(SHIPPED, model="vae", data="digits", seed=3)
    elsewhere = resolve(
        SHIPPED,
        model="vae",
        data="digits",
        seed=3,
        overrides=[("data.root", "/elsewhere"), ("runtime.device", "cpu")],
    )
    other = resolve(SHIPPED, model="vae", data="digits", seed=3, overrides=[("train.epochs", 1)])
    assert base.run_id == elsewhere.run_id
    assert base.run_id.endswith("-s3")
    assert base.run_id != other.run_id


@pytest.mark.parametrize("data", ["pinwheel", "digits"])
def test_a_configuration_survives_json(data: str) -> None:
    config = resolve(SHIPPED, model="lidvae", data=data)
    assert RunConfig.of(json.loads(json.dumps(config.document()))) == config


def test_a_run_has_the_sections_of_its_kinds_and_no_others() -> None:
    ppca = resolve(SHIPPED, model="ppca", data="ppca-2d")
    assert ppca.decoder is ppca.likelihood is ppca.encoder is ppca.train is None
    assert set(ppca.document()) == {
        "method", "seed", "model", "inference", "evaluate", "data", "runtime"
    }  # fmt: skip
    clusters = resolve(SHIPPED, model="gmvae-shared", data="gmvae-two")
    assert clusters.model.family == "two-clusters"
    assert clusters.inference.theta == "shared"


def test_the_data_choose_likelihood_and_family() -> None:
    assert resolve(SHIPPED, model="vae", data="digits").likelihood.kind == "bernoulli"
    assert resolve(SHIPPED, model="vae", data="pinwheel").likelihood.kind == "gaussian"


def test_settings_of_shared_levels_apply_where_they_can(tmp_path: Path) -> None:
    shared = """
    models: {vae: {}, lidvae: {decoder: {kind: brenier}}, ppca: {family: ppca,
             inference: {kind: exact}}}
    data: {toy: {kind: points, decoder: {gain: 0.7}, train: {momentum: 0.1},
                 model: {latent: 3, scale: 0.9}}}
    """
    known = load_files([write(tmp_path, shared)])
    assert resolve(known, model="lidvae", data="toy").decoder.gain == 0.7
    vae = resolve(known, model="vae", data="toy")
    assert not hasattr(vae.decoder, "gain")
    assert not hasattr(vae.train, "momentum")
    assert vae.model.scale == 0.9
    ppca = resolve(known, model="ppca", data="toy")
    assert (ppca.model.latent, hasattr(ppca.model, "scale")) == (3, False)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "models: {vae: {decoder: {maps: 3}}}\ndata: {toy: {kind: points}}",
            "decoder.maps does nothing for decoder.kind = 'mlp'; brenier has it.",
        ),
        (
            "models: {vae: {}}\ndata: {toy: {kind: points, models: {vae: {sigma: 3}}}}",
            "model.sigma does nothing for model.family = 'mixture'; ppca has it.",
        ),
        (
            "models: {vae: {family: ppca, inference: {kind: exact}, decoder: {layers: 3}}}\n"
            "data: {toy: {kind: points}}",
            "decoder.layers does nothing for model.family = 'ppca' with inference.kind = 'exact'.",
        ),
        ("models: {vae: {}}\ndata: {toy: {}}", "data.kind is missing"),
        ("models: {vae: {}}\ndata: {toy: {kind: 5}}", "data.kind = 5 is no name"),
        (
            "models: {vae: {likelihood: {kind: bernoulli}}}\ndata: {toy: {kind: points}}",
            "likelihood.kind = 'bernoulli' is not for points data; use gaussian.",
        ),
        (
            "models: {vae: {family: ppca}}\ndata: {toy: {kind: points}}",
            "inference.kind = 'amortized' does not go with model.family = 'ppca'",
        ),
    ],
)
def test_a_models_own_settings_have_to_do_something(tmp_path: Path, text: str, told: str) -> None:
    known = load_files([write(tmp_path, text)])
    with pytest.raises(ConfigError) as caught:
        resolve(known, model="vae", data="toy")
    assert told in str(caught.value)


def test_a_models_own_settings_may_lose_their_kind_to_a_level_above() -> None:
    asked = [("model.family", "continuous")]
    config = resolve(SHIPPED, model="vae", data="pinwheel", overrides=asked)
    assert config.model.family == "continuous"
    assert not hasattr(config.model, "separation")
    assert config.train.decoder_rate == 0.3


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("decoder.layer=3", "did you mean decoder.layers?"),
        ("decoder.layers=6", "use 5 or 7"),
        ("train.epochs=many", "train.epochs = 'many' is not usable"),
        ("train.epochs=on", "train.epochs = True is not usable: input should not be true"),
        ("decoder.hidden=true", "decoder.hidden = True is not usable"),
        ("evaluate.metrics=foo", "evaluate.metrics = 'foo' is not usable: input should be a list"),
        ("train.epochs=-1", "train.epochs = -1 is not usable"),
        ("inference.beta=.nan", "inference.beta"),
        ("train.learning_rate=.inf", "train.learning_rate"),
        ("layers=3", "Unknown setting 'layers'"),
        ("decoder.kind=brener", "decoder.kind = 'brener' is none of mlp, brenier, skip"),
        ("decoder.kind=[mlp]", "decoder.kind = ['mlp'] is no name"),
        ("decoder={kind: mlp}", "Unknown setting 'decoder'"),
        ("train.momentum=0.1", "train.momentum does nothing for train.optimiser = 'adam'"),
        ("inference.chains=3", "inference.chains does nothing for inference.kind = 'amortized'"),
        ("evaluate.sample=3", "did you mean evaluate.samples?"),
        ("data.path=5", "data.path = 5 is not usable"),
        ("train.epochs=1:30", "train.epochs = '1:30' is not usable"),
        ("train.epochs=2001-01-01", "train.epochs = '2001-01-01' is not usable"),
        ("train.learning_rate=1e999", "train.learning_rate"),
    ],
)
def test_a_bad_override_is_named_in_one_sentence(override: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve(SHIPPED, model="lidvae", data="pinwheel", overrides=[parse_override(override)])
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("models: [", "line 1"),
        ("modles: {}", "did you mean models?"),
        ("models: {vae: {famly: mixture}}", "did you mean family?"),
        ("models: 3", "models must be a mapping"),
        ("- 1", "must hold a mapping"),
        ("experiments: {a: {models: [vae]}}", "data is missing"),
        ('experiments: {"a/b": {models: [vae], data: [d]}}', "experiments: 'a/b' is no name"),
        ('experiments: {"../out": {models: [vae], data: [d]}}', "'../out' is no name"),
        ('experiments: {"": {models: [vae], data: [d]}}', "'' is no name"),
        ("experiments: {.slurm: {models: [vae], data: [d]}}", "'.slurm' is no name"),
        ('experiments: {"a\\n": {models: [vae], data: [d]}}', r"'a\n' is no name"),
        ("experiments: {published: {models: [vae], data: [d]}}", "'published' is no name"),
        ("experiments: {a: {models: [v], data: [d], sed: 1}}", "did you mean seeds?"),
        ("defaults: {train: 3}", "train must be a mapping"),
    ],
)
def test_an_unreadable_file_is_named_with_what_is_wrong(
    tmp_path: Path, text: str, told: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load_files([write(tmp_path, text)])
    assert told in str(caught.value)
    assert "e.yaml" in str(caught.value)


def test_a_missing_file_and_unknown_names_are_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no configuration file"):
        load_files([tmp_path / "none.yaml"])
    with pytest.raises(ConfigError, match="did you mean lidgmvae"):
        resolve(SHIPPED, model="lidgmave", data="pinwheel")
    with pytest.raises(ConfigError, match="did you mean pinwheel"):
        resolve(SHIPPED, model="vae", data="pinwhel")


def test_override_values_are_read_as_yaml() -> None:
    assert parse_override("decoder.rotations=false") == ("decoder.rotations", False)
    assert parse_override("train.learning_rate=1e-3") == ("train.learning_rate", 1e-3)
    with pytest.raises(ConfigError):
        parse_override("decoder.layers")


@given(st.integers(1, 40), st.integers(1, 4))
def test_layers_of_an_injective_decoder_are_maps_times_n_plus_two_less_one(
    layers: int, maps: int
) -> None:
    try:
        n = brenier_hidden_layers(layers, maps)
    except ValueError as error:
        named = [int(word) for word in str(error).replace(";", " ").split() if word.isdecimal()]
        offered = [value for value in named if value != layers and value >= 3 * maps - 1]
        assert any(brenier_hidden_layers(value, maps) >= 1 for value in offered)
    else:
        assert n >= 1
        assert maps * (n + 2) - 1 == layers


def test_seeds_are_ranges_and_lists() -> None:
    assert parse_seeds("0-2,7") == (0, 1, 2, 7)
    assert parse_seeds("5") == (5,)
    for text in ("", "a", "1-", "4-2", "-3", "0-999999999", "9" * 5000, "\u0663"):
        with pytest.raises(ConfigError):
            parse_seeds(text)


def test_a_plan_is_the_product_of_models_data_grid_and_seeds() -> None:
    plan = plan_experiment(SHIPPED, "pinwheel-depth")
    assert len(plan.runs) == 2 * 3 * 5
    assert len({run.run_id for run in plan.runs}) == 30
    assert {run.decoder.layers for run in plan.runs} == {5, 9, 13}


def test_a_grid_of_ones_own_repeats_no_run() -> None:
    plan = plan_grid(SHIPPED, "mine", models=["vae", "vae"], data=["digits"], grid={}, seeds=[0, 1])
    assert [run.seed for run in plan.runs] == [0, 1]


@pytest.mark.parametrize("key", ["runtime.threads", "data.root"])
def test_a_grid_over_what_makes_no_other_run_is_refused(key: str) -> None:
    with pytest.raises(ConfigError, match=f"{key} makes no other run"):
        plan_grid(SHIPPED, "mine", models=["vae"], data=["mnist"], grid={key: [1, 2]}, seeds=[0])


def test_a_grid_key_applies_to_the_models_that_have_it_and_to_one_at_least() -> None:
    common: dict[str, Any] = {"data": ["pinwheel"], "seeds": [0]}
    grid = {"decoder.maps": [1, 2]}
    plan = plan_grid(SHIPPED, "mine", models=["vae", "lidvae"], grid=grid, **common)
    assert [run.method for run in plan.runs] == ["vae", "lidvae", "lidvae"]
    with pytest.raises(ConfigError, match=r"decoder\.maps does nothing .* brenier has it"):
        plan_grid(SHIPPED, "mine", models=["vae", "gmvae"], grid=grid, **common)
    with pytest.raises(ConfigError, match=r"decoder\.maps does nothing"):
        plan_experiment(SHIPPED, "figure2", overrides=[("decoder.maps", 2)])
    assert plan_experiment(SHIPPED, "theorem1", overrides=[("decoder.layers", 5)]).runs


def test_experiments_that_take_in_each_other_are_taken_once(tmp_path: Path) -> None:
    text = BASE + "  a: {models: [vae], data: [toy], also: [b, trial]}\n"
    text = text.replace("profiles:", "").replace("  quick: {train: {epochs: 5}}\n", "")
    text += "  b: {models: [vae], data: [toy], also: [a], seeds: 3}\n"
    plan = plan_experiment(load_files([write(tmp_path, text)]), "a")
    assert sorted(run.seed for run in plan.runs) == [0, 0, 1, 3]


def test_a_run_belongs_to_the_part_that_has_it() -> None:
    assert part_of(SHIPPED, "table1-text", "svae", "short-yelp") == "table1-short-yelp"
    assert part_of(SHIPPED, "table1-text", "svae", "yahoo") == "table1-text"
    assert part_of(SHIPPED, "table1-text", "svae", "yelp") == "table1-text"
    assert part_of(SHIPPED, "table1-text", "gmvae", "digits") == "table1-text"
    with pytest.raises(ConfigError, match="Unknown experiment 'table1'"):
        part_of(SHIPPED, "table1", "svae", "yahoo")


def test_relatives_are_what_takes_in_and_what_is_taken_in() -> None:
    assert relatives(SHIPPED, "table1-text") == ("table1-synthetic", "table1-short-yelp")
    assert relatives(SHIPPED, "table1-synthetic") == ("table1-text",)
    assert relatives(SHIPPED, "train") == ()
    assert plan_experiment(SHIPPED, "theorem1-training").related == ("theorem1",)


def test_a_plan_is_counted_before_it_is_made() -> None:
    grid = {"train.batch_size": range(2, 2000), "train.epochs": range(1000)}
    with pytest.raises(ConfigError, match="mine has 1,998,000 runs; the limit is 100,000"):
        plan_grid(SHIPPED, "mine", models=["vae"], data=["digits"], grid=grid, seeds=[0])


@pytest.mark.parametrize("name", sorted(SHIPPED.experiments))
def test_every_shipped_experiment_resolves(name: str) -> None:
    assert plan_experiment(SHIPPED, name).runs


def test_the_nearest_name_is_offered() -> None:
    assert nearest("digit", ["digits", "mnist"]) == "did you mean digits?"
    assert nearest("zzz", ["digits", "mnist"]) == "there are digits, mnist"


IDLE = [
    (
        "vae",
        "pinwheel",
        ["model.family=continuous", "inference.categorical=collapsed"],
        "inference.categorical does nothing for model.family = 'continuous'; mixture has it.",
    ),
    (
        "vae",
        "pinwheel",
        ["model.family=continuous", "train.category_rate=9"],
        "train.category_rate does nothing for model.family = 'continuous'; mixture has it.",
    ),
    (
        "vae",
        "pinwheel",
        ["inference.likeliest=9"],
        "inference.likeliest does nothing for inference.categorical = 'explicit'; sampled has it.",
    ),
    (
        "vae",
        "pinwheel",
        ["inference.annealing_epochs=5"],
        "inference.annealing_epochs does nothing for inference.annealing = 'none'; linear and"
        " cyclical have it.",
    ),
    (
        "vae",
        "pinwheel",
        ["likelihood.sigma=0.5", "likelihood.sigma_start=0.2"],
        "likelihood.sigma_start does nothing for likelihood.sigma = 0.5; null has it.",
    ),
    *[
        (
            "vae",
            "pinwheel",
            [f"data.{key}"],
            f"data.{key.partition('=')[0]} does nothing for data.name = 'pinwheel'; a data.path of"
            " yours has it.",
        )
        for key in ("label=arm", "standardise=false", "test_fraction=0.3")
    ],
    *[
        (
            "lidsvae",
            "short-yelp",
            ["decoder.output=joint", f"decoder.{key}"],
            f"decoder.{key.partition('=')[0]} does nothing for decoder.output = 'joint';"
            " conditional has it.",
        )
        for key in ("columns=random", "repeats=false", "c=2.0", "rank=7")
    ],
    (
        "svae",
        "short-yelp",
        ["encoder.repeats=false"],
        "encoder.repeats does nothing for encoder.scores = 0; more have it.",
    ),
    *[
        (
            model,
            data,
            [*before, setting],
            f"{setting.partition('=')[0]} does nothing for {why} it.",
        )
        for model, data, before, setting, why in (
            ("vae", "mnist", [], "model.separation=9", "model.means = 'data'; fixed and free have"),
            (
                "lidvae",
                "mnist",
                ["model.means=graph"],
                "model.scale=9",
                "model.means = 'graph'; fixed and free have",
            ),
            ("lidvae", "digits", [], "model.max_scale=9", "model.learn_scale = false; true has"),
            *(
                (
                    "vae",
                    "digits",
                    ["model.latent=1"],
                    setting,
                    "model.latent = 1; 2 and more have",
                )
                for setting in (
                    "model.covariance=full",
                    "inference.hidden=9",
                    "inference.transforms=9",
                )
            ),
            (
                "vae",
                "digits",
                ["inference.transforms=0"],
                "inference.hidden=9",
                "inference.transforms = 0; 1 and more have",
            ),
            (
                "vae",
                "digits",
                ["inference.categorical=collapsed"],
                "train.category_rate=9",
                "inference.categorical = 'collapsed'; explicit and sampled have",
            ),
        )
    ],
    *[
        (
            "vae",
            data,
            ["data.test_fraction=0.3"],
            f"data.test_fraction does nothing for data.name = '{data}', whose test split is"
            " published; digits and a data.path of yours have it.",
        )
        for data in ("mnist", "fashion-mnist", "omniglot")
    ],
]


@pytest.mark.parametrize(("model", "data", "settings", "told"), IDLE, ids=[i[2][-1] for i in IDLE])
def test_a_setting_that_does_nothing_beside_the_others_is_refused(
    model: str, data: str, settings: list[str], told: str
) -> None:
    asked = [parse_override(setting) for setting in settings]
    with pytest.raises(ConfigError) as caught:
        resolve(SHIPPED, model=model, data=data, overrides=asked)
    assert str(caught.value) == told
    without = resolve(SHIPPED, model=model, data=data, overrides=asked[:-1])
    loosely = resolve_loosely(SHIPPED, model=model, data=data, overrides=asked)
    assert loosely.config == without
    key = asked[-1][0]
    assert loosely.unused == {key: told}
    section, _, name = key.partition(".")
    kept = getattr(getattr(without, section), name)
    same = resolve(SHIPPED, model=model, data=data, overrides=[*asked[:-1], (key, kept)])
    assert same.run_id == without.run_id


@pytest.mark.parametrize(
    ("model", "data", "settings"),
    [
        ("vae", "digits", ["model.separation=9", "model.scale=0.9", "model.max_scale=9"]),
        ("lidvae", "digits", ["model.separation=9", "model.scale=0.9"]),
        ("vae", "mnist", ["model.learn_scale=true", "model.max_scale=9"]),
        ("vae", "digits", ["data.test_fraction=0.3", "inference.hidden=9"]),
        ("vae", "mnist", ["data.path=mine.npz", "data.test_fraction=0.3"]),
    ],
)
def test_a_setting_that_does_something_is_taken(model: str, data: str, settings: list[str]) -> None:
    asked = [parse_override(setting) for setting in settings]
    run = resolve(SHIPPED, model=model, data=data, overrides=asked)
    for key, value in asked:
        section, _, name = key.partition(".")
        assert getattr(getattr(run, section), name) in (value, Path(str(value)))


def test_shared_levels_may_hold_what_does_nothing_beside_the_others(tmp_path: Path) -> None:
    text = (
        "models: {vae: {family: continuous}, gmvae: {family: mixture}}\n"
        "data: {toy: {kind: points, train: {category_rate: 0.5}}}\n"
    )
    known = load_files([write(tmp_path, text)])
    assert resolve(known, model="vae", data="toy").train.category_rate == 0.5
    own = text.replace("family: continuous", "family: continuous, train: {category_rate: 0.5}")
    with pytest.raises(ConfigError, match=r"train\.category_rate does nothing for model\.family"):
        resolve(load_files([write(tmp_path, own)]), model="vae", data="toy")


def test_a_grid_key_does_something_for_one_value_of_another_at_least() -> None:
    grid = {"inference.annealing": ["none", "linear"], "inference.annealing_epochs": [5, 7]}
    common: dict[str, Any] = {"models": ["vae"], "data": ["pinwheel"], "seeds": [0]}
    runs = plan_grid(SHIPPED, "mine", grid=grid, **common).runs
    told = [(run.inference.annealing, run.inference.annealing_epochs) for run in runs]
    assert told == [("none", 10.0), ("linear", 5), ("linear", 7)]
    grid["inference.annealing"] = ["none"]
    with pytest.raises(ConfigError, match=r"inference\.annealing_epochs does nothing"):
        plan_grid(SHIPPED, "mine", grid=grid, **common)


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("seed", "--seed gives it, and --seeds of a sweep"),
        ("samples", "did you mean inference.samples or evaluate.samples?"),
        ("layers", "did you mean decoder.layers or encoder.layers?"),
    ],
)
def test_a_setting_without_its_section_is_told_where_it_is(key: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve(SHIPPED, model="vae", data="pinwheel", overrides=[(key, 3)])
    assert str(caught.value) == f"Unknown setting {key!r}; {hint}"
