"""What README.md shows is what works: its commands are run, on settings that take seconds."""

from __future__ import annotations

import json
import re
import shlex
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import numpy as np
import pytest
import yaml

from lidcli.store.run import find_run

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
FENCE = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
FILE_NAME = re.compile(r"`([\w.-]+\.ya?ml)`")
RUN_ID = re.compile(r"(?:[a-z0-9.-]+/)?[0-9a-f]{4,}(-s\d+)?")
QUICK = [
    *("--profile", "smoke", "--set", "decoder.hidden=16"),
    *("--set", "data.train=400", "--set", "data.test=200", "--set", "evaluate.samples=4"),
]
RUNS_OF_A_SWEEP = 1
USER_DATA = 4000
MISSING_DATA = 4

Lid = Callable[..., "CompletedProcess[str]"]


def blocks(language: str) -> Iterator[tuple[str, str]]:
    """Every fenced block of a language, with the text before it."""
    for found in FENCE.finditer(README):
        if found[1] == language:
            yield README[: found.start()], found[2]


def commands(program: str) -> list[list[str]]:
    """The words of every command of a program, in the order of the page."""
    found = []
    for _, block in blocks("sh"):
        for line in block.replace("\\\n", " ").splitlines():
            words: list[str] = []
            for word in [*shlex.split(line, comments=True), "&&"]:
                if word not in ("&&", ";", "|", ">"):
                    words.append(word)
                    continue
                if words[:1] == [program]:
                    found.append(words[1:])
                words = []
    return found


def write_user_file(folder: Path, entry: dict[str, Any]) -> None:
    """Data of the kind that an entry of `data` describes, under the name it gives."""
    path, rng = folder / entry["path"], np.random.default_rng(0)
    path.parent.mkdir(parents=True, exist_ok=True)
    if entry["kind"] == "points":
        x, labels = rng.normal(size=(USER_DATA, 3)), rng.integers(4, size=USER_DATA)
        rows = [f"{a},{b},{c},{label}" for (a, b, c), label in zip(x, labels, strict=True)]
        path.write_text("\n".join(["a,b,c,label", *rows]) + "\n")
    elif entry["kind"] == "image":
        np.savez(path, x=rng.integers(256, size=(USER_DATA, 6, 5), dtype=np.uint8))
    else:
        words = ["a", "few", "words", "of", "which", "every", "line", "is", "made"]
        path.write_text("\n".join(" ".join(rng.choice(words, 8)) for _ in range(USER_DATA)) + "\n")


def without(words: list[str], *options: str) -> list[str]:
    """The words but for options and the value after each."""
    kept, skip = [], False
    for word in words:
        if not skip and word not in options:
            kept.append(word)
        skip = word in options
    return kept


def quick(words: list[str], lid: Lid) -> list[str]:
    """The same command on few data, one seed and few runs."""
    if words[0] == "fetch":
        return [*words, "--dry-run"]
    if words[0] == "train":
        return [*words, *QUICK]
    if words[0] == "sweep":
        words = [*without(words, "--seeds", "--shard"), "--seeds", "0", *QUICK]
        plan = lid(*words, "--dry-run", "--json")
        assert plan.returncode == 0, f"lid {shlex.join(words)}\n{plan.stderr}"
        parts = max(1, len(json.loads(plan.stdout)["runs"]) // RUNS_OF_A_SWEEP)
        return [*words, "--shard", f"1/{parts}"]
    return words


@pytest.mark.slow
def test_the_commands_work_in_the_order_of_the_page(lid: Lid, tmp_path: Path) -> None:
    for before, block in blocks("yaml"):
        named = [name for name in FILE_NAME.findall(before) if name != "experiments.yaml"]
        name = named[-1] if named else "mine.yaml"
        (tmp_path / name).write_text(block)
        for entry in yaml.safe_load(block).get("data", {}).values():
            if "path" in entry:
                write_user_file(tmp_path, entry)
    shown = commands("lid")
    assert shown
    for words in shown:
        names = Counter(record.parent.name for record in tmp_path.glob("results/*/*/run.h5"))
        known = [name for name, folders in names.items() if folders == 1]
        words = [known[0] if RUN_ID.fullmatch(word) and known else word for word in words]
        words = quick(words, lid)
        done = lid(*words)
        if done.returncode == MISSING_DATA and "lid fetch" in done.stderr:
            continue
        assert done.returncode == 0, f"lid {shlex.join(words)}\n{done.stderr}"
        assert done.stdout or done.stderr


def test_every_entry_of_its_yaml_can_be_resolved(lid: Lid, tmp_path: Path) -> None:
    for _, block in blocks("yaml"):
        (tmp_path / "shown.yaml").write_text(block)
        document = yaml.safe_load(block)
        for model in document.get("models", {"lidvae": {}}):
            for data in document.get("data", {"pinwheel": {}}):
                done = lid("show", "config", "-m", model, "-d", data, "-c", "shown.yaml")
                assert done.returncode == 0, done.stderr


def test_every_run_it_names_is_published() -> None:
    named = {word for words in commands("lid") for word in words if RUN_ID.fullmatch(word)}
    assert len(named) > 1
    for text in named:
        found = find_run(ROOT / "results" / "published", text)
        assert found.name.startswith(text.rpartition("/")[2])


def test_every_make_target_it_names_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for words in commands("make"):
        for target in words:
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
