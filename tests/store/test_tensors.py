"""Trees of values, arrays and tensors come back as they went."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import nn

from lidcli.store.hdf5 import open_read, write_atomic
from lidcli.store.tensors import load_tree, save_tree

TORCH_TYPES = sorted(
    {
        kind
        for kind in vars(torch).values()
        if isinstance(kind, torch.dtype) and not str(kind).startswith(("torch.q", "torch.bits"))
    }
    - {getattr(torch, f"{sign}int{n}", None) for sign in ("", "u") for n in range(1, 8)}
    - {getattr(torch, "float4_e2m1fn_x2", None)},
    key=str,
)


def trip(folder: Path, tree: Any) -> Any:
    path = folder / "tree.h5"
    write_atomic(path, lambda file: save_tree(file, tree))
    with open_read(path) as file:
        return load_tree(file)


def assert_same(a: Any, b: Any) -> None:
    assert type(a) is type(b) or isinstance(a, dict)
    if isinstance(a, torch.Tensor):
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        assert a.numel() == 0 or torch.equal(
            a.contiguous().reshape(-1).view(torch.uint8), b.reshape(-1).view(torch.uint8)
        )
    elif isinstance(a, (np.ndarray, np.generic)):
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        assert a.tobytes() == b.tobytes()
    elif isinstance(a, dict):
        assert list(a) == list(b)
        assert [type(key) for key in a] == [type(key) for key in b]
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_same(x, y)
    elif isinstance(a, float):
        assert repr(a) == repr(b)
    else:
        assert a == b


arrays = hnp.arrays(
    st.one_of(
        hnp.integer_dtypes(endianness="?"),
        hnp.unsigned_integer_dtypes(endianness="?"),
        hnp.floating_dtypes(endianness="?", sizes=(16, 32, 64)),
        hnp.complex_number_dtypes(endianness="?", sizes=(64, 128)),
        hnp.boolean_dtypes(),
    ),
    hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
)
leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(2**130), 2**130),
    st.floats(),
    st.text(),
    arrays,
    arrays.filter(lambda a: a.dtype.isnative and a.dtype.kind != "u").map(torch.from_numpy),
)
trees = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(st.one_of(st.text(max_size=5), st.integers()), inner, max_size=4),
    ),
    max_leaves=12,
)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(tree=trees)
def test_every_tree_comes_back_as_it_was(tmp_path: Path, tree: Any) -> None:
    assert_same(tree, trip(tmp_path, tree))


@pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental")
@pytest.mark.parametrize("kind", TORCH_TYPES, ids=str)
@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (5,), (3, 4)], ids=str)
def test_every_tensor_type_and_shape_comes_back(
    tmp_path: Path, kind: torch.dtype, shape: tuple[int, ...]
) -> None:
    itemsize = torch.empty((), dtype=kind).element_size()
    bits = torch.randint(0, 2, (*shape, itemsize), dtype=torch.uint8)
    value = bits.view(kind).reshape(shape) if bits.numel() else torch.empty(shape, dtype=kind)
    assert_same([value], trip(tmp_path, [value]))


def test_arrays_of_many_chunks_come_back(tmp_path: Path) -> None:
    tree = {
        "long": torch.randn(700_001),
        "wide": torch.randn(3, 300_007),
        "deep": np.random.default_rng(0).normal(size=(5, 7, 40_003)),
    }
    assert_same(tree, trip(tmp_path, tree))


def test_views_and_parameters_come_back_as_plain_tensors(tmp_path: Path) -> None:
    base = torch.arange(24.0).reshape(4, 6)
    tree = [base.T, base[:, ::2], base.expand(2, 4, 6), torch.randn(3, dtype=torch.cfloat).conj()]
    back = trip(tmp_path, [*tree, nn.Parameter(base)])
    for before, after in zip([*tree, base], back, strict=True):
        assert type(after) is torch.Tensor
        assert not after.requires_grad
        assert torch.equal(before.resolve_conj(), after)


@pytest.mark.parametrize(
    "make",
    [
        lambda p: torch.optim.Adam(p, lr=1e-3, betas=(0.8, 0.99), amsgrad=True),
        lambda p: torch.optim.RMSprop(p, momentum=0.5, centered=True),
        lambda p: torch.optim.AdamW(p, weight_decay=0.1),
    ],
    ids=["adam", "rmsprop", "adamw"],
)
def test_a_training_goes_on_exactly_from_a_stored_state(tmp_path: Path, make: Any) -> None:
    def setting() -> tuple[nn.Module, Any, Any]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(), nn.Linear(8, 1))
        optimiser = make(model.parameters())
        schedule = torch.optim.lr_scheduler.SequentialLR(
            optimiser,
            [
                torch.optim.lr_scheduler.LinearLR(optimiser, total_iters=3),
                torch.optim.lr_scheduler.MultiStepLR(optimiser, [2, 4]),
            ],
            [3],
        )
        return model, optimiser, schedule

    def train(model: nn.Module, optimiser: Any, schedule: Any, steps: int) -> None:
        for _ in range(steps):
            optimiser.zero_grad()
            model(torch.randn(16, 3)).square().mean().backward()
            optimiser.step()
            schedule.step()

    first = setting()
    train(*first, 5)
    state = {
        "states": [part.state_dict() for part in first],
        "rng": torch.get_rng_state(),
        "numpy": np.random.default_rng(3).bit_generator.state,
    }
    back = trip(tmp_path, state)
    train(*first, 5)
    assert back["numpy"] == state["numpy"]
    second = setting()
    for part, saved in zip(second, back["states"], strict=True):
        part.load_state_dict(saved)
    torch.set_rng_state(back["rng"])
    train(*second, 5)
    for a, b in zip(first, second, strict=True):
        assert_same(dict(a.state_dict()), dict(b.state_dict()))


@pytest.mark.parametrize("name", ["PCG64", "MT19937", "Philox", "SFC64"])
def test_numpy_generators_go_on_from_a_stored_state(tmp_path: Path, name: str) -> None:
    generator = np.random.Generator(getattr(np.random, name)(7))
    generator.normal(size=3)
    copy = np.random.Generator(getattr(np.random, name)(0))
    copy.bit_generator.state = trip(tmp_path, generator.bit_generator.state)
    assert (generator.integers(2**60, size=9) == copy.integers(2**60, size=9)).all()


@pytest.mark.parametrize(
    ("tree", "place"),
    [
        ({"a": [1, {2, 3}]}, "a.1: a set"),
        ({"a": np.array(["x"])}, "a: an array of type <U1"),
        ({"a": np.array([None])}, "a: an array of type object"),
        ({"model": {"w": torch.eye(2).to_sparse()}}, "model.w: a Tensor"),
        ({(1, 2): 0}, "the tree: keys must be int or str, not tuple"),
        ({"f": print}, "f: a builtin_function_or_method"),
    ],
)
def test_what_cannot_be_stored_is_refused_with_its_place(
    tmp_path: Path, tree: Any, place: str
) -> None:
    with pytest.raises(ValueError, match=place):
        trip(tmp_path, tree)
    assert list(tmp_path.iterdir()) == []


def test_weights_can_be_found_by_name_with_any_hdf5_tool(tmp_path: Path) -> None:
    import h5py

    trip(tmp_path, {"model": {"decoder.0.weight": torch.ones(2, 3), "a/b": torch.zeros(1)}})
    with h5py.File(tmp_path / "tree.h5") as file:
        assert file["tensors/model.decoder.0.weight"].shape == (2, 3)
        assert file["tensors/model.decoder.0.weight"].fletcher32
        assert file["tensors/model.a_b"].shape == (1,)
