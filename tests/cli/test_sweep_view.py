"""A sweep on a terminal, 80 columns wide, and in a log."""

from __future__ import annotations

import contextlib
import io
import os
import re
import signal
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console
from small_sweep import sweep_words

from lidcli.cli.run_table import table
from lidcli.cli.sweep_course import Course, short_names
from lidcli.cli.sweep_view import SweepLog

Wait = Callable[..., None]
FIGURES = {
    "valid/elbo": -123.456,
    "valid/kl/joint": 3.0,
    "valid/kl/c": 1.0,
    "valid/mi/c": 2.1,
    "valid/au/c": 0.9,
}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr("lidcli.cli.sweep_course.time.monotonic", lambda: now[0])
    return now


def made(number: int) -> list[Any]:
    """Jobs of one model, as far as a view looks at them."""
    config = SimpleNamespace(train=SimpleNamespace(epochs=100_000))
    return [
        SimpleNamespace(
            folder=Path(f"r/{i}"), label=f"lidgmvae pinwheel layers=13 seed {i}", config=config
        )
        for i in range(number)
    ]


def begun(course: Course, job: Any, step: int, steps: int) -> None:
    course.begin(job)
    course.hear(job, {"event": "start", "step": step, "steps": steps})


def ended(job: Any, status: str = "complete") -> Any:
    return SimpleNamespace(job=job, status=status, failed=status == "failed", message="why")


def written(course: Course, width: int) -> str:
    out = io.StringIO()
    Console(file=out, width=width).print(table(course.rows(), course.totals(), 20))
    return out.getvalue()


def test_names_leave_out_what_all_runs_share_but_never_the_seed() -> None:
    assert short_names(["vae digits seed 0", "lidvae digits seed 0"]) == [
        "vae seed 0",
        "lidvae seed 0",
    ]
    assert short_names(["vae digits seed 7"]) == ["vae digits seed 7"]


def test_a_row_has_rate_and_time_left_by_the_steps_of_the_last_minute(clock: list[float]) -> None:
    job = made(1)[0]
    course = Course([job])
    begun(course, job, 1000, 3000)
    assert course.rows()[0].rate is None
    for clock[0], done in ((110.0, 1100), (165.0, 1650), (180.0, 2000)):
        course.hear(job, {"event": "step", "done": done, "total": 3000})
    course.hear(job, {"event": "epoch", "epoch": 4.0, **FIGURES})
    (row,) = course.rows()
    assert row.rate == (2000 - 1650) / 15.0
    assert row.left == pytest.approx(1000 / row.rate)
    assert row.figures == {"ELBO": -123.456, "KL": 1.0, "MI": 2.1, "AU": 0.9}
    course.hear(job, {"event": "evaluating", "split": "test"})
    assert [(row.state, row.rate, row.left) for row in course.rows()] == [
        ("evaluating", None, None)
    ]


def test_the_totals_count_what_ended_here_and_reckon_only_with_the_work_done_here(
    clock: list[float],
) -> None:
    jobs = made(5)
    course = Course(jobs)
    course.end(ended(jobs[0]))
    assert course.totals() == "1 of 5 runs ended"
    begun(course, jobs[1], 500, 1000)
    begun(course, jobs[2], 0, 1000)
    clock[0] += 60.0
    course.end(ended(jobs[1], "failed"))
    course.hear(jobs[2], {"event": "step", "done": 500, "total": 1000})
    assert course.totals() == "2 of 5 runs ended, 1 failed, 1 running; about 2m30s left"
    course.end(ended(jobs[2], "interrupted"))
    assert course.totals().startswith("2 of 5 runs ended, 1 failed")
    assert course.rows() == []


def test_the_table_fits_80_columns_and_breaks_names_rather_than_figures(clock: list[float]) -> None:
    jobs = made(2)
    jobs[1].label = "lagging-with-a-long-name short-yelp layers=13 seed 1"
    course = Course(jobs)
    for job in jobs:
        begun(course, job, 0, 100)
        clock[0] += 7_000.0
        course.hear(job, {"event": "step", "done": 1, "total": 100})
        course.hear(job, {"event": "epoch", "epoch": 99_999.0, **FIGURES})
    text = written(course, 80)
    assert max(map(len, text.splitlines())) <= 80
    for word in ("99999/100000", "-123.46", "2.10", "0.90", "192h30m"):
        assert text.count(word) == 2, text
    names = "".join(line[:16].strip() for line in text.splitlines()[2:])
    assert names.replace(" ", "").endswith("lagging-with-a-long-nameshort-yelpseed1"), text


def test_a_log_has_a_line_for_starts_ends_and_now_and_then_a_run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lidcli.cli.sweep_view.LOG_SECONDS", 0.0)
    (job,) = made(1)
    with SweepLog([job]) as log:
        log.started(job, 0)
        log.event(job, 0, {"event": "start", "step": 0, "steps": 10, "warnings": ["odd"]})
        log.event(job, 0, {"event": "epoch", "epoch": 3.0, **FIGURES})
        log.finished(ended(job, "failed"), 0)
    assert capsys.readouterr().err.splitlines() == [
        "started     lidgmvae pinwheel layers=13 seed 0",
        "warning     lidgmvae pinwheel layers=13 seed 0: odd",
        "training    lidgmvae pinwheel layers=13 seed 0, epoch 3/100000,"
        " ELBO -123.456  KL 1.00  MI 2.10  AU 0.90",
        "failed      lidgmvae pinwheel layers=13 seed 0: why [1/1]",
    ]


def test_ctrl_c_leaves_the_terminal_as_it_was(wait_for: Wait, tmp_path: Path) -> None:
    master, slave = os.openpty()
    before = termios.tcgetattr(slave)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        [sys.executable, "-m", "lidcli", *sweep_words(100_000), "-w", "1"],
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1", "TERM": "xterm", "COLUMNS": "80"},
        stdout=subprocess.PIPE,
        stderr=slave,
        text=True,
    )
    said = b""

    def shows(what: bytes) -> bool:
        nonlocal said
        with contextlib.suppress(BlockingIOError):
            said += os.read(master, 1 << 16)
        return what in said

    os.set_blocking(master, False)
    wait_for(lambda: shows(b"training"), process)
    process.send_signal(signal.SIGINT)
    wait_for(lambda: shows(b"lid: Interrupted") or process.poll() is not None)
    assert process.communicate()[0] == "train: 3 runs, 1 interrupted, 2 waiting\n"
    assert process.returncode == 130
    assert termios.tcgetattr(slave) == before
    shows(b"")
    text = said.decode()
    assert re.findall(r"\x1b\[\?25[lh]", text)[-1] == "\x1b[?25h"
    assert text.rindex("\x1b[?25h") < text.index("lid: Interrupted")
    os.close(master)
    os.close(slave)
