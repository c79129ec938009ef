"""The work of a job: partitions to workers, answers to files, whatever becomes of the workers."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import pyarrow as pa  # type: ignore[import-untyped]

from hrpose.batch import job as jobs
from hrpose.batch.engine import Done, Engine, Event, Lost, Ready, Refused
from hrpose.batch.job import Job
from hrpose.batch.remote import shown
from hrpose.batch.results import Counts, failed, to_table, write, written
from hrpose.batch.source import absolute, open_place
from hrpose.batch.worker import Choices, Load, Opening, open_estimator, settings_of
from hrpose.errors import UserError
from hrpose.session import usable_cores

# How often work may lose its worker before it is cut in halves, or one image is given up.
MOST_LOSSES = 2
# Workers that are lost one after the other while nothing is done: then something else is wrong.
MOST_IN_A_ROW = 20
MOST_AT_START = 3
# Seconds without an answer after which a worker counts as lost: so many, and so many an image.
PATIENCE = (600.0, 60.0)
# Images of a result file, where nothing else is asked for.
PARTITION = 250


@dataclass(slots=True)
class Task:
    """Images of a partition, from the one at `start` on, that a worker does at a time."""

    partition: int
    start: int
    names: list[str]
    losses: int = 0


@dataclass(frozen=True, slots=True)
class State:
    """How far a job is. `done` counts all that is written, `here` what this run wrote."""

    job: Job
    done: Counts
    here: Counts
    workers: int
    lost: int
    why_lost: str = ""

    @property
    def finished(self) -> bool:
        return self.done.images == self.job.images


@dataclass(frozen=True, slots=True)
class Workers:
    """Who does the work: at most `count` workers (None: as many as there is room for) of `cpus`
    cores each, as processes of this machine or as actors of the Ray cluster at `address` (None: one
    of this machine alone) with `gpus` each.
    """

    engine: Literal["processes", "ray"] = "processes"
    count: int | None = None
    cpus: int = 1
    gpus: float = 0.0
    address: str | None = None

    def start(self, opening: Opening) -> Engine:
        """The engine. Raises UserError where Ray or its cluster is not there."""
        if self.engine == "ray":
            from hrpose.batch.ray_actors import RayActors

            return RayActors(
                opening, self.count, cpus=self.cpus, gpus=self.gpus, address=self.address
            )
        from hrpose.batch.processes import Processes

        return Processes(opening, self.count or max(1, usable_cores() // self.cpus))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a job: `state` is None where nothing was left to do; `failed` images."""

    job: Job
    state: State | None
    failed: int
    detector: str


class Progress(Protocol):
    """Who is told how far the work is."""

    def listed(self, count: int) -> None:
        """So many images were found so far."""

    def begin(self, job: Job, done: int) -> None:
        """The work begins, with `done` images done by earlier runs."""

    def tell(self, state: State) -> None:
        """As in `run`."""


def predict(
    source: str,
    out: Path,
    choices: Choices,
    load: Load,
    workers: Workers,
    progress: Progress,
    stopped: Callable[[], bool],
    *,
    batch_size: int = 16,
    partition: int | None = None,
    retry_failed: bool = False,
) -> Outcome | None:
    """Find the poses in all images of `source`; writes one Parquet file for each partition.

    Goes on where the same call stopped. `load` opens an estimator as `hrpose.load` does; workers
    call it too. `partition` is the number of images of a file, 250 by default. Returns soon after
    `stopped` says so, with None where the list of images was not complete. Raises UserError for a
    source, weights or options that do not fit each other or what `out` holds.
    """
    source = absolute(source)
    opened = open_place(source)
    # Here too, so that a mistake is one line, before anything is started.
    estimator = open_estimator(choices, load, batch_size, 1)
    settings = settings_of(estimator, choices)
    with jobs.locked(out):
        job = jobs.load_job(out)
        if job is None:
            try:
                names = _until(opened.names(), stopped)
                job = jobs.freeze(
                    out, shown(source), names, partition or PARTITION, settings, progress.listed
                )
            except _StoppedError:
                return None
        else:
            jobs.check_same(job, shown(source), partition, settings)
        numbers, done = to_do(job, retry_failed)
        progress.begin(job, done.images)
        state = None
        if numbers and not stopped():
            opening = Opening(source, choices, load, settings, batch_size, workers.cpus)
            state = run(job, workers.start(opening), numbers, done, progress.tell, stopped)
            done = state.done
    return Outcome(job, state, done.failed, estimator.detector.name)


class _StoppedError(Exception):
    """The user asked to stop before the work began."""


def _until(names: Iterator[str], stopped: Callable[[], bool]) -> Iterator[str]:
    """The same names. Raises _StoppedError when it is `stopped`, so that no part is frozen."""
    for name in names:
        if stopped():
            raise _StoppedError
        yield name


def to_do(job: Job, retry_failed: bool = False) -> tuple[list[int], Counts]:
    """The partitions that have no sound file of results, and what is in the others.

    With `retry_failed` also those that hold failed images.
    """
    numbers, done = [], Counts()
    with ThreadPoolExecutor(8) as pool:  # of a hundred thousand files, each is a wait for a disk
        for number, count in enumerate(
            pool.map(lambda number: written(job, number), range(job.partitions))
        ):
            if count is None or (retry_failed and count.failed):
                numbers.append(number)
            else:
                done += count
    return numbers, done


def run(
    job: Job,
    engine: Engine,
    partitions: Iterable[int],
    done: Counts,
    tell: Callable[[State], None] = lambda state: None,
    stopped: Callable[[], bool] = lambda: False,
    patience: tuple[float, float] = PATIENCE,
) -> State:
    """Do `partitions`; returns when all are written, or soon after `stopped` says so.

    Every image gets exactly one row. A worker that is lost is replaced and its work done again;
    an image that takes its worker along twice, all by itself, is a row with that reason. `tell`
    hears of each partition, of each worker, and every second. Closes the engine. Raises UserError
    where workers cannot work or results cannot be written; what was done stays.
    """
    work = _Work(job, engine, deque(partitions), done, patience)
    try:
        while work.left() and not stopped():
            work.hand_out()
            for event in engine.wait(1.0):
                work.take(event)
            work.end_late()
            tell(work.state())
    finally:
        engine.close()
    return work.state()


@dataclass(slots=True)
class _Work:
    """What is where: waiting, with which worker, or answered in part."""

    job: Job
    engine: Engine
    waiting: deque[Task | int]
    done: Counts
    patience: tuple[float, float]
    here: Counts = field(default_factory=Counts)
    starting: set[int] = field(default_factory=set)
    idle: list[int] = field(default_factory=list)
    running: dict[int, tuple[Task, float]] = field(default_factory=dict)
    pieces: dict[int, dict[int, Any]] = field(default_factory=dict)
    lost: int = 0
    in_a_row: int = 0
    at_start: int = 0
    why_lost: str = ""

    def left(self) -> bool:
        return bool(self.running or self.waiting)

    def hand_out(self) -> None:
        """Work for those who have none, and as many more workers as there is work for."""
        while self.idle and self.waiting:
            first = self.waiting.popleft()
            task = first if isinstance(first, Task) else Task(first, 0, self.job.names(first))
            worker = self.idle.pop()
            self.running[worker] = task, time.monotonic()
            self.engine.give(worker, task.names)
        free = self.engine.size - len(self.running) - len(self.idle)
        for _ in range(min(free, len(self.waiting)) - len(self.starting)):
            self.starting.add(self.engine.start())

    def take(self, event: Event) -> None:
        worker = event.worker
        if isinstance(event, Refused):
            raise event.error
        if isinstance(event, Ready):
            self.starting.discard(worker)
            self.idle.append(worker)
            self.at_start = 0
        elif isinstance(event, Lost):
            self._lose(worker, event.why)
        elif isinstance(event, Done):
            task, _ = self.running.pop(worker)
            self.idle.append(worker)
            self.in_a_row = 0
            self._add(task, event.table)

    def _add(self, task: Task, table: Any) -> None:
        """Keep the answer; write the partition when all of its images are answered."""
        if len(table) != len(task.names):
            raise AssertionError(f"{len(table)} rows for {len(task.names)} images")
        pieces = self.pieces.setdefault(task.partition, {})
        pieces[task.start] = table
        if sum(map(len, pieces.values())) == self.job.size(task.partition):
            whole = pa.concat_tables([pieces[start] for start in sorted(pieces)])
            count = write(self.job, task.partition, whole)
            del self.pieces[task.partition]
            self.done, self.here = self.done + count, self.here + count

    def _lose(self, worker: int, why: str) -> None:
        self.lost, self.why_lost = self.lost + 1, why
        if worker in self.starting:
            self.starting.discard(worker)
            self.at_start += 1
            if self.at_start >= max(MOST_AT_START, self.engine.size):
                raise UserError(
                    f"{self.at_start} workers were lost while they started, the last one "
                    f"{why}; see what ends them, such as a lack of memory, and try again"
                )
        elif worker in self.running:
            task, _ = self.running.pop(worker)
            self._again(task, why)
            self.in_a_row += 1
            if self.in_a_row > max(MOST_IN_A_ROW, 3 * self.engine.size):
                raise UserError(
                    f"{self.in_a_row} workers were lost one after the other with nothing done, the "
                    f"last one {why}; see what ends them, and give the same command again"
                )
        else:
            self.idle.remove(worker)

    def _again(self, task: Task, why: str) -> None:
        """Once as it is, for machines fail. Then in halves, to find the one image to blame."""
        task.losses += 1
        if task.losses < MOST_LOSSES:
            self.waiting.appendleft(task)
        elif len(task.names) == 1:
            (name,) = task.names
            reason = f"{name}: its worker was lost {task.losses} times, the last one {why}"
            self._add(task, to_table([failed(name, reason)]))
        else:
            middle = len(task.names) // 2
            for start, names in ((middle, task.names[middle:]), (0, task.names[:middle])):
                # A half's next loss cuts again; a single image has all of its chances.
                losses = MOST_LOSSES - 1 if len(names) > 1 else 0
                self.waiting.appendleft(Task(task.partition, task.start + start, names, losses))

    def end_late(self) -> None:
        """Who gives no answer for so long hangs, in a decoder or at a disk."""
        least, each = self.patience
        for worker, (task, since) in list(self.running.items()):
            waited = time.monotonic() - since
            if waited > least + each * len(task.names):
                self.engine.end(worker)
                self._lose(worker, f"without an answer for {waited:.0f} s")

    def state(self) -> State:
        workers = len(self.running) + len(self.idle)
        return State(self.job, self.done, self.here, workers, self.lost, self.why_lost)
