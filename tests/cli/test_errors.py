"""Exit codes and sentences that hold for every command."""

from __future__ import annotations

import json

import pytest


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["train", "-m", "nope", "-d", "digits", "-v"], 2),
        (["train", "-m", "vae", "-d", "mnist", "-v"], 4),
    ],
)
def test_verbose_adds_the_traceback_and_keeps_the_exit_code(lid, arguments, code: int) -> None:
    done = lid(*arguments)
    assert done.returncode == code
    assert "Traceback" in done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("lid: ")


def test_too_little_memory_is_one_sentence(lid) -> None:
    done = lid("train", "-m", "vae", "-d", "digits", "--set", "decoder.hidden=1000000", "-n")
    assert done.returncode == 1
    assert "memory" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "text",
    ["data: {cells: cells.csv}", "models: {mine: fast}", "data: {pinwheel: {models: {vae: 3}}}"],
)
def test_an_entry_that_is_no_mapping_is_a_configuration_error(lid, tmp_path, text: str) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    done = lid("list", "models", "-c", "mine.yaml")
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr


def test_a_file_that_changed_is_not_answered_by_the_old_run(lid, tmp_path) -> None:
    rows = [f"{i % 7},{(3 * i) % 11}" for i in range(120)]
    (tmp_path / "cells.csv").write_text("a,b\n" + "\n".join(rows))
    (tmp_path / "mine.yaml").write_text(
        "data: {cells: {kind: points, path: cells.csv, model: {latent: 2, categories: 2}}}"
    )
    command = [
        *("train", "-m", "vae", "-d", "cells", "-c", "mine.yaml", "--profile", "smoke"),
        *("--set", "decoder.hidden=8", "--set", "encoder.hidden=8", "--set", "inference.hidden=8"),
    ]
    first = lid(*command)
    assert first.returncode == 0, first.stderr
    assert lid(*command).stdout == first.stdout
    (tmp_path / "cells.csv").write_text("a,b\n" + "\n".join(reversed(rows)) + "\n1,1")
    changed = lid(*command)
    assert changed.returncode == 4
    assert "--restart" in changed.stderr


def test_evaluate_of_several_runs_is_one_document_and_leaves_the_verdict_alone(
    lid, tmp_path
) -> None:
    from lidcli.store.run import Run

    quick = [
        *(
            "--profile",
            "smoke",
            "--set",
            "decoder.hidden=8",
            "--set",
            "encoder.hidden=8",
            "--set",
            "inference.hidden=8",
        ),
        *("--set", "data.train=300", "--set", "data.test=150"),
    ]
    for seed in ("0", "1"):
        assert lid("train", "-m", "vae", "-d", "pinwheel", "--seed", seed, *quick).returncode == 0
    folders = sorted(path.parent for path in (tmp_path / "results").rglob("run.h5"))
    before = [Run.open(folder).provenance["verdict_reason"] for folder in folders]
    done = lid("evaluate", *map(str, folders), "--split", "valid", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["command"] == "evaluate"
    assert len(document["runs"]) == 2
    assert [Run.open(folder).provenance["verdict_reason"] for folder in folders] == before
    assert "valid" in Run.open(folders[0]).provenance["evaluated"]
