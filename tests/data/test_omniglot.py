"""Omniglot's archives and chardata.mat: read exactly and once, or refused in one sentence."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow
from scipy.io import savemat

from lidcli.config.sections import Image
from lidcli.data import omniglot
from lidcli.data.omniglot import load_omniglot, read_chardata, resample
from lidcli.data.registry import load
from lidcli.errors import DataError

FOLDERS = ("images_background", "images_evaluation")


def png(ink: np.ndarray) -> bytes:
    out = io.BytesIO()
    Pillow.fromarray(~ink).save(out, "PNG")
    return out.getvalue()


def drawing(number: int, side: int = 105) -> np.ndarray:
    return np.random.default_rng(number).random((side, side)) < 0.1


def members(folder: str, first: int) -> dict[str, bytes]:
    """Twenty drawings of the one character of an alphabet of the folder's name."""
    return {
        f"{folder}/Of_{folder}/character01/{first:04}_{drawer:02}.png": png(drawing(first + drawer))
        for drawer in range(1, 21)
    }


def packed(path: Path, content: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, body in content.items():
            archive.writestr(name, body)


@pytest.fixture
def few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Image:
    """Two archives of one alphabet of one character each."""
    monkeypatch.setattr(omniglot, "ARCHIVES", tuple((folder, 20) for folder in FOLDERS))
    monkeypatch.setattr(omniglot, "ALPHABETS", 2)
    for number, folder in enumerate(FOLDERS):
        packed(tmp_path / "omniglot" / f"{folder}.zip", members(folder, 100 * number))
    return Image(name="omniglot", root=tmp_path, binarise=False)


def change(config: Image, more: dict[str, bytes], without: str = "") -> None:
    """Write the first archive with further members, or without one."""
    content = members(FOLDERS[0], 0) | more
    content.pop(without, None)
    packed(config.root / "omniglot" / f"{FOLDERS[0]}.zip", content)


def test_areas_are_averaged_doubled_and_clipped() -> None:
    ink = np.zeros((1, 105, 105), bool)
    ink[0, 0, :2] = True
    ink[0, 3, 0] = True
    ink[0, 100:, 100:] = True
    out = resample(ink)[0]
    assert out[0, 0] == round(255 * 2 * (2 + 0.75) / 3.75**2)
    assert out[1, 0] == round(255 * 2 * 0.25 / 3.75**2)
    assert out[27, 27] == 255
    assert out[:26, 2:].sum() == out[5:, :26].sum() == 0


def test_no_ink_is_lost_where_none_is_clipped() -> None:
    ink = np.random.default_rng(0).random((3, 105, 105)) < 0.05
    mean = resample(ink) / 255 / 2
    whole = (mean < 0.5).all((1, 2))
    assert whole.any()
    np.testing.assert_allclose(
        mean.mean((1, 2))[whole], ink.mean((1, 2))[whole], atol=0.5 / 255 / 2
    )


def test_fifteen_drawers_train_and_five_test_with_alphabets_as_labels(few: Image) -> None:
    data = load_omniglot(few)
    assert [len(part.x) for part in (data.train, data.valid, data.test)] == [27, 3, 10]
    assert (data.shape, data.classes, data.form) == ((28, 28), 2, "image")
    np.testing.assert_array_equal(data.test.labels, np.repeat([0, 1], 5))
    drawers = [16, 17, 18, 19, 20, 116, 117, 118, 119, 120]
    expected = resample(np.stack([drawing(number) for number in drawers]))
    np.testing.assert_array_equal(data.test.x, expected.reshape(10, -1) / np.float32(255))
    assert "inverted, averaged to 28×28 and their ink doubled" in data.notes[0]


def test_archives_are_parsed_once(few: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load_omniglot(few)
    monkeypatch.setattr(omniglot, "read_drawings", None)
    again = load_omniglot(few)
    assert again.sha256 == first.sha256
    assert [path.name[:7] for path in (few.root / ".cache").iterdir()] == ["images-"]


def test_a_damaged_cache_is_as_good_as_none(few: Image) -> None:
    first = load_omniglot(few)
    (kept,) = (few.root / ".cache").iterdir()
    content = bytearray(kept.read_bytes())
    content[-1] ^= 1
    kept.write_bytes(content)
    assert load_omniglot(few).sha256 == first.sha256


def test_other_archives_are_parsed_anew(few: Image) -> None:
    first = load_omniglot(few)
    change(few, {f"{FOLDERS[0]}/Of_{FOLDERS[0]}/character01/0000_01.png": png(drawing(999))})
    assert load_omniglot(few).sha256 != first.sha256


def test_what_is_no_drawing_is_left_alone(few: Image) -> None:
    first = load_omniglot(few)
    change(few, {f"{FOLDERS[0]}/": b"", "__MACOSX/._0001_01.png": b"x", "readme.txt": b"x"})
    assert load_omniglot(few).sha256 == first.sha256


PLACE = f"{FOLDERS[0]}/Of_{FOLDERS[0]}/character01"
GREY = io.BytesIO()
Pillow.fromarray(np.zeros((105, 105), np.uint8)).save(GREY, "PNG")
WHOLE = png(drawing(1))


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"../outside.png": WHOLE}, "has '../outside.png', outside its own folder"),
        ({"/etc/outside.png": WHOLE}, "has '/etc/outside.png', outside its own folder"),
        ({f"{FOLDERS[0]}/../../x": b""}, "outside its own folder"),
        ({"elsewhere/A/character01/0001_01.png": WHOLE}, "expected images_background/ALPHABET/"),
        ({f"{FOLDERS[0]}/odd.png": WHOLE}, "images_background/odd.png'; expected"),
        ({f"{PLACE}/0000_21.png": WHOLE}, "character01 has 21 drawers; expected 1 to 20"),
        ({f"{PLACE}/0000_01.png": png(drawing(1, 104))}, "0000_01.png is 104×104; expected 105"),
        ({f"{PLACE}/0000_01.png": GREY.getvalue()}, "has pixels of mode L; expected black and"),
        ({f"{PLACE}/0000_01.png": b"GIF89a" * 9}, "0000_01.png is not a PNG"),
        ({f"{PLACE}/0000_01.png": WHOLE[:60]}, "0000_01.png is damaged"),
        ({f"{PLACE}/0000_01.png": WHOLE + bytes(1 << 15)}, "bytes, too many"),
    ],
)
def test_another_archive_is_refused_and_nothing_is_written(few: Image, more, words: str) -> None:
    change(few, more)
    before = set(few.root.rglob("*"))
    with pytest.raises(DataError) as caught:
        load_omniglot(few)
    assert words in str(caught.value)
    assert str(few.root) in str(caught.value)
    assert set(few.root.rglob("*")) == before


def test_a_drawing_that_is_missing_is_noticed(few: Image) -> None:
    change(few, {}, without=f"{PLACE}/0000_07.png")
    with pytest.raises(DataError, match="character01 has 19 drawers"):
        load_omniglot(few)


def test_fewer_characters_are_noticed(few: Image) -> None:
    packed(few.root / "omniglot" / f"{FOLDERS[1]}.zip", {})
    with pytest.raises(DataError, match=r"images_evaluation\.zip has 0 drawings; expected 20"):
        load_omniglot(few)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
@pytest.mark.parametrize("damaged", [False, True])
def test_archives_packed_in_another_way_are_refused(few: Image, method: int, damaged: bool) -> None:
    path = few.root / "omniglot" / f"{FOLDERS[0]}.zip"
    packed(path, members(FOLDERS[0], 0), method)
    if damaged:
        content = bytearray(path.read_bytes())
        content[200:300] = bytes(100)
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"_01\.png' is packed by another method than deflate"):
        load_omniglot(few)


def test_any_truncation_or_flipped_byte_is_refused_or_harmless(few: Image) -> None:
    path = few.root / "omniglot" / f"{FOLDERS[0]}.zip"
    whole, good = path.read_bytes(), load_omniglot(few).sha256
    rng = np.random.default_rng(0)
    refused = 0
    for n in range(120):
        content = bytearray(whole)
        content[int(rng.integers(len(whole)))] ^= 1 << n % 8
        path.write_bytes(content if n % 2 else whole[: int(rng.integers(len(whole)))])
        try:
            assert load_omniglot(few).sha256 == good
        except DataError:
            refused += 1
    assert refused > 80


def huge() -> bytes:
    """A PNG whose header promises more pixels than there is memory for."""
    head = struct.pack(">II5B", 1 << 30, 1 << 30, 1, 0, 0, 0, 0)
    chunk = b"IHDR" + head
    return (
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    )


def test_a_png_of_another_size_is_refused_before_room_is_made(few: Image) -> None:
    change(few, {f"{PLACE}/0000_01.png": huge()})
    with pytest.raises(DataError, match="is 1073741824×1073741824; expected 105×105"):
        load_omniglot(few)


def chardata(tmp_path: Path, **changes: Any) -> Path:
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for name, target, n in (("data", "target", 40), ("testdata", "testtarget", 12)):
        arrays[name] = rng.random((784, n))
        arrays[target] = np.eye(50)[:, rng.integers(50, size=n)]
    arrays |= changes
    path = tmp_path / "omniglot" / "chardata.mat"
    path.parent.mkdir(exist_ok=True)
    savemat(path, {k: v for k, v in arrays.items() if v is not None}, do_compression=True)
    return path


def test_chardata_is_read_column_after_column(tmp_path: Path) -> None:
    image = np.zeros((28, 28))
    image[3, 9] = 1.0
    columns = np.repeat(image.T.reshape(784, 1), 40, axis=1)
    train, test = read_chardata(chardata(tmp_path, data=columns, target=np.eye(50)[:, [7] * 40]))
    np.testing.assert_array_equal(train.pixels, np.repeat(image[None], 40, 0))
    np.testing.assert_array_equal(train.labels, np.full(40, 7))
    assert test.pixels.shape == (12, 28, 28)


def test_chardata_is_used_where_it_is(tmp_path: Path) -> None:
    chardata(tmp_path)
    data = load(Image(name="omniglot", root=tmp_path))
    assert [len(part.x) for part in (data.train, data.valid, data.test)] == [36, 4, 12]
    assert (data.classes, data.notes) == (50, ())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"target": None}, "has no array target"),
        ({"testdata": None}, "has no array testdata"),
        ({"data": np.zeros((783, 40))}, "data has shape (783, 40); expected (784, images)"),
        ({"target": np.eye(50)[:, :39]}, "target has shape (50, 39); expected (50, images)"),
        ({"data": np.full((784, 40), 255.0)}, "data holds numbers outside 0 to 1"),
        ({"data": np.full((784, 40), np.nan)}, "data holds numbers outside 0 to 1"),
        ({"data": np.full((784, 40), 1j)}, "data holds no real numbers"),
        ({"target": np.full((50, 40), 0.5)}, "target is not one-hot"),
        ({"testtarget": np.zeros((50, 12))}, "testtarget is not one-hot"),
    ],
)
def test_another_mat_file_is_refused_by_name(tmp_path: Path, changes, words: str) -> None:
    path = chardata(tmp_path, **changes)
    with pytest.raises(DataError) as caught:
        read_chardata(path)
    assert words in str(caught.value)


def test_a_damaged_mat_file_is_refused_or_harmless(tmp_path: Path) -> None:
    path = chardata(tmp_path)
    whole = path.read_bytes()
    rng = np.random.default_rng(1)
    refused = 0
    for n in range(150):
        content = bytearray(whole)
        content[int(rng.integers(len(whole)))] ^= 1 << n % 8
        path.write_bytes(content if n % 2 else whole[: int(rng.integers(len(whole)))])
        try:
            read_chardata(path)
        except DataError:
            refused += 1
    assert refused > 100
    path.write_bytes(b"MATLAB 7.3 MAT-file" + bytes(500))
    with pytest.raises(DataError, match=r"not a \.mat file of version 4 to 7"):
        read_chardata(path)


@pytest.mark.slow
@pytest.mark.mirror
def test_the_real_drawings_have_the_documented_counts_and_ink(mirror: Path) -> None:
    data = load(Image(name="omniglot", root=mirror, binarise=False))
    assert (len(data.train.x) + len(data.valid.x), len(data.test.x)) == (24_345, 8_115)
    labels = np.concatenate([data.train.labels, data.valid.labels])
    assert np.bincount(labels, minlength=50).min() > 0
    mean = float(np.concatenate([data.train.x, data.valid.x, data.test.x]).mean(dtype=float))
    assert 0.08 < mean < 2 * 0.081
