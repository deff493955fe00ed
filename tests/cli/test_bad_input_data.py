"""Bad data through a real process: exit code 4, a sentence or two, nothing lost."""

from __future__ import annotations

import contextlib
import gzip
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from lidcli.data.registry import DATASETS

POINTS = [f"{i},{i % 7}" for i in range(40)]
MINE = """\
data:
  mine: {kind: points, path: mine.csv, model: {latent: 2, categories: 3}, train: {epochs: 1}}
  scans: {kind: image, path: scans.npz, model: {latent: 2, categories: 3}, train: {epochs: 1}}
"""


def refused(done: subprocess.CompletedProcess[str], *words: str, code: int = 4) -> None:
    """The command ended as a bad input has to."""
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    said = [line for line in done.stderr.splitlines() if not line.startswith("fetching ")]
    assert len(said) == 1
    assert said[0].startswith("lid: ")
    assert len(re.findall(r"[.?!](?= [A-Z0-9]|$)", said[0])) in (1, 2)
    for word in words:
        assert word in said[0]


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    (tmp_path / "mine.yaml").write_text(MINE)
    return tmp_path


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([*POINTS[:6], "nan,1", *POINTS], ("mine.csv, line 7", "finite number, found nan")),
        ([*POINTS[:6], "1,2,3", *POINTS], ("mine.csv, line 7", "3 cells; expected 2")),
    ],
    ids=["nan", "ragged"],
)
def test_a_wrong_csv_is_refused_before_anything_is_written(lid, mine, lines, words) -> None:
    (mine / "mine.csv").write_text("\n".join(lines))
    refused(lid("train", "-m", "vae", "-d", "mine", "-c", "mine.yaml"), *words)
    assert not (mine / "results").exists()


def test_a_csv_of_too_few_rows_is_refused_before_anything_is_written(lid, mine) -> None:
    (mine / "mine.csv").write_text("\n".join(POINTS[:10]))
    done = lid("train", "-m", "vae", "-d", "mine", "-c", "mine.yaml")
    refused(done, "10 leave 8 for training and 1 for the test; 2 of each are needed")
    assert not (mine / "results").exists()


def test_a_part_of_one_datum_is_not_measured(lid, mine) -> None:
    (mine / "mine.csv").write_text("\n".join(POINTS[:15]))
    done = lid(
        "train", "-m", "vae", "-d", "mine", "-c", "mine.yaml", "--set", "evaluate.split=valid"
    )
    refused(done, "The valid part of mine has too few data to be measured: 1, and 2 are needed")
    assert not (mine / "results").exists()


def test_a_missing_csv_is_named(lid, mine) -> None:
    refused(lid("train", "-m", "vae", "-d", "mine", "-c", "mine.yaml"), "mine.csv does not exist")


def test_images_out_of_range_are_named_by_array(lid, mine) -> None:
    np.savez(mine / "scans.npz", x=np.full((40, 3, 3), 2.5))
    done = lid("train", "-m", "vae", "-d", "scans", "-c", "mine.yaml")
    refused(done, "x holds 2.5 at (0, 0, 0)", "between 0 and 1")


def test_a_good_file_of_the_user_s_trains(lid, mine) -> None:
    (mine / "mine.csv").write_text("\n".join(POINTS))
    done = lid(
        "train", "-m", "vae", "-d", "mine", "-c", "mine.yaml",
        "--set", "evaluate.samples=2", "--set", "evaluate.outer=4",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_files_that_were_never_fetched_are_asked_for(lid) -> None:
    refused(lid("train", "-m", "vae", "-d", "mnist"), "lid fetch mnist")


def test_a_truncated_idx_file_is_named(lid, tmp_path) -> None:
    folder = tmp_path / "data" / "mnist"
    folder.mkdir(parents=True)
    for file in DATASETS["mnist"].files:
        (tmp_path / "data" / file.path).write_bytes(gzip.compress(bytes(5000))[:-20])
    done = lid("train", "-m", "vae", "-d", "mnist")
    refused(done, "train-images-idx3-ubyte.gz ends too early", "fetch it again")


@pytest.fixture
def copies(tmp_path: Path, mirror: Path) -> Path:
    """A mirror of MNIST that a test may damage."""
    folder = tmp_path / "copies"
    shutil.copytree(mirror / "mnist", folder / "mnist")
    for path in folder.rglob("*"):
        path.chmod(0o755)
    return folder


@pytest.mark.mirror
def test_a_wrong_checksum_is_not_installed_and_what_was_good_stays(lid, tmp_path, copies) -> None:
    assert lid("fetch", "mnist", "--mirror", str(copies)).returncode == 0
    labels = "mnist/t10k-labels-idx1-ubyte.gz"
    good = (tmp_path / "data" / labels).read_bytes()
    (tmp_path / "data" / labels).unlink()
    (copies / labels).write_bytes(good[:-1] + b"!")
    refused(lid("fetch", "mnist", "--mirror", str(copies)), labels, "wrong checksum")
    assert not (tmp_path / "data" / labels).exists()
    assert (tmp_path / "data/mnist/t10k-images-idx3-ubyte.gz").exists()
    (copies / labels).write_bytes(good)
    assert lid("fetch", "mnist", "--mirror", str(copies)).returncode == 0
    assert (tmp_path / "data" / labels).read_bytes() == good


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[None]:
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    try:
        made = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        made = False
    if not made:
        pytest.skip("mounting a tmpfs needs more rights")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.mirror
def test_a_full_disk_loses_nothing(lid, tmp_path, mirror) -> None:
    disk = tmp_path / "disk"
    command = ("fetch", "mnist", "--mirror", str(mirror), "--set", f"data.root={disk}")
    with small_disk(disk, "1m"):
        refused(lid(*command), "No space is left", "run the same command again")
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        again = lid(*command)
        assert again.returncode == 0, again.stderr
        assert not list(disk.rglob("*.part"))


@pytest.mark.mirror
def test_a_file_size_limit_is_the_same_as_a_full_disk(tmp_path, mirror) -> None:
    command = f"ulimit -f 1000; exec '{sys.executable}' -m lidcli fetch mnist"
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=tmp_path,
        env=os.environ | {"LID_MIRROR": str(mirror)},
        capture_output=True,
        text=True,
        check=False,
    )
    refused(done, "No space is left")


@pytest.mark.mirror
def test_a_folder_that_cannot_be_written_is_named(lid, tmp_path, mirror) -> None:
    (tmp_path / "data").write_text("a file where the folder should be")
    done = lid("fetch", "mnist", "--mirror", str(mirror))
    refused(done, "cannot be", "data")


def test_a_mirror_that_is_no_folder_is_named(lid) -> None:
    refused(lid("fetch", "mnist", "--mirror", "nowhere"), "nowhere is not a folder")
