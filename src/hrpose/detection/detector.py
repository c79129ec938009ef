"""What every finder of people gives: `Boxes`, from a `Detector`."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hrpose.geometry import nms


@dataclass(frozen=True, slots=True, eq=False)
class Boxes:
    """n people's boxes in one picture.

    `xywh` (n, 4) float64: [x, y, w, h] in pixels of the picture. `scores` (n,) float64 in [0, 1].
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
    """Finds people in one picture."""

    @property
    def name(self) -> str:
        """What a message calls it."""
        ...

    def __call__(self, image: NDArray[np.uint8]) -> Boxes:
        """The people in an RGB picture (h, w, 3)."""
        ...
