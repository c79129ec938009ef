"""Crops of all callers in shared batches: none lost, none mixed up, none after the end."""

import threading
from concurrent.futures import CancelledError, ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from hrpose.geometry import Boxes
from hrpose.metadata import Metadata
from hrpose.serve.inference import BATCH, Batcher, CropKeypoints, Detectors, OutOfMemory, QueueFull
from tiny_weights import METADATA


class Echo:
    """Heatmaps with one peak, at the pixel that a crop's first value numbers."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.entered = threading.Semaphore(0)
        self.gate = threading.Event()
        self.gate.set()

    @property
    def metadata(self) -> Metadata:
        return METADATA

    def __call__(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.entered.release()
        assert self.gate.wait(10)
        self.batches.append(len(crops))
        if (crops == 255).any():
            raise RuntimeError("broken")
        width, height = METADATA.heatmap_wh
        heatmaps = np.zeros((len(crops), 17, height * width), np.float32)
        heatmaps[np.arange(len(crops)), :, crops[:, 0, 0, 0]] = 1
        return heatmaps.reshape(len(crops), 17, height, width)


class Tight(Echo):
    """Has memory for two crops at once; a crop of 254 raises SystemExit."""

    def __call__(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        if (crops == 254).any():
            raise SystemExit
        if len(crops) > 2 or (crops == 253).any():
            raise RuntimeError("Failed to allocate memory for requested buffer of size 99")
        return super().__call__(crops)


def crops_of(*numbers: int) -> NDArray[np.uint8]:
    crops = np.zeros((len(numbers), METADATA.input_wh[1], METADATA.input_wh[0], 3), np.uint8)
    crops[:] = np.array(numbers, np.uint8)[:, None, None, None]
    return crops


def numbers_in(found: CropKeypoints) -> list[int]:
    width = METADATA.heatmap_wh[0]
    pixels = np.rint(found.points[:, 0] / METADATA.codec.stride).astype(int)
    return [int(y * width + x) for x, y in pixels]


def make(session: Echo | None = None, **options: Any) -> Batcher:
    return Batcher([session or Echo()], **{"gather_seconds": 0.05, "queue_crops": 64, **options})


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.lists(st.integers(0, 191), min_size=1, max_size=20), st.booleans(), st.booleans()
        ),
        min_size=1,
        max_size=12,
    ),
    st.integers(1, 3),
)
def test_every_caller_gets_its_own_answer(
    jobs: list[tuple[list[int], bool, bool]], workers: int
) -> None:
    sessions = [Echo() for _ in range(workers)]
    with (
        Batcher(sessions, gather_seconds=0.001, queue_crops=1000) as batcher,
        ThreadPoolExecutor(4) as pool,
    ):

        def ask(job: tuple[list[int], bool, bool]) -> CropKeypoints:
            numbers, flip_test, heatmaps = job
            crops = crops_of(*numbers)
            return batcher.submit(crops, flip_test=flip_test, heatmaps=heatmaps).result(10)

        for (numbers, flip_test, heatmaps), found in zip(jobs, pool.map(ask, jobs), strict=True):
            assert len(found.points) == len(numbers)
            assert (found.heatmaps is not None) is heatmaps
            if not flip_test:  # else the mirrored peak is averaged in
                assert numbers_in(found) == numbers
    assert sum(sum(session.batches) for session in sessions) == sum(
        len(numbers) * (1 + flip_test) for numbers, flip_test, _ in jobs
    )


def test_callers_share_a_batch() -> None:
    session = Echo()
    with make(session, gather_seconds=5) as batcher:
        # The wait ends when the batch is full, long before the five seconds.
        jobs = [batcher.submit(crops_of(number)) for number in range(BATCH)]
        assert [numbers_in(job.result(2)) for job in jobs] == [[n] for n in range(BATCH)]
    assert session.batches == [BATCH]


def test_the_first_session_is_for_a_batch_alone_and_the_others_run_side_by_side() -> None:
    alone, *shared = sessions = [Echo() for _ in range(3)]
    with Batcher(sessions, gather_seconds=0, queue_crops=64) as batcher:
        assert numbers_in(batcher.submit(crops_of(1)).result(5)) == [1]
        assert numbers_in(batcher.submit(crops_of(2)).result(5)) == [2]
        assert [session.batches for session in sessions] == [[1, 1], [], []]
        for session in sessions:
            session.gate.clear()
        first = batcher.submit(crops_of(3))
        assert all(alone.entered.acquire(timeout=5) for _ in range(3))
        second = batcher.submit(crops_of(4, 5))
        for session in shared:
            session.gate.set()
        assert numbers_in(second.result(5)) == [4, 5]
        assert not first.done()
        alone.gate.set()
        assert numbers_in(first.result(5)) == [3]
    assert alone.batches == [1, 1, 1]
    assert sorted(session.batches for session in shared) == [[], [2]]


def test_a_failed_batch_leaves_the_next_one_alone() -> None:
    alone, shared = sessions = [Echo(), Echo()]
    with Batcher(sessions, gather_seconds=0, queue_crops=64) as batcher:
        with pytest.raises(RuntimeError, match="broken"):
            batcher.submit(crops_of(255)).result(5)
        assert numbers_in(batcher.submit(crops_of(1)).result(5)) == [1]
    assert alone.batches == [1, 1]
    assert shared.batches == []


class Gated:
    """A detector that counts the images it looks at, one at a time, and waits at its gate."""

    name = "gated"

    def __init__(self) -> None:
        self.images = 0
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Semaphore(0)
        self._busy = threading.Lock()

    def __call__(self, image: NDArray[np.uint8]) -> Boxes:
        assert self._busy.acquire(blocking=False)  # never two images at once
        self.entered.release()
        assert self.gate.wait(10)
        self.images += 1
        self._busy.release()
        return Boxes(np.zeros((3, 4)), np.array([0.1, 0.9, 0.5]))


@pytest.mark.parametrize("count", [1, 3])
def test_detectors_share_the_images(count: int) -> None:
    alone, *shared = given = [Gated() for _ in range(count)]
    detectors = Detectors(given, most=2)
    image = np.zeros((4, 4, 3), np.uint8)
    assert detectors(image).scores.tolist() == [0.9, 0.5]
    assert alone.images == 1
    alone.gate.clear()
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(detectors, image)
        assert alone.entered.acquire(timeout=5)
        assert alone.entered.acquire(timeout=5)
        others = [pool.submit(detectors, image) for _ in range(2)]
        if shared:
            assert [len(other.result(5)) for other in others] == [2, 2]
        assert not first.done()
        alone.gate.set()
        assert [len(job.result(5)) for job in (first, *others)] == [2, 2, 2]
    assert sum(detector.images for detector in given) == 4
    assert alone.images == (2 if shared else 4)


def test_a_full_queue_refuses_and_accepts_again_later() -> None:
    session = Echo()
    session.gate.clear()
    with make(session, queue_crops=4, gather_seconds=0) as batcher:
        first = batcher.submit(crops_of(1))
        while batcher.waiting:  # until the thread has taken it
            pass
        second = batcher.submit(crops_of(2, 3, 4))
        with pytest.raises(QueueFull):
            batcher.submit(crops_of(5, 6))
        third = batcher.submit(crops_of(7))
        assert batcher.full
        session.gate.set()
        assert [numbers_in(job.result(5)) for job in (first, second, third)] == [
            [1], [2, 3, 4], [7]
        ]  # fmt: skip


def test_a_failure_reaches_its_caller_and_the_thread_goes_on() -> None:
    with make(gather_seconds=0) as batcher:
        with pytest.raises(RuntimeError, match="broken"):
            batcher.submit(crops_of(255)).result(5)
        assert numbers_in(batcher.submit(crops_of(9)).result(5)) == [9]
        assert batcher.ready


def test_a_canceled_job_is_not_run() -> None:
    session = Echo()
    session.gate.clear()
    with make(session, gather_seconds=0) as batcher:
        running = batcher.submit(crops_of(1))
        while batcher.waiting:
            pass
        waiting = [batcher.submit(crops_of(number)) for number in (2, 3)]
        assert waiting[0].cancel()
        session.gate.set()
        assert numbers_in(running.result(5)) == [1]
        assert numbers_in(waiting[1].result(5)) == [3]
        with pytest.raises(CancelledError):
            waiting[0].result(5)
    assert sum(session.batches) == 2


def test_exit_finishes_submitted_jobs_and_accepts_no_more() -> None:
    session = Echo()
    session.gate.clear()
    batcher = make(session)
    with batcher:
        jobs = [batcher.submit(crops_of(number)) for number in range(20)]
        threading.Timer(0.1, session.gate.set).start()
    assert [numbers_in(job.result(0)) for job in jobs] == [[number] for number in range(20)]
    assert not batcher.ready
    with pytest.raises(QueueFull):
        batcher.submit(crops_of(1))


def test_a_failing_batch_is_halved_and_only_the_jobs_at_fault_fail() -> None:
    numbers = [1, 254, 2, 255, 3, 253, 4]
    with make(Tight()) as batcher:
        answers = [batcher.submit(crops_of(number)) for number in numbers]
        errors = {254: RuntimeError, 255: RuntimeError, 253: OutOfMemory}
        for number, answer in zip(numbers, answers, strict=True):
            if number in errors:
                assert type(answer.exception(10)) is errors[number]
            else:
                assert numbers_in(answer.result(10)) == [number]
        assert batcher.ready
