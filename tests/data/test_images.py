"""idx archives and a user's .npz: read exactly, or refused in one sentence."""

from __future__ import annotations

import gzip
import os
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lidcli.config.sections import Image
from lidcli.data.dataset import Dataset
from lidcli.data.images import load_npz, read_idx
from lidcli.data.registry import load
from lidcli.errors import DataError

SHAPE = (5, 3, 2)
PIXELS = np.arange(30, dtype=np.uint8).reshape(SHAPE)
rng = np.random.default_rng(0)


def idx_bytes(pixels: np.ndarray = PIXELS, magic: bytes = b"\0\0\x08\x03") -> bytes:
    return magic + struct.pack(f">{pixels.ndim}I", *pixels.shape) + pixels.tobytes()


def archive(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "images.gz"
    path.write_bytes(gzip.compress(content))
    return path


def test_an_idx_file_is_read_as_written(tmp_path) -> None:
    np.testing.assert_array_equal(read_idx(archive(tmp_path, idx_bytes()), SHAPE), PIXELS)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "begins with the bytes (none); expected 00 00 08 03"),
        (idx_bytes(magic=b"\0\0\x0d\x03"), "begins with the bytes 00 00 0d 03"),
        (idx_bytes()[:9], "ends within its header"),
        (idx_bytes(PIXELS[:4]), "says it holds 4×3×2 bytes; expected 5×3×2"),
        (idx_bytes()[:-1], "holds fewer bytes than the 5×3×2"),
        (idx_bytes() + b"!", "holds more bytes than the 5×3×2"),
    ],
)
def test_another_content_is_refused_by_name(tmp_path, content: bytes, words: str) -> None:
    path = archive(tmp_path, content)
    with pytest.raises(DataError) as caught:
        read_idx(path, SHAPE)
    assert words in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_named(tmp_path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.gz is missing"):
        read_idx(tmp_path / "nowhere.gz", SHAPE)


def test_any_damage_is_refused_or_harmless(tmp_path) -> None:
    path = archive(tmp_path, idx_bytes())
    whole = path.read_bytes()
    damaged = [whole[:n] for n in range(len(whole))]
    for at in range(len(whole)):
        for bit in range(8):
            flipped = bytearray(whole)
            flipped[at] ^= 1 << bit
            damaged.append(bytes(flipped))
    refused = 0
    for content in damaged:
        path.write_bytes(content)
        try:
            np.testing.assert_array_equal(read_idx(path, SHAPE), PIXELS)
        except DataError:
            refused += 1
    assert refused > 0.7 * len(damaged)


@pytest.mark.mirror
@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_the_real_files_give_the_documented_statistics(mirror: Path, name: str) -> None:
    mean, sd = {"mnist": (0.1307, 0.3081), "fashion-mnist": (0.2860, 0.3530)}[name]
    whole = load(Image(name=name, root=mirror, binarise=False))
    pixels = np.concatenate([whole.train.x, whole.valid.x])
    assert (len(pixels), len(whole.test.x), whole.shape) == (60_000, 10_000, (28, 28))
    assert float(pixels.mean(dtype=float)) == pytest.approx(mean, abs=1e-4)
    assert float(pixels.std(dtype=float)) == pytest.approx(sd, abs=1e-4)
    assert whole.notes == ()


@pytest.mark.mirror
def test_a_random_subset_of_the_training_images_and_all_test_images_are_used(mirror) -> None:
    data = load(Image(name="mnist", root=mirror, train=20_000))
    assert [len(part.x) for part in (data.train, data.valid, data.test)] == [18_000, 2_000, 10_000]
    assert (np.bincount(data.train.labels, minlength=10) > 1500).all()
    assert data.stochastic
    assert set(np.unique(data.test.x)) == {0, 1}
    assert data.notes == ("mnist: a random 20,000 of 60,000 training images (split seed 0).",)


def npz(tmp_path: Path, **arrays: Any) -> Image:
    path = tmp_path / "mine.npz"
    np.savez_compressed(path, **arrays)
    return Image(name="mine", path=path)


X = rng.integers(0, 256, (40, 4, 3)).astype(np.uint8)
LABELS = np.arange(40) % 3


def parts(data: Dataset) -> list[int]:
    return [len(part.x) for part in (data.train, data.valid, data.test)]


def test_images_without_a_test_set_are_split(tmp_path) -> None:
    data = load_npz(npz(tmp_path, x=X, labels=LABELS * 10 - 5))
    assert parts(data) == [32, 4, 4]
    assert (data.shape, data.classes, data.form) == ((4, 3), 3, "image")
    assert set(data.train.labels) == {0, 1, 2}
    assert "no published split" in data.notes[0]


def test_images_with_a_test_set_keep_it_and_number_labels_together(tmp_path) -> None:
    config = npz(tmp_path, x=X, labels=LABELS, x_test=X[:10], labels_test=np.full(10, 7, np.int32))
    data = load_npz(config.model_copy(update={"binarise": False}))
    assert parts(data) == [36, 4, 10]
    np.testing.assert_array_equal(data.test.x, X[:10].reshape(10, -1) / np.float32(255))
    assert (data.classes, set(data.test.labels)) == (4, {3})


@pytest.mark.parametrize("images", [X, X[..., None], X / 255, (X / 255).astype(np.float32)])
def test_bytes_and_floats_with_or_without_a_channel_are_the_same(tmp_path, images) -> None:
    data = load_npz(npz(tmp_path, images=images))
    assert data.classes is None
    assert data.sha256 == load_npz(npz(tmp_path, x=X)).sha256


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({}, "0 of the arrays x and images"),
        ({"x": X, "images": X}, "2 of the arrays x and images"),
        ({"x": X, "label": LABELS}, "unknown array 'label'; did you mean labels?"),
        ({"x": X.reshape(40, 12)}, "x has shape (40, 12); expected (N, H, W)"),
        ({"x": np.stack([X] * 3, -1)}, "x has shape (40, 4, 3, 3)"),
        ({"x": X[:0]}, "x has shape (0, 4, 3)"),
        ({"x": X.astype(np.int64)}, "x holds int64; expected uint8, or floats between 0 and 1"),
        ({"x": X.astype(np.float32)}, "expected floats between 0 and 1"),
        ({"x": X / 255 - 0.1}, "expected floats between 0 and 1"),
        ({"x": np.where(X > 200, np.nan, 0.5)}, "x holds nan at ("),
        ({"x": np.full(X.shape, "a")}, "x holds <U1"),
        ({"x": np.full(X.shape, None)}, "x holds Python objects"),
        ({"x": X, "labels": LABELS[:-1]}, "labels is int64 of shape (39,); expected integers"),
        ({"x": X, "labels": LABELS / 2}, "labels is float64 of shape (40,); expected integers"),
        ({"x": X, "labels": LABELS * 0}, "labels holds one value only"),
        ({"x": X, "x_test": X[:, :2]}, "x_test has images of 2×3; expected 4×3"),
        ({"x": X, "labels": LABELS, "x_test": X}, "one of labels and labels_test"),
        ({"x": X, "labels_test": LABELS}, "labels_test but no x_test"),
        ({"x": X[:2]}, "too few data to split"),
    ],
)
def test_another_array_is_refused_by_name(tmp_path, arrays, words: str) -> None:
    config = npz(tmp_path, **arrays)
    with pytest.raises(DataError) as caught:
        load_npz(config)
    assert words in str(caught.value)


def test_a_damaged_archive_is_refused(tmp_path) -> None:
    config = npz(tmp_path, x=X, labels=LABELS)
    whole = config.path.read_bytes()
    refused = 0
    for n in range(300):
        content = bytearray(whole)
        content[int(rng.integers(len(whole)))] ^= 1 << n % 8
        config.path.write_bytes(content if n % 2 else whole[: int(rng.integers(len(whole)))])
        try:
            load_npz(config)
        except DataError:
            refused += 1
    assert refused > 240


def test_a_flipped_bit_is_blamed_on_its_array(tmp_path) -> None:
    config = npz(tmp_path)
    np.savez(config.path, x=X, labels=LABELS)
    content = bytearray(config.path.read_bytes())
    content[len(X.tobytes()) // 2] ^= 1
    config.path.write_bytes(content)
    with pytest.raises(DataError, match="the array x is damaged"):
        load_npz(config)


def test_a_stranger_s_objects_are_never_unpickled(tmp_path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "sprung",))

    array = np.empty(1, dtype=object)
    array[0] = Trap()
    with pytest.raises(DataError, match="Python objects"):
        load_npz(npz(tmp_path, x=array))
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("content", [b"", b"hello", X.tobytes()])
def test_something_else_under_the_name_is_refused(tmp_path, content: bytes) -> None:
    config = npz(tmp_path, x=X)
    config.path.write_bytes(content)
    with pytest.raises(DataError, match=r"mine\.npz is damaged, or not an \.npz file"):
        load_npz(config)


def header_of(shape: str, descr: str = "|u1") -> bytes:
    """An .npy file of any declared shape, with 12 bytes of data."""
    text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}"
    text += " " * (-(len(text) + 11) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode() + bytes(12)


def npy(header: bytes) -> bytes:
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(12)


@pytest.mark.parametrize(
    "content",
    [
        npy(b"{[]: 1}"),
        npy(b"{'descr': ("),
        npy(b"(" * 100),
        npy(b"{'descr': '|V12', 'fortran_order': False, 'shape': (True,), }"),
        npy(b"\xff" * 40),
        npy(b""),
        b"",
    ],
)
def test_a_header_that_no_array_has_is_refused(tmp_path, content: bytes) -> None:
    path = tmp_path / "mine.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", content)
    with pytest.raises(DataError, match=r"mine\.npz is damaged, or not an"):
        load_npz(Image(name="mine", path=path))


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA, 99])
def test_an_archive_packed_in_another_way_is_refused(tmp_path, method: int) -> None:
    path = tmp_path / "mine.npz"
    usual = zipfile.ZIP_STORED if method == 99 else method
    with zipfile.ZipFile(path, "w", usual) as archive:
        archive.writestr("x.npy", header_of("(4, 3, 1)"))
    content = bytearray(path.read_bytes())
    content[content.rindex(b"PK\x01\x02") + 10] = method
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        load_npz(Image(name="mine", path=path))
    assert str(caught.value) == (
        f"{path}: 'x.npy' is packed by another method than deflate; pack the archive anew."
    )


@pytest.mark.parametrize(
    "shape",
    [
        "(1000000000000000000000000000000,)",
        "(10, 10, 10)",
        "(-4, -3, 1)",
        "(4, 3)",
        "(99999999999, 4, 3)",
    ],
)
def test_a_shape_that_the_bytes_do_not_fill_is_refused_before_room_is_made(tmp_path, shape) -> None:
    path = tmp_path / "mine.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", header_of(shape))
    with pytest.raises(DataError, match=r"mine\.npz: x "):
        load_npz(Image(name="mine", path=path))


def test_an_archive_that_unpacks_to_too_much_is_refused_unpacked(tmp_path) -> None:
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", header_of("(4, 3, 1)"))
    content = bytearray(path.read_bytes())
    size = struct.pack("<I", archive.getinfo("x.npy").file_size)
    at = content.rindex(b"PK\x01\x02") + 24
    assert content[at : at + 4] == size
    content[at : at + 4] = struct.pack("<I", 3 << 30)
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"unpacks to 3221225472 bytes; lid reads at most 2 GiB"):
        load_npz(Image(name="mine", path=path))


def test_an_array_that_is_there_twice_is_refused(tmp_path) -> None:
    path = tmp_path / "mine.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", header_of("(4, 3, 1)"))
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("x.npy", header_of("(4, 3, 1)"))
    with pytest.raises(DataError, match="holds x twice"):
        load_npz(Image(name="mine", path=path))


def test_labels_of_more_than_63_bits_are_refused(tmp_path) -> None:
    labels = LABELS.astype(np.uint64) + np.uint64(2**63)
    with pytest.raises(DataError, match="labels holds 9223372036854775810"):
        load_npz(npz(tmp_path, x=X, labels=labels))
    data = load_npz(npz(tmp_path, x=X, labels=LABELS + 2**60))
    assert data.classes == 3


@pytest.mark.timeout(20)
def test_pipes_are_refused_without_waiting(tmp_path) -> None:
    path = tmp_path / "mine.npz"
    os.mkfifo(path)
    with pytest.raises(DataError, match="is not a plain file"):
        load_npz(Image(name="mine", path=path))
    with pytest.raises(DataError, match="is not a plain file"):
        read_idx(path, SHAPE)
