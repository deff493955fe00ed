"""A run keeps its name when settings are added, and loses it when what it computes changes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic_core import to_jsonable_python

from lidcli.config import identity
from lidcli.config.identity import VERSION, VERSIONS, frozen_defaults, identities
from lidcli.config.plan import plan_experiment
from lidcli.config.read import load_files, merge
from lidcli.config.resolve import resolve
from lidcli.config.run import PLAIN, RunConfig
from lidcli.config.sections import KINDS, MODELS, Continuous
from lidcli.store.find import find_runs
from lidcli.store.run import Run

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = load_files([ROOT / "experiments.yaml"])
PUBLISHED = sorted(path.parent for path in (ROOT / "results" / "published").glob("*/*/run.h5"))
LEFT_OUT = {("data", "root")}


def settings() -> dict[str, dict[str, Any]]:
    """The defaults of today, by section and kind."""
    kinds = {f"{s}.{name}": (s, k[name], k.tag) for s, k in KINDS.items() for name in k}
    kinds |= {name: (name, kind, "") for name, kind in PLAIN.items() if name != "runtime"}
    return {
        place: {
            key: to_jsonable_python(field.default)
            for key, field in kind.model_fields.items()
            if key != tag and not field.is_required() and (section, key) not in LEFT_OUT
        }
        for place, (section, kind, tag) in kinds.items()
    }


@pytest.mark.parametrize("version", VERSIONS)
def test_frozen_defaults_are_never_edited_only_added_to(version: int) -> None:
    copy = Path(__file__).parent / "defaults" / f"{version}.json"
    assert frozen_defaults(version) == json.loads(copy.read_text(encoding="utf-8"))


def test_a_default_that_changes_or_vanishes_needs_a_new_version() -> None:
    today = settings()
    for place, defaults in frozen_defaults(VERSION).items():
        for key, value in defaults.items():
            assert today[place][key] == value, f"{place}: {key} needs a new identity version"


def test_a_new_setting_adds_its_line_to_the_newest_version() -> None:
    frozen = frozen_defaults(VERSION)
    for place, defaults in settings().items():
        assert defaults.keys() == frozen[place].keys(), f"defaults/{VERSION}.json: {place}"


@pytest.fixture
def run() -> RunConfig:
    return resolve(SHIPPED, model="lidvae", data="pinwheel", seed=3)


def test_a_new_setting_renames_no_run(run: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    class Wider(Continuous):
        temperature: float = 1.0

    asked = [("model.family", "continuous")]
    before = resolve(SHIPPED, model="vae", data="digits", overrides=asked).run_id
    frozen = frozen_defaults(VERSION)
    more = frozen | {"model.continuous": frozen["model.continuous"] | {"temperature": 1.0}}
    monkeypatch.setattr(identity, "frozen_defaults", lambda version: more)
    old = MODELS["continuous"]
    MODELS.add(Wider)
    try:
        assert resolve(SHIPPED, model="vae", data="digits", overrides=asked).run_id == before
        warm = [*asked, ("model.temperature", 2.0)]
        assert resolve(SHIPPED, model="vae", data="digits", overrides=warm).run_id != before
    finally:
        MODELS.add(old)


def test_what_a_run_computes_is_its_name_and_where_it_computes_is_not(run: RunConfig) -> None:
    elsewhere = run.replaced(data={"root": "/elsewhere"}, runtime={"device": "cpu", "batch": 7})
    assert elsewhere.run_id == run.run_id
    for section, change in (
        ("train", {"epochs": 1}),
        ("decoder", {"gain": 0.5}),
        ("evaluate", {"samples": 3}),
        ("data", {"test": 10}),
    ):
        assert run.replaced(**{section: change}).run_id != run.run_id
    assert run.run_id.endswith("-s3")


def test_a_file_counts_by_its_name_and_a_number_by_its_value(run: RunConfig) -> None:
    here, there = (
        run.replaced(data={"path": path}).run_id for path in ("a/cells.csv", "/b/cells.csv")
    )
    assert here == there
    assert run.replaced(data={"path": "other.csv"}).run_id != here
    one, same = (run.replaced(train={"clip": clip}).run_id for clip in (1, 1.0))
    assert one == same


def test_setting_a_default_by_hand_changes_nothing(run: RunConfig) -> None:
    told = resolve(
        SHIPPED, model="lidvae", data="pinwheel", seed=3, overrides=[("decoder.layers", 9)]
    )
    assert told.run_id == run.run_id


def test_older_runs_match_under_their_version(
    run: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = frozen_defaults(1)
    new = old | {"decoder.brenier": old["decoder.brenier"] | {"layers": 11}}
    monkeypatch.setattr(identity, "frozen_defaults", lambda version: {1: old, 2: new}[version])
    before = run.run_id
    monkeypatch.setattr(identity, "VERSIONS", (1, 2))
    now, then = identities(run)
    assert then == before
    assert now != before


@pytest.mark.parametrize("folder", PUBLISHED, ids=lambda f: f"{f.parent.name}/{f.name}")
def test_a_published_run_is_named_by_its_configuration_and_part_of_its_experiment(
    folder: Path,
) -> None:
    run = Run.open(folder)
    config = RunConfig.of(run.config)
    assert folder.name in identities(config)
    assert merge(config.document(), run.config) == config.document(), "but for newer settings"
    ids = {config.run_id}
    if getattr(config.decoder, "beta", "") == "zeros":  # of MNIST, from before β came of the data
        ids.add(config.replaced(decoder={"beta": "principal"}).run_id)
    assert ids & planned(folder.parent.name)
    facts = run.provenance["facts"]
    assert set(facts) == {"symbol", "judged", "units", "categories", "exact", "data_form"}
    assert facts["judged"] in facts["units"]
    assert facts["data_form"] == config.data.form


PLANS: dict[str, set[str]] = {}


def planned(experiment: str) -> set[str]:
    if experiment not in PLANS:
        PLANS[experiment] = {run.run_id for run in plan_experiment(SHIPPED, experiment).runs}
    return PLANS[experiment]


def test_everything_published_is_found() -> None:
    assert len(find_runs(ROOT / "results")) >= len(PUBLISHED) > 0
