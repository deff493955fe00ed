"""A lock is a plain file of the run's own, whatever a stranger put under its name."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lidcli.errors import StoreError
from lidcli.store.lock import check_place
from lidcli.store.run import Run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    run = Run.create(tmp_path / "demo" / "abc-s0", {"seed": 0}, {})
    (run.folder / ".lock").unlink()
    return run


def refused(run: Run, words: str) -> None:
    with pytest.raises(StoreError, match=words), run.lock():
        pass


def test_a_lock_that_is_a_link_is_refused_and_what_it_names_is_untouched(
    run: Run, tmp_path: Path
) -> None:
    precious = tmp_path / "precious"
    precious.write_text("keep me")
    (run.folder / ".lock").symlink_to(precious)
    refused(run, r"\.lock is a link and not a plain file; remove it")
    assert precious.read_text() == "keep me"


def test_a_lock_that_is_a_dangling_link_makes_no_file(run: Run, tmp_path: Path) -> None:
    (run.folder / ".lock").symlink_to(tmp_path / "new")
    refused(run, "is a link")
    assert not (tmp_path / "new").exists()


def test_a_file_that_has_another_name_is_locked_but_never_written(run: Run, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("keep me")
    os.link(precious, run.folder / ".lock")
    with run.lock():
        assert precious.read_text() == "keep me"


@pytest.mark.timeout(20)
def test_a_pipe_a_folder_and_a_device_are_refused_without_waiting(run: Run) -> None:
    path = run.folder / ".lock"
    os.mkfifo(path)
    refused(run, r"\.lock is a pipe and not a plain file")
    path.unlink()
    path.mkdir()
    refused(run, r"\.lock is a folder and not a plain file")
    path.rmdir()
    path.symlink_to("/dev/zero")
    refused(run, "and not a plain file")


def test_a_folder_under_a_temporary_file_s_name_does_not_stop_a_run(run: Run) -> None:
    (run.folder / ".run.h5.x.tmp").mkdir()
    with run.lock():
        assert run.status == "running"


def test_the_store_is_importable_where_there_is_no_fcntl(run: Run) -> None:
    script = (
        "import sys; sys.modules['fcntl'] = None\n"
        "from pathlib import Path\n"
        "from lidcli.errors import StoreError\n"
        "from lidcli.store.run import Run\n"
        "run = Run.open(Path(sys.argv[1]))\n"
        "try:\n    run.lock().__enter__()\n"
        "except StoreError as error:\n    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(run.folder)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "no file locks" in done.stdout


def test_a_file_system_without_locks_is_known_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    check_place(tmp_path / "demo")
    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(StoreError, match="put the results on a file system with locks"):
        check_place(tmp_path / "demo")
    assert list((tmp_path / "demo").iterdir()) == []
