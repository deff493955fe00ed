"""Settings of documents that would do nothing are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from lidcli.config.read import load_files, parse_override
from lidcli.config.resolve import resolve, resolve_loosely
from lidcli.config.run import RunConfig
from lidcli.errors import ConfigError

SHIPPED = load_files([Path(__file__).resolve().parents[2] / "lidcli" / "experiments.yaml"])
YOURS = ["labels=tab", "valid_fraction=0.2", "test_fraction=0.2", "split_seed=1"]
READ = ["vocabulary=100", "vocabulary=words.txt", "max_length=20"]


def of(data: str, *settings: str) -> RunConfig:
    pairs = [parse_override(f"data.{text}") for text in settings]
    return resolve(SHIPPED, model="svae", data=data, overrides=pairs)


@pytest.mark.parametrize("setting", [*YOURS, *READ])
def test_generated_sentences_have_sizes_and_nothing_else(setting: str) -> None:
    with pytest.raises(ConfigError, match=r"^data\.\w+ does nothing for synthetic\.$"):
        of("synthetic", setting)


@pytest.mark.parametrize("data", ["short-yelp", "yahoo", "yelp"])
@pytest.mark.parametrize("setting", YOURS)
def test_published_documents_have_their_own_labels_and_split(data: str, setting: str) -> None:
    with pytest.raises(ConfigError, match=rf"^data\.\w+ does nothing for {data}\.$"):
        of(data, setting)


@pytest.mark.parametrize("setting", [*YOURS, *READ])
def test_documents_of_yours_have_them_all(setting: str) -> None:
    key, _, value = setting.partition("=")
    config = of("yelp", "path=mine.txt", setting)
    assert str(getattr(config.data, key)) == value


@pytest.mark.parametrize("data", ["synthetic", "short-yelp", "yahoo", "yelp"])
def test_every_entry_that_is_shipped_can_be_run_and_read_back(data: str) -> None:
    config = of(data, "train=50", "valid=10", "test=10")
    assert RunConfig.of(config.document()) == config


@pytest.mark.parametrize("setting", READ)
def test_documents_that_are_read_have_a_vocabulary_and_a_length(setting: str) -> None:
    assert of("yahoo", setting).run_id != of("yahoo").run_id


@pytest.mark.parametrize("value", ["1.5", "null", "[1]"])
def test_a_vocabulary_of_no_type_that_fits_is_named_as_the_setting_is(value: str) -> None:
    with pytest.raises(ConfigError, match=r"^data\.vocabulary = .* is not usable: "):
        of("short-yelp", f"vocabulary={value}")
    with pytest.raises(ConfigError, match=r"^data\.vocabulary = 9+ is not usable: should be"):
        of("short-yelp", f"vocabulary={'9' * 20}")


def test_of_two_settings_with_the_same_wrong_value_the_first_is_named() -> None:
    with pytest.raises(ConfigError, match=r"^data\.\w+ = -1 is not usable: "):
        of("short-yelp", "train=-1", "test=-1")


@pytest.mark.parametrize("entries", [2, 0, -1])
def test_a_vocabulary_holds_a_word_at_least(entries: int) -> None:
    with pytest.raises(ConfigError) as caught:
        of("short-yelp", f"vocabulary={entries}")
    assert str(caught.value) == (
        f"data.vocabulary = {entries} is too few entries: </s>, <unk> and a word are 3."
    )
    assert of("short-yelp", "vocabulary=3").data.vocabulary == 3


@pytest.mark.parametrize(
    ("model", "settings", "family"),
    [
        ("gmvae", [], "mixture"),
        ("vae", ["model.family=continuous"], "continuous"),
        ("vae", ["model.family=mixture"], "mixture"),
        ("ppca", [], "ppca"),
        ("gmm", [], "gmm"),
        ("gmvae-truth", [], "two-clusters"),
    ],
)
def test_a_family_that_is_not_of_text_is_told_which_are(
    model: str, settings: list[str], family: str
) -> None:
    pairs = [parse_override(text) for text in settings]
    with pytest.raises(ConfigError) as caught:
        resolve(SHIPPED, model=model, data="synthetic", overrides=pairs)
    assert str(caught.value) == (
        f"model.family = {family!r} is not for text data; use sequential or language."
    )


@pytest.mark.parametrize("setting", ["identifiability=true", "samples=7", "outer=7"])
def test_a_language_model_has_no_latent_to_measure(setting: str) -> None:
    key, value = parse_override(f"evaluate.{setting}")
    with pytest.raises(ConfigError) as caught:
        resolve(SHIPPED, model="lm", data="synthetic", overrides=[(key, value)])
    assert str(caught.value) == (
        f"{key} does nothing for model.family = 'language'; families with a latent have it."
    )
    loosely = resolve_loosely(SHIPPED, model="lm", data="synthetic", overrides=[(key, value)])
    assert loosely.config == resolve(SHIPPED, model="lm", data="synthetic")
    assert resolve(SHIPPED, model="svae", data="synthetic", overrides=[(key, value)])
