"""The engine of a Slurm cluster: a job array, each task of which does its runs."""

from __future__ import annotations

import json
import math
import secrets
import shutil
import time
from collections.abc import Sequence
from typing import Any

from lidcli.errors import ConfigError, LidError, StoreError
from lidcli.store.files import unwritable
from lidcli.store.run import Run
from lidcli.sweep import slurm_commands as slurm
from lidcli.sweep.engines import Request
from lidcli.sweep.local import Watcher
from lidcli.sweep.orders import order
from lidcli.sweep.queue import Job, Outcome, note_failure, settled, shard
from lidcli.sweep.received import received
from lidcli.sweep.slurm_array import Array, Task, script
from lidcli.sweep.slurm_task import ORDERS

__all__ = ["Slurm"]

POLL = 1.0
LARGEST = 1000
"""Tasks of an array: Slurm's own default limit."""
GRACE_SECONDS = 60
HINTS = {
    "OUT_OF_MEMORY": "; --memory asks for more",
    "TIMEOUT": "; --sbatch --time=... asks for more time",
    "NODE_FAIL": "; the node was lost",
}


class Slurm:
    """A job array, a task a run; it needs a results folder that all nodes share.

    Raises:
        ConfigError: there is no sbatch, or a GPU is named by number.
    """

    def __init__(self, request: Request) -> None:
        slurm.find_slurm()
        if ":" in request.device:
            raise ConfigError("Slurm chooses the GPU of each run: --device cuda, without a number.")
        self.request = request

    def facts(self) -> dict[str, Any]:
        """What a run takes, and how many go at a time."""
        request = self.request
        return {
            "engine": "slurm",
            "device": request.device,
            "threads": request.threads,
            "workers": request.workers,
        }

    def text(self) -> str:
        """What a run takes, and how many go at a time."""
        threads, workers = self.request.threads, self.request.workers
        most = f", {workers} at a time" if workers else ""
        return (
            f"slurm, an array of {min(self.request.todo, LARGEST)},"
            f" {threads} CPU{'s' * (threads > 1)} a run{most}, device {self.request.device}"
        )

    def run(self, jobs: Sequence[Job], watcher: Watcher) -> tuple[list[Outcome], int | None]:
        """Submit what no array of an earlier sweep has yet, and follow it unless detached.

        A signal cancels what this sweep submitted; a second one does not wait for its end.
        """
        follow = _Following(self.request, jobs, watcher)
        if len(follow.ended) < len(jobs):
            follow.take_up()
            follow.submit()
        if self.request.detach:
            return follow.outcomes("submitted"), None
        with received() as signals:
            while follow.open and len(signals) < 2:
                follow.look()
                late = time.monotonic() >= self.request.until
                if (signals or late) and not follow.cancelled:
                    follow.cancel()
                if follow.open:
                    time.sleep(POLL)
        follow.tidy()
        return follow.outcomes("waiting"), signals[0] if signals else None


def _is_that(job: Job, restart: str) -> bool:
    """Whether what there is of a run is not what a task of an earlier sweep is to begin anew."""
    try:
        return not restart or Run.open(job.folder).begun_for(restart)
    except StoreError:
        return True


class _Following:
    """Which runs are in which array, and how they end.

    Args:
        request: what the sweep is to do.
        jobs: all of them.
        watcher: hears how it goes.
    """

    def __init__(self, request: Request, jobs: Sequence[Job], watcher: Watcher) -> None:
        self.request, self.jobs, self.watcher = request, jobs, watcher
        self.place = request.results.absolute() / request.experiment / ".slurm"
        self.indices = {job.config.run_id: index for index, job in enumerate(jobs)}
        self.open: list[Task] = []
        self.ended: dict[int, Outcome] = {}
        self.slots = 0
        self.cancelled = False
        self.submitted: Array | None = None
        self.arrays = [Array(path.parent, own=False) for path in sorted(self.place.glob("*/id"))]
        if not request.restart:
            words = dict(item for array in self.arrays for item in array.restarts().items())
            for index, job in enumerate(jobs):
                outcome = settled(job)
                if outcome is not None and _is_that(job, words.get(job.config.run_id, "")):
                    self._finish(index, outcome, None)

    def take_up(self) -> None:
        """Find the arrays of earlier sweeps that Slurm still has; forget the others.

        Raises:
            LidError: Slurm does not answer.
        """
        if not self.arrays:
            return
        alive = slurm.queued([array.name for array in self.arrays])
        if alive is None:
            raise LidError(
                "Slurm does not answer (squeue failed); the sweep can go on when it does."
            )
        for array in self.arrays:
            indices = {index for name, index in alive if name == array.name}
            if not indices:
                shutil.rmtree(array.folder, ignore_errors=True)
                continue
            for index, runs in enumerate(array.runs(), 1):
                if index in indices:
                    self._follow(array, index, runs)

    def _follow(self, array: Array, index: int, runs: Sequence[str]) -> None:
        known = {name: self.indices[name] for name in runs if name in self.indices}
        known = {name: i for name, i in known.items() if i not in self.ended}
        if known:
            self.open.append(Task(array, index, known, self.slots))
            self.slots += 1

    def submit(self) -> None:
        """Submit an array of the runs that are in none.

        Raises:
            LidError: Slurm refuses it.
            StoreError: its folder cannot be written.
        """
        left = self._unsubmitted()
        if not left:
            return
        number = min(len(left), LARGEST)
        tasks = [shard(left, f"{i}/{number}") for i in range(1, number + 1)]
        array = Array(self.place / secrets.token_hex(4), own=True)
        try:
            self._write(array, tasks)
            identity = slurm.submit(self._words(array, number))
            (array.folder / "id").write_text(f"{identity}\n")
        except OSError as error:
            raise unwritable(array.folder, error) from error
        except LidError:
            shutil.rmtree(array.folder, ignore_errors=True)
            raise
        self.submitted = array
        for index, task in enumerate(tasks, 1):
            self._follow(array, index, [self.jobs[i].config.run_id for i in task])

    def _unsubmitted(self) -> list[int]:
        """The jobs that have not ended and are in no array."""
        known = {index for task in self.open for index in task.jobs.values()} | self.ended.keys()
        return [index for index in range(len(self.jobs)) if index not in known]

    def _write(self, array: Array, tasks: Sequence[Sequence[int]]) -> None:
        """Make an array's folder, with what each task is to do."""
        array.folder.mkdir(parents=True)
        restart = array.folder.name if self.request.restart else ""
        documents = [[self._order(index, restart) for index in task] for task in tasks]
        (array.folder / ORDERS).write_text(json.dumps(documents))
        (array.folder / "array.sh").write_text(script(array.folder, self.request.threads))

    def _order(self, index: int, restart: str) -> dict[str, Any]:
        request, job = self.request, self.jobs[index]
        document = order(
            job,
            results=request.results.absolute(),
            experiment=request.experiment,
            device=request.device,
            threads=request.threads,
            restart=restart,
        )
        return document | {"run": job.config.run_id, "retries": request.retries}

    def _words(self, array: Array, number: int) -> list[str]:
        """The options of sbatch, the user's own last."""
        request = self.request
        most = f"%{request.workers}" if request.workers else ""
        place = str(array.folder).replace("%", "%%")
        words = [
            f"--job-name={array.name}",
            f"--array=1-{number}{most}",
            f"--cpus-per-task={request.threads}",
            "--requeue",
            "--open-mode=append",
            f"--signal=B:USR1@{GRACE_SECONDS}",
            f"--output={place}/%a.out",
            f"--error={place}/%a.err",
        ]
        if request.memory is not None:
            words.append(f"--mem={math.ceil(request.memory / 2**20)}M")
        if request.device == "cuda":
            words.append("--gres=gpu:1")
        return [*words, *request.sbatch, str(array.folder / "array.sh")]

    def look(self) -> None:
        """Read what the tasks say, and take leave of those that Slurm has no more."""
        names = dict.fromkeys(task.array.name for task in self.open)
        alive = slurm.queued(list(names))
        for task in list(self.open):
            for event in task.events():
                self._hear(task, event)
            if alive is not None and (task.array.name, task.index) not in alive:
                self._leave(task)

    def _hear(self, task: Task, event: dict[str, Any]) -> None:
        run = event.pop("run_id", "")
        index = task.jobs.get(run)
        if index is None or index in self.ended:
            return
        if event["event"] == "end":
            task.ends[run] = event
            if event["status"] not in ("interrupted", "locked"):
                self._end(task, index, event)
        elif run not in task.begun:
            task.begun.add(run)
            self.watcher.started(self.jobs[index], task.slot)
        elif event["event"] != "begun":
            self.watcher.event(self.jobs[index], task.slot, event)

    def _leave(self, task: Task) -> None:
        """The ends of the runs whose task is over."""
        self.open.remove(task)
        state = slurm.reason(f"{task.array.id}_{task.index}") if task.array.id else ""
        for run, index in task.jobs.items():
            if index in self.ended:
                continue
            if run in task.ends:
                self._end(task, index, task.ends[run])
            elif state in ("CANCELLED", "PREEMPTED") or self.cancelled:
                status = "interrupted" if run in task.begun else "waiting"
                self._end(task, index, {"status": status, "message": "Cancelled."})
            else:
                self._vanish(task, run, index, state)

    def _vanish(self, task: Task, run: str, index: int, state: str) -> None:
        last = task.last_line()
        message = f"Its Slurm task ended without a word{f' ({state})' if state else ''}"
        message += HINTS.get(state, "")
        message += f": {last}" if last else "; is the results folder one that every node sees?"
        if run in task.begun:
            note_failure(self.jobs[index].folder, message)
        self._end(task, index, {"status": "failed", "message": message})

    def _end(self, task: Task, index: int, end: dict[str, Any]) -> None:
        seconds = float(end.get("seconds", 0.0))
        outcome = Outcome(self.jobs[index], end["status"], end["message"], seconds)
        name = self.jobs[index].config.run_id
        self._finish(index, outcome, task.slot if name in task.begun else None)
        if outcome.failed and self.request.fail_fast and not self.cancelled:
            self.cancel()

    def cancel(self) -> None:
        """End what this sweep submitted, after checkpoints; leave other sweeps' arrays alone."""
        self.cancelled = True
        self.watcher.stopping(sum(bool(task.begun) for task in self.open if task.array.own))
        for name in {task.array.name for task in self.open if task.array.own}:
            slurm.cancel(name)
        self.open = [task for task in self.open if task.array.own]

    def tidy(self) -> None:
        """Forget what was submitted if all of it was done; else its output may say why not."""
        fine = all(outcome.status in ("complete", "published") for outcome in self.ended.values())
        if self.submitted is not None and fine and not self.open:
            shutil.rmtree(self.submitted.folder, ignore_errors=True)

    def outcomes(self, otherwise: str) -> list[Outcome]:
        """Of every job, in order; of those that have not ended, this status."""
        return [
            self.ended.get(index) or Outcome(job, otherwise) for index, job in enumerate(self.jobs)
        ]

    def _finish(self, index: int, outcome: Outcome, slot: int | None) -> None:
        self.ended[index] = outcome
        self.watcher.finished(outcome, slot)
