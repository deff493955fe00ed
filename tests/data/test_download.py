"""Downloads from a server that resumes, breaks off, lies or is not there."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import io
import os
import resource
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from lidcli.data import download
from lidcli.data.download import fetch, state
from lidcli.data.remote import Archive, RemoteFile
from lidcli.errors import DataError, LockedError

CONTENT = np.random.default_rng(0).bytes(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
MD5 = hashlib.md5(CONTENT).hexdigest()
BLOB = hashlib.sha1(b"blob 300000\0" + CONTENT).hexdigest()
WEAKER = pytest.mark.parametrize("known", [{"md5": MD5}, {"blob": BLOB}], ids=["MD5", "git"])


@dataclass
class Server:
    """What it serves, how the next requests go wrong, and what it was asked for."""

    address: str
    content: bytes = CONTENT
    resumes: bool = True
    troubles: list[str] = field(default_factory=list)
    asked: list[str | None] = field(default_factory=list)

    def file(self, *urls: str, sha256: str = SHA256) -> RemoteFile:
        return RemoteFile("set/data.gz", urls or (f"{self.address}/data.gz",), sha256, len(CONTENT))


class Handler(BaseHTTPRequestHandler):
    plan: Server

    def do_GET(self) -> None:
        plan, wanted = self.plan, self.headers.get("Range")
        plan.asked.append(wanted)
        trouble = plan.troubles.pop(0) if plan.troubles else ""
        if trouble.isdigit():
            self.send_error(int(trouble))
            return
        start = 0
        if wanted and plan.resumes:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            self.send_response(206)
            last = len(plan.content) - 1
            self.send_header("Content-Range", f"bytes {start}-{last}/{len(plan.content)}")
        else:
            self.send_response(200)
        body = plan.content[start:]
        if trouble != "no length":
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if trouble.startswith("drop after "):
            body = body[: int(trouble.rpartition(" ")[2])]
        if trouble == "damage":
            body = bytes([body[0] ^ 1]) + body[1:]
        self.wfile.write(body)
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(download, "BACKOFF_SECONDS", 0.0)
    handler = type("Planned", (Handler,), {})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        running.handle_error = lambda request, client_address: None  # type: ignore[method-assign]
        plan = Server(f"http://127.0.0.1:{running.server_address[1]}")
        handler.plan = plan
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield plan
        running.shutdown()
        thread.join()


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "set" / "data.gz"


@pytest.fixture
def part(target: Path) -> Path:
    target.parent.mkdir()
    return target.with_name("data.gz.part")


def test_a_file_arrives_whole_with_its_progress(server, tmp_path, target) -> None:
    seen: list[int] = []
    (done,) = fetch([server.file()], tmp_path, progress=lambda file, n: seen.append(n))
    assert target.read_bytes() == CONTENT
    assert done.source == f"{server.address}/data.gz"
    assert seen == sorted(seen)
    assert seen[-1] == len(CONTENT)
    assert [p.name for p in target.parent.iterdir()] == ["data.gz"]


def test_what_is_there_and_good_is_not_asked_for(server, tmp_path) -> None:
    fetch([server.file()], tmp_path)
    (again,) = fetch([server.file()], tmp_path)
    assert again.source is None
    assert len(server.asked) == 1


def test_a_good_file_needs_no_right_to_write(server, tmp_path, target, part) -> None:
    target.write_bytes(CONTENT)
    fetch([server.file()], tmp_path)
    assert not (tmp_path / ".lock").exists()


def test_a_broken_connection_is_resumed_where_it_broke(server, tmp_path, target) -> None:
    server.troubles = ["drop after 50000"] * 5
    fetch([server.file()], tmp_path)
    assert target.read_bytes() == CONTENT
    assert server.asked == [None, *(f"bytes={n}0000-" for n in (5, 10, 15, 20, 25))]


def test_an_earlier_process_s_half_is_gone_on_with(server, tmp_path, target, part) -> None:
    part.write_bytes(CONTENT[:200_000])
    assert state(server.file(), tmp_path) == "partial"
    fetch([server.file()], tmp_path)
    assert target.read_bytes() == CONTENT
    assert server.asked == ["bytes=200000-"]


def test_a_server_that_cannot_resume_is_asked_for_everything(server, tmp_path, target, part):
    server.resumes = False
    part.write_bytes(CONTENT[:1000])
    fetch([server.file()], tmp_path)
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("start", [b"x" * 1000, b"x" * len(CONTENT), b"x" * (len(CONTENT) + 9)])
def test_a_half_of_something_else_is_begun_anew(server, tmp_path, target, part, start) -> None:
    part.write_bytes(start)
    fetch([server.file()], tmp_path)
    assert target.read_bytes() == CONTENT


def test_a_whole_part_is_installed_without_a_request(server, tmp_path, target, part) -> None:
    part.write_bytes(CONTENT)
    fetch([server.file()], tmp_path)
    assert target.read_bytes() == CONTENT
    assert server.asked == []


def test_a_range_that_is_refused_is_begun_anew(server, tmp_path, target, part) -> None:
    part.write_bytes(CONTENT[:1000])
    server.troubles = ["416"]
    fetch([server.file()], tmp_path)
    assert target.read_bytes() == CONTENT
    assert server.asked == ["bytes=1000-", None]


def test_a_passing_trouble_is_tried_again(server, tmp_path, target) -> None:
    server.troubles = ["503", "503"]
    fetch([server.file()], tmp_path)
    assert target.read_bytes() == CONTENT


def test_the_next_address_goes_on_where_the_first_stopped(server, tmp_path, target) -> None:
    server.troubles = ["drop after 100000", "404"]
    (done,) = fetch([server.file(f"{server.address}/one", f"{server.address}/two")], tmp_path)
    assert done.source == f"{server.address}/two"
    assert server.asked == [None, "bytes=100000-", "bytes=100000-"]


def test_a_damaged_download_is_not_installed(server, tmp_path, target) -> None:
    server.troubles = ["damage"]
    with pytest.raises(DataError, match=r"127\.0\.0\.1: wrong checksum \(SHA-256 .*expected"):
        fetch([server.file()], tmp_path)
    assert list(target.parent.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "trouble", "words"),
    [
        (CONTENT[:-1], "", "offers 299999 bytes, expected 300,000"),
        (b"<html>", "", "offers 6 bytes, expected 300,000"),
        (CONTENT + b"!", "no length", "sends more than the 300,000 bytes"),
        (CONTENT, "404", "HTTP 404"),
    ],
)
def test_another_file_under_the_address_is_refused(
    server, tmp_path, target, content: bytes, trouble: str, words: str
) -> None:
    server.content, server.troubles = content, [trouble]
    with pytest.raises(DataError) as caught:
        fetch([server.file()], tmp_path)
    assert words in str(caught.value)
    assert "--mirror" in str(caught.value)
    assert list(target.parent.iterdir()) == []


def test_a_resumed_half_of_a_longer_file_is_refused(server, tmp_path, target, part) -> None:
    part.write_bytes(CONTENT[:1000])
    server.content = CONTENT + b"!"
    with pytest.raises(DataError, match="answers bytes 1000- with bytes 1000-300000/300001"):
        fetch([server.file()], tmp_path)
    assert not target.exists()


def test_a_connection_that_never_holds_keeps_what_arrived(server, tmp_path, target) -> None:
    server.troubles = ["drop after 70000", *["drop after 0"] * 9]
    with pytest.raises(DataError, match=r"broke off after 70,000 of 300,000 bytes.*70\.0 kB are"):
        fetch([server.file()], tmp_path)
    server.troubles = []
    fetch([server.file()], tmp_path)
    assert target.read_bytes() == CONTENT
    assert server.asked[-1] == "bytes=70000-"


def test_without_a_network_the_way_out_is_named(server, tmp_path) -> None:
    with pytest.raises(DataError, match=r"127\.0\.0\.1: Connection refused.*--mirror DIR"):
        fetch([server.file("http://127.0.0.1:1/data.gz")], tmp_path)


def test_a_damaged_file_stays_until_a_good_one_is_there(server, tmp_path, target, part) -> None:
    target.write_bytes(b"damaged")
    assert state(server.file(), tmp_path) == "damaged"
    server.troubles = ["404"]
    with pytest.raises(DataError):
        fetch([server.file()], tmp_path)
    assert target.read_bytes() == b"damaged"
    fetch([server.file()], tmp_path)
    assert target.read_bytes() == CONTENT


def test_a_mirror_is_copied_from_and_nothing_is_downloaded(server, tmp_path, target) -> None:
    mirror = tmp_path / "mirror"
    (mirror / "set").mkdir(parents=True)
    (mirror / "set" / "data.gz").write_bytes(CONTENT)
    (done,) = fetch([server.file()], tmp_path, mirror)
    assert target.read_bytes() == CONTENT
    assert done.source == str(mirror / "set" / "data.gz")
    assert server.asked == []


def test_a_damaged_mirror_changes_nothing(server, tmp_path, target, part) -> None:
    part.write_bytes(CONTENT[:1000])
    mirror = tmp_path / "mirror"
    (mirror / "set").mkdir(parents=True)
    (mirror / "set" / "data.gz").write_bytes(CONTENT[:-1] + b"!")
    with pytest.raises(DataError, match="wrong checksum"):
        fetch([server.file()], tmp_path, mirror)
    assert not target.exists()
    assert part.read_bytes() == CONTENT[:1000]


def test_a_mirror_without_the_file_or_without_a_folder_is_named(server, tmp_path) -> None:
    with pytest.raises(DataError, match=r"set/data\.gz is missing; without a mirror"):
        fetch([server.file()], tmp_path, tmp_path)
    with pytest.raises(DataError, match="is not a folder"):
        fetch([server.file()], tmp_path, tmp_path / "nowhere")


def test_a_full_disk_is_one_sentence_and_nothing_is_lost(server, tmp_path, target, part) -> None:
    target.write_bytes(b"damaged")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(DataError, match=r"No space is left in .*set for set/data\.gz \(300\.0"):
            fetch([server.file()], tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert target.read_bytes() == b"damaged"
    assert part.stat().st_size <= 100_000


@pytest.mark.parametrize("name", [".lock", "set/data.gz.part"])
def test_nothing_is_written_through_a_link(server, tmp_path, target, part, name) -> None:
    precious = tmp_path / "precious"
    precious.write_text("keep me")
    (tmp_path / name).symlink_to(precious)
    source = tmp_path / "mirror"
    (source / "set").mkdir(parents=True)
    (source / "set" / "data.gz").write_bytes(CONTENT)
    for mirror in (None, source):
        with pytest.raises(DataError, match=r"is a link and not a plain file; remove it"):
            fetch([server.file()], tmp_path, mirror)
    assert precious.read_text() == "keep me"
    assert not target.exists()


@pytest.mark.parametrize("name", [".lock", "set/data.gz.part"])
@pytest.mark.timeout(60)
def test_a_pipe_is_refused_without_waiting(server, tmp_path, part, name) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(DataError, match=r"is a pipe and not a plain file; remove it"):
        fetch([server.file()], tmp_path)


@pytest.mark.timeout(60)
def test_a_pipe_in_place_of_a_file_is_never_read(server, tmp_path, target, part) -> None:
    os.mkfifo(target)
    with pytest.raises(DataError, match=r"data\.gz is not a plain file"):
        state(RemoteFile("set/data.gz", (), None, None, md5=MD5), tmp_path)


def test_a_half_that_has_another_name_is_never_written(server, tmp_path, target, part) -> None:
    precious = tmp_path / "precious"
    precious.write_bytes(CONTENT[:1000])
    os.link(precious, part)
    fetch([server.file()], tmp_path)
    assert precious.read_bytes() == CONTENT[:1000]
    assert target.read_bytes() == CONTENT


def test_an_archive_is_never_unpacked_through_a_link(server, tmp_path, target) -> None:
    target.parent.mkdir()
    precious = tmp_path / "precious"
    precious.write_text("keep me")
    (target.parent / "data.gz.tar.gz.part").symlink_to(precious)
    packed = Archive(f"{server.address}/all.tar.gz", MD5, "data.gz")
    known = RemoteFile("set/data.gz", (), SHA256, len(CONTENT), archives=(packed,))
    with pytest.raises(DataError, match=r"is a link and not a plain file; remove it"):
        fetch([known], tmp_path)
    assert precious.read_text() == "keep me"


def test_a_folder_that_cannot_be_written_is_named(server, tmp_path) -> None:
    (tmp_path / "set").write_text("a file where a folder should be")
    with pytest.raises(DataError, match=r"cannot be (read|written): .*"):
        fetch([server.file()], tmp_path)
    (tmp_path / "data").write_text("a file")
    with pytest.raises(DataError, match=r"data cannot be written: File exists.*data\.root"):
        fetch([server.file()], tmp_path / "data")


def test_two_processes_never_write_the_same_file(server, tmp_path) -> None:
    with (tmp_path / ".lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(LockedError, match="Another process"):
            fetch([server.file()], tmp_path)
    assert len(fetch([server.file()], tmp_path)) == 1


def test_a_failing_replacement_leaves_the_download(server, tmp_path, monkeypatch, target) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as context:
        context.setattr(download.os, "replace", refuse)
        with pytest.raises(DataError, match="Input/output error"):
            fetch([server.file()], tmp_path)
    assert not target.exists()
    fetch([server.file()], tmp_path)
    assert target.read_bytes() == CONTENT
    assert len(server.asked) == 1


def of_unknown_size(server: Server, **known: str) -> RemoteFile:
    return RemoteFile("set/data.gz", (f"{server.address}/data.gz",), None, None, **known)


@WEAKER
def test_a_file_known_by_a_weaker_checksum_alone_arrives(server, tmp_path, target, known) -> None:
    file = of_unknown_size(server, **known)
    fetch([file], tmp_path)
    assert target.read_bytes() == CONTENT
    assert state(file, tmp_path) == "good"
    fetch([file], tmp_path)
    assert len(server.asked) == 1
    target.write_bytes(CONTENT[:-1] + b"!")
    assert state(file, tmp_path) == "damaged"


@WEAKER
def test_a_size_that_is_not_known_is_the_server_s(server, tmp_path, target, known) -> None:
    server.troubles = ["drop after 50000"] * 3
    fetch([of_unknown_size(server, **known)], tmp_path)
    assert target.read_bytes() == CONTENT
    assert server.asked == [None, *(f"bytes={n}0000-" for n in (5, 10, 15))]


@WEAKER
@pytest.mark.parametrize("start", [b"x" * 1000, b"x" * len(CONTENT), CONTENT])
def test_a_part_of_unknown_size_is_gone_on_with_or_begun_anew(
    server, tmp_path, target, part, known, start
) -> None:
    part.write_bytes(start)
    server.troubles = ["416"] if start == b"x" * len(CONTENT) else []
    fetch([of_unknown_size(server, **known)], tmp_path)
    assert target.read_bytes() == CONTENT
    assert bool(server.asked) == (start != CONTENT)


def test_a_size_that_is_not_known_has_a_limit(server, tmp_path, target, monkeypatch) -> None:
    monkeypatch.setattr("lidcli.data.remote.LARGEST", 100_000)
    with pytest.raises(DataError, match="offers 300000 bytes, expected 100,000 at most"):
        fetch([of_unknown_size(server, md5=MD5)], tmp_path)
    server.troubles = ["no length"]
    with pytest.raises(DataError, match="sends more than the 100,000 bytes expected"):
        fetch([of_unknown_size(server, md5=MD5)], tmp_path)
    assert list(target.parent.iterdir()) == []


@WEAKER
def test_another_content_is_not_installed_whatever_the_checksum(
    server, tmp_path, target, known
) -> None:
    server.content = b"<html>"
    words = "MD5" if "md5" in known else "git SHA-1"
    with pytest.raises(DataError, match=f"wrong checksum \\({words} "):
        fetch([of_unknown_size(server, **known)], tmp_path)
    assert list(target.parent.iterdir()) == []


def test_a_file_without_any_checksum_cannot_be_declared() -> None:
    with pytest.raises(ValueError, match=r"a\.txt has no checksum"):
        RemoteFile("a.txt", (), None, 3)


def packed(*members: tuple[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as out:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            out.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def in_archive(server: Server, content: bytes, urls: tuple[str, ...] = ()) -> RemoteFile:
    server.content = content
    archive = Archive(f"{server.address}/set.tgz", hashlib.md5(content).hexdigest(), "data.gz")
    return RemoteFile("set/data.gz", urls, None, None, md5=MD5, archives=(archive,))


def test_a_file_comes_out_of_an_archive_where_nothing_else_delivers(server, tmp_path, target):
    file = in_archive(server, packed(("set/data.gz", CONTENT)), (f"{server.address}/data.gz",))
    server.troubles = ["404", "drop after 50000"]
    (done,) = fetch([file], tmp_path)
    assert done.source == f"{server.address}/set.tgz"
    assert target.read_bytes() == CONTENT
    assert [path.name for path in target.parent.iterdir()] == ["data.gz"]
    assert server.asked == [None, None, "bytes=50000-"]


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ([("../data.gz", CONTENT)], "'../data.gz', outside its own folder"),
        ([("set/other.gz", CONTENT)], "the archive has no data.gz"),
        ([("set/data.gz", b"other")], "wrong checksum (MD5"),
    ],
)
def test_a_bad_archive_installs_nothing(server, tmp_path, target, members, words: str) -> None:
    with pytest.raises(DataError) as caught:
        fetch([in_archive(server, packed(*members))], tmp_path)
    assert words in str(caught.value)
    assert list(target.parent.iterdir()) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "set"]


def test_a_mirror_may_lack_what_is_optional(server, tmp_path, target) -> None:
    mirror = tmp_path / "mirror"
    (mirror / "set").mkdir(parents=True)
    optional = RemoteFile("set/more.gz", (), None, None, md5=MD5, optional=True)
    (mirror / "set" / "data.gz").write_bytes(CONTENT)
    assert [one.path for one in fetch([server.file(), optional], tmp_path, mirror)] == [target]
    (mirror / "set" / "more.gz").write_bytes(CONTENT[:-1])
    with pytest.raises(DataError, match=r"more\.gz has the wrong checksum \(MD5"):
        fetch([server.file(), optional], tmp_path, mirror)


def test_another_packing_is_good_and_the_published_one_is_what_is_downloaded(
    server, tmp_path, target
) -> None:
    repacked = b"packed anew"
    published = RemoteFile("set/data.gz", (f"{server.address}/data.gz",), None, None, md5=MD5)
    digest = hashlib.sha256(repacked).hexdigest()
    file = RemoteFile("set/data.gz", published.urls, digest, len(repacked), published=published)
    fetch([file], tmp_path)
    assert (target.read_bytes(), state(file, tmp_path)) == (CONTENT, "good")
    target.write_bytes(repacked)
    assert state(file, tmp_path) == "good"
    target.write_bytes(repacked[:-1])
    assert state(file, tmp_path) == "damaged"
    for content in (CONTENT, repacked):
        mirror = tmp_path / "mirror" / "set" / "data.gz"
        mirror.parent.mkdir(parents=True, exist_ok=True)
        mirror.write_bytes(content)
        target.unlink()
        fetch([file], tmp_path, tmp_path / "mirror")
        assert target.read_bytes() == content
