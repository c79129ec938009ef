"""The one place where the network runs: crops of all clients, joined into batches."""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from hrpose.estimator import PoseEstimator
from hrpose.session import Session

# Two batches of this size keep the network busy while the answers of one are on their way out.
BATCH = 8


class QueueFull(Exception):
    """More crops wait than may."""


class OutOfMemory(Exception):
    """Even one job alone found no memory now."""


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """Keypoints in n crops: `points` (n, k, 2) in input pixels, `scores` (n, k), and where they
    were asked for the `heatmaps` (n, k, h, w).
    """

    points: NDArray[np.float64]
    scores: NDArray[np.float32]
    heatmaps: NDArray[np.float32] | None


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    crops: NDArray[np.uint8]
    flip_test: bool
    heatmaps: bool
    answer: "Future[Found]"


class Batcher:
    """Runs sessions, each in a thread of its own, on crops from any thread.

    A batch that fails is tried again in halves, so that a job fails by its own fault only.

    A context manager: on leaving, what was submitted is finished. `observe` is told the number of
    crops of each batch.
    """

    def __init__(
        self,
        sessions: Sequence[Session],
        *,
        gather_seconds: float,
        queue_crops: int,
        observe: Callable[[int], None] = lambda crops: None,
    ) -> None:
        self.session = sessions[0]
        self.metadata = self.session.metadata
        self._gather_seconds = gather_seconds
        self._queue_crops = queue_crops
        self._observe = observe
        self._jobs: deque[_Job] = deque()
        self._waiting = 0
        self._closed = False
        self._changed = threading.Condition()
        self._threads = [
            threading.Thread(target=self._work, args=(session,), name=f"batches-{i}", daemon=True)
            for i, session in enumerate(sessions)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    @property
    def waiting(self) -> int:
        """Crops that wait for the network."""
        return self._waiting

    @property
    def full(self) -> bool:
        return self._waiting >= self._queue_crops

    @property
    def ready(self) -> bool:
        """It takes crops, and every thread is alive."""
        return not self._closed and all(thread.is_alive() for thread in self._threads)

    def submit(
        self, crops: NDArray[np.uint8], *, flip_test: bool = False, heatmaps: bool = False
    ) -> "Future[Found]":
        """Crops (n, h, w, 3) of the metadata's size, n > 0, to what is found in them.

        Raises QueueFull. A job that is larger than the whole queue is taken while nothing waits.
        """
        job = _Job(crops, flip_test, heatmaps, Future())
        with self._changed:
            if self._closed:
                raise QueueFull
            if self._waiting and self._waiting + len(crops) > self._queue_crops:
                raise QueueFull
            self._jobs.append(job)
            self._waiting += len(crops)
            self._changed.notify_all()
        return job.answer

    def _work(self, session: Session) -> None:
        estimators = {
            flip_test: PoseEstimator(session, flip_test=flip_test, batch_size=BATCH)
            for flip_test in (False, True)
        }
        while jobs := self._take():
            for flip_test, estimator in estimators.items():
                # A job whose client has gone is canceled, and left out.
                chosen = [
                    job
                    for job in jobs
                    if job.flip_test is flip_test and job.answer.set_running_or_notify_cancel()
                ]
                if chosen:
                    self._run(estimator, chosen)

    def _take(self) -> list[_Job]:
        """The jobs of the next batch; none when closed and all is done."""
        with self._changed:
            while True:
                while not self._jobs and not self._closed:
                    self._changed.wait()
                if not self._jobs:
                    return []
                deadline = time.monotonic() + self._gather_seconds
                while self._jobs and self._waiting < BATCH and not self._closed:
                    if (left := deadline - time.monotonic()) <= 0:
                        break
                    self._changed.wait(left)
                taken: list[_Job] = []
                crops = 0
                while self._jobs and (not taken or crops + len(self._jobs[0].crops) <= BATCH):
                    taken.append(self._jobs.popleft())
                    crops += len(taken[-1].crops)
                self._waiting -= crops
                if taken:  # else another thread was faster
                    return taken

    def _run(self, estimator: PoseEstimator, jobs: list[_Job]) -> None:
        try:
            crops = np.concatenate([job.crops for job in jobs])
            found = _find(estimator, crops, any(job.heatmaps for job in jobs), self._observe)
        except BaseException as error:  # nothing may end the thread while others wait for it
            if len(jobs) > 1:  # one job's fault, or too much at once: not everybody's
                half = len(jobs) // 2
                self._run(estimator, jobs[:half])
                self._run(estimator, jobs[half:])
            else:
                jobs[0].answer.set_exception(_explained(error))
            return
        start = 0
        for job in jobs:
            rows = slice(start, start := start + len(job.crops))
            heatmaps = None
            if job.heatmaps and found.heatmaps is not None:
                heatmaps = found.heatmaps[rows]
            job.answer.set_result(Found(found.points[rows], found.scores[rows], heatmaps))


def _explained(error: BaseException) -> Exception:
    """OutOfMemory for what says so, in NumPy's words or in ONNX Runtime's and PyTorch's."""
    words = str(error).lower()
    if isinstance(error, MemoryError) or "alloc" in words or "out of memory" in words:
        return OutOfMemory(str(error))
    return error if isinstance(error, Exception) else RuntimeError(repr(error))


def _find(
    estimator: PoseEstimator,
    crops: NDArray[np.uint8],
    keep_heatmaps: bool,
    observe: Callable[[int], None],
) -> Found:
    parts: list[Found] = []
    for start in range(0, len(crops), BATCH):
        batch = crops[start : start + BATCH]
        observe(len(batch))
        heatmaps = estimator.heatmaps(batch)
        parts.append(Found(*estimator.decode(heatmaps), heatmaps if keep_heatmaps else None))
    return Found(
        np.concatenate([part.points for part in parts]),
        np.concatenate([part.scores for part in parts]),
        np.concatenate([part.heatmaps for part in parts if part.heatmaps is not None])
        if keep_heatmaps
        else None,
    )
