"""`lid list runs --watch`: read off the records and leases alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lidcli.cli.run_table import Row, table
from lidcli.cli.watch import Watched, _Lines, totals
from lidcli.config.read import load_files
from lidcli.config.resolve import resolve
from lidcli.store.lease import Lease
from lidcli.store.run import Run

ROOT = Path(__file__).resolve().parents[2]
KNOWN = load_files([ROOT / "experiments.yaml"])


def put(results: Path, seed: int, status: str, **provenance: Any) -> Run:
    config = resolve(KNOWN, model="vae", data="pinwheel", seed=seed)
    run = Run.create(results / "demo" / config.run_id, config.document(), {})
    curves = {"valid/elbo": [-3.0, -2.5], "valid/kl/joint": [1.0, 1.5], "valid/au/c": [0.2, 0.8]}
    curves |= {"valid/kl/c": [0.5, 1.0], "valid/mi/c": [0.4, 0.9]}
    run.update(provenance={"status": status, **provenance}, curves=curves)
    return run


def epochs(run: Run) -> int:
    return int(run.config["train"]["epochs"])


def test_a_running_run_shows_its_epoch_figures_rate_and_time_left(tmp_path: Path) -> None:
    run = put(tmp_path, 0, "running", epochs_done=2, steps=100, train_seconds=50.0)
    with run.lock():
        (row,) = Watched(tmp_path).look()
    assert (row.state, row.where) == ("running", "")
    assert row.epoch == f"2/{epochs(run)}"
    assert row.figures == {"ELBO": -2.5, "KL": 1.0, "MI": 0.9, "AU": 0.8}
    assert row.rate == 2.0
    assert row.left == (epochs(run) - 2) * 25.0


def test_a_run_whose_process_is_gone_has_stopped(tmp_path: Path) -> None:
    put(tmp_path, 0, "running")
    assert [row.state for row in Watched(tmp_path).look()] == ["stopped"]


def test_a_run_of_another_machine_is_named_and_known_to_be_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = put(tmp_path, 0, "running")
    far = Lease("them", 7, "node\x1b7", "node7/boot", 60.0)
    (run.folder / ".lease").write_bytes(far.bytes())
    now = [0.0]
    monkeypatch.setattr("lidcli.store.lease.time.monotonic", lambda: now[0])
    watched = Watched(tmp_path, ["demo"])
    assert [(row.state, row.where) for row in watched.look()] == [("running", "node7")]
    now[0] = 61.0
    assert [row.state for row in watched.look()] == ["silent"]


def test_a_record_is_read_again_when_it_changes_and_named_when_it_is_damaged(
    tmp_path: Path,
) -> None:
    run, other = put(tmp_path, 0, "failed"), put(tmp_path, 1, "complete")
    watched = Watched(tmp_path)
    assert [row.state for row in watched.look()] == ["failed", "complete"]
    run.update(provenance={"status": "complete"})
    (other.folder / "run.h5").write_bytes(b"half")
    assert [row.state for row in watched.look()] == ["complete"]
    assert [text for text in watched.unread.values() if "damaged" in text]
    assert Watched(tmp_path / "nowhere").look() == []


def row(state: str, left: float | None = None) -> Row:
    figures = {"ELBO": -2.5, "AU": 0.8}
    return Row("demo/a [red] digits", state, epoch="1/9", figures=figures, rate=2.0, left=left)


def test_the_totals_count_states_and_tell_the_longest_time(capsys) -> None:  # type: ignore[no-untyped-def]
    rows = [row("complete"), row("running", 90.0), row("running", 5400.0)]
    assert totals(rows) == "3 runs: 2 running, 1 complete; the running ones at most 1h30m more"
    lines = _Lines()
    for shown in (rows[1:2], rows[1:2], rows[:1]):
        lines.show(shown)
    said = capsys.readouterr().out.splitlines()
    assert said[0] == (
        "running     demo/a [red] digits, epoch 1/9, ELBO -2.500  AU 0.80, 2 steps/s, 1m30s left"
    )
    assert [line.split()[0] for line in said] == ["running", "1", "complete", "1"]


def test_the_table_shows_what_fits_and_takes_no_text_for_markup() -> None:
    from rich.console import Console

    console = Console(width=120, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    rows = [row("running", 9.0)] * 30
    console.print(table(rows, totals(rows), 5))
    text = console.export_text()
    assert text.count("demo/a [red] digits") == 5
    assert "30 runs: 30 running" in text


def test_ctrl_c_is_its_ordinary_end(tmp_path: Path, wait_for: Callable[..., None]) -> None:
    put(tmp_path / "results", 0, "interrupted")
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a suite in the background ignores it
    process = subprocess.Popen(
        [sys.executable, "-m", "lidcli", "list", "runs", "--watch"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    first = process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert first.startswith("interrupted demo/")
    assert (process.returncode, errors) == (0, "")
