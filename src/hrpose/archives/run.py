"""The work of a job: partitions to workers, answers to files, whatever becomes of the workers."""

import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]

from hrpose.archives.engine import Done, Engine, Event, Lost, Ready, Refused
from hrpose.archives.job import Job
from hrpose.archives.results import Counts, failed, to_table, write, written
from hrpose.errors import UserError

# How often work may lose its worker before it is cut in halves, or one picture is given up.
MOST_LOSSES = 2
# Workers that are lost one after the other while nothing is done: then something else is wrong.
MOST_IN_A_ROW = 20
MOST_AT_START = 3
# Seconds without an answer after which a worker counts as lost: so many, and so many a picture.
PATIENCE = (600.0, 60.0)


@dataclass(slots=True)
class Task:
    """Pictures of a partition, from the one at `start` on, that a worker does at a time."""

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
        return self.done.pictures == self.job.pictures


def to_do(job: Job, retry_failed: bool = False) -> tuple[list[int], Counts]:
    """The partitions that have no sound file of results, and what is in the others.

    With `retry_failed` also those that hold failed pictures.
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

    Every picture gets exactly one row. A worker that is lost is replaced and its work done again;
    a picture that takes its worker along twice, all by itself, is a row with that reason. `tell`
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
        """Keep the answer; write the partition when all of its pictures are answered."""
        if len(table) != len(task.names):
            raise AssertionError(f"{len(table)} rows for {len(task.names)} pictures")
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
        """Once as it is, for machines fail. Then in halves, to find the one picture to blame."""
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
                # A half's next loss cuts again; a single picture has all of its chances.
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
