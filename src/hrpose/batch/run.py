"""Running a batch job: partitions to workers, tables to files; lost workers are replaced."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import pyarrow as pa  # type: ignore[import-untyped]

from hrpose.batch import job as jobs
from hrpose.batch.job import Counts, Job, failed_row, to_table, write, written
from hrpose.batch.source import absolute, open_source, without_query
from hrpose.batch.worker import Choices, Done, Engine, Event, Load, Lost, Opening, Ready, Refused
from hrpose.errors import UserError
from hrpose.io import locked
from hrpose.session import usable_cores

# How often a task may lose its worker before it is bisected, or its one image is given up.
MAX_LOSSES = 2
# Workers lost one after the other without any result: then the images are not the cause.
MAX_LOSSES_IN_A_ROW = 20
MAX_LOSSES_AT_START = 3
# Seconds without an answer after which a worker counts as lost: a base, and more for each image.
TIMEOUT = (600.0, 60.0)
# Images in a result file by default.
PARTITION = 250


@dataclass(slots=True)
class Task:
    """The images of a partition, from the one at `start` on, that a worker is given at a time."""

    partition: int
    start: int
    names: list[str]
    losses: int = 0


@dataclass(frozen=True, slots=True)
class State:
    """The progress of a job. `done` counts all that is written, `this_run` what this run wrote."""

    job: Job
    done: Counts
    this_run: Counts
    workers: int
    lost: int
    why_lost: str = ""

    @property
    def finished(self) -> bool:
        return self.done.images == self.job.images


@dataclass(frozen=True, slots=True)
class Workers:
    """At most `count` workers (None: as many as the cores allow) of `cpus` cores each: processes
    of this machine, or actors with `gpus` each of the Ray cluster at `address` (None: a new one on
    this machine).
    """

    engine: Literal["processes", "ray"] = "processes"
    count: int | None = None
    cpus: int = 1
    gpus: float = 0.0
    address: str | None = None

    def start(self, opening: Opening) -> Engine:
        """The engine. Raises UserError where Ray or its cluster is not there."""
        if self.engine == "ray":
            from hrpose.batch.engines import RayActors

            return RayActors(
                opening, self.count, cpus=self.cpus, gpus=self.gpus, address=self.address
            )
        from hrpose.batch.engines import Processes

        return Processes(opening, self.count or max(1, usable_cores() // self.cpus))


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of a run: `state` is None where nothing was left to do; `failed` counts images."""

    job: Job
    state: State | None
    failed: int
    detector: str
    engine: str


class Progress(Protocol):
    """Receives the progress of `predict`."""

    def listed(self, count: int) -> None:
        """`count` images were listed so far."""

    def begin(self, job: Job, done: int) -> None:
        """The work begins; earlier runs finished `done` images."""

    def update(self, state: State) -> None:
        """As the `progress` of `run`."""


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
    """Estimate the poses in all images of `source`; writes one Parquet file for each partition.

    Resumes where the same call stopped. `load` opens an estimator as `hrpose.load` does; workers
    call it too. `partition` is the number of images in a file, 250 by default. Returns soon after
    `stopped` returns True, with None where the list of images was not complete. Raises UserError
    for a source, weights or options that do not fit each other or the job in `out`.
    """
    source = absolute(source)
    opened = open_source(source)
    # Opened here too, so that a mistake is reported before a worker is started.
    estimator = choices.open(load, batch_size, 1)
    settings = choices.settings(estimator)
    with locked(out):
        job = jobs.load_job(out)
        if job is None:
            try:
                names = _until(opened.names(), stopped)
                job = jobs.freeze(
                    out,
                    without_query(source),
                    names,
                    partition or PARTITION,
                    settings,
                    progress.listed,
                )
            except _StoppedError:
                return None
        else:
            jobs.check_same(job, without_query(source), partition, settings)
        numbers, done = to_do(job, retry_failed)
        progress.begin(job, done.images)
        state = None
        if numbers and not stopped():
            opening = Opening(source, choices, load, settings, batch_size, workers.cpus)
            state = run(job, workers.start(opening), numbers, done, progress.update, stopped)
            done = state.done
    return Outcome(job, state, done.failed, estimator.detector.name, estimator.engine)


class _StoppedError(Exception):
    """Stopped while the images were listed."""


def _until(names: Iterator[str], stopped: Callable[[], bool]) -> Iterator[str]:
    """The same names. Raises _StoppedError when `stopped`, so that no partial list is frozen."""
    for name in names:
        if stopped():
            raise _StoppedError
        yield name


def to_do(job: Job, retry_failed: bool = False) -> tuple[list[int], Counts]:
    """The partitions without a valid file of results, and the counts of the others.

    With `retry_failed`, those with failed images are among the first.
    """
    numbers, done = [], Counts()
    with ThreadPoolExecutor(8) as pool:  # each of many files waits for a disk
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
    progress: Callable[[State], None] = lambda state: None,
    stopped: Callable[[], bool] = lambda: False,
    timeout: tuple[float, float] = TIMEOUT,
) -> State:
    """Run `partitions`; returns when all are written, or soon after `stopped` returns True.

    Every image gets exactly one row. A lost worker is replaced and its task repeated; an image that
    ends its worker twice, alone in its task, is a row with that reason. `progress` is called after
    each event and every second. `timeout` is in seconds: a base and more for each image of a task.
    Closes the engine. Raises UserError where workers cannot work or results cannot be written; the
    partitions that were written stay.
    """
    queue = _Queue(job, engine, deque(partitions), done, timeout)
    try:
        while queue.unfinished() and not stopped():
            queue.assign()
            for event in engine.wait(1.0):
                queue.handle(event)
            queue.end_late()
            progress(queue.state())
    finally:
        engine.close()
    return queue.state()


@dataclass(slots=True)
class _Queue:
    """The tasks of a run: waiting, running in a worker, or finished in part."""

    job: Job
    engine: Engine
    waiting: deque[Task | int]
    done: Counts
    timeout: tuple[float, float]
    this_run: Counts = field(default_factory=Counts)
    starting: set[int] = field(default_factory=set)
    idle: list[int] = field(default_factory=list)
    running: dict[int, tuple[Task, float]] = field(default_factory=dict)
    pieces: dict[int, dict[int, Any]] = field(default_factory=dict)
    lost: int = 0
    in_a_row: int = 0
    at_start: int = 0
    why_lost: str = ""

    def unfinished(self) -> bool:
        return bool(self.running or self.waiting)

    def assign(self) -> None:
        """Give tasks to idle workers, and start as many more workers as there are tasks."""
        while self.idle and self.waiting:
            first = self.waiting.popleft()
            task = first if isinstance(first, Task) else Task(first, 0, self.job.names(first))
            worker = self.idle.pop()
            self.running[worker] = task, time.monotonic()
            self.engine.give(worker, task.names)
        free = self.engine.size - len(self.running) - len(self.idle)
        for _ in range(min(free, len(self.waiting)) - len(self.starting)):
            self.starting.add(self.engine.start())

    def handle(self, event: Event) -> None:
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
        """Keep the table of a task; write the partition when it is complete."""
        if len(table) != len(task.names):
            raise AssertionError(f"{len(table)} rows for {len(task.names)} images")
        pieces = self.pieces.setdefault(task.partition, {})
        pieces[task.start] = table
        if sum(map(len, pieces.values())) == self.job.size(task.partition):
            whole = pa.concat_tables([pieces[start] for start in sorted(pieces)])
            count = write(self.job, task.partition, whole)
            del self.pieces[task.partition]
            self.done, self.this_run = self.done + count, self.this_run + count

    def _lose(self, worker: int, why: str) -> None:
        self.lost, self.why_lost = self.lost + 1, why
        if worker in self.starting:
            self.starting.discard(worker)
            self.at_start += 1
            if self.at_start >= max(MAX_LOSSES_AT_START, self.engine.size):
                raise UserError(
                    f"{self.at_start} workers were lost while they started, the last one "
                    f"{why}; check what ends them, such as a lack of memory, and try again",
                    code="workers-lost",
                )
        elif worker in self.running:
            task, _ = self.running.pop(worker)
            self._retry(task, why)
            self.in_a_row += 1
            if self.in_a_row > max(MAX_LOSSES_IN_A_ROW, 3 * self.engine.size):
                raise UserError(
                    f"{self.in_a_row} workers were lost one after the other without a result, the "
                    f"last one {why}; check what ends them, and run the same command again",
                    code="workers-lost",
                )
        else:
            self.idle.remove(worker)

    def _retry(self, task: Task, why: str) -> None:
        """Repeat a task once as it is, then bisect it to find the image that ends its worker."""
        task.losses += 1
        if task.losses < MAX_LOSSES:
            self.waiting.appendleft(task)
        elif len(task.names) == 1:
            (name,) = task.names
            reason = f"{name}: its worker was lost {task.losses} times, the last one {why}"
            self._add(task, to_table([failed_row(name, reason, "workers-lost")]))
        else:
            middle = len(task.names) // 2
            for start, names in ((middle, task.names[middle:]), (0, task.names[:middle])):
                # The next loss bisects again; a single image gets all of its attempts.
                losses = MAX_LOSSES - 1 if len(names) > 1 else 0
                self.waiting.appendleft(Task(task.partition, task.start + start, names, losses))

    def end_late(self) -> None:
        """End the workers that hang, in a decoder or at a disk."""
        base, each = self.timeout
        for worker, (task, since) in list(self.running.items()):
            waited = time.monotonic() - since
            if waited > base + each * len(task.names):
                self.engine.end(worker)
                self._lose(worker, f"without an answer for {waited:.0f} s")

    def state(self) -> State:
        workers = len(self.running) + len(self.idle)
        return State(self.job, self.done, self.this_run, workers, self.lost, self.why_lost)
