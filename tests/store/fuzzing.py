"""Damages stored files at random and reads them: run as a script, in a process of its own.

    python fuzzing.py FOLDER FILE SEED COUNT

One JSON document on stdout: how many mutations were refused, how many read as before, and what
went wrong.
"""

from __future__ import annotations

import json
import random
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lidcli.config.plan import plan_experiment
from lidcli.config.read import load_files
from lidcli.data.cache import keep, recall
from lidcli.errors import LidError
from lidcli.report.collect import collect
from lidcli.store import lease
from lidcli.store.digest import digest
from lidcli.store.index import Index, Summary
from lidcli.store.run import Run

CONFIG = {
    "method": "vae", "seed": 0, "data": {"name": "pinwheel", "kind": "points"},
    "train": {"epochs": 3}, "evaluate": {"split": "test"},
}  # fmt: skip
EXPERIMENTS = """\
defaults: {decoder: {hidden: 64, layers: 9}, train: {epochs: 20, learning_rate: 1.0e-3}}
models:
  vae: {decoder: {kind: mlp}}
  lidvae: {decoder: {kind: brenier}, inference: {beta: 1.0}}
data:
  pinwheel: {kind: points, model: {latent: 2, categories: 5}, evaluate: {samples: 20}}
experiments:
  depth:
    title: "Depth, with a 'quoted' part: done"
    models: [vae, lidvae]
    data: [pinwheel]
    grid: {decoder.layers: [5, 9, 13]}
    seeds: 0-4
    set: {train: {epochs: 2}}
profiles:
  smoke: {train: {epochs: 1}, evaluate: {outer: 4}}
"""
FAR = lease.Lease("them", 7, "node7", "node7/boot", 60.0)
KEY = "0123456789abcdef" * 4
KINDS = ("flip", "byte", "truncate", "insert", "zero", "swap")


def mutated(content: bytes, draw: random.Random, other: bytes) -> bytes:
    """The content after one random mutation that changes it."""
    while True:
        changed, kind = bytearray(content), draw.choice(KINDS)
        place = draw.randrange(len(content))
        if draw.random() < 0.3:
            place = min(place, draw.randrange(600))
        if kind == "flip":
            changed[place] ^= 1 << draw.randrange(8)
        elif kind == "byte":
            changed[place] = draw.randrange(256)
        elif kind == "truncate":
            del changed[place:]
        elif kind == "insert":
            changed[place:place] = draw.randbytes(draw.choice((1, 8, 512, 5000)))
        elif kind == "zero":
            block = draw.choice((1, 16, 512, 4096))
            changed[place : place + block] = bytes(len(changed[place : place + block]))
        else:
            changed = bytearray(other)
        if changed != content:
            return bytes(changed)


def make(results: Path, name: str, shift: float) -> Run:
    """A finished run of two checkpoints; `shift` makes its numbers its own."""
    weights = {"a": torch.arange(3000.0) + shift, "b": torch.full((7, 3), shift)}
    run = Run.create(results / "demo" / name, {**CONFIG, "seed": int(shift)}, {})
    with run.lock():
        for step in (1, 2):
            tree = {"best": weights, "model": weights, "step": step, "rng": torch.arange(64)}
            run.save_checkpoint(tree, step=step)
        run.update(
            provenance={"status": "complete", "weights_sha256": digest(weights)},
            curves={"epoch": np.arange(40), "valid/elbo": np.linspace(-3, shift, 40)},
            evaluation=("test", {f"m{i}": i + shift for i in range(20)}),
            arrays={"x": np.full((50, 2), shift)},
        )
    return run


def contents(folder: Path) -> dict[str, Any]:
    """Everything a record says, comparable to the last bit."""
    run = Run.open(folder)
    return {
        "plain": json.dumps([run.config, run.provenance, run.evaluation], sort_keys=True),
        "arrays": digest({"curves": run.curves, "arrays": run.arrays}),
    }


def state(run: Run) -> tuple[str, int, int]:
    """Digest and step of the checkpoint that a training would go on from, and the warnings."""
    tree, warnings = run.load_checkpoint()
    return digest(tree), tree["step"], len(warnings)


class Fuzz:
    """One folder of two runs, whose files are damaged one at a time and put back."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.run, self.other = make(folder, "abc-s0", 1.5), make(folder, "abd-s0", 2.5)
        self.record, self.sibling = contents(self.run.folder), contents(self.other.folder)
        self.newest = state(self.run)
        self.path = folder / "mine.yaml"
        self.path.write_text(EXPERIMENTS)
        self.runs = (self.run.folder, self.other.folder)
        self.packed = [Summary.of(Run.open(folder)).pack() for folder in self.runs]
        self.index = folder / "index.sqlite"
        self.check_index()
        self.arrays = [np.arange(500.0).reshape(50, 10), np.array(["<unk>", "</s>", "word"])]
        keep(folder, KEY, self.arrays)
        (self.cache,) = (folder / ".cache").iterdir()

    def path_of(self, name: str) -> Path:
        """The file to damage."""
        beside = {"mine.yaml": self.path, "index": self.index, "cache": self.cache}
        return beside.get(name, self.run.folder / name)

    def check_record(self) -> None:
        """The record reads as before or not at all, and never hides its neighbour."""
        found = collect(self.folder)
        names = [record.run_id for record in found.records]
        assert "abd-s0" in names
        assert len(names) + len(found.warnings) == 2
        assert contents(self.other.folder) == self.sibling
        assert contents(self.run.folder) == self.record

    def check_checkpoint(self) -> None:
        """The newest, or with a warning the one before; final weights exactly or not at all."""
        run = Run.open(self.run.folder)
        found = state(run)
        assert found == self.newest or (found[1] == 1 and found[2] == 1)
        assert digest(run.load_weights()) == run.provenance["weights_sha256"]

    def check_previous(self) -> None:
        """The newest is read all the same; alone, the older one is whole or refused."""
        run = Run.open(self.run.folder)
        assert state(run) == self.newest
        newest = run.folder / "checkpoint.h5"
        hidden = newest.rename(run.folder / "hidden")
        try:
            found = state(run)
            assert found[1:] == (1, 0)
        finally:
            hidden.rename(newest)

    def check_lock(self) -> None:
        """Whatever a lock file holds, the run can be worked on."""
        with Run.open(self.run.folder).lock():
            assert contents(self.run.folder) == self.record

    def check_lease(self) -> None:
        """Whatever a lease holds, somebody else's or nobody's, the records read as before."""
        held = lease.foreign(self.run.folder)
        assert held is not None
        assert held.seconds >= 0
        assert contents(self.run.folder) == self.record

    def check_index(self) -> None:
        """The records are told as they are, with the index or without it."""
        index = Index(self.index)
        assert [index.summary(folder).pack() for folder in self.runs] == self.packed
        assert {index.status(folder) for folder in self.runs} == {"complete"}

    def check_cache(self) -> None:
        """The arrays that were kept, or none."""
        found = recall(self.folder, KEY)
        assert found is None or digest(dict(enumerate(found))) == digest(
            dict(enumerate(self.arrays))
        )

    def check_experiments(self) -> None:
        """An experiment file is understood or refused."""
        known = load_files([self.path])
        for name in known.experiments:
            plan_experiment(known, name)

    def go(self, name: str, seed: int, count: int) -> dict[str, Any]:
        """Damage a file so many times."""
        draw, said, wrong = random.Random(seed), Counter[str](), []
        if name == ".lease":
            (self.run.folder / name).write_bytes(FAR.bytes())
        path = self.path_of(name)
        other = self.other.folder / name
        checks: dict[str, Callable[[], None]] = {
            "run.h5": self.check_record,
            "checkpoint.h5": self.check_checkpoint,
            "checkpoint.prev.h5": self.check_previous,
            ".lock": self.check_lock,
            ".lease": self.check_lease,
            "index": self.check_index,
            "cache": self.check_cache,
            "mine.yaml": self.check_experiments,
        }
        content = path.read_bytes()
        for number in range(count):
            foreign = other.read_bytes() if other.exists() else EXPERIMENTS[::-1].encode()
            path.write_bytes(mutated(content, draw, foreign))
            try:
                checks[name]()
            except LidError as error:
                said["refused"] += 1
                if "\n" in str(error):
                    wrong.append(f"{number}: no sentence: {error}")
            except (Exception, RecursionError) as error:
                wrong.append(f"{number}: {type(error).__name__}: {error}")
                path.with_name(f"wrong-{number}").write_bytes(path.read_bytes())
            else:
                said["as before"] += 1
            path.write_bytes(content)
        return {"wrong": wrong, **said}


if __name__ == "__main__":
    place, name, seed, count = sys.argv[1:]
    json.dump(Fuzz(Path(place)).go(name, int(seed), int(count)), sys.stdout)
