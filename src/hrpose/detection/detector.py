"""What every person detector gives: `Boxes`, from a `Detector`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hrpose.errors import UserError
from hrpose.geometry import nms


@dataclass(frozen=True, slots=True, eq=False)
class Boxes:
    """n people's boxes in one image.

    `xywh` (n, 4) float64: [x, y, w, h] in pixels of the image. `scores` (n,) float64 in [0, 1].
    """

    xywh: NDArray[np.float64]
    scores: NDArray[np.float64]

    def __post_init__(self) -> None:
        n = len(self.xywh)
        for field, shape in {"xywh": (n, 4), "scores": (n,)}.items():
            if (found := getattr(self, field).shape) != shape:
                raise ValueError(f"Boxes.{field}: expected shape {shape}, found {found}")

    @classmethod
    def empty(cls) -> "Boxes":
        return cls(np.zeros((0, 4)), np.zeros(0))

    def __len__(self) -> int:
        return len(self.xywh)

    def __getitem__(self, chosen: Any) -> "Boxes":
        """The boxes that `chosen` selects: a slice, a mask or an array of indices."""
        return Boxes(self.xywh[chosen], self.scores[chosen])

    def best(self, most: int) -> "Boxes":
        """The `most` boxes with the highest scores, best first."""
        return self[np.argsort(-self.scores, kind="stable")[:most]]

    def with_nms(self, most_iou: float) -> "Boxes":
        """Of boxes whose IoU is above `most_iou` the better alone, best first: see `nms`."""
        return self[nms(self.xywh, self.scores, most_iou)]


class Detector(Protocol):
    """Finds people in one image."""

    @property
    def name(self) -> str:
        """What a message calls it."""
        ...

    def __call__(self, image: NDArray[np.uint8]) -> Boxes:
        """The people in an RGB image (h, w, 3)."""
        ...


class FullImage:
    """The full image is the box of one person: right for portraits, and the last resort."""

    name = "the full image"

    def __call__(self, image: NDArray[np.uint8]) -> Boxes:
        height, width = image.shape[:2]
        return Boxes(np.array([[0.0, 0.0, width, height]]), np.ones(1))


class OrFullImage:
    """A detector, and the full image where it detects nobody: small detectors miss portraits."""

    # As unsure as the detector's least sure boxes, so that people who were found rank above.
    score = 0.2

    def __init__(self, detector: Detector) -> None:
        self.detector = detector
        self.name = f"{detector.name}, or the full image where it detects nobody"
        # What it looks at, where that is known: larger images need not be decoded in full.
        self.input_wh: tuple[int, int] | None = getattr(detector, "input_wh", None)

    def __call__(self, image: NDArray[np.uint8]) -> Boxes:
        found = self.detector(image)
        if len(found):
            return found
        return Boxes(FullImage()(image).xywh, np.full(1, self.score))


class FunctionDetector:
    """A function of the user's: an image (h, w, 3) uint8 RGB in, boxes out.

    It may give `Boxes`, rows [x, y, w, h], or rows [x, y, w, h, score] with scores in [0, 1].
    Those with a score below `threshold` are left out.
    """

    def __init__(
        self, find: Callable[[NDArray[np.uint8]], Boxes | ArrayLike], threshold: float = 0.0
    ) -> None:
        self.find = find
        self.threshold = threshold
        self.name = str(getattr(find, "name", None) or getattr(find, "__name__", "own detector"))

    def __call__(self, image: NDArray[np.uint8]) -> Boxes:
        """Raises UserError where the function gives something else."""
        given = self.find(image)
        found = given if isinstance(given, Boxes) else _from_rows(given, self.name)
        return found[~(found.scores < self.threshold)]


def _from_rows(found: ArrayLike, name: str) -> Boxes:
    try:
        rows: NDArray[Any] = np.asarray(found, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise UserError(f"detector {name}: expected rows [x, y, w, h] ({error})") from error
    if rows.size == 0:
        return Boxes.empty()
    if rows.ndim != 2 or rows.shape[1] not in (4, 5):
        raise UserError(
            f"detector {name}: expected rows [x, y, w, h] or [x, y, w, h, score], "
            f"found shape {rows.shape}"
        )
    return Boxes(rows[:, :4], rows[:, 4] if rows.shape[1] == 5 else np.ones(len(rows)))
