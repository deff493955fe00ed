"""`lid fetch` through a real process."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

MNIST = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")


@pytest.mark.mirror
def test_a_mirror_s_files_arrive_and_a_second_call_has_nothing_to_do(lid, tmp_path, mirror) -> None:
    first = lid("fetch", "mnist", "--mirror", str(mirror))
    assert first.returncode == 0, first.stderr
    assert "4 copied into data" in first.stdout
    for name in MNIST:
        assert (tmp_path / f"data/mnist/{name}-ubyte.gz").is_file()
    second = lid("fetch", "mnist", env={"LID_MIRROR": str(mirror)})
    assert second.returncode == 0
    assert "already there, checksums good" in second.stdout
    assert second.stderr == ""


@pytest.mark.mirror
def test_json_is_one_versioned_document(lid, tmp_path, mirror) -> None:
    done = lid("fetch", "mnist", "digits", "--json", "--set", "data.root=here", env={
        "LID_MIRROR": str(mirror)
    })  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    document = json.loads(done.stdout)
    assert (document["schema_version"], document["command"]) == (1, "fetch")
    mnist, digits = document["data"]
    assert [file["state"] for file in mnist["files"]] == ["good"] * 4
    assert all((tmp_path / file["path"]).is_file() for file in mnist["files"])
    assert all(file["source"].startswith(str(mirror)) for file in mnist["files"])
    assert digits["files"] == []


@pytest.mark.mirror
def test_quiet_says_only_what_was_done(lid, mirror) -> None:
    done = lid("fetch", "mnist", "-q", "--mirror", str(mirror))
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) == 1


@pytest.mark.mirror
def test_bars_are_drawn_on_a_terminal_only(mirror, tmp_path) -> None:
    command = [sys.executable, "-m", "lidcli", "fetch", "mnist", "--mirror", str(mirror)]
    ours, theirs = pty.openpty()
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=theirs) as process:
        os.close(theirs)
        drawn = b""
        while chunk := _read(ours):
            drawn += chunk
        out = process.stdout.read() if process.stdout else b""
    os.close(ours)
    assert process.returncode == 0
    assert b"\x1b[" in drawn
    assert b"\x1b[" not in out


@pytest.mark.mirror
def test_text_arrives_and_what_the_mirror_lacks_is_said(lid, tmp_path, mirror) -> None:
    for verb in ("3 copied into data, checksums good", "already there, checksums good"):
        done = lid("fetch", "yahoo", "short-yelp", "synthetic", "--mirror", str(mirror))
        assert done.returncode == 0, done.stderr
        assert done.stdout.count(verb) == 2
        assert "yahoo/yahoo.train.txt is not in the mirror" in done.stdout
    assert (tmp_path / "data/yelp/short_yelp/short_yelp.valid.txt").is_file()
    assert "nothing to download" in done.stdout


def test_a_lock_that_is_a_link_is_refused_and_what_it_names_is_untouched(lid, tmp_path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("keep me")
    for folder in ("data", "empty"):
        (tmp_path / folder).mkdir()
    (tmp_path / "data" / ".lock").symlink_to(precious)
    done = lid("fetch", "mnist", "--mirror", "empty")
    assert done.returncode == 4, done.stderr
    assert "data/.lock is a link and not a plain file; remove it." in done.stderr
    assert precious.read_text() == "keep me"


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:
        return b""


def test_a_dry_run_says_what_would_come_from_where_and_writes_nothing(lid, tmp_path) -> None:
    done = lid("fetch", "all", "-n")
    assert done.returncode == 0, done.stderr
    assert "mnist/train-images-idx3-ubyte.gz" in done.stdout
    assert "from ossci-datasets.s3.amazonaws.com into data" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert list(tmp_path.iterdir()) == []


def test_without_a_name_there_is_a_list_and_nothing_is_fetched(lid, tmp_path) -> None:
    done = lid("fetch")
    assert done.returncode == 0, done.stderr
    for name in ("pinwheel", "digits", "mnist", "fashion-mnist", "yahoo", "yelp"):
        assert name in done.stdout
    assert "4 to fetch" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_names_with_nothing_to_download_say_so(lid) -> None:
    done = lid("fetch", "pinwheel", "digits")
    assert done.returncode == 0
    assert done.stdout.count("nothing to download") == 2


def test_a_file_of_the_user_s_and_another_name_for_a_known_set_are_understood(
    lid, tmp_path
) -> None:
    (tmp_path / "mine.yaml").write_text(
        "defaults: {data: {root: elsewhere}}\n"
        "data:\n"
        "  mine: {kind: points, path: mine.csv}\n"
        "  few: {kind: image, name: mnist, train: 1000}\n"
    )
    done = lid("fetch", "mine", "few", "-n", "-c", "mine.yaml")
    assert done.returncode == 0, done.stderr
    assert "mine           nothing to download, a file of yours" in done.stdout
    assert "into elsewhere" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["mnits"], "Unknown data 'mnits'; did you mean mnist?"),
        (["mnist", "--set", "train.epochs=3"], "takes --set data.root=DIR only"),
    ],
)
def test_what_is_not_known_is_refused(lid, arguments: list[str], words: str) -> None:
    done = lid("fetch", *arguments)
    assert done.returncode == 2
    assert words in done.stderr


def test_names_complete() -> None:
    from click.shell_completion import ShellComplete

    from lidcli.cli import cli

    completer = ShellComplete(cli, {}, "lid", "_LID_COMPLETE")
    assert [c.value for c in completer.get_completions(["fetch"], "fa")] == ["fashion-mnist"]
    assert "all" in [c.value for c in completer.get_completions(["fetch"], "")]


def test_fetching_and_completing_never_import_torch(repository: Path) -> None:
    code = "import sys, lidcli.cli.fetch\nassert not {'torch', 'sklearn'} & set(sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
