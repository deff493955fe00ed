"""Archives from the net: one file is taken out, and nothing else happens."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path

import pytest

from lidcli.data.archive import ArchiveError, extract

CONTENT = b"what do you think of _UNK ?\n" * 500


def archive(path: Path, *members: tarfile.TarInfo, content: bytes = CONTENT) -> Path:
    with tarfile.open(path, "w:gz") as out:
        for member in members:
            member.size = len(content) if member.isreg() else 0
            out.addfile(member, io.BytesIO(content))
    return path


def link(name: str, to: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, to
    return member


def take(path: Path, limit: int = 100_000) -> Path:
    target = path.parent / "out" / "train.txt"
    target.parent.mkdir(exist_ok=True)
    extract(path, "train.txt", target, limit)
    return target


@pytest.mark.parametrize("folder", ["", "set/", "./set/deep/"])
def test_the_file_is_found_in_any_folder_and_alone_is_written(tmp_path, folder: str) -> None:
    members = [tarfile.TarInfo(folder + name) for name in ("valid.txt", "train.txt", "more.txt")]
    target = take(archive(tmp_path / "a.tar.gz", *members))
    assert target.read_bytes() == CONTENT
    assert [path.name for path in target.parent.iterdir()] == ["train.txt"]
    assert not target.stat().st_mode & 0o111


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ([tarfile.TarInfo("../train.txt")], "outside its own folder"),
        ([tarfile.TarInfo("a/../../train.txt")], "outside its own folder"),
        ([tarfile.TarInfo("/etc/x"), tarfile.TarInfo("train.txt")], "'/etc/x', outside its own"),
        ([link("train.txt", "/etc/passwd")], "'train.txt' in the archive is not a regular file"),
        ([link("train.txt", "a", tarfile.LNKTYPE)], "is not a regular file"),
        ([link("a/train.txt", "", tarfile.FIFOTYPE)], "is not a regular file"),
        ([link("train.txt", "", tarfile.DIRTYPE)], "is not a regular file"),
        ([tarfile.TarInfo("train.text")], "has no train.txt"),
        ([], "has no train.txt"),
    ],
)
def test_what_is_unsafe_or_not_there_is_refused(tmp_path, members, words: str) -> None:
    path = archive(tmp_path / "a.tar.gz", *members)
    with pytest.raises(ArchiveError, match=words):
        take(path)
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["a.tar.gz", "out"]


def test_more_than_the_limit_is_never_written(tmp_path) -> None:
    members = [tarfile.TarInfo("a.txt"), tarfile.TarInfo("train.txt")]
    path = archive(tmp_path / "a.tar.gz", *members)
    with pytest.raises(ArchiveError, match="unpacks to more than 14,500 bytes"):
        take(path, 14_500)
    assert list((tmp_path / "out").iterdir()) == []
    assert take(path, 2 * len(CONTENT)).exists()


@pytest.mark.parametrize("keep", [0.0, 0.01, 0.5])
def test_an_archive_that_ends_too_early_leaves_nothing(tmp_path, keep: float) -> None:
    path = archive(tmp_path / "a.tar.gz", tarfile.TarInfo("train.txt"))
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(ArchiveError):
        take(path)
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("content", [b"<html>", gzip.compress(b"no archive at all" * 99, mtime=0)])
def test_what_is_no_archive_is_refused(tmp_path, content: bytes) -> None:
    (tmp_path / "a.tar.gz").write_bytes(content)
    with pytest.raises(ArchiveError):
        take(tmp_path / "a.tar.gz")
