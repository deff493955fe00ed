"""`lid sweep --engine ray` on a real cluster of processes, killed in parts."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from small_sweep import start as start_lid
from small_sweep import statuses, sweep_words, weights

from lidcli.store.run import Run, find_runs

pytest.importorskip("ray", reason="the package ray is not installed")
pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.xdist_group("ray")]

Wait = Callable[..., None]


NICENESS = "RAY_worker_niceness"


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers no lower in priority than the test, nothing sent to anybody, time to start."""
    monkeypatch.setenv(NICENESS, os.environ.get(NICENESS, "0"))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_agent_register_timeout_ms", "600000")


@pytest.fixture
def cluster() -> Iterator[Any]:
    """A head that runs nothing, and two nodes of one CPU each."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from ray.cluster_utils import Cluster

        made = Cluster(
            initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False}
        )
        try:
            yield made
        finally:
            made.shutdown()


def node_of(cluster: Any, pid: int) -> Any:
    """The node below whose raylet a process runs."""
    import psutil

    parents = {parent.pid for parent in psutil.Process(pid).parents()}
    for node in cluster.list_all_nodes():
        for started in node.all_processes.get("raylet", []):
            if started.process.pid in parents:
                return node
    raise AssertionError(f"process {pid} belongs to no node")


def holder(folder: Path) -> int:
    """The process that works on a run."""
    return int((folder / ".lock").read_text().split()[0])


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_runs_go_on_elsewhere_when_their_nodes_are_killed_and_end_as_if_undisturbed(
    cluster: Any, wait_for: Wait, patience: float, tmp_path: Path
) -> None:
    words = sweep_words(100)
    for _ in range(2):
        cluster.add_node(num_cpus=1)
    engine = ["--engine", "ray", "--address", cluster.address, "--retries", "3"]
    process = start_lid(tmp_path, *words, *engine)
    place = tmp_path / "results" / "train"
    seen: set[Path] = set()
    for _ in range(2):
        wait_for(lambda: set(place.glob("*/checkpoint.h5")) - seen, process)
        path = min(set(place.glob("*/checkpoint.h5")) - seen)
        seen.add(path)
        cluster.remove_node(node_of(cluster, holder(path.parent)), allow_graceful=False)
        cluster.add_node(num_cpus=1)
    output, errors = process.communicate(timeout=patience)
    assert process.returncode == 0, errors
    assert output == "train: 3 runs, 3 complete\n"
    assert errors.count("try again   vae pinwheel seed") >= 2, errors
    assert "raylet" not in errors
    assert not list((tmp_path / "results").glob(".sweep-*"))

    local = start_lid(tmp_path, *words, "-o", "alone", "-w", "2")
    _, errors = local.communicate(timeout=patience)
    assert local.returncode == 0, errors
    assert weights(tmp_path / "results") == weights(tmp_path / "alone")


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_every_run_resumable_and_the_same_command_goes_on(
    wait_for: Wait, patience: float, tmp_path: Path, signum: int
) -> None:
    words = [*sweep_words(100_000), "--engine", "ray", "-w", "2"]
    process = start_lid(tmp_path, *words)
    place = tmp_path / "results" / "train"
    wait_for(lambda: len(list(place.glob("*/checkpoint.h5"))) == 2, process)
    process.send_signal(signum)
    output, errors = process.communicate(timeout=patience)
    assert process.returncode == 128 + signum, errors
    assert output == "train: 3 runs, 2 interrupted, 1 waiting\n"
    assert errors.endswith("the same command continues the run.\n")
    assert statuses(tmp_path / "results") == ["interrupted"] * 2


def test_the_sweep_itself_may_be_killed_and_no_process_survives_it(
    wait_for: Wait, patience: float, tmp_path: Path
) -> None:
    words = sweep_words(60, "0-1")
    process = start_lid(tmp_path, *words, "--engine", "ray", "-w", "2")
    place = tmp_path / "results" / "train"
    wait_for(lambda: len(list(place.glob("*/checkpoint.h5"))) == 2, process)
    workers = [holder(path.parent) for path in place.glob("*/.lock")]
    process.kill()
    process.communicate()
    wait_for(lambda: not any(map(alive, workers)))
    again = start_lid(tmp_path, *words, "--engine", "ray", "-w", "2")
    output, errors = again.communicate(timeout=patience)
    assert again.returncode == 0, errors
    assert output == "train: 2 runs, 2 complete\n"


@contextlib.contextmanager
def node_without(results: Path, address: str) -> Iterator[subprocess.Popen[bytes]]:
    """A node of one CPU, in a namespace where the results folder is another, empty one."""
    ray = f"{sys.executable} -m ray.scripts.scripts start --address {address} --num-cpus 1 --block"
    process = subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", f"mount -t tmpfs none '{results}' && exec {ray}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def can_unshare() -> bool:
    words = ["unshare", "--mount", "true"]
    return shutil.which("unshare") is not None and not subprocess.call(
        words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


@pytest.mark.skipif(not can_unshare(), reason="mount namespaces are not permitted here")
def test_runs_of_nodes_that_do_not_see_the_results_folder_are_collected(
    cluster: Any, wait_for: Wait, patience: float, tmp_path: Path
) -> None:
    results = tmp_path / "results"
    results.mkdir()
    words = sweep_words(60, "0-1")
    with contextlib.ExitStack() as nodes:
        first = nodes.enter_context(node_without(results, cluster.address))
        process = start_lid(tmp_path, *words, "--engine", "ray", "--address", cluster.address)
        wait_for(lambda: list(results.glob("train/*/checkpoint.h5")), process)
        folder = next(results.glob("train/*/checkpoint.h5")).parent
        assert holder(folder) == process.pid
        os.killpg(first.pid, signal.SIGKILL)
        nodes.enter_context(node_without(results, cluster.address))
        output, errors = process.communicate(timeout=patience)
    assert process.returncode == 0, errors
    assert output == "train: 2 runs, 2 complete\n"
    local = start_lid(tmp_path, *words, "-o", "alone")
    _, errors = local.communicate(timeout=patience)
    assert local.returncode == 0, errors
    assert weights(results) == weights(tmp_path / "alone")


def test_four_sweeps_of_two_engines_on_one_folder_do_every_run_once(
    patience: float, tmp_path: Path
) -> None:
    words = [*sweep_words(20, "0-5"), "--wait", "-w", "1"]
    engines = ("ray", "local", "ray", "local")
    sweeps = [start_lid(tmp_path, *words, "--engine", name) for name in engines]
    for sweep in sweeps:
        output, errors = sweep.communicate(timeout=patience)
        assert sweep.returncode == 0, errors
        assert output == "train: 6 runs, 6 complete\n"
    runs = [Run.open(folder) for folder in find_runs(tmp_path / "results")]
    assert [len(run.provenance["sessions"]) for run in runs] == [1] * 6
