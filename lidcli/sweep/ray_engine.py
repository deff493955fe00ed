"""The engine of a Ray cluster: a task a run, begun again elsewhere when its node is lost."""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lidcli.errors import ConfigError
from lidcli.sweep import ray_task
from lidcli.sweep.engines import Request
from lidcli.sweep.lent import Lent
from lidcli.sweep.local import Watcher
from lidcli.sweep.orders import order
from lidcli.sweep.queue import Job, Outcome, elsewhere, is_locked, note_failure, settled
from lidcli.sweep.ray_cluster import (
    check_address,
    check_room,
    connected,
    find_ray,
    gpu_share,
    shared_token,
)
from lidcli.sweep.received import received

__all__ = ["RayEngine"]

TICK = 0.2
AT_ONCE = 1000


class RayEngine:
    """Ray Core tasks, each with its threads as CPUs and its part of a GPU.

    Raises:
        ConfigError: Ray is not installed, the address is none, or a GPU is named by number.
    """

    def __init__(self, request: Request) -> None:
        find_ray()
        if request.address is not None:
            check_address(request.address)
        if ":" in request.device:
            raise ConfigError("Ray chooses the GPU of each run: --device cuda, without a number.")
        self.request = request

    def facts(self) -> dict[str, Any]:
        """The address, and what a run takes."""
        request = self.request
        return {
            "engine": "ray",
            "address": request.address,
            "device": request.device,
            "threads": request.threads,
            "workers": request.workers,
        }

    def text(self) -> str:
        """The address, and what a run takes."""
        address, threads = self.request.address, self.request.threads
        where = "on this machine" if address is None else f"at {address}"
        share = "" if self.request.device == "cpu" else f", device {self.request.device}"
        return f"ray {where}, {threads} CPU{'s' * (threads > 1)} a run{share}"

    def run(self, jobs: Sequence[Job], watcher: Watcher) -> tuple[list[Outcome], int | None]:
        """Do the jobs on the cluster; a signal stops them after a checkpoint."""
        request = self.request
        if not request.restart and None not in (known := [settled(job) for job in jobs]):
            outcomes = [outcome for outcome in known if outcome is not None]
            for outcome in outcomes:
                watcher.finished(outcome, None)
            return outcomes, None
        with (
            connected(
                request.address,
                threads=request.threads,
                workers=request.workers,
                verbose=request.verbose,
            ) as ray,
            shared_token(request.results) as token,
            received() as signals,
            contextlib.closing(_Tasks(ray, request, token, jobs, watcher, signals)) as sweep,
        ):
            while sweep.refs or (sweep.waiting and not sweep.ending):
                sweep.look_at_the_clock()
                sweep.submit()
                sweep.hear()
                sweep.collect()
                sweep.pass_on()
        return sweep.outcomes(), signals[0] if signals else None


class _Tasks:
    """Which jobs wait, which are with the cluster, and how the others ended.

    Args:
        ray: the package, connected.
        request: what the sweep is to do.
        token: name of the file that a node looks for in the results folder.
        jobs: all of them.
        watcher: hears how it goes.
        signals: that came so far.
    """

    def __init__(
        self,
        ray: Any,
        request: Request,
        token: str,
        jobs: Sequence[Job],
        watcher: Watcher,
        signals: Sequence[int],
    ) -> None:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self.ray, self.request, self.token, self.jobs = ray, request, token, jobs
        self.watcher, self.signals = watcher, signals
        self.waiting = list(reversed(range(len(jobs))))
        self.refs: dict[Any, int] = {}
        self.slots: dict[int, int] = {}
        self.lent = Lent()
        self.unstored: dict[int, str] = {}
        self.tried: Counter[int] = Counter()
        self.ended: dict[int, Outcome] = {}
        self.passed_on, self.given_up = 0, False
        self.restart = secrets.token_hex(4) if request.restart else ""
        check_room(ray, request)
        gpus = gpu_share(ray, request)
        self.device = "cuda" if gpus else "cpu"
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self.mailbox = (
            ray.remote(ray_task.Mailbox)
            .options(num_cpus=0, scheduling_strategy=here, max_restarts=-1, max_task_retries=-1)
            .remote()
        )
        self.task = ray.remote(
            num_cpus=request.threads, num_gpus=gpus, memory=request.memory, max_retries=0
        )(ray_task.do)

    @property
    def ending(self) -> bool:
        """Whether no other job begins."""
        return bool(self.signals) or self.given_up

    def submit(self) -> None:
        """Hand waiting jobs to the cluster, as many as it may have at a time."""
        most = self.request.workers or AT_ONCE
        for _ in range(len(self.waiting)):
            if len(self.refs) >= most or self.ending:
                break
            index = self.waiting.pop()
            if self.tried[index] and not self._is_lent(index) and is_locked(self.jobs[index]):
                self.waiting.insert(0, index)
                continue
            outcome = None if self.tried[index] else self._prepared(self.jobs[index])
            if outcome is None:
                self._submit(index)
            else:
                self._finish(index, outcome)

    def _prepared(self, job: Job) -> Outcome | None:
        """The outcome of a job that needs no task."""
        return (None if self.restart else settled(job)) or elsewhere(job)

    def _submit(self, index: int) -> None:
        job = self.jobs[index]
        document = order(
            job,
            results=self.request.results.absolute(),
            experiment=self.request.experiment,
            device=self.device,
            threads=self.request.threads,
            restart=self.restart,
        )
        document |= {"cwd": os.getcwd(), "run": job.config.run_id}
        ref = self.task.remote(document, index, self.token, self.mailbox, self.request.memory)
        self.refs[ref] = index

    def hear(self) -> None:
        """Tell the watcher what the tasks say, and answer those that ask."""
        for index, event in self.ray.get(self.mailbox.take.remote()):
            if index in self.ended:
                continue
            if event["event"] == "begun":
                self._begin(index)
            elif event["event"] == "ask":
                self.mailbox.answer.remote(index, self.lent.lend(self._folder(index)))
            elif event["event"] == "files":
                self._store(index, event["files"])
            else:
                self.watcher.event(self.jobs[index], self._begin(index), event)

    def _begin(self, index: int) -> int:
        """The slot of a job, the first free one when it begins."""
        if index not in self.slots:
            taken = set(self.slots.values())
            self.slots[index] = next(i for i in range(len(taken) + 1) if i not in taken)
            self.watcher.started(self.jobs[index], self.slots[index])
        return self.slots[index]

    def _folder(self, index: int) -> Path:
        return self.request.results / self.request.experiment / self.jobs[index].config.run_id

    def _is_lent(self, index: int) -> bool:
        return self._folder(index) in self.lent

    def _store(self, index: int, files: ray_task.Files) -> None:
        """Keep the files of a run that is lent; where that fails, the run is stopped."""
        error = self.lent.store(self._folder(index), files)
        if error is None or index in self.unstored:
            return
        self.unstored[index] = error
        for ref in [ref for ref, other in self.refs.items() if other == index]:
            self.ray.cancel(ref)

    def collect(self) -> None:
        """Take leave of the tasks that ended."""
        if not self.refs:
            time.sleep(TICK)
            return
        done, _ = self.ray.wait(list(self.refs), num_returns=len(self.refs), timeout=TICK)
        if done:
            self.hear()
        for ref in done:
            self._end(ref, self.refs.pop(ref))

    def _end(self, ref: Any, index: int) -> None:
        job, errors = self.jobs[index], self.ray.exceptions
        try:
            end = self.ray.get(ref)
        except errors.TaskCancelledError:
            self._finish(index, Outcome(job, "interrupted", "Stopped by Ray."))
        except errors.OutOfMemoryError:
            self._lose(index, "Its node ran out of memory; --memory reserves what a run needs")
        except errors.RayTaskError as error:
            cause = " ".join(str(error.cause).split())[:300]
            self._finish(index, Outcome(job, "failed", cause, details=str(error)))
        except errors.RayError as error:
            self._lose(index, f"Its worker was lost ({type(error).__name__})")
        else:
            self._take(index, end)

    def _take(self, index: int, end: dict[str, Any]) -> None:
        """The last word of a task; what a lost worker still holds is tried again."""
        if end["status"] == "locked" and self.tried[index] and not self.ending:
            self.waiting.insert(0, index)
            return
        if "files" in end:
            self._store(index, end["files"])
        job, lasting = self.jobs[index], end.get("lasting", False)
        outcome = Outcome(job, end["status"], end["message"], end["seconds"], lasting=lasting)
        if not outcome.failed or lasting or not self._repeat(index, outcome):
            self._finish(index, outcome)

    def _repeat(self, index: int, outcome: Outcome) -> bool:
        """Put a run back among those that wait, to go on from its checkpoint, if it may be."""
        if self.ending or index in self.unstored or self.tried[index] >= self.request.retries:
            return False
        self.tried[index] += 1
        self.waiting.insert(0, index)
        if index in self.slots:
            self.watcher.again(outcome, self.slots.pop(index))
        return True

    def _lose(self, index: int, reason: str) -> None:
        """Begin a run again whose worker is gone, unless it was too often."""
        job = self.jobs[index]
        message = f"{reason}; the same sweep takes the run up again."
        outcome = Outcome(job, "interrupted" if self.ending else "failed", message)
        if not self._repeat(index, outcome):
            if outcome.failed and not self._is_lent(index):
                note_failure(self._folder(index), message)
            self._finish(index, outcome)

    def look_at_the_clock(self) -> None:
        """Stop every run after a checkpoint if the time is up."""
        if time.monotonic() >= self.request.until and not self.ending:
            self.given_up = True
            self._cancel(force=False)
            self.watcher.stopping(len(self.slots))

    def pass_on(self) -> None:
        """Cancel the tasks when a signal comes: after a checkpoint, and from the second at once."""
        while self.passed_on < len(self.signals):
            self.passed_on += 1
            self._cancel(force=self.passed_on > 1)
            self.watcher.stopping(len(self.slots))

    def _cancel(self, force: bool) -> None:
        for ref in self.refs:
            self.ray.cancel(ref, force=force)

    def close(self) -> None:
        """Give back the locks that an error in the sweep itself left."""
        self.lent.close()

    def outcomes(self) -> list[Outcome]:
        """Of every job, in order."""
        return [
            self.ended.get(index) or Outcome(job, "waiting") for index, job in enumerate(self.jobs)
        ]

    def _finish(self, index: int, outcome: Outcome) -> None:
        if index in self.unstored:
            outcome = Outcome(outcome.job, "failed", self.unstored[index])
        elif outcome.status == "interrupted" and index not in self.slots:
            outcome = Outcome(outcome.job, "waiting")
        self.ended[index] = outcome
        self.lent.take_back(self._folder(index))
        self.watcher.finished(outcome, self.slots.pop(index, None))
        if outcome.failed and self.request.fail_fast and not self.given_up:
            self.given_up = True
            self._cancel(force=False)
