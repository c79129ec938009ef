"""Workers: names of images in, a table of their poses out; and what an engine that runs them is."""

import hashlib
import os
import socket
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from hrpose._version import __version__
from hrpose.errors import UserError

if TYPE_CHECKING:
    from hrpose.batch.source import Source
    from hrpose.estimator import InputImage, PoseEstimator


Load = Callable[..., "PoseEstimator"]
"""Opens an estimator: `hrpose.load`, or a function of a module with the same arguments."""


class Work(Protocol):
    """What workers of all engines do."""

    def __call__(self, names: Sequence[str]) -> Any:
        """A pyarrow table of `results.SCHEMA`: one row for each name, in the same order."""
        ...


@dataclass(frozen=True, slots=True)
class Ready:
    """A worker has opened its weights; `where` it runs is for messages."""

    worker: int
    where: str


@dataclass(frozen=True, slots=True, eq=False)
class Done:
    """A worker's table for the names that it was given."""

    worker: int
    table: Any


@dataclass(frozen=True, slots=True)
class Refused:
    """A worker cannot work here, nor could another; `error` is for the user to fix."""

    worker: int
    error: UserError


@dataclass(frozen=True, slots=True)
class Lost:
    """A worker is gone, with the work that it had."""

    worker: int
    why: str


Event = Ready | Done | Refused | Lost


def event_of(worker: int, answer: Any, ready: set[int]) -> Event:
    """The event of a worker's answer. The first one says where it runs, and makes it `ready`."""
    if isinstance(answer, UserError):
        return Refused(worker, answer)
    if worker not in ready:
        ready.add(worker)
        return Ready(worker, answer)
    return Done(worker, answer)


class Engine(Protocol):
    """Starts workers, which it numbers, and reports their events."""

    size: int
    """The largest number of workers."""

    def start(self) -> int:
        """Begin to start one; `Ready`, `Refused` or `Lost` follows."""
        ...

    def give(self, worker: int, names: Sequence[str]) -> None:
        """Work for a worker that is ready and has none; `Done` or `Lost` follows."""
        ...

    def wait(self, seconds: float) -> list[Event]:
        """The events so far; returns as soon as there is one, at the latest after `seconds`."""
        ...

    def end(self, worker: int) -> None:
        """Kill a worker at once, whatever it does. It causes no more events."""
        ...

    def close(self) -> None:
        """Kill all workers at once."""
        ...


@dataclass(frozen=True, slots=True)
class Choices:
    """The user's options, as far as they decide the results. Sent to the workers."""

    weights: str
    detector: str
    box_threshold: float | None
    min_score: float | None
    flip_test: bool
    refine: bool
    threshold: float
    device: str = "auto"
    precision: str = "auto"

    def portable(self) -> "Choices":
        """The same for a process that was started in another folder. Names stay names."""
        files = {
            name: os.path.abspath(value)
            for name in _NAMES
            if "." in (value := getattr(self, name)) and Path(value).is_file()
        }
        return replace(self, **files)

    def open(self, load: Load, batch_size: int, threads: int) -> "PoseEstimator":
        """The estimator. Raises UserError where there are no such weights or detector."""
        return load(
            self.weights,
            detector=self.detector,
            box_threshold=self.box_threshold,
            min_score=self.min_score,
            flip_test=self.flip_test,
            refine=self.refine,
            batch_size=batch_size,
            threads=threads,
            device=self.device,
            precision=self.precision,
        )

    def settings(self, estimator: "PoseEstimator") -> dict[str, Any]:
        """All that decides the results, as it is on this machine: hashes, not names of files."""
        from hrpose.detection.person_detector import detector_file
        from hrpose.weights.registry import file_sha256, find

        file = detector_file(self.detector)
        metadata = estimator.metadata.to_json()
        return {
            **{key: value for key, value in asdict(self).items() if key not in _NAMES},
            "weights_sha256": file_sha256(find(self.weights)),
            "metadata_sha256": hashlib.sha256(metadata.encode()).hexdigest(),
            "model": estimator.metadata.title,
            "detector": estimator.detector.name,
            "engine": estimator.engine,
            "detector_sha256": None if file is None else file_sha256(file),
            "hrpose": __version__,
        }


_NAMES = ("weights", "detector")


@dataclass(frozen=True, slots=True)
class Opening:
    """How a worker is made, wherever it runs: called there, once.

    `expected` are the settings of the job. A worker that finds others (another file of weights,
    another version) refuses, so that one job has results of one kind.
    """

    source: str
    choices: Choices
    load: Load
    expected: dict[str, Any]
    batch_size: int = 16
    threads: int = 1

    def __call__(self) -> "Worker":
        # Cores are shared with other workers. Libraries read this when they are imported.
        os.environ["OMP_NUM_THREADS"] = str(self.threads)
        import cv2

        from hrpose.batch.job import to_table
        from hrpose.batch.source import open_source

        to_table([])  # pyarrow is slow at first, which must not count as an image's time
        cv2.setNumThreads(self.threads)
        estimator = self.choices.open(self.load, self.batch_size, self.threads)
        for key, value in self.choices.settings(estimator).items():
            if self.expected.get(key) != value:
                raise UserError(
                    f"worker on {socket.gethostname()}: expected {key} {self.expected.get(key)}, "
                    f"found {value}; put the same files and versions on all machines",
                    code="worker-differs",
                )
        return Worker(estimator, open_source(self.source), self.choices.threshold, 2 * self.threads)


class Worker:
    """Estimates the poses in images by name; `readers` threads prefetch them.

    A problem with an image becomes a reason in its row. Writes no file.
    """

    def __init__(
        self, estimator: "PoseEstimator", source: "Source", threshold: float, readers: int
    ) -> None:
        self._estimator = estimator
        self._source = source
        self._threshold = threshold
        self._readers = readers

    def __call__(self, names: Sequence[str]) -> Any:
        from hrpose.batch.job import to_table

        try:
            return to_table(list(self._rows(names)))
        except Exception:
            # The network failed at a batch, for lack of memory perhaps. An image by itself needs
            # the least, and shows which one it is.
            return to_table([self._alone(name) for name in names])

    def _alone(self, name: str) -> dict[str, Any]:
        from hrpose.batch.job import failed_row

        try:
            (row,) = self._rows([name])
        except Exception as error:
            return failed_row(name, f"{name}: {type(error).__name__}: {error}")
        return row

    def _rows(self, names: Sequence[str]) -> Iterator[dict[str, Any]]:
        from hrpose.batch.job import failed_row, image_row
        from hrpose.io import prefetch

        failures: deque[tuple[int, dict[str, Any]]] = deque()

        def readable() -> Iterator["InputImage"]:
            read = prefetch(self._read, names, self._readers, 2 * self._readers)
            for index, (image, size_or_failure) in enumerate(read):
                if image is None:
                    failures.append((index, failed_row(names[index], *size_or_failure)))
                else:
                    yield replace(image, key=(index, size_or_failure))

        for image, poses in self._estimator.stream(readable()):
            index, size = image.key
            while failures and failures[0][0] < index:
                yield failures.popleft()[1]
            yield image_row(names[index], size, poses, self._threshold)
        yield from (row for _, row in failures)

    def _read(self, name: str) -> "tuple[InputImage | None, Any]":
        """An image with the boxes of its persons, and its size (w, h).

        Where it failed, None, and the reason and the code.
        """
        from hrpose.image import image_size

        try:
            data = self._source.content(name)
            size = image_size(data)
            return self._estimator.image(data, size=size), size
        except UserError as error:
            reason = str(error)
            # Bytes have no name of their own.
            named = reason.removeprefix("image")
            return None, (f"{name}{named}" if reason.startswith("image:") else reason, error.code)
        except Exception as error:  # a detector may raise anything; so may a lack of memory
            return None, (f"{name}: {type(error).__name__}: {error}", None)
