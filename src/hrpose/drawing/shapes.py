"""Lines, discs and boxes between the pixels: anti-aliased, of any width, with a rim."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from hrpose.drawing.palette import Colour

# Shapes are placed to 1/16 of a pixel: whole pixels make thin limbs jump from frame to frame.
_SHIFT = 4
# OpenCV's anti-aliased polygons are this much wider than their corners say (measured).
_EXTRA = 1.45
# Far outside the picture OpenCV's fixed-point numbers would overflow.
_FAR = 1e5


def line(
    canvas: NDArray[np.uint8], start: ArrayLike, end: ArrayLike, width: float, colour: Colour
) -> None:
    """A straight line from (x, y) to (x, y). `width` in pixels need not be whole; at least 1.8."""
    a, b = _point(start), _point(end)
    along = b - a
    length = float(np.hypot(*along))
    if length < 1e-6:
        return
    across = np.array([-along[1], along[0]]) / length * max(width - _EXTRA, 0.1) / 2
    corners = np.array([a + across, b + across, b - across, a - across])
    cv2.fillConvexPoly(canvas, _fixed(corners), colour, cv2.LINE_AA, _SHIFT)


def disc(canvas: NDArray[np.uint8], centre: ArrayLike, radius: float, colour: Colour) -> None:
    """A filled circle around (x, y)."""
    x, y = (int(value) for value in _fixed(_point(centre)))
    cv2.circle(canvas, (x, y), round(radius * 2**_SHIFT), colour, -1, cv2.LINE_AA, _SHIFT)


def ring(
    canvas: NDArray[np.uint8], centre: ArrayLike, radius: float, width: int, colour: Colour
) -> None:
    """A circle around (x, y), its middle left open."""
    x, y = (int(value) for value in _fixed(_point(centre)))
    cv2.circle(canvas, (x, y), round(radius * 2**_SHIFT), colour, width, cv2.LINE_AA, _SHIFT)


def box(canvas: NDArray[np.uint8], xywh: ArrayLike, width: float, colour: Colour) -> None:
    """The four sides of [x, y, w, h]."""
    x, y, w, h = np.asarray(xywh, np.float64)
    outline(canvas, [(x, y), (x + w, y), (x + w, y + h), (x, y + h)], width, colour)


def outline(
    canvas: NDArray[np.uint8], corners: Sequence[ArrayLike], width: float, colour: Colour
) -> None:
    """A closed polygon's sides through its corners (x, y)."""
    for start, end in zip(corners, [*corners[1:], corners[0]], strict=True):
        line(canvas, start, end, width, colour)
        disc(canvas, start, max(width / 2 - 0.5, 0.3), colour)


def dashed(
    canvas: NDArray[np.uint8],
    start: ArrayLike,
    end: ArrayLike,
    width: float,
    colour: Colour,
    dash: float,
) -> None:
    """A line of dashes that are `dash` pixels long, with gaps as long."""
    a, b = _point(start), _point(end)
    count = max(1, round(float(np.hypot(*(b - a))) / dash / 2))
    for step in range(count):
        line(canvas, a + (b - a) * step / count, a + (b - a) * (step + 0.5) / count, width, colour)


def arrow(
    canvas: NDArray[np.uint8], start: ArrayLike, end: ArrayLike, width: float, colour: Colour
) -> None:
    """A line with a filled head that ends exactly at `end`."""
    a, b = _point(start), _point(end)
    length = float(np.hypot(*(b - a)))
    if length < 1e-6:
        return
    forward = (b - a) / length
    across = np.array([-forward[1], forward[0]])
    reach = min(width * 4, length * 0.6)
    back = b - forward * reach
    line(canvas, a, back, width, colour)
    head = np.array([b, back + across * reach * 0.55, back - across * reach * 0.55])
    cv2.fillConvexPoly(canvas, _fixed(head), colour, cv2.LINE_AA, _SHIFT)


def _point(value: ArrayLike) -> NDArray[np.float64]:
    return np.clip(np.asarray(value, np.float64)[:2], -_FAR, _FAR)


def _fixed(points: NDArray[np.float64]) -> NDArray[np.int32]:
    fixed: NDArray[np.int32] = np.rint(points * 2**_SHIFT).astype(np.int32)
    return fixed
