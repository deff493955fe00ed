"""Files appear whole or not at all, and are checked before they are read."""

from __future__ import annotations

import errno
import itertools
import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from lidcli.errors import StoreError
from lidcli.store import hdf5
from lidcli.store.hdf5 import DamagedError, open_read, write_atomic
from lidcli.store.tensors import load_tree, save_tree

TREE = {"weight": np.arange(5000.0), "small": np.arange(3), "step": 7, "name": "abc"}


def write_tree(path: Path, tree: Any = TREE) -> None:
    write_atomic(path, lambda file: save_tree(file, tree))


def read_tree(path: Path) -> Any:
    with open_read(path) as file:
        return load_tree(file)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, check=False)
    except OSError:
        pytest.skip("there is no mount here")
    if done.returncode:
        pytest.skip("mounting a tmpfs is not permitted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_one_sentence_and_the_old_file_stays(small_disk: Path) -> None:
    path = small_disk / "run.h5"
    write_tree(path)
    for size in (30_000, 60_000, 1_000_000):
        with pytest.raises(StoreError, match=r"run\.h5 cannot be written: the disk is full"):
            write_tree(path, {"a": np.ones(size), "b": np.ones(size)})
        assert [p.name for p in small_disk.iterdir()] == ["run.h5"]
        assert read_tree(path)["step"] == 7


@pytest.mark.parametrize("moment", range(1, 12))
def test_a_disk_that_fills_up_at_any_moment_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    path, calls = tmp_path / "run.h5", itertools.count(1)
    write_tree(path)

    class Full(hdf5._Sink):
        def write(self, data: object) -> int:
            if next(calls) == moment:
                self.failure = OSError(errno.ENOSPC, "No space left on device")
            return super().write(data)

    monkeypatch.setattr(hdf5, "_Sink", Full)
    with pytest.raises(StoreError, match="the disk is full"):
        write_tree(path, {str(i): np.ones(50_000) for i in range(8)})
    assert read_tree(path)["step"] == 7
    assert [p.name for p in tmp_path.iterdir()] == ["run.h5"]


def test_a_folder_that_is_not_there_or_not_a_folder_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="its folder does not exist"):
        write_tree(tmp_path / "none" / "a.h5")
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="a file and not a folder"):
        write_tree(tmp_path / "file" / "a.h5")
    with pytest.raises(StoreError, match=r"There is no file .*b\.h5"):
        read_tree(tmp_path / "b.h5")


def test_a_folder_that_is_not_writable_is_one_sentence(tmp_path: Path) -> None:
    user = os.geteuid()
    tmp_path.chmod(0o500)
    if user == 0:
        os.seteuid(65534)
    try:
        with pytest.raises(StoreError, match=r"a\.h5 cannot be written: permission is denied"):
            write_tree(tmp_path / "a.h5")
    finally:
        os.seteuid(user)
        tmp_path.chmod(0o700)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [KeyError("x"), KeyboardInterrupt(), RuntimeError("inside")])
def test_what_the_writer_raises_passes_through_and_leaves_nothing(
    tmp_path: Path, error: BaseException
) -> None:
    path = tmp_path / "a.h5"
    write_tree(path)

    def fail(file: h5py.File) -> None:
        file["half"] = np.ones(1000)
        raise error

    with pytest.raises(type(error)):
        write_atomic(path, fail)
    assert [p.name for p in tmp_path.iterdir()] == ["a.h5"]
    assert read_tree(path)["step"] == 7


def test_files_have_the_mode_that_the_umask_gives(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        write_tree(tmp_path / "a.h5")
    finally:
        os.umask(old)
    assert (tmp_path / "a.h5").stat().st_mode & 0o777 == 0o640


def test_every_truncation_is_found(tmp_path: Path) -> None:
    path, cut = tmp_path / "a.h5", tmp_path / "b.h5"
    write_tree(path)
    content = path.read_bytes()
    lengths = {0, 1, 511, 512, 513, len(content) - 1, *range(0, len(content), 997)}
    for length in lengths:
        cut.write_bytes(content[:length])
        with pytest.raises(DamagedError, match=r"b\.h5 is damaged"):
            read_tree(cut)
    cut.write_bytes(content + b"\0")
    with pytest.raises(DamagedError):
        read_tree(cut)


def test_every_flipped_bit_is_found(tmp_path: Path) -> None:
    path, flipped = tmp_path / "a.h5", tmp_path / "b.h5"
    write_tree(path)
    content = path.read_bytes()
    draw = random.Random(0)
    places = [*range(0, 1200, 3), *(draw.randrange(len(content)) for _ in range(600))]
    for place in places:
        changed = bytearray(content)
        changed[place] ^= 1 << draw.randrange(8)
        flipped.write_bytes(changed)
        with pytest.raises(DamagedError, match=r"b\.h5 is damaged"):
            read_tree(flipped)


def resealed(content: bytes) -> bytes:
    """A forger's file: any content under a matching header."""
    import io

    raw = io.BytesIO(content)
    return hdf5._header(raw) + content[hdf5.HEADER :]


def test_flipped_bits_under_a_forged_header_never_escape_as_another_error(tmp_path: Path) -> None:
    path, flipped = tmp_path / "a.h5", tmp_path / "b.h5"
    write_tree(path)
    content = path.read_bytes()
    draw = random.Random(1)
    found = 0
    for place in (draw.randrange(512, len(content)) for _ in range(400)):
        changed = bytearray(content)
        changed[place] ^= 1 << draw.randrange(8)
        flipped.write_bytes(resealed(bytes(changed)))
        try:
            tree = read_tree(flipped)
        except StoreError:
            found += 1
            continue
        assert (tree["weight"] == TREE["weight"]).all()
    assert found > 300


def test_another_program_s_file_is_not_mistaken_for_one_of_lid(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.attrs["schema_version"] = 1
    with pytest.raises(DamagedError, match="was not written by lid"):
        read_tree(path)


def test_a_newer_schema_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.h5"
    monkeypatch.setattr(hdf5, "SCHEMA_VERSION", 3)
    write_tree(path)
    monkeypatch.undo()
    with pytest.raises(
        StoreError, match=r"newer lid \(schema 3; this one reads up to 1\)"
    ) as error:
        read_tree(path)
    assert not isinstance(error.value, DamagedError)


def soft(file: h5py.File) -> None:
    file["x"] = h5py.SoftLink("/tensors")


def external_link(file: h5py.File) -> None:
    file["x"] = h5py.ExternalLink("/etc/passwd", "/")


def external_data(file: h5py.File) -> None:
    file.create_dataset("x", (10,), "u1", external=[("/etc/passwd", 0, 10)])


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((3,), "f8")
    layout[:] = h5py.VirtualSource("/tmp/other.h5", "y", (3,))
    file.create_virtual_dataset("x", layout)


def objects(file: h5py.File) -> None:
    file.create_dataset("x", data=["a", "bc"], dtype=h5py.string_dtype())


def references(file: h5py.File) -> None:
    file.create_dataset("x", data=file["tree"].ref, dtype=h5py.ref_dtype)


def compound(file: h5py.File) -> None:
    file["x"] = np.zeros(3, [("a", "f4"), ("b", "i4")])


def opaque(file: h5py.File) -> None:
    file.create_dataset("x", data=np.zeros(3, h5py.opaque_dtype("M8[s]")))


def filtered(file: h5py.File) -> None:
    file.create_dataset("x", data=np.zeros(1000), compression="gzip")


def sparse(file: h5py.File) -> None:
    file.create_dataset("x", (10**9, 10**3), "f8", chunks=(1, 1000))


def named_type(file: h5py.File) -> None:
    file["x"] = np.dtype("f8")


def loop(file: h5py.File) -> None:
    file["tensors/x"] = file["/"]


@pytest.mark.parametrize(
    "trick",
    [
        soft,
        external_link,
        external_data,
        virtual,
        objects,
        references,
        compound,
        opaque,
        filtered,
        sparse,
        named_type,
        loop,
    ],
    ids=lambda trick: trick.__name__,
)
def test_what_a_stranger_may_have_put_in_is_neither_followed_nor_read(
    tmp_path: Path, trick: Any
) -> None:
    path = tmp_path / "a.h5"

    def write(file: h5py.File) -> None:
        save_tree(file, TREE)
        trick(file)

    write_atomic(path, write)
    with pytest.raises(StoreError, match=r"a\.h5 holds .* \(x\), which lid neither writes nor"):
        read_tree(path)


@pytest.mark.parametrize(
    "text",
    [
        "{}", "[", "nul", '["array"]', '["array", "nowhere", "<f8"]', '["array", "weight", "O"]',
        '["array", "weight", "V8"]', '["tensor", "weight", "<f8", "load"]', '["int", "zz"]',
        '["call", "os.system"]', "[" * 100_000,
        '["dict", [["list"], 1]]', '[["list"], 1]', '["array", "../tree", "<f8"]', "1" * 10_000,
    ],
)  # fmt: skip
def test_a_forged_description_of_the_tree_is_damage(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.h5"

    def write(file: h5py.File) -> None:
        save_tree(file, TREE)
        del file["tree"]
        file["tree"] = np.frombuffer(text.encode(), np.uint8)

    write_atomic(path, write)
    with pytest.raises(DamagedError, match="is damaged"):
        read_tree(path)


def test_saving_takes_little_memory_beside_the_tree(tmp_path: Path) -> None:
    import tracemalloc

    tree = {str(i): np.zeros((1000, 1000), np.float32) for i in range(8)}
    tracemalloc.start()
    write_tree(tmp_path / "a.h5", tree)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * 2**20
