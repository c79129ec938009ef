"""A picture and the people in it, checked at the door."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hrpose.errors import UserError
from hrpose.image import read_image


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A picture and the people in it: `image` (h, w, 3) uint8 RGB, `boxes` (n, 4) [x, y, w, h]
    in pixels, `box_scores` (n,) in [0, 1]. Without boxes the whole picture is one person's box.
    """

    image: NDArray[np.uint8]
    boxes: NDArray[np.float64]
    box_scores: NDArray[np.float64]

    @classmethod
    def of(
        cls,
        image: NDArray[np.uint8] | str | Path,
        boxes: ArrayLike | None = None,
        box_scores: ArrayLike | None = None,
    ) -> "Picture":
        """Read and check. Raises UserError that says which box is wrong, and how."""
        pixels = read_image(image) if isinstance(image, str | Path) else image
        if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or not pixels.size:
            raise UserError(
                "image: expected uint8 RGB of shape (h, w, 3), "
                f"found {pixels.dtype} of shape {pixels.shape}"
            )
        height, width = pixels.shape[:2]
        checked = _check_boxes([[0, 0, width, height]] if boxes is None else boxes, width, height)
        scores = _check_scores(np.ones(len(checked)) if box_scores is None else box_scores, checked)
        return cls(pixels, checked, scores)


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
