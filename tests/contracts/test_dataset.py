"""What every data set and its source promise (lidcli.data.dataset, lidcli.training.sources).

Every entry of the registry that needs no download is held to it, and a file of the user's of
every kind of data that takes one. A new kind needs a line in `SMALL`, and where it reads a file
a writer in `FILES`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lidcli.config.run import read_section
from lidcli.config.sections import DATA
from lidcli.data.dataset import fingerprint
from lidcli.data.documents import Documents
from lidcli.data.documents import fingerprint as text_fingerprint
from lidcli.data.drawn import SOURCES
from lidcli.data.registry import DATASETS
from lidcli.models.batch import DenseBatch, TokenBatch
from lidcli.training.sources import split_of

SMALL: dict[str, dict[str, Any]] = {
    "points": {"train": 300, "test": 50},
    "image": {"train": 300, "test": 50},
    "classical": {"train": 300, "test": 50},
    "text": {"train": 300, "valid": 40, "test": 50},
}
"""Settings by kind under which it loads fast, with the sizes that must come out.

Where validation data have no size of their own, they are held out of those kept for training.
"""


def write_csv(folder: Path) -> Path:
    values = np.random.default_rng(0).normal(size=(500, 3))
    rows = [",".join(map(str, [*row, "ab"[i % 2]])) for i, row in enumerate(values)]
    path = folder / "mine.csv"
    path.write_text("\n".join(["x,y,z,label", *rows]))
    return path


def write_npz(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    path = folder / "mine.npz"
    np.savez(path, x=rng.integers(256, size=(500, 4, 3), dtype=np.uint8), labels=np.arange(500) % 3)
    return path


def write_txt(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    words = [" ".join(rng.choice(list("abcdefgh"), size=9)) for _ in range(500)]
    path = folder / "mine.txt"
    path.write_text("".join(f"{i % 2}\t{line}\n" for i, line in enumerate(words)))
    return path


FILES: dict[str, Callable[[Path], Path]] = {
    "points": write_csv,
    "image": write_npz,
    "text": write_txt,
}


def entries() -> Iterator[Any]:
    for name, info in DATASETS.items():
        if not info.files:
            yield pytest.param((name, info.kind, None), id=name)
    for kind, write in FILES.items():
        yield pytest.param(("mine", kind, write), id=f"yours-{kind}")


Load = Callable[..., Any]


@pytest.fixture(params=entries())
def load(request: pytest.FixtureRequest, tmp_path: Path) -> Load:
    """Loads a data set, with more settings when called with some."""
    name, kind, write = request.param
    settings = {"name": name, "kind": kind, "root": tmp_path, **SMALL[kind]}
    if write is not None:
        settings["path"] = write(tmp_path)
    return lambda **more: read_section("data", {**settings, **more}).build()  # type: ignore[attr-defined]


def rows_of(part: Any) -> list[bytes]:
    if isinstance(part, Documents):
        return [part[i].tobytes() for i in range(len(part))]
    return [row.tobytes() for row in part.x]


def parts(data: Any) -> dict[str, Any]:
    return {name: getattr(data, name) for name in ("train", "valid", "test")}


def test_every_kind_is_held_to_it() -> None:
    missing = set(DATA) - SMALL.keys()
    assert not missing, f"add {', '.join(sorted(missing))} to SMALL in {Path(__file__).name}"
    reads = {name for name in DATA if "path" in DATA[name].model_fields}
    missing = reads - FILES.keys()
    assert not missing, f"add a writer for {', '.join(sorted(missing))} to FILES"
    held = {name for name, info in DATASETS.items() if not info.files}
    assert {DATASETS[name].kind for name in held} >= set(DATA)


def test_the_data_are_of_the_form_and_the_sizes_asked_for(
    load: Load, request: pytest.FixtureRequest
) -> None:
    name, kind, _ = request.node.callspec.params["load"]
    data, section = load(), DATA[kind]
    assert data.form == section.form  # type: ignore[attr-defined]
    sizes = {name: len(rows_of(part)) for name, part in parts(data).items()}
    assert min(sizes.values()) >= 2
    wanted = SMALL[kind]
    assert sizes["test"] == wanted["test"]
    if "valid" in wanted:
        assert sizes["valid"] == wanted["valid"]
    drawn = kind == "classical" or name in SOURCES
    held_out = not drawn and "valid" not in wanted
    assert sizes["train"] + held_out * sizes["valid"] == wanted["train"]


def test_values_and_labels_are_in_their_range(load: Load) -> None:
    data = load()
    for name, part in parts(data).items():
        if isinstance(part, Documents):
            assert part.ids.min() >= 0
            assert part.ids.max() < len(data.vocabulary) == data.shape[0]
        else:
            assert part.x.shape[1] == np.prod(data.shape)
            assert np.isfinite(part.x).all()
            if data.form == "image":
                assert (part.x >= 0).all()
                assert (part.x <= 1).all()
            if data.stochastic and name != "train":
                assert set(np.unique(part.x)) <= {0.0, 1.0}
        if data.classes is None:
            assert part.labels is None
        else:
            assert part.labels.dtype == np.int64
            assert set(np.unique(part.labels)) <= set(range(data.classes))


def test_no_datum_is_in_two_parts(load: Load, request: pytest.FixtureRequest) -> None:
    name, kind, _ = request.node.callspec.params["load"]
    data = load(binarise=False) if kind == "image" else load()
    found = {part: set(rows_of(value)) for part, value in parts(data).items()}
    if name == "synthetic":
        pytest.skip("short documents recur by chance")
    assert not found["train"] & found["valid"]
    assert not found["train"] & found["test"]
    assert not found["valid"] & found["test"]


def test_the_same_settings_give_the_same_data_and_another_seed_others(
    load: Load, request: pytest.FixtureRequest
) -> None:
    name, _, _ = request.node.callspec.params["load"]
    first, again, other = load(), load(), load(split_seed=1)
    assert first.sha256 == again.sha256
    for part in ("train", "valid", "test"):
        assert rows_of(getattr(first, part)) == rows_of(getattr(again, part))
    published = name == "synthetic"
    assert (first.sha256 == other.sha256) == published
    assert (rows_of(first.train) == rows_of(other.train)) == published


def test_the_fingerprint_is_of_every_part(load: Load) -> None:
    data = load()
    own = parts(data).values()
    if data.form == "text":
        assert data.sha256 == text_fingerprint(data.vocabulary, *own)
    else:
        assert data.sha256 == fingerprint(*own)


def test_an_epoch_sees_every_datum_once_and_depends_on_the_generator_alone(load: Load) -> None:
    source = split_of(load(), "train", 32)
    epochs = [list(source.epoch(torch.Generator().manual_seed(seed))) for seed in (0, 0, 1)]
    sizes = [len(batch) for batch in epochs[0]]
    assert sum(sizes) == len(source)
    assert len(sizes) == source.batches
    assert max(sizes) == 32

    def flat(batches: list[Any]) -> list[list[float]]:
        if isinstance(batches[0], TokenBatch):
            return [
                row[:length].tolist()
                for batch in batches
                for row, length in zip(batch.ids, batch.lengths, strict=True)
            ]
        return [row.tolist() for batch in batches for row in batch.x]

    assert flat(epochs[0]) == flat(epochs[1]) != flat(epochs[2])
    fixed = [source.fixed()]
    assert len(fixed[0]) == len(source)
    assert flat(fixed) == flat([source.fixed()])
    if not (isinstance(fixed[0], DenseBatch) and source._stochastic):
        assert sorted(flat(epochs[0])) == sorted(flat(fixed))
    drawn = [source.draw(torch.Generator().manual_seed(3)) for _ in range(2)]
    assert len(drawn[0]) == 32
    assert flat(drawn[:1]) == flat(drawn[1:])


def test_labels_go_with_the_data_of_an_evaluation(load: Load) -> None:
    data = load()
    source = split_of(data, "test")
    assert (source.labels is None) == (data.classes is None)
    if source.labels is not None:
        assert source.labels.shape == (len(source.fixed()),)
        assert sorted(source.labels) == sorted(data.test.labels)


def test_some_of_a_batch_are_those_rows(load: Load) -> None:
    batch = split_of(load(), "test").fixed()
    few = batch.rows(torch.tensor([4, 0, 4]))
    assert len(few) == 3
    assert len(batch.rows(slice(1, 3))) == 2
    assert len(batch.to(torch.device("cpu"))) == len(batch)
    if isinstance(batch, TokenBatch):
        assert few.lengths.tolist() == batch.lengths[[4, 0, 4]].tolist()
        longest = int(few.lengths.max())
        assert torch.equal(few.ids, batch.ids[[4, 0, 4], :longest])
    else:
        assert torch.equal(few.x, batch.x[[4, 0, 4]])
