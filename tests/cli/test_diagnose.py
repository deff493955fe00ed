"""`lid diagnose`: a script of the user's, data of the user's, and what is said of wrong ones."""

from __future__ import annotations

import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest

from lidcli.cli.diagnose import read
from lidcli.errors import DataError

Lid = Callable[..., "CompletedProcess[str]"]

SCRIPT = """
import torch
from beside import width

torch.manual_seed(0)
encoder, decoder = torch.nn.Linear(width, 4), torch.nn.Linear(2, width)


class Model:
    def encode(self, x):
        return encoder(x).chunk(2, 1)

    def decode(self, z):
        return decoder(z)


model = Model()
functions = {"encode": model.encode, "decode": decoder, "likelihood": "gaussian", "sigma": 1.0}
wrong = {"encode": lambda x: x}
fails = {"encode": lambda x: {}["k"]}
ends = {"encode": lambda x: exit(7)}
complex_ = functions | {"decode": lambda z: decoder(z) + 0j}
"""
GAUSSIAN = ("--likelihood", "gaussian", "--sigma", "1", "--samples", "4")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(SCRIPT)
    (tmp_path / "beside.py").write_text("width = 3\n")
    x = np.random.default_rng(0).normal(size=(200, 3))
    np.savez(tmp_path / "x.npz", x=x)
    np.savetxt(tmp_path / "x.csv", x, delimiter=",", header="a,b,c", comments="")
    return tmp_path


@pytest.mark.parametrize("data", ["x.npz", "x.csv"])
def test_a_model_of_a_script_is_measured(lid: Lid, folder: Path, data: str) -> None:
    done = lid("diagnose", "mine.py:model", "--data", data, *GAUSSIAN, "--plot", "u.png")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("The latent is ")
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert (folder / "u.png").exists()


def test_a_dictionary_may_say_everything_and_json_is_one_document(lid: Lid, folder: Path) -> None:
    done = lid("diagnose", "mine.py:functions", "--data", "x.npz", "--samples", "4", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["command"] == "diagnose"
    assert document["figures"]["n"] == 200
    assert len(document["units"]) == 2


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("mine.py", "--data", "x.npz"), 2, "names no model"),
        (("other.py:model", "--data", "x.npz"), 2, "other.py does not exist"),
        (("mine.py:modle", "--data", "x.npz"), 2, "did you mean model?"),
        (("fails.py:model", "--data", "x.npz"), 2, "cannot be imported: ZeroDivisionError"),
        (("mine.py:wrong", "--data", "x.npz"), 2, "returned one tensor"),
        (("mine.py:model", "--data", "x.npz"), 2, "name likelihood="),
        (("mine.py:fails", "--data", "x.npz"), 2, "encode cannot be called"),
        (("mine.py:functions", "--data", "x.npz", "--device", "gpu"), 2, "device='gpu' cannot be"),
        (("mine.py:model", "--data", "none.npz"), 4, "none.npz does not exist"),
        (("mine.py:model", "--data", "y.npz"), 4, "holds y, where an array x is expected"),
        (("mine.py:model", "--data", "mine.py"), 4, "neither an .npz nor a .csv"),
        (("mine.py:model", "--data", "bad.csv"), 4, "line 2"),
        (("mine.py:model", "--data", "odd.csv"), 4, "line 1: 'O' stands among numbers"),
        (("mine.py:model", "--data", "empty.npz"), 2, "x has the shape (3, 0)"),
        (("mine.py:ends", "--data", "x.npz"), 2, "encode cannot be called"),
        (("mine.py:complex_", "--data", "x.npz"), 2, "holds torch.complex64"),
        (("none.py:model", "--data", "x.npz", "--plot", "u.jpg"), 2, "ending in .png"),
        (("none.py:model", "--data", "x.npz", "--plot", "no/u.png"), 2, "there is no folder no"),
        (("mine.py:model", "--data", "bad.npz"), 4, "no .npz file"),
    ],
)
def test_what_is_wrong_is_told(
    lid: Lid, folder: Path, arguments: tuple[str, ...], code: int, told: str
) -> None:
    (folder / "fails.py").write_text("1 / 0\n")
    (folder / "bad.csv").write_text("1,2,3\n4,five,6\n")
    (folder / "bad.npz").write_text("text")
    (folder / "odd.csv").write_text("1,O,1\n4,5,6\n7,8,9\n")
    np.savez(folder / "y.npz", y=np.zeros((3, 3)))
    np.savez(folder / "empty.npz", x=np.zeros((3, 0)))
    done = lid("diagnose", *arguments)
    assert done.returncode == code, done.stderr
    assert told in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_table_with_a_mark_of_its_encoding_loses_no_line(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes(b"\xef\xbb\xbf1,2\n3,4\n5,6\n")
    assert read(tmp_path / "x.csv").tolist() == [[1, 2], [3, 4], [5, 6]]


@pytest.mark.parametrize("header", ["{[]: 1}", "{'descr': '<f8', 'fortran_order': (", "{1}"])
def test_an_array_whose_header_is_nonsense_is_bad_data(tmp_path: Path, header: str) -> None:
    text = header.ljust(117).encode() + b"\n"
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("x.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text)
    with pytest.raises(DataError, match=r"x\.npz is no \.npz file of plain numbers"):
        read(tmp_path / "x.npz")
