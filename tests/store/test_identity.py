"""Records and checkpoints know whose they are, and a finished run knows its weights."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lidcli.config.run import RunConfig
from lidcli.errors import StoreError
from lidcli.report.collect import collect
from lidcli.store import hdf5
from lidcli.store.digest import digest
from lidcli.store.hdf5 import open_read, write_atomic
from lidcli.store.index import Index
from lidcli.store.record import LARGEST_ARRAY, Contents, check_arrays
from lidcli.store.run import Run
from lidcli.store.tensors import save_tree

WEIGHTS = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.zeros(2)}


def make(results: Path, name: str) -> Run:
    return Run.create(results / "demo" / name, {"seed": 0}, {})


def finish(run: Run, weights: Any = WEIGHTS) -> Run:
    run.save_checkpoint({"best": {}, "model": {"a.bias": torch.ones(2)}}, step=1)
    run.save_checkpoint({"best": weights, "model": {"a.bias": torch.ones(2)}}, step=2)
    run.update(provenance={"status": "complete", "weights_sha256": digest(weights)})
    return run


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def test_a_record_of_another_run_is_refused_by_name(tmp_path: Path) -> None:
    one, two = make(tmp_path, "abc-s0"), make(tmp_path, "abd-s0")
    shutil.copy(one.folder / "run.h5", two.folder / "run.h5")
    with pytest.raises(StoreError, match=r"is the record of run abc-s0 and not of abd-s0"):
        Run.open(two.folder)
    with pytest.raises(StoreError, match=r"is the record of run abc-s0"):
        Run.create(two.folder, {}, {})


def test_a_record_tells_its_run_and_experiment(tmp_path: Path) -> None:
    run = make(tmp_path, "abc-s0")
    run.update(provenance={"x": 1})
    with open_read(run.folder / "run.h5") as file:
        assert Contents.read(file).identity == {"run": "abc-s0", "experiment": "demo"}


def test_a_run_may_be_reached_by_a_link_or_from_inside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make(tmp_path, "abc-s0")
    (tmp_path / "latest").symlink_to(run.folder)
    finish(Run.open(tmp_path / "latest"))
    assert Run.open(run.folder).load_weights()
    monkeypatch.chdir(run.folder)
    assert Run.open(Path()).status == "complete"


def test_a_run_kept_elsewhere_behind_a_link_is_named_after_the_link(tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "abc-s0").symlink_to(tmp_path / "scratch")
    assert finish(make(tmp_path, "abc-s0")).run_id == "abc-s0"
    assert Run.open(tmp_path / "demo" / "abc-s0").load_weights()


def test_a_record_from_before_identities_is_read_under_any_name(tmp_path: Path) -> None:
    record = Contents({"seed": 0}, {"status": "complete"}, identity=None)
    folder = tmp_path / "demo" / "old-s0"
    folder.mkdir(parents=True)
    write_atomic(folder / "run.h5", record.write)
    run = Run.open(folder)
    run.update(provenance={"x": 1})
    folder.rename(tmp_path / "demo" / "new-s0")
    assert Run.open(tmp_path / "demo" / "new-s0").provenance["x"] == 1


def test_a_record_without_identity_is_known_by_its_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LID_CACHE", str(tmp_path / "cache"))
    config = RunConfig.of(
        {
            "method": "ppca",
            "model": {"family": "ppca"},
            "inference": {"kind": "exact"},
            "data": {"name": "pinwheel", "kind": "points"},
        }
    )
    record = Contents(config.document(), {"status": "complete"}, identity=None)
    right, wrong = (tmp_path / "published" / "demo" / name for name in (config.run_id, "abc-s0"))
    for folder in (right, wrong):
        folder.mkdir(parents=True)
        write_atomic(folder / "run.h5", record.write)
    index = Index(tmp_path / "index")
    words = rf"is the record of run {config.run_id} and not of abc-s0"
    for _ in range(2):
        assert Run.open(right).status == index.status(right) == "complete"
        for look in (Run.open, index.status, index.summary):
            with pytest.raises(StoreError, match=words):
                look(wrong)
    (tmp_path / "latest").symlink_to(right)
    assert Run.open(tmp_path / "latest").status == "complete"


@pytest.mark.parametrize("name", ["checkpoint.h5", "checkpoint.prev.h5"])
def test_a_checkpoint_of_another_run_is_refused_and_not_passed_over(
    tmp_path: Path, name: str
) -> None:
    one, two = finish(make(tmp_path, "abc-s0")), finish(make(tmp_path, "abd-s0"))
    shutil.copy(one.folder / name, two.folder / name)
    if name == "checkpoint.prev.h5":
        (two.folder / "checkpoint.h5").unlink()
    with pytest.raises(StoreError, match=rf"{name} belongs to run abc-s0 and not to abd-s0"):
        two.load_checkpoint()
    if name == "checkpoint.h5":
        with pytest.raises(StoreError, match="belongs to run abc-s0"):
            two.load_weights()


def test_falling_back_says_from_which_step(tmp_path: Path) -> None:
    run = make(tmp_path, "abc-s0")
    for step in (10, 20):
        run.save_checkpoint({"w": torch.ones(3)}, step=step)
    flip(run.folder / "checkpoint.h5", 700)
    _, warnings = run.load_checkpoint()
    assert len(warnings) == 1
    assert "Using the checkpoint before it, of step 10." in warnings[0]


def test_a_checkpoint_from_before_identities_is_read(tmp_path: Path) -> None:
    run = make(tmp_path, "abc-s0")
    write_atomic(run.folder / "checkpoint.h5", lambda file: save_tree(file, {"step": 3}))
    assert run.load_checkpoint() == ({"step": 3}, [])


def test_a_finished_run_gives_back_exactly_its_weights(tmp_path: Path) -> None:
    weights = finish(make(tmp_path, "abc-s0")).load_weights()
    assert list(weights) == list(WEIGHTS)
    assert all(torch.equal(weights[name], WEIGHTS[name]) for name in WEIGHTS)


def test_one_changed_byte_is_refused_although_an_older_checkpoint_is_whole(tmp_path: Path) -> None:
    run = finish(make(tmp_path, "abc-s0"))
    size = (run.folder / "checkpoint.h5").stat().st_size
    for place in (3, 600, size // 2, size - 1):
        flip(run.folder / "checkpoint.h5", place)
        with pytest.raises(StoreError, match=r"checkpoint\.h5 is damaged"):
            run.load_weights()
        flip(run.folder / "checkpoint.h5", place)
    assert run.load_weights()


def test_an_older_checkpoint_in_the_newest_one_s_place_is_not_what_was_measured(
    tmp_path: Path,
) -> None:
    run = finish(make(tmp_path, "abc-s0"))
    shutil.copy(run.folder / "checkpoint.prev.h5", run.folder / "checkpoint.h5")
    with pytest.raises(StoreError, match="other weights than those that its record names"):
        run.load_weights()


@pytest.mark.parametrize(
    "tree", [[], {"best": 3}, {"best": None, "model": []}, {"model": {"a": 1}}]
)
def test_a_sound_file_of_other_contents_is_one_sentence(tmp_path: Path, tree: Any) -> None:
    run = finish(make(tmp_path, "abc-s0"))
    run.save_checkpoint(tree, step=2)
    with pytest.raises(StoreError, match="holds no weights of a model"):
        run.load_weights()


def test_other_contents_are_one_sentence_when_a_training_goes_on(tmp_path: Path) -> None:
    run = make(tmp_path, "abc-s0")
    run.save_checkpoint({"foo": 1})
    tree, _ = run.load_checkpoint()
    with (
        pytest.raises(StoreError, match=r"checkpoint\.h5 does not fit this run.*--restart"),
        run.fitting(),
    ):
        tree["model"]


def test_a_run_that_is_not_finished_has_no_final_weights(tmp_path: Path) -> None:
    run = make(tmp_path, "abc-s0")
    with pytest.raises(StoreError, match=r"is not finished \(running\)"):
        run.load_weights()
    run.update(provenance={"status": "complete"})
    with pytest.raises(StoreError, match="names no weights"):
        run.load_weights()
    run.update(provenance={"weights_sha256": digest(WEIGHTS)})
    with pytest.raises(StoreError, match=r"There is no file .*checkpoint\.h5"):
        run.load_weights()


def test_a_run_finished_before_digests_gives_its_own_newest_weights(tmp_path: Path) -> None:
    record = Contents({"seed": 0}, {"status": "complete"}, identity=None)
    folder = tmp_path / "demo" / "old-s0"
    folder.mkdir(parents=True)
    write_atomic(folder / "run.h5", record.write)
    write_atomic(folder / "checkpoint.h5", lambda f: save_tree(f, {"best": {}, "model": WEIGHTS}))
    run = Run.open(folder)
    run.update(provenance={"evaluated": {}})
    assert digest(Run.open(folder).load_weights()) == digest(WEIGHTS)


def test_a_digest_sees_names_types_shapes_and_every_bit() -> None:
    base = {"a": torch.zeros(2, 3), "b": torch.ones(4, dtype=torch.bfloat16)}
    others = [
        {"c": base["a"], "b": base["b"]},
        {**base, "a": torch.zeros(3, 2)},
        {**base, "a": torch.zeros(6)},
        {**base, "a": torch.zeros(2, 3, dtype=torch.float64)},
        {**base, "a": torch.zeros(2, 3, dtype=torch.int32)},
        {**base, "a": -torch.zeros(2, 3)},
        {**base, "b": torch.ones(4, dtype=torch.float16)},
        {**base, "c": torch.zeros(0)},
        {**base, "a": np.zeros((2, 3), np.float32)},
        {"a": base["a"]},
        {"x": base},
        [base["a"], base["b"]],
        {**base, "c": None},
        {**base, "c": 1},
        {**base, "c": 1.0},
        {**base, "c": True},
        {**base, "c": "1"},
        {**base, "c": {}},
        {**base, "c": []},
        {**base, "c": ()},
    ]
    digests = [digest(tree) for tree in (base, *others)]
    assert len(set(digests)) == len(digests)


def test_a_digest_depends_on_nothing_else() -> None:
    value = torch.arange(12.0).reshape(3, 4)
    known = digest({"a": value, "b": torch.ones(1)})
    assert digest({"b": torch.ones(1), "a": value.T.contiguous().T}) == known
    assert digest({"b": torch.ones(1), "a": torch.nn.Parameter(value)}) == known
    swapped = value.numpy().astype(">f4")
    assert digest([swapped]) == digest([value.numpy()])
    pinned = "165f21345a6eec9ec80726ac16dca1c9523307986f1878d8d5331d5586021ed3"
    assert digest({"w": torch.tensor([1.0, -2.5])}) == pinned


def test_what_has_no_digest_is_refused() -> None:
    with pytest.raises(ValueError, match="has no digest"):
        digest({"a": {1, 2}})


def test_the_size_of_arrays_can_be_checked_before_they_are_made(tmp_path: Path) -> None:
    check_arrays({"samples": (64, 784), "x": ()})
    with pytest.raises(ValueError, match="array x has 1000000 numbers; a record keeps fewer"):
        check_arrays({"x": (1000, 1000)})
    run = make(tmp_path, "abc-s0")
    run.update(arrays={"x": np.zeros(LARGEST_ARRAY - 1)})
    with pytest.raises(ValueError, match="keeps fewer than 10"):
        run.update(arrays={"x": np.zeros(LARGEST_ARRAY)})


def test_a_record_never_grows_beyond_what_is_read_again(tmp_path: Path) -> None:
    run = make(tmp_path, "abc-s0")
    before = (run.folder / "run.h5").read_bytes()
    for entries in (
        {"provenance": {"text": "x" * 5_000_000}},
        {"evaluation": ("test", {str(i): 1.0 for i in range(20_000)})},
        {"curves": {"x": np.zeros(40_000_000)}},
    ):
        with pytest.raises(StoreError, match=r"run\.h5 cannot take that"):
            run.update(**entries)
    assert (run.folder / "run.h5").read_bytes() == before


def test_only_lid_s_own_files_are_discarded(tmp_path: Path) -> None:
    run = finish(make(tmp_path, "abc-s0"))
    (run.folder / "mine.h5").write_text("keep me")
    run.discard()
    assert sorted(path.name for path in run.folder.iterdir()) == [".lock", "mine.h5"]


def test_schema_one_still_covers_all_of_it(tmp_path: Path) -> None:
    assert hdf5.SCHEMA_VERSION == 1


def test_every_run_shipped_with_the_repository_is_read(repository: Path) -> None:
    place = repository / "results" / "published"
    found = collect(place)
    assert found.warnings == ()
    assert {record.folder for record in found.records} == {
        p.parent for p in place.glob("*/*/run.h5")
    }
