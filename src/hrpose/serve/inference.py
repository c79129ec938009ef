"""From an image's bytes to the answer: decode, detect, crop, and run the network in batches.

The network runs in one place only, the batcher, which joins the crops of all clients.
"""

import asyncio
import base64
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from hrpose.errors import UserError
from hrpose.estimator import Detector, FullImage, InputImage, PoseEstimator, to_poses
from hrpose.file_kinds import ImageError
from hrpose.geometry import Boxes, Crop
from hrpose.image import encode, image_size
from hrpose.poses import Poses, select
from hrpose.serve.middleware import Limits, Refusal, busy
from hrpose.serve.schemas import Heatmaps, Keypoint, Options, Person, PosesAnswer
from hrpose.session import Session

T = TypeVar("T")

# Crops in one run of the network. Two batches of this size keep it busy while the answers of one
# are on their way out.
BATCH = 8
# More threads that decode images would take the network's cores.
DECODERS = 2


class QueueFull(Exception):
    """More crops are waiting than the queue may hold."""


class OutOfMemory(Exception):
    """There was not enough memory now, even for this job alone."""


@dataclass(frozen=True, slots=True, eq=False)
class CropKeypoints:
    """Keypoints in n crops: `points` (n, k, 2), (x, y) in input pixels, `peaks` (n, k) of their
    heatmaps, and on request the `heatmaps` (n, k, h, w).
    """

    points: NDArray[np.float64]
    peaks: NDArray[np.float32]
    heatmaps: NDArray[np.float32] | None


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    crops: NDArray[np.uint8]
    flip_test: bool
    heatmaps: bool
    result: "Future[CropKeypoints]"


class Batcher:
    """Runs sessions on crops submitted from any thread.

    Of several, the first is for a batch while no other one runs and nothing else waits: it may use
    all cores. The others share them, each in its own thread. So one client gets its answer soon,
    and many get more in all.

    A batch that fails is split in two and tried again, until only the job at fault fails.

    A context manager: on exit, submitted jobs are finished. `observe` is called with the number of
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
        self.session, *shared = sessions
        self.metadata = self.session.metadata
        self._gather_seconds = gather_seconds
        self._queue_crops = queue_crops
        self._observe = observe
        self._jobs: deque[_Job] = deque()
        self._waiting = 0
        self._running = 0
        self._closed = False
        self._changed = threading.Condition()
        self._threads = [
            threading.Thread(target=self._work, args=(session,), name=f"batches-{i}", daemon=True)
            for i, session in enumerate(shared or sessions)
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
        """Whether the queue accepts no more crops."""
        return self._waiting >= self._queue_crops

    @property
    def ready(self) -> bool:
        """Whether it accepts crops, and every thread is alive."""
        return not self._closed and all(thread.is_alive() for thread in self._threads)

    def submit(
        self, crops: NDArray[np.uint8], *, flip_test: bool = False, heatmaps: bool = False
    ) -> "Future[CropKeypoints]":
        """Queue crops (n, h, w, 3) uint8 RGB of the network's input size, n > 0.

        Raises QueueFull. A job larger than the whole queue is accepted while nothing waits.
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
        return job.result

    def _work(self, session: Session) -> None:
        estimators = {
            flip_test: tuple(
                PoseEstimator(each, flip_test=flip_test, batch_size=BATCH)
                for each in (self.session, session)
            )
            for flip_test in (False, True)
        }
        while jobs := self._next_jobs():
            for flip_test, (alone, shared) in estimators.items():
                # Jobs whose client is gone are canceled, and left out.
                running = [
                    job
                    for job in jobs
                    if job.flip_test is flip_test and job.result.set_running_or_notify_cancel()
                ]
                if running:
                    self._run(alone, shared, running)

    @contextmanager
    def _one_of(self, alone: PoseEstimator, shared: PoseEstimator) -> Iterator[PoseEstimator]:
        """`alone` where no other batch runs and nothing waits, else `shared`."""
        with self._changed:
            chosen = shared if self._running or self._jobs else alone
            self._running += 1
        try:
            yield chosen
        finally:
            with self._changed:
                self._running -= 1

    def _next_jobs(self) -> list[_Job]:
        """The jobs of the next batch; none when closed and all are done."""
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
                jobs: list[_Job] = []
                crops = 0
                while self._jobs and (not jobs or crops + len(self._jobs[0].crops) <= BATCH):
                    jobs.append(self._jobs.popleft())
                    crops += len(jobs[-1].crops)
                self._waiting -= crops
                if jobs:  # else another thread was faster
                    return jobs

    def _run(self, alone: PoseEstimator, shared: PoseEstimator, jobs: list[_Job]) -> None:
        try:
            crops = np.concatenate([job.crops for job in jobs])
            with self._one_of(alone, shared) as estimator:
                batch = self._infer(estimator, crops, any(job.heatmaps for job in jobs))
        except BaseException as error:  # the thread must go on: others wait for it
            if len(jobs) > 1:  # one job's fault, or too much at once
                half = len(jobs) // 2
                self._run(alone, shared, jobs[:half])
                self._run(alone, shared, jobs[half:])
            else:
                jobs[0].result.set_exception(_as_exception(error))
            return
        start = 0
        for job in jobs:
            rows = slice(start, start := start + len(job.crops))
            heatmaps = None
            if job.heatmaps and batch.heatmaps is not None:
                heatmaps = batch.heatmaps[rows]
            job.result.set_result(CropKeypoints(batch.points[rows], batch.peaks[rows], heatmaps))

    def _infer(
        self, estimator: PoseEstimator, crops: NDArray[np.uint8], keep_heatmaps: bool
    ) -> CropKeypoints:
        parts: list[CropKeypoints] = []
        for start in range(0, len(crops), BATCH):
            batch = crops[start : start + BATCH]
            self._observe(len(batch))
            heatmaps = estimator.heatmaps(batch)
            points, peaks = estimator.decode(heatmaps)
            parts.append(CropKeypoints(points, peaks, heatmaps if keep_heatmaps else None))
        return CropKeypoints(
            np.concatenate([part.points for part in parts]),
            np.concatenate([part.peaks for part in parts]),
            np.concatenate([part.heatmaps for part in parts if part.heatmaps is not None])
            if keep_heatmaps
            else None,
        )


def _as_exception(error: BaseException) -> Exception:
    """OutOfMemory where NumPy, ONNX Runtime or PyTorch ran out of it; no BaseException."""
    text = str(error).lower()
    if isinstance(error, MemoryError) or "alloc" in text or "out of memory" in text:
        return OutOfMemory(str(error))
    return error if isinstance(error, Exception) else RuntimeError(repr(error))


@dataclass(frozen=True, slots=True, eq=False)
class _Cropped:
    """The persons cropped from an image of `size` (w, h): n crops, and their `pixels` (n, h, w, 3).

    `image` has no pixels: it may be large, and many requests wait at once.
    """

    size: tuple[int, int]
    image: InputImage
    boxes_from: str
    crops: list[Crop]
    pixels: NDArray[np.uint8]


class Detectors:
    """Detectors as one, which gives its `most` best boxes.

    The first is for an image while no other is looked at: it may use all cores. The others share
    them, each for one image at a time.
    """

    def __init__(self, detectors: Sequence[Detector], most: int) -> None:
        alone, *shared = detectors
        self.name = alone.name
        self.input_wh: tuple[int, int] | None = getattr(alone, "input_wh", None)
        self._alone = alone
        self._shared = shared
        self._most = most
        self._running = 0
        self._free = threading.Condition()

    def __call__(self, image: NDArray[np.uint8]) -> Boxes:
        with self._free:
            while self._running and not self._shared:
                self._free.wait()
            detector = self._shared.pop() if self._running else self._alone
            self._running += 1
        try:
            return detector(image).best(self._most)
        finally:
            with self._free:
                self._running -= 1
                if detector is not self._alone:
                    self._shared.append(detector)
                self._free.notify()


class Service:
    """Answers requests for poses. A context manager, to be left before the batcher is."""

    def __init__(self, batcher: Batcher, detectors: Sequence[Detector], limits: Limits) -> None:
        self.batcher = batcher
        self.metadata = batcher.metadata
        self.detector = detector = detectors[0]
        self.limits = limits
        # Reads, detects and crops; the batcher runs the network.
        if not isinstance(detector, FullImage):
            detector = Detectors(detectors, limits.max_boxes)
        self._estimator = PoseEstimator(batcher.session, detector=detector)
        self.engine = PoseEstimator(batcher.session, detector=self.detector).engine
        self._decoders = ThreadPoolExecutor(DECODERS, thread_name_prefix="decode")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._decoders.shutdown(wait=True, cancel_futures=True)

    async def poses(self, data: bytes, options: Options) -> PosesAnswer:
        """The poses in an image file's bytes. Raises a Refusal that says what is wrong."""
        boxes = _parse_boxes(options.boxes, self.limits)
        try:
            async with asyncio.timeout(self.limits.answer_seconds):
                cropped = await self._in_decoder(lambda: self._crop(data, boxes))
                if not cropped.crops:
                    return self._answer(cropped, Poses.empty(self.metadata.skeleton), None, options)
                job = self.batcher.submit(
                    cropped.pixels, flip_test=options.flip_test, heatmaps=options.heatmaps
                )
                result = await asyncio.wrap_future(job)
                poses = to_poses(
                    self.metadata, cropped.image, cropped.crops, result.points, result.peaks
                )
                if result.heatmaps is None:
                    return self._answer(cropped, poses, None, options)
                return await self._in_decoder(
                    lambda: self._answer(cropped, poses, result.heatmaps, options)
                )
        except (QueueFull, OutOfMemory, TimeoutError, MemoryError):
            raise busy() from None

    async def _in_decoder(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._decoders, work)

    def _crop(self, data: bytes, boxes: list[tuple[float, float, float, float]] | None) -> _Cropped:
        try:
            size = image_size(data, max_pixels=self.limits.max_pixels)
            image = self._estimator.image(data, boxes, size=size)
        except ImageError as error:
            raise Refusal(422, "bad_image", str(error), cause=error.code) from error
        except UserError as error:
            raise Refusal(422, "bad_boxes", str(error), cause=error.code) from error
        crops = [self.metadata.crop(box) for box in image.boxes]
        width, height = self.metadata.input_wh
        pixels = np.empty((len(crops), height, width, 3), np.uint8)
        for i, crop in enumerate(crops):
            pixels[i] = image.cut(crop)
        boxes_from = self.detector.name if boxes is None else "request"
        without_pixels = replace(image, pixels=np.zeros((1, 1, 3), np.uint8))
        return _Cropped(size, without_pixels, boxes_from, crops, pixels)

    def _answer(
        self,
        cropped: _Cropped,
        poses: Poses,
        heatmaps: NDArray[np.float32] | None,
        options: Options,
    ) -> PosesAnswer:
        names = self.metadata.skeleton.keypoints
        persons = []
        boxes = np.round(cropped.image.boxes, 2).tolist()
        all_keypoints = poses.keypoints.tolist()
        shown = select(poses, detected=cropped.image.detected, min_score=options.min_score)
        for person in shown.tolist():
            keypoints, maps = all_keypoints[person], None
            if heatmaps is not None:
                maps = self._heatmaps(heatmaps[person], cropped.crops[person])
            entries = [
                Keypoint(
                    name=name,
                    x=round(x, 2),
                    y=round(y, 2),
                    score=round(s, 4),
                    present=s >= options.threshold,
                )
                for name, (x, y, s) in zip(names, keypoints, strict=True)
            ]
            score = round(float(poses.scores[person]), 4)
            persons.append(Person(box=boxes[person], score=score, keypoints=entries, heatmaps=maps))
        width, height = cropped.size
        return PosesAnswer(
            model=self.metadata.title,
            width=width,
            height=height,
            boxes_from=cropped.boxes_from,
            threshold=options.threshold,
            persons=persons,
        )

    def _heatmaps(self, heatmaps: NDArray[np.float32], crop: Crop) -> Heatmaps:
        """One person's heatmaps (k, h, w), and the map from their pixels to the image's."""
        k, height, width = heatmaps.shape
        gray = np.rint(np.clip(heatmaps, 0, 1) * 255).astype(np.uint8)
        png = encode(gray.reshape(k * height, width), ".png")
        stride_x, stride_y = self.metadata.codec.strides((width, height))
        matrix = crop.inverse_matrix * (stride_x, stride_y, 1)
        return Heatmaps(
            png=base64.b64encode(png).decode(), width=width, height=height, to_image=matrix.tolist()
        )


_Boxes = TypeAdapter(list[tuple[float, float, float, float]])


def _parse_boxes(
    text: str | None, limits: Limits
) -> list[tuple[float, float, float, float]] | None:
    """The boxes [x, y, w, h] of a request; None where it has none."""
    if text is None:
        return None
    try:
        boxes = _Boxes.validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        entry = ", ".join(str(part) for part in first["loc"])
        where = f"boxes[{entry}]" if entry else "boxes"
        reason = f"{where}: {first['msg']}; expected [[x, y, w, h], ...] in finite numbers"
        raise Refusal(422, "bad_boxes", reason) from None
    if len(boxes) > limits.max_boxes:
        reason = f"boxes: expected at most {limits.max_boxes}, found {len(boxes):,}; send fewer"
        raise Refusal(422, "bad_boxes", reason)
    return boxes
