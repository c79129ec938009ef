"""What a worker does: names of images in, their rows out. It writes nothing."""

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
    from hrpose.batch.source import Place
    from hrpose.estimator import InputImage, PoseEstimator


Load = Callable[..., "PoseEstimator"]
"""What opens an estimator: `hrpose.load`, or a function of a module that takes the same."""


class Work(Protocol):
    """What workers of all engines do."""

    def __call__(self, names: Sequence[str]) -> Any:
        """A pyarrow table of `results.SCHEMA`: one row for each name, in the same order."""
        ...


@dataclass(frozen=True, slots=True)
class Choices:
    """What the user chose, as far as it decides the results. Travels to the workers."""

    weights: str
    detector: str
    box_threshold: float | None
    flip_test: bool
    refine: bool
    threshold: float

    def portable(self) -> "Choices":
        """The same for a process that was started in another folder. Names stay names."""
        files = {
            name: os.path.abspath(value)
            for name in _NAMES
            if "." in (value := getattr(self, name)) and Path(value).is_file()
        }
        return replace(self, **files)


@dataclass(frozen=True, slots=True)
class Opening:
    """How a worker is made, wherever it is: called there, once.

    `expected` are the settings of the job. A worker that finds others (another file of weights,
    another version) refuses, so that one job has results of one kind.
    """

    place: str
    choices: Choices
    load: Load
    expected: dict[str, Any]
    batch_size: int = 16
    threads: int = 1

    def __call__(self) -> "Worker":
        # Cores are shared with other workers. Libraries read this when they are imported.
        os.environ["OMP_NUM_THREADS"] = str(self.threads)
        import cv2

        from hrpose.batch.results import to_table
        from hrpose.batch.source import open_place

        to_table([])  # pyarrow takes its time at first, which is no work's fault
        cv2.setNumThreads(self.threads)
        estimator = open_estimator(self.choices, self.load, self.batch_size, self.threads)
        for key, value in settings_of(estimator, self.choices).items():
            if self.expected.get(key) != value:
                raise UserError(
                    f"worker on {socket.gethostname()}: expected {key} {self.expected.get(key)}, "
                    f"found {value}; put the same files and versions on all machines"
                )
        return Worker(estimator, open_place(self.place), self.choices.threshold, 2 * self.threads)


def open_estimator(choices: Choices, load: Load, batch_size: int, threads: int) -> "PoseEstimator":
    """The estimator of a job. Raises UserError where there are no such weights or detector."""
    return load(
        choices.weights,
        detector=choices.detector,
        box_threshold=choices.box_threshold,
        flip_test=choices.flip_test,
        refine=choices.refine,
        batch_size=batch_size,
        threads=threads,
    )


def settings_of(estimator: "PoseEstimator", choices: Choices) -> dict[str, Any]:
    """All that decides the results, as it is on this machine: hashes instead of names of files."""
    from hrpose.detection.factory import detector_file
    from hrpose.weights import find

    file = detector_file(choices.detector)
    metadata = estimator.metadata.to_json()
    return {
        **{key: value for key, value in asdict(choices).items() if key not in _NAMES},
        "weights_sha256": _sha256(find(choices.weights)),
        "metadata_sha256": hashlib.sha256(metadata.encode()).hexdigest(),
        "model": estimator.metadata.title,
        "detector": estimator.detector.name,
        "detector_sha256": None if file is None else _sha256(file),
        "hrpose": __version__,
    }


_NAMES = ("weights", "detector")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Worker:
    """Finds the poses in images by name, reading some ahead in `readers` threads.

    Whatever is wrong with an image is a reason in its row.
    """

    def __init__(
        self, estimator: "PoseEstimator", place: "Place", threshold: float, readers: int
    ) -> None:
        self._estimator = estimator
        self._place = place
        self._threshold = threshold
        self._readers = readers

    def __call__(self, names: Sequence[str]) -> Any:
        from hrpose.batch.results import to_table

        try:
            return to_table(list(self._rows(names)))
        except Exception:
            # The network failed at a batch, for lack of memory perhaps. Each image by itself
            # needs the least, and shows whose fault it is.
            return to_table([self._alone(name) for name in names])

    def _alone(self, name: str) -> dict[str, Any]:
        from hrpose.batch.results import failed

        try:
            (row,) = self._rows([name])
        except Exception as error:
            return failed(name, f"{name}: {type(error).__name__}: {error}")
        return row

    def _rows(self, names: Sequence[str]) -> Iterator[dict[str, Any]]:
        from hrpose.batch.results import failed, found
        from hrpose.io import prefetch

        failures: deque[tuple[int, dict[str, Any]]] = deque()

        def good() -> Iterator["InputImage"]:
            read = prefetch(self._read, names, self._readers)
            for place, (image, size_or_reason) in enumerate(read):
                if image is None:
                    failures.append((place, failed(names[place], str(size_or_reason))))
                else:
                    yield replace(image, key=(place, size_or_reason))

        for image, poses in self._estimator.stream(good()):
            place, size = image.key
            while failures and failures[0][0] < place:
                yield failures.popleft()[1]
            yield found(names[place], size, poses, self._threshold)
        yield from (row for _, row in failures)

    def _read(self, name: str) -> "tuple[InputImage | None, Any]":
        """An image with its people's boxes and its size, or none and the reason."""
        from hrpose.image import image_size

        try:
            data = self._place.content(name)
            size = image_size(data)
            return self._estimator.image(data, size=size), size
        except UserError as error:
            said = str(error)
            # Bytes have no name of their own.
            return None, f"{name}{said.removeprefix('image')}" if said[:8] == "image:" else said
        except Exception as error:  # a detector may raise anything; so may a lack of memory
            return None, f"{name}: {type(error).__name__}: {error}"
