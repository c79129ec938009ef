"""A picture and the people in it, checked at the door."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hrpose.errors import UserError
from hrpose.geometry import Crop, warp
from hrpose.image import image_size, read_image, read_reduced
from hrpose.metadata import Metadata

File = str | Path | bytes
# What a user may give for a picture: a file, its bytes, or its pixels.
Source = NDArray[np.uint8] | File


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A picture and the people in it: `image` (h, w, 3) uint8 RGB, `boxes` (n, 4) [x, y, w, h]
    in pixels, `box_scores` (n,) in [0, 1]. Without boxes the whole picture is one person's box.

    `image` may be `shrunk` by a whole factor; boxes, crops and poses are in pixels of the whole.
    `key` is whatever the caller knows the picture by; nothing here reads it, and it comes back with
    the poses.
    """

    image: NDArray[np.uint8]
    boxes: NDArray[np.float64]
    box_scores: NDArray[np.float64]
    shrunk: int = 1
    key: Any = None

    @classmethod
    def of(
        cls,
        image: Source,
        boxes: ArrayLike | None = None,
        box_scores: ArrayLike | None = None,
    ) -> "Picture":
        """Read and check. Raises UserError that says which box is wrong, and how."""
        pixels = image if isinstance(image, np.ndarray) else read_image(image)
        if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or not pixels.size:
            raise UserError(
                "image: expected uint8 RGB of shape (h, w, 3), "
                f"found {pixels.dtype} of shape {pixels.shape}"
            )
        height, width = pixels.shape[:2]
        return cls(pixels, *_check(boxes, box_scores, width, height))

    @classmethod
    def reduced(
        cls,
        file: File,
        passport: Metadata,
        boxes: ArrayLike | None = None,
        box_scores: ArrayLike | None = None,
        overview: "Picture | None" = None,
        size: tuple[int, int] | None = None,
    ) -> "Picture":
        """As `of`, shrunk as far as the decoder can do it and no crop has to be enlarged then.

        `overview` is the same file shrunk, if it was read before: where it does, it is taken.
        `size` (w, h) is that of the file, if it was asked for before.
        """
        checked, scores = _check(boxes, box_scores, *(size or image_size(file)))
        crops = [passport.crop(box) for box in checked]
        most = min((min(np.divide(crop.size, crop.input_wh)) for crop in crops), default=np.inf)
        if overview is not None and overview.shrunk <= max(1, most):
            return cls(overview.image, checked, scores, overview.shrunk)
        image, shrunk = read_reduced(file, most)
        return cls(image, checked, scores, shrunk)

    def cut(self, crop: Crop) -> NDArray[np.uint8]:
        """What `crop` of the whole picture shows: (input h, input w, 3) uint8."""
        # The first pixel of a shrunk picture is the mean of a square; its centre lies between them.
        middle = (self.shrunk - 1) / 2
        return warp(self.image, crop.inside((middle, middle), self.shrunk))


def _check(
    boxes: ArrayLike | None, scores: ArrayLike | None, width: int, height: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    checked = _check_boxes([[0, 0, width, height]] if boxes is None else boxes, width, height)
    return checked, _check_scores(np.ones(len(checked)) if scores is None else scores, checked)


def _check_boxes(boxes: ArrayLike, width: int, height: int) -> NDArray[np.float64]:
    try:
        checked = np.asarray(boxes, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise UserError(f"boxes: expected rows of four numbers [x, y, w, h] ({error})") from error
    if checked.size == 0:
        return np.zeros((0, 4))
    if checked.ndim != 2 or checked.shape[1] != 4:
        raise UserError(f"boxes: expected shape (n, 4) [x, y, w, h], found {checked.shape}")
    x, y, w, h = checked.T
    finite = np.isfinite(checked).all(axis=1)
    faults = (
        (~finite, "four finite numbers [x, y, w, h]"),
        (finite & ((w <= 0) | (h <= 0)), "a width and a height above 0"),
        (
            finite & ((x >= width) | (y >= height) | (x + w <= 0) | (y + h <= 0)),
            f"a box that touches the picture of {width} x {height}",
        ),
        (finite & (np.abs(checked) > 1e6).any(axis=1), "numbers below a million"),
    )
    for wrong, expected in faults:
        if wrong.any():
            first = int(np.argmax(wrong))
            raise UserError(f"box {first}: expected {expected}, found {checked[first].tolist()}")
    return checked


def _check_scores(scores: ArrayLike, boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    try:
        checked = np.asarray(scores, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise UserError(f"box_scores: expected a number for each box ({error})") from error
    if checked.shape != (len(boxes),):
        raise UserError(f"box_scores: expected {len(boxes)}, found shape {checked.shape}")
    # Written so that NaN is wrong too.
    wrong = ~((checked >= 0) & (checked <= 1))
    if wrong.any():
        first = int(np.argmax(wrong))
        raise UserError(f"box_scores: box {first}: expected 0 to 1, found {checked[first]}")
    return checked
