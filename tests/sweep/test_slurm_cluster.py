"""`lid sweep --engine slurm` on a real controller and a real node of this machine."""

from __future__ import annotations

import os
import platform
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from small_sweep import start, statuses, sweep_words, weights

from lidcli.store.run import Run

NEEDED = ("slurmctld", "slurmd", "munged", "sbatch")
pytestmark = [
    pytest.mark.slurm,
    pytest.mark.slow,
    pytest.mark.xdist_group("slurm"),
    pytest.mark.skipif(
        not all(map(shutil.which, NEEDED)) or os.geteuid() != 0,
        reason="needs slurm-wlm and munge installed, and root",
    ),
]

CONFIGURATION = """
ClusterName=here
SlurmctldHost={host}
SlurmctldPort={controller}
SlurmdPort={node}
AuthType=auth/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
SlurmUser=root
SlurmdUser=root
StateSaveLocation={place}/state
SlurmdSpoolDir={place}/spool
SlurmctldPidFile={place}/slurmctld.pid
SlurmdPidFile={place}/slurmd.pid
SlurmctldLogFile={place}/slurmctld.log
SlurmdLogFile={place}/slurmd.log
JobRequeue=1
MpiDefault=none
NodeName={host} CPUs=2 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
Wait = Callable[..., None]


class Slurm:
    """A cluster of one machine."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def ask(self, *words: str) -> str:
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout

    def begin(self, daemon: str) -> None:
        subprocess.run([daemon], check=True)

    def end(self, daemon: str, wait_for: Wait) -> None:
        path = self.place / f"{daemon}.pid"
        pid = int(path.read_text()) if path.exists() else 0
        if pid:
            os.kill(pid, signal.SIGTERM)
            wait_for(lambda: not Path(f"/proc/{pid}").exists() or not path.exists())


def free_port() -> int:
    with socket.socket() as made:
        made.bind(("", 0))
        return int(made.getsockname()[1])


@pytest.fixture
def slurm(
    tmp_path_factory: pytest.TempPathFactory, wait_for: Wait, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Slurm]:
    place = tmp_path_factory.mktemp("slurm")
    for name in ("state", "spool"):
        (place / name).mkdir()
    (place / "slurm.conf").write_text(
        CONFIGURATION.format(
            host=platform.node().partition(".")[0],
            place=place,
            controller=free_port(),
            node=free_port(),
        )
    )
    monkeypatch.setenv("SLURM_CONF", str(place / "slurm.conf"))
    if subprocess.run(["munge", "-n"], capture_output=True, check=False).returncode:
        os.makedirs("/run/munge", exist_ok=True)
        shutil.chown("/run/munge", "munge", "munge")
        subprocess.run(["su", "-s", "/bin/sh", "munge", "-c", "munged"], check=True)
    made = Slurm(place)
    try:
        made.begin("slurmctld")
        made.begin("slurmd")
        wait_for(lambda: "idle" in subprocess.run(
            ["sinfo", "-h", "-o", "%T"], capture_output=True, text=True, check=False).stdout
        )  # fmt: skip
        yield made
    finally:
        subprocess.run(["scancel", "--state=PENDING", "--user=root"], check=False)
        subprocess.run(["scancel", "--user=root"], check=False)
        for daemon in ("slurmd", "slurmctld"):
            made.end(daemon, wait_for)


def test_a_task_that_is_requeued_and_a_node_that_starts_anew_change_no_result(
    slurm: Slurm, wait_for: Wait, patience: float, tmp_path: Path
) -> None:
    words = sweep_words(60)
    process = start(tmp_path, *words, "--engine", "slurm")
    place = tmp_path / "results" / "train"
    wait_for(lambda: list(place.glob("*/checkpoint.h5")), process)
    running = slurm.ask("squeue", "-h", "-r", "-t", "RUNNING", "-o", "%F_%K").split()
    slurm.end("slurmd", wait_for)
    slurm.begin("slurmd")
    wait_for(lambda: "*" not in slurm.ask("sinfo", "-h", "-o", "%T"))
    slurm.ask("scontrol", "requeue", running[0])
    output, errors = process.communicate(timeout=patience)
    assert process.returncode == 0, errors
    assert output == "train: 3 runs, 3 complete\n"
    assert not list(place.glob(".slurm/*"))

    alone = start(tmp_path, *words, "-o", "alone")
    _, errors = alone.communicate(timeout=patience)
    assert alone.returncode == 0, errors
    assert weights(tmp_path / "results") == weights(tmp_path / "alone")


def test_a_detached_sweep_is_followed_later_and_a_signal_stops_only_what_it_submitted(
    slurm: Slurm, wait_for: Wait, patience: float, tmp_path: Path
) -> None:
    words = [*sweep_words(100_000), "--engine", "slurm"]
    detached = start(tmp_path, *words, "--detach")
    output, errors = detached.communicate(timeout=patience)
    assert detached.returncode == 0, errors
    assert output == "train: 3 runs, 3 submitted\n"
    place = tmp_path / "results" / "train"
    wait_for(lambda: len(list(place.glob("*/checkpoint.h5"))) == 2)

    for _ in range(2):
        following = start(tmp_path, *words)
        line = following.stderr.readline() if following.stderr else ""
        assert line == "sweep train: 3 runs (1 new, 2 partial)\n"
        wait_for(lambda: len(slurm.ask("squeue", "-h", "-r").splitlines()) == 3)
        while following.stderr and "started" not in following.stderr.readline():
            pass
        following.send_signal(signal.SIGINT)
        output, errors = following.communicate(timeout=patience)
        assert following.returncode == 130, errors
        assert output == "train: 3 runs, 3 waiting\n"

    slurm.ask("scancel", "--user=root")
    wait_for(lambda: not slurm.ask("squeue", "-h"))
    assert statuses(tmp_path / "results") == ["interrupted"] * 2

    own = start(tmp_path, *words)
    folders = [path.parent for path in place.glob("*/checkpoint.h5")]
    wait_for(lambda: all(Run.open(folder).status == "running" for folder in folders), own)
    own.send_signal(signal.SIGTERM)
    output, errors = own.communicate(timeout=patience)
    assert own.returncode == 143, errors
    assert output == "train: 3 runs, 2 interrupted, 1 waiting\n"
    assert not slurm.ask("squeue", "-h")
    assert statuses(tmp_path / "results") == ["interrupted"] * 2
