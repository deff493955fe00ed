"""Image files: the idx archives of MNIST and its likes, and a user's `.npz`."""

from __future__ import annotations

import gzip
import math
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lidcli.config.sections import Image
from lidcli.data.dataset import Dataset
from lidcli.data.files import check_packing, check_plain
from lidcli.data.grey import Images, grey_dataset
from lidcli.errors import DataError
from lidcli.names import nearest

__all__ = ["load_idx", "load_npz", "read_idx"]

IDX_UINT8 = 0x08
LARGEST_UNPACKED = 1 << 31
"""Bytes of all arrays of an archive together, 2 GiB."""
ARRAYS = ("x", "images", "labels", "x_test", "labels_test")


def read_idx(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Read one gzipped idx file of bytes.

    Args:
        path: the `.gz` file.
        shape: what it must hold, count first.

    Returns:
        uint8 array of that shape.

    Raises:
        DataError: the file is missing, damaged, or holds anything else.
    """
    check_plain(path)
    try:
        with gzip.open(path) as stream:
            content = stream.read(4 + 4 * len(shape) + math.prod(shape) + 1)
    except FileNotFoundError:
        raise DataError(f"{path} is missing.") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        reason = "ends too early" if isinstance(error, EOFError) else "is damaged"
        raise DataError(
            f"{path} {reason}; expected a whole gzip archive. Delete it and fetch it again."
        ) from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error
    magic = bytes((0, 0, IDX_UINT8, len(shape)))
    if content[:4] != magic:
        raise DataError(
            f"{path} begins with the bytes {content[:4].hex(' ') or '(none)'}; expected"
            f" {magic.hex(' ')}, an idx file of {len(shape)}-dimensional bytes."
        )
    head = 4 + 4 * len(shape)
    if len(content) < head:
        raise DataError(f"{path} ends within its header; expected the sizes {_times(shape)}.")
    found = struct.unpack(f">{len(shape)}I", content[4:head])
    if found != shape:
        raise DataError(f"{path} says it holds {_times(found)} bytes; expected {_times(shape)}.")
    if len(content) - head != math.prod(shape):
        more = "more" if len(content) - head > math.prod(shape) else "fewer"
        raise DataError(f"{path} holds {more} bytes than the {_times(shape)} its header says.")
    return np.frombuffer(content, np.uint8, offset=head).reshape(shape)


def _times(shape: tuple[int, ...]) -> str:
    return "×".join(f"{n}" for n in shape)


def load_idx(config: Image, folder: str, classes: int) -> Dataset:
    """MNIST or Fashion-MNIST: 60,000 training and 10,000 test images of 28×28.

    Args:
        config: `root` holds the folder; `train` and `test` choose random subsets.
        folder: of the four files, inside `root`.
        classes: number of labels.

    Raises:
        ConfigError: more data asked for than there are.
        DataError: a file is missing, damaged, or holds anything else.
    """
    parts = []
    for stem, count in (("train", 60_000), ("t10k", 10_000)):
        base = config.root / folder
        pixels = read_idx(base / f"{stem}-images-idx3-ubyte.gz", (count, 28, 28))
        path = base / f"{stem}-labels-idx1-ubyte.gz"
        labels = read_idx(path, (count,))
        if labels.max() >= classes:
            at = int(labels.argmax())
            raise DataError(
                f"{path}: label {labels[at]} at position {at}; expected 0 to {classes - 1}."
            )
        parts.append(Images(pixels, labels.astype(np.int64)))
    return grey_dataset(config, parts[0], parts[1], classes)


def load_npz(config: Image) -> Dataset:
    """A user's grey images, in arrays `x` or `images`, `labels`, `x_test` and `labels_test`.

    All but the first are optional. Images are (N, H, W) or (N, H, W, 1), uint8 or floats in
    [0, 1]; labels are integers (N,), numbered anew in rising order. Without `x_test`, a random
    `test_fraction` is the test set.

    Args:
        config: `path` names the file.

    Raises:
        ConfigError: more data asked for than there are.
        DataError: the file or an array is not as described, named with what was expected.
    """
    assert config.path is not None
    path = config.path
    arrays = _read_npz(path)
    pixels, test_pixels = _images(path, arrays)
    if test_pixels is not None and ("labels" in arrays) != ("labels_test" in arrays):
        raise DataError(f"{path} holds one of labels and labels_test; expected both or neither.")
    if "labels" not in arrays:
        test = None if test_pixels is None else Images(test_pixels, None)
        return grey_dataset(config, Images(pixels, None), test, None)
    labels = [_labels(path, "labels", arrays["labels"], len(pixels))]
    if test_pixels is not None:
        labels += [_labels(path, "labels_test", arrays["labels_test"], len(test_pixels))]
    values, numbers = np.unique(np.concatenate(labels), return_inverse=True)
    if len(values) < 2:
        raise DataError(f"{path}: labels holds one value only; expected two or more, or no array.")
    numbers = numbers.astype(np.int64)
    test = None if test_pixels is None else Images(test_pixels, numbers[len(pixels) :])
    return grey_dataset(config, Images(pixels, numbers[: len(pixels)]), test, len(values))


def _images(
    path: Path, arrays: dict[str, NDArray[Any]]
) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """The images, and those of the test set if the file has one."""
    named = [name for name in ("x", "images") if name in arrays]
    if len(named) != 1:
        raise DataError(f"{path} holds {len(named)} of the arrays x and images; expected one.")
    pixels = _pixels(path, named[0], arrays[named[0]])
    if "x_test" not in arrays:
        if "labels_test" in arrays:
            raise DataError(f"{path} holds labels_test but no x_test; expected both or neither.")
        return pixels, None
    test = _pixels(path, "x_test", arrays["x_test"])
    if test.shape[1:] != pixels.shape[1:]:
        raise DataError(
            f"{path}: x_test has images of {_times(test.shape[1:])}; expected"
            f" {_times(pixels.shape[1:])} as in {named[0]}."
        )
    return pixels, test


def _read_npz(path: Path) -> dict[str, NDArray[Any]]:
    check_plain(path)
    try:
        with zipfile.ZipFile(path) as archive:
            _check_members(path, archive)
            damaged = archive.testzip()
            if damaged is not None:
                raise DataError(f"{path}: the array {Path(damaged).stem} is damaged.")
            _check_shapes(path, archive)
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; data.path must name an .npz file.") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error
    except (DataError, MemoryError):
        raise
    except Exception as error:
        raise DataError(
            f"{path} is damaged, or not an .npz file; expected one written by numpy.savez."
        ) from error


def _check_members(path: Path, archive: zipfile.ZipFile) -> None:
    """Check names, packing and sizes before anything is unpacked."""
    members = archive.infolist()
    names = [member.filename.removesuffix(".npy") for member in members]
    for name in names:
        if name not in ARRAYS:
            raise DataError(f"{path}: unknown array {name!r}; {nearest(name, ARRAYS)}")
        if names.count(name) > 1:
            raise DataError(f"{path} holds {name} twice; expected each array once.")
    for member in members:
        check_packing(path, member)
    total = sum(member.file_size for member in members)
    if total > LARGEST_UNPACKED:
        raise DataError(
            f"{path} unpacks to {total} bytes; lid reads at most {LARGEST_UNPACKED >> 30} GiB."
        )


def _check_shapes(path: Path, archive: zipfile.ZipFile) -> None:
    """Check that the bytes of every array are those of its shape, before room is made for it."""
    for member in archive.infolist():
        name = member.filename.removesuffix(".npy")
        with archive.open(member) as stream:
            version = np.lib.format.read_magic(stream)
            read = (
                np.lib.format.read_array_header_1_0
                if version == (1, 0)
                else np.lib.format.read_array_header_2_0
            )
            shape, _, kind = read(stream)
            body = member.file_size - stream.tell()
        if kind.hasobject:
            raise DataError(f"{path}: {name} holds Python objects; expected numbers.")
        if min(shape, default=0) < 0 or math.prod(shape) * kind.itemsize != body:
            raise DataError(
                f"{path}: {name} says it has shape {_short(shape)} of {kind}, but it has {body}"
                " bytes."
            )


def _short(shape: tuple[int, ...]) -> str:
    text = str(shape)
    return text if len(text) <= 60 else f"{text[:60]}..."


def _pixels(path: Path, name: str, array: NDArray[Any]) -> NDArray[Any]:
    if array.ndim == 4 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim != 3 or min(array.shape) < 1:
        raise DataError(
            f"{path}: {name} has shape {array.shape}; expected (N, H, W) or (N, H, W, 1)."
        )
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind != "f":
        raise DataError(
            f"{path}: {name} holds {array.dtype}; expected uint8, or floats between 0 and 1."
        )
    if not (array.min() >= 0 and array.max() <= 1):
        outside = ~((array >= 0) & (array <= 1))
        at = tuple(int(i) for i in np.argwhere(outside)[0])
        raise DataError(
            f"{path}: {name} holds {array[at]:.6g} at {at}; expected floats between 0 and 1,"
            " or uint8."
        )
    return array.astype(np.float32)


def _labels(path: Path, name: str, array: NDArray[Any], count: int) -> NDArray[np.int64]:
    if array.shape != (count,) or array.dtype.kind not in "iu":
        raise DataError(
            f"{path}: {name} is {array.dtype} of shape {array.shape}; expected integers of shape"
            f" ({count},), one an image."
        )
    if array.dtype.kind == "u" and int(array.max(initial=0)) >= 1 << 63:
        raise DataError(f"{path}: {name} holds {array.max()}; expected integers of 64 bits.")
    return array.astype(np.int64)
