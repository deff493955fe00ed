"""Models of text through a real process, on documents of the user's."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from forked import Command

from lidcli.store.run import Run

MINE = """\
data:
  mine:
    kind: text
    data: {path: mine.txt, test_fraction: 0.3}
    model: {latent: 2}
    decoder: {embedding: 6, hidden: 8}
    encoder: {embedding: 6, hidden: 8}
    evaluate: {samples: 4, outer: 10}
    train: {epochs: 2, batch_size: 16, learning_rate: 3.0e-3}
"""
TASTES = (("no", "bad"), ("yes", "good"))
GOOD = [f"{TASTES[i % 2][0]}\t{TASTES[i % 2][1]} food {i % 7} ." for i in range(96)]
METHODS = ["svae", "skip-svae", "lidsvae", "beta-vae", "sa-vae", "lagging-vae", "vae", "lidvae"]


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    (tmp_path / "mine.yaml").write_text(MINE)
    (tmp_path / "mine.txt").write_text("\n".join(GOOD) + "\n")
    return tmp_path


def arguments(method: str, *more: str) -> list[str]:
    return ["train", "-m", method, "-d", "mine", "-c", "mine.yaml", "-q", *more]


def refused(done: subprocess.CompletedProcess[str], *words: str, code: int = 4) -> None:
    """The command ended as a bad input has to: one sentence."""
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    (said,) = done.stderr.splitlines()
    assert said.startswith("lid: ")
    assert len(re.findall(r"[.?!](?= [A-Z0-9]|$)", said)) == 1
    for word in words:
        assert word in said


@pytest.mark.parametrize("method", METHODS)
def test_every_method_of_text_trains_on_documents_of_the_users(lid, mine, method: str) -> None:
    done = lid(*arguments(method, "--json"))
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["provenance"]["status"] == "complete"
    assert document["provenance"]["checks"] == []
    scalars = document["evaluation"]["test"]
    assert {
        "nll",
        "ppl",
        "elbo",
        "kl/z",
        "mi/z",
        "au/z",
        "probe",
        "probe_draw",
        "allowed/mi",
    } <= set(scalars)
    assert ("certificate" in scalars) == method.startswith(("lid", "skip"))
    assert "min_singular_value" not in scalars


def test_a_language_model_is_measured_exactly_and_has_no_latent(lid, mine) -> None:
    done = lid(*arguments("lm"))
    assert done.returncode == 0, done.stderr
    assert "no latent" in done.stdout
    assert "(exact)" in done.stdout
    assert not {"KL", "MI", "AU"} & set(done.stdout.split())


def test_a_language_model_beside_others_that_are_asked_for_variation(lid, mine) -> None:
    asked = MINE.replace("samples: 4", "samples: 4, identifiability: true")
    (mine / "mine.yaml").write_text(asked)
    done = lid(*arguments("lm", "--json"))
    assert done.returncode == 0, done.stderr
    (run,) = (mine / "results").glob("*/*")
    assert lid("evaluate", str(run), "--identifiability").returncode == 0
    assert not [name for name in Run.open(run).evaluation["test"] if "variation" in name]


def test_the_headlines_of_text(lid, mine) -> None:
    done = lid(*arguments("lidsvae"))
    assert done.returncode == 0, done.stderr
    labels = [re.split(r"  +", line)[1] for line in done.stdout.splitlines()[1:-1]]
    wanted = ["NLL", "perplexity", "ELBO", "AU of z", "KL of z", "MI of z"]
    wanted += ["probe", "certificate", "allowed MI"]
    assert [label for label in labels if label in wanted] == wanted
    assert not {"LL", "reconstruction", "smallest slope"} & set(labels)
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_the_generator_of_synthetic_sentences_is_in_the_record(lid, tmp_path) -> None:
    small = ["--set", "data.train=100", "--set", "data.valid=20", "--set", "data.test=40"]
    few = ["--set", "train.epochs=1", "--set", "evaluate.samples=2", "--set", "evaluate.outer=5"]
    done = lid("train", "-m", "svae", "-d", "synthetic", *small, *few, "-q")
    assert done.returncode == 0, done.stderr
    assert "entropy 52.376" in done.stdout
    assert "(generator 3.964)" in done.stdout
    (record,) = (tmp_path / "results").rglob("run.h5")
    known = Run.open(record.parent).provenance["ceiling"]
    assert known == {
        "entropy": 52.376,
        "entropy_se": 0.167,
        "information": 3.964,
        "information_se": 0.039,
    }


def test_samples_of_a_run_are_shown_in_eighty_columns_and_as_json(lid, mine) -> None:
    assert lid(*arguments("lidsvae")).returncode == 0
    (record,) = (mine / "results").rglob("run.h5")
    name = record.parent.name
    done = lid("show", name, "--samples")
    assert done.returncode == 0, done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 80
    for word in ("reconstruction", "prior", "another", "raises", "  -> ", "food"):
        assert word in done.stdout
    narrow = lid("show", name, "--samples", env={"COLUMNS": "40"})
    assert max(map(len, narrow.stdout.splitlines()[1:])) <= 60
    told = json.loads(lid("show", name, "--samples", "--json").stdout)
    assert set(told["texts"]) == {"reconstructions", "samples", "interpolation", "words"}
    assert [len(told["texts"]["words"]), len(told["texts"]["samples"])] == [2, 8]
    plain = lid("show", name)
    assert "--samples" in plain.stdout
    assert "interpolation" not in plain.stdout


def stored(results: Path, texts: Any, name: str = "abcdef0123-s0") -> None:
    config = {"method": "svae", "seed": 0, "data": {"name": "mine", "kind": "text"}}
    run = Run.create(results / "train" / name, config, {})
    run.update(provenance={"status": "complete", "texts": texts})


def test_what_is_shown_cannot_steer_a_terminal(lid, tmp_path) -> None:
    evil = "one\x1b[2J\x07 \u202etwo\r\n\x9b31m " + "漢字" * 60 + " end"
    stored(tmp_path / "results", {"samples": [evil], "words": [{"raises": [evil]}, 3]})
    done = lid("show", "abcdef", "--samples")
    assert done.returncode == 0, done.stderr
    assert all(ch.isprintable() or ch == "\n" for ch in done.stdout)
    assert all(word in done.stdout for word in ("one", "two", "end"))
    wide = [sum(1 + (ch in "漢字") for ch in line) for line in done.stdout.splitlines()]
    assert max(wide) <= 80


@pytest.mark.parametrize(
    "texts", [None, {}, "text", {"samples": 3, "words": [1], "reconstructions": [["one"]]}]
)
def test_a_run_without_sentences_says_so(lid, tmp_path, texts: Any) -> None:
    stored(tmp_path / "results", texts)
    refused(lid("show", "abcdef", "--samples"), "no sentences", code=2)
    refused(lid("show", "config", "--samples"), "--samples goes with a run", code=2)


def insert(row: bytes) -> bytes:
    """Good documents with one more in the sixth line."""
    lines = [line.encode() for line in GOOD]
    return b"\n".join([*lines[:5], row, *lines[5:]])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ["mine.txt is empty"]),
        (b"\n \n", ["mine.txt is empty"]),
        (insert(b""), ["line 6 is empty"]),
        (insert(b"a line of text"), ["line 6", "no tab"]),
        (insert(b"\tof text"), ["line 6 has no label"]),
        (insert(b"yes\t "), ["line 6"]),
        (insert(b"yes\tcaf\xe9 au lait"), ["line 6", "not UTF-8"]),
        (insert(b"yes\tnul\0byte"), ["line 6", "zero byte"]),
        (b"a b\nb a\n", ["too few documents"]),
    ],
    ids=["empty", "blank", "line", "tab", "label", "text", "latin", "zero", "few"],
)
def test_a_file_that_is_no_documents_is_refused(lid, mine, content: bytes, words) -> None:
    (mine / "mine.txt").write_bytes(content)
    refused(lid(*arguments("svae")), "mine.txt", *words)
    assert not (mine / "results").exists()


def test_documents_of_one_word_train_without_directions_alone(lid, mine) -> None:
    (mine / "mine.txt").write_text("\n".join("ab"[i % 2] for i in range(40)))
    assert lid(*arguments("svae", "--set", "train.epochs=1")).returncode == 0
    refused(lid(*arguments("lidsvae")), "No directions from the documents of mine", code=2)


@pytest.mark.slow
def test_a_document_of_ten_thousand_words_trains(lid, mine) -> None:
    rows = [row.partition("\t")[2] for row in GOOD[:24]]
    (mine / "mine.txt").write_text("\n".join([*rows, "long " * 10_000]))
    done = lid(*arguments("svae", "--set", "train.epochs=1", "--set", "decoder.hidden=4", "--json"))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["provenance"]["checks"] == []


@pytest.mark.parametrize(
    ("tokens", "words"),
    [
        ("<unk>\nfood\nfood\n", ["tokens.txt, line 3", "there already, in line 2"]),
        ("food\ngood\n", ["no <unk>"]),
        ("<unk>\nnothing\nof\nit\n", ["every training word is <unk>", "tokens.txt"]),
        ("", ["tokens.txt"]),
    ],
    ids=["twice", "unknown", "nothing", "empty"],
)
def test_a_vocabulary_that_does_not_fit_is_refused(lid, mine, tokens: str, words) -> None:
    (mine / "tokens.txt").write_text(tokens)
    refused(lid(*arguments("svae", "--set", "data.vocabulary=tokens.txt")), *words)


def test_a_cache_of_another_vocabulary_is_not_taken(lid, mine) -> None:
    (mine / "data").mkdir()

    def parameters(*tokens: str) -> Any:
        (mine / "tokens.txt").write_text("\n".join(["<unk>", *tokens]))
        asked = ("--set", "data.vocabulary=tokens.txt", "-n", "--json")
        done = lid(*arguments("svae", *asked))
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)["parameters"]["decoder"]

    few, many = parameters("food"), parameters("food", "good", "bad")
    assert few < many
    one, other = sorted((mine / "data" / ".cache").glob("text-*.bin"))
    content = one.read_bytes()
    shutil.copy(other, one)
    other.write_bytes(content)
    assert parameters("food") == few
    assert parameters("food", "good", "bad") == many


LONG = [
    *("train", "-m", "lidsvae", "-d", "synthetic", "-q", "--set", "data.train=300"),
    *("--set", "data.valid=40", "--set", "data.test=40", "--set", "train.epochs=6"),
    *("--set", "evaluate.samples=4", "--set", "evaluate.outer=10"),
    *("--set", "runtime.threads=1", "--set", "runtime.checkpoint_seconds=0.05"),
]


def kept(results: Path) -> dict[str, Any]:
    """Everything a run determined, without clocks."""
    (record,) = results.rglob("run.h5")
    run = Run.open(record.parent)
    return {
        "weights": run.provenance["weights_sha256"],
        "texts": run.provenance["texts"],
        "curves": {k: v.tolist() for k, v in run.curves.items() if k != "seconds"},
        "evaluation": run.evaluation,
        "arrays": {k: v.tobytes() for k, v in run.arrays.items()},
    }


def saved(results: Path) -> int:
    """A number that changes with every checkpoint, and none before the first."""
    with contextlib.suppress(FileNotFoundError, StopIteration):
        return next(results.rglob("checkpoint.h5")).stat().st_mtime_ns
    return 0


def test_a_training_killed_again_and_again_ends_in_the_bits_of_one_that_was_not(
    server, wait_for, patience, tmp_path
) -> None:
    def begin(results: str) -> Command:
        return server.start([*LONG, "-o", results], tmp_path)

    whole = begin("whole")
    chance, kills = random.Random(0), 0
    while kills < 3:
        before = saved(tmp_path / "killed")
        child = begin("killed")
        wait_for(lambda c=child, b=before: c.poll() is not None or saved(tmp_path / "killed") != b)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(chance.uniform(0, 0.2))
        if child.poll() is not None:
            break
        os.killpg(child.pid, signal.SIGKILL)
        child.communicate(timeout=patience)
        kills += 1
    assert kills
    last = begin("killed")
    for process in (whole, last):
        _, said = process.communicate(timeout=patience)
        assert process.returncode == 0, said
    assert kept(tmp_path / "killed") == kept(tmp_path / "whole")
