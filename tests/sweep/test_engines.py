"""What engines have in common, and what the tasks of Ray and their sweep tell one another."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lidcli.cli.sweep_engine import ENGINES as NAMES
from lidcli.cli.sweep_engine import choose_engine
from lidcli.config.kinds import locate
from lidcli.config.plan import plan_grid
from lidcli.config.read import load_files
from lidcli.errors import ConfigError, LidError
from lidcli.store.run import Run
from lidcli.sweep.engines import ENGINES, OWN_OPTIONS, Request, make_engine, parse_size
from lidcli.sweep.ray_cluster import check_address, shared_token
from lidcli.sweep.ray_task import Mailbox, _Reporter, read_files, write_files


def test_the_command_line_offers_every_engine() -> None:
    assert tuple(ENGINES) == NAMES
    for code in ENGINES.values():
        assert {"facts", "text", "run"} <= set(dir(locate(code)))


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ("{threads: 4}", "runtime.threads (1, 4)"),
        ("{device: cpu}", "runtime.device (auto, cpu)"),
        ("{threads: 1, batch: 7}", ""),
    ],
)
def test_runs_that_want_other_threads_or_devices_are_no_one_sweep(
    tmp_path: Path, settings: str, told: str
) -> None:
    (tmp_path / "e.yaml").write_text(
        f"models: {{one: {{}}, other: {{runtime: {settings}}}}}\ndata: {{d: {{kind: points}}}}"
    )
    known = load_files([tmp_path / "e.yaml"])
    grid: dict[str, Any] = {"models": ["one", "other"], "data": ["d"], "grid": {}, "seeds": [0]}
    how = {"results": tmp_path, "memory": None}
    if not told:
        assert choose_engine("local", plan_grid(known, "demo", **grid), [], **how)
        return
    with pytest.raises(ConfigError) as caught:
        choose_engine("local", plan_grid(known, "demo", **grid), [], **how)
    assert told in str(caught.value)
    same = [("runtime.threads", 2), ("runtime.device", "cpu")]
    plan = plan_grid(known, "demo", **grid, overrides=same)
    assert choose_engine("local", plan, [], **how)
    assert choose_engine("local", replace(plan, runs=()), [], **how)


@pytest.mark.parametrize("engine", NAMES)
@pytest.mark.parametrize("option", OWN_OPTIONS)
def test_an_option_that_does_nothing_for_an_engine_is_refused(engine: str, option: str) -> None:
    if engine not in OWN_OPTIONS[option]:
        with pytest.raises(ConfigError, match=f"{option} does nothing for --engine {engine}"):
            make_engine(engine, Request("demo", Path("results"), 1), [option])


def test_a_cpu_is_not_divided_as_a_gpu_is() -> None:
    with pytest.raises(ConfigError, match="--per-gpu does nothing on a CPU"):
        make_engine("local", Request("demo", Path("results"), 1, device="cpu", per_gpu=2))


@pytest.mark.parametrize(
    ("text", "size"), [("4GiB", 4 * 2**30), ("500M", 500 * 2**20), ("2 gb", 2**31), ("7", 7)]
)
def test_sizes_are_read_in_powers_of_1024(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "G", "-1G", "0", "4GiBs", "four", "1e9"])
def test_what_is_no_size_is_one_sentence(text: str) -> None:
    with pytest.raises(ConfigError, match="written like 4GiB"):
        parse_size(text)


def test_without_the_package_the_sentence_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r'pip install "lidcli\[ray\]"'):
        make_engine("ray", Request("demo", Path("results"), 1))


@pytest.mark.parametrize("address", ["head", ":6379", "head:", "head:0", "head:70000", "ray://a:1"])
def test_what_is_no_address_is_one_sentence(address: str) -> None:
    with pytest.raises(ConfigError, match="auto or HOST:PORT"):
        check_address(address)


def test_an_address_at_which_nobody_listens_is_one_sentence_and_no_usage_error() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(LidError, match=f"No Ray cluster answers at {address}") as caught:
            check_address(address)
    assert caught.value.exit_code == 1


def test_the_file_by_which_nodes_know_the_results_folder_goes_with_the_sweep(
    tmp_path: Path,
) -> None:
    with shared_token(tmp_path / "results") as name:
        assert (tmp_path / "results" / name).exists()
    assert not list((tmp_path / "results").iterdir())


def test_a_task_that_asks_waits_for_the_answer() -> None:
    async def talk() -> tuple[Any, Any, Any]:
        box = Mailbox()
        await box.say(3, {"event": "begun"})
        question = asyncio.create_task(box.ask(3))
        await asyncio.sleep(0)
        events = await box.take()
        await box.answer(3, {"run.h5": b"record"})
        return events, await question, await box.take()

    events, answer, left = asyncio.run(talk())
    assert events == [(3, {"event": "begun"}), (3, {"event": "ask"})]
    assert answer == {"run.h5": b"record"}
    assert left == []


def test_a_run_carried_to_another_folder_is_the_same_run(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "here" / "demo" / "abc-s0", {"seed": 0}, {})
    with run.lock():
        run.save_checkpoint({"step": 3})
        run.save_checkpoint({"step": 4})
    there = tmp_path / "there" / "demo" / "abc-s0"
    there.mkdir(parents=True)
    write_files(there, read_files(run.folder))
    assert read_files(there) == read_files(run.folder)
    assert Run.open(there).load_checkpoint()[0] == {"step": 4}
    assert sorted(os.listdir(there)) == ["checkpoint.h5", "checkpoint.prev.h5", "run.h5"]
    anew = {name: content for name, content in read_files(there).items() if "prev" not in name}
    write_files(there, anew)
    assert read_files(there) == anew


class Box:
    """What a task sees of the mailbox."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.say = self

    def remote(self, index: int, event: dict[str, Any]) -> None:
        self.events.append(event)


def test_every_checkpoint_of_a_run_that_is_carried_is_sent_once(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "demo" / "abc-s0", {}, {})
    box = Box()
    reporter = _Reporter(0, box, None)
    reporter.carry(run.folder)
    reporter.evaluating("test")
    run.save_checkpoint({"step": 1})
    for _ in range(2):
        reporter.evaluating("test")
    assert [event["event"] for event in box.events] == ["evaluating"] * 2 + ["files", "evaluating"]
    assert set(box.events[2]["files"]) == {"run.h5", "checkpoint.h5"}


def test_a_run_that_uses_more_memory_than_it_may_says_what_to_change() -> None:
    reporter = _Reporter(0, Box(), 1)
    with pytest.raises(LidError, match="--memory allows"):
        reporter.evaluating("test")
