"""Omniglot at 28×28: the resampled file of Burda et al., or the archives of drawings."""

from __future__ import annotations

import hashlib
import io
import re
import struct
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lidcli.config.sections import Image
from lidcli.data.cache import keep, recall
from lidcli.data.dataset import Dataset
from lidcli.data.files import check_packing, check_plain
from lidcli.data.grey import Images, grey_dataset
from lidcli.errors import DataError

__all__ = ["ALPHABETS", "load_omniglot", "read_chardata", "read_drawings", "resample"]

ALPHABETS = 50
CHARDATA = "omniglot/chardata.mat"
ARCHIVES = (("images_background", 19_280), ("images_evaluation", 13_180))
"""Names of the archives and of the folder within each, and its drawings."""
VERSION = 1
"""Of how archives are read; a new one makes what older versions kept worthless."""
SIDE, DRAWN = 28, 105
DRAWERS, TRAINING_DRAWERS = 20, 15
LARGEST = 1 << 27
"""Bytes of a file, 128 MiB."""
LARGEST_DRAWING = 1 << 14
DRAWING = re.compile(r"([^/]+)/(character\d\d)/\d{4}_(\d\d)\.png")
MAT_KEYS = {"data": "target", "testdata": "testtarget"}
"""Images and their one-hot alphabets."""
RESAMPLED = (
    "omniglot: drawings of 105×105 inverted, averaged to 28×28 and their ink doubled; drawers 1 to"
    " 15 of 20 are for training. Not the split and resampling of Burda et al."
)


def load_omniglot(config: Image) -> Dataset:
    """Drawings of 1,623 characters, labelled by their 50 alphabets.

    `chardata.mat` is used if it is there. Archives of drawings are read once: the result is kept
    beside the data.

    Args:
        config: `root` holds the folder `omniglot`; `train` and `test` choose random subsets.

    Raises:
        ConfigError: more data asked for than there are.
        DataError: files are missing, damaged, or hold anything else.
    """
    path = config.root / CHARDATA
    if path.exists():
        train, test = read_chardata(path)
        return grey_dataset(config, train, test, ALPHABETS)
    paths = [config.root / "omniglot" / f"{folder}.zip" for folder, _ in ARCHIVES]
    contents = [_content(path) for path in paths]
    digest = hashlib.sha256(f"omniglot {VERSION}".encode())
    for content in contents:
        digest.update(hashlib.sha256(content).digest())
    key = digest.hexdigest()
    arrays = recall(config.root, key, "images")
    if arrays is None:
        arrays = _parse(paths, contents)
        keep(config.root, key, arrays, "images")
    pixels, labels, drawers = arrays
    first = drawers <= TRAINING_DRAWERS
    parts = [Images(pixels[rows], labels[rows]) for rows in (first, ~first)]
    return grey_dataset(config, parts[0], parts[1], ALPHABETS, (RESAMPLED,))


def _parse(paths: list[Path], contents: list[bytes]) -> list[NDArray[Any]]:
    """Pixels (N, 28, 28), labels (N,) and drawers (N,) of all archives."""
    found = [
        read_drawings(path, content, folder, count)
        for path, content, (folder, count) in zip(paths, contents, ARCHIVES, strict=True)
    ]
    names = sorted({name for _, alphabets, _ in found for name in alphabets})
    if len(names) != ALPHABETS:
        raise DataError(f"{paths[0].parent} has {len(names)} alphabets; expected {ALPHABETS}.")
    numbers = {name: number for number, name in enumerate(names)}
    labels = [numbers[name] for _, alphabets, _ in found for name in alphabets]
    return [
        np.concatenate([pixels for pixels, _, _ in found]),
        np.array(labels, np.int64),
        np.array([drawer for _, _, drawers in found for drawer in drawers], np.int64),
    ]


def _content(path: Path) -> bytes:
    check_plain(path)
    try:
        with path.open("rb") as stream:
            content = stream.read(LARGEST + 1)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error
    if len(content) > LARGEST:
        raise DataError(f"{path} has more than {LARGEST >> 20} MiB; expected Omniglot's.")
    return content


def read_drawings(
    path: Path, content: bytes, folder: str, count: int
) -> tuple[NDArray[np.uint8], list[str], list[int]]:
    """The drawings of one archive, by alphabet, character and drawer; nothing is unpacked to disk.

    Args:
        path: of the archive, for messages.
        content: its bytes.
        folder: that holds `ALPHABET/characterNN/NNNN_DD.png`.
        count: how many drawings there must be.

    Returns:
        Pixels (count, 28, 28) with ink bright, the alphabet and the drawer (1 to 20) of each.

    Raises:
        DataError: the archive is damaged, unsafe, or holds anything else.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            chosen = _members(path, archive, folder)
            if len(chosen) != count:
                raise DataError(f"{path} has {len(chosen):,} drawings; expected {count:,}.")
            ink = np.empty((count, DRAWN, DRAWN), np.bool_)
            for row, (member, _, _) in enumerate(chosen):
                ink[row] = ~_decode(path, member.filename, archive.read(member))
    except (DataError, MemoryError):
        raise
    except Exception as error:
        raise DataError(
            f"{path} is damaged, or not a zip archive; delete it and fetch it again."
        ) from error
    return resample(ink), [name for _, name, _ in chosen], [drawer for _, _, drawer in chosen]


def _members(
    path: Path, archive: zipfile.ZipFile, folder: str
) -> list[tuple[zipfile.ZipInfo, str, int]]:
    """The drawings in order, each with its alphabet and drawer."""
    found = []
    characters: dict[tuple[str, str], set[int]] = {}
    for member in sorted(archive.infolist(), key=lambda member: member.filename):
        place = PurePosixPath(member.filename)
        if place.is_absolute() or ".." in place.parts or "\\" in member.filename:
            raise DataError(f"{path} has {member.filename!r}, outside its own folder.")
        if place.suffix != ".png" or place.name.startswith("."):
            continue
        match = DRAWING.fullmatch(member.filename.removeprefix(f"{folder}/"))
        if match is None or place.parts[0] != folder:
            raise DataError(
                f"{path} has {member.filename!r}; expected"
                f" {folder}/ALPHABET/characterNN/NNNN_DD.png."
            )
        check_packing(path, member)
        if member.file_size > LARGEST_DRAWING:
            raise DataError(f"{path}: {member.filename} has {member.file_size:,} bytes, too many.")
        alphabet, character, drawer = match[1], match[2], int(match[3])
        found.append((member, alphabet, drawer))
        characters.setdefault((alphabet, character), set()).add(drawer)
    for (alphabet, character), drawers in characters.items():
        if drawers != set(range(1, DRAWERS + 1)):
            raise DataError(
                f"{path}: {alphabet}/{character} has {len(drawers)} drawers; expected 1 to"
                f" {DRAWERS}."
            )
    return found


def _decode(path: Path, name: str, content: bytes) -> NDArray[np.bool_]:
    """The pixels (105, 105) of a PNG of bits, true where the paper is white."""
    from PIL import Image as Pillow

    if content[:8] != b"\x89PNG\r\n\x1a\n" or len(content) < 24:
        raise DataError(f"{path}: {name} is not a PNG.")
    size = struct.unpack(">II", content[16:24])
    if size != (DRAWN, DRAWN):
        raise DataError(f"{path}: {name} is {size[0]}×{size[1]}; expected {DRAWN}×{DRAWN}.")
    try:
        with Pillow.open(io.BytesIO(content), formats=("PNG",)) as image:
            mode, pixels = image.mode, np.asarray(image)
    except (OSError, SyntaxError, ValueError, zlib.error, struct.error) as error:
        raise DataError(f"{path}: {name} is damaged.") from error
    if mode != "1":
        raise DataError(f"{path}: {name} has pixels of mode {mode}; expected black and white.")
    return pixels


def resample(ink: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Average drawings over areas to 28×28, and double and clip what ink is left in each.

    A stroke is thinner than a pixel: one draw of bits from its mean would break it.

    Args:
        ink: (N, 105, 105), true where there is ink.

    Returns:
        (N, 28, 28), 0 for paper to 255 for ink.

    Example:
        >>> resample(np.ones((1, 105, 105), bool)).min()
        np.uint8(255)
    """
    edges = np.arange(SIDE + 1) * DRAWN / SIDE
    low, high = edges[:-1, None], edges[1:, None]
    pixel = np.arange(DRAWN)
    overlap = np.minimum(high, pixel + 1) - np.maximum(low, pixel)
    weights = (np.maximum(overlap, 0) * SIDE / DRAWN).astype(np.float32)
    out = np.empty((len(ink), SIDE, SIDE), np.uint8)
    for start in range(0, len(ink), 1000):
        rows = slice(start, start + 1000)
        mean = weights @ ink[rows].astype(np.float32) @ weights.T
        out[rows] = np.rint(255 * np.minimum(2 * mean, 1))
    return out


def read_chardata(path: Path) -> tuple[Images, Images]:
    """Training and test images of the `.mat` file of Burda et al., column after column.

    Args:
        path: a file with `data` (784, N) and `testdata` in [0, 1], ink bright, and their one-hot
            alphabets `target` (50, N) and `testtarget`.

    Raises:
        DataError: the file is damaged or holds anything else.
    """
    from scipy.io import loadmat, whosmat

    content = _content(path)
    keys = [*MAT_KEYS, *MAT_KEYS.values()]
    try:
        shapes = {name: shape for name, shape, _ in whosmat(io.BytesIO(content))}
        _check_shapes(path, shapes)
        arrays = loadmat(io.BytesIO(content), variable_names=keys)
    except DataError:
        raise
    except Exception as error:
        raise DataError(
            f"{path} is damaged, or not a .mat file of version 4 to 7; expected chardata.mat."
        ) from error
    parts = [_part(path, name, arrays[name], arrays[of]) for name, of in MAT_KEYS.items()]
    return parts[0], parts[1]


def _check_shapes(path: Path, shapes: dict[str, Sequence[int]]) -> None:
    """Refuse arrays by what the file says of them, before they are unpacked."""
    for images, target in MAT_KEYS.items():
        for name, rows in ((images, SIDE * SIDE), (target, ALPHABETS)):
            if name not in shapes:
                raise DataError(f"{path} has no array {name}; expected that of Burda et al.")
            shape = tuple(shapes[name])
            wanted = (rows, shapes[images][-1])
            if shape != wanted or not 1 <= wanted[1] <= 1_000_000:
                raise DataError(f"{path}: {name} has shape {shape}; expected ({rows}, images).")


def _part(path: Path, name: str, pixels: Any, target: Any) -> Images:
    if not isinstance(pixels, np.ndarray) or pixels.dtype.kind not in "fiu":
        raise DataError(f"{path}: {name} holds no real numbers; expected those of images.")
    if not (pixels.min() >= 0 and pixels.max() <= 1):
        raise DataError(f"{path}: {name} holds numbers outside 0 to 1.")
    known = isinstance(target, np.ndarray) and target.dtype.kind in "fiub"
    if not known or not ((target == 0) | (target == 1)).all() or (target.sum(0) != 1).any():
        raise DataError(f"{path}: {MAT_KEYS[name]} is not one-hot; expected one alphabet an image.")
    images = pixels.T.reshape(-1, SIDE, SIDE).transpose(0, 2, 1)
    return Images(np.ascontiguousarray(images, np.float32), target.argmax(0).astype(np.int64))
