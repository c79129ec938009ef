"""Lines, discs and boxes between the pixels: anti-aliased, of any width, with a rim."""

import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from hrpose.skeleton import Colour

# x and y; what follows them, as a keypoint's score, is not looked at.
Point = Sequence[float] | NDArray[np.floating[Any]]

# Shapes are placed to 1/16 of a pixel: whole pixels make thin limbs jump from frame to frame.
_SHIFT = 4
_UNIT = 2**_SHIFT
# OpenCV's anti-aliased polygons are this much wider than their corners say (measured).
_EXTRA = 1.45
# Far outside the picture OpenCV's fixed-point numbers would overflow.
_FAR = 1e5


def line(canvas: NDArray[np.uint8], start: Point, end: Point, width: float, colour: Colour) -> None:
    """A straight line from (x, y) to (x, y). `width` in pixels need not be whole; at least 1.8."""
    (ax, ay), (bx, by) = _point(start), _point(end)
    length = math.hypot(bx - ax, by - ay)
    if length < 1e-6:
        return
    reach = max(width - _EXTRA, 0.1) / 2 / length
    x, y = (ay - by) * reach, (bx - ax) * reach
    corners = ((ax + x, ay + y), (bx + x, by + y), (bx - x, by - y), (ax - x, ay - y))
    _fill(canvas, corners, colour)


def disc(canvas: NDArray[np.uint8], centre: Point, radius: float, colour: Colour) -> None:
    """A filled circle around (x, y)."""
    x, y = _point(centre)
    at = (round(x * _UNIT), round(y * _UNIT))
    cv2.circle(canvas, at, round(radius * _UNIT), colour, -1, cv2.LINE_AA, _SHIFT)


def ring(
    canvas: NDArray[np.uint8], centre: Point, radius: float, width: int, colour: Colour
) -> None:
    """A circle around (x, y), its middle left open."""
    x, y = _point(centre)
    at = (round(x * _UNIT), round(y * _UNIT))
    cv2.circle(canvas, at, round(radius * _UNIT), colour, width, cv2.LINE_AA, _SHIFT)


def box(canvas: NDArray[np.uint8], xywh: ArrayLike, width: float, colour: Colour) -> None:
    """The four sides of [x, y, w, h]."""
    x, y, w, h = np.asarray(xywh, np.float64)
    outline(canvas, [(x, y), (x + w, y), (x + w, y + h), (x, y + h)], width, colour)


def outline(
    canvas: NDArray[np.uint8], corners: Sequence[Point], width: float, colour: Colour
) -> None:
    """A closed polygon's sides through its corners (x, y)."""
    for start, end in zip(corners, [*corners[1:], corners[0]], strict=True):
        line(canvas, start, end, width, colour)
        disc(canvas, start, max(width / 2 - 0.5, 0.3), colour)


def dashed(
    canvas: NDArray[np.uint8],
    start: Point,
    end: Point,
    width: float,
    colour: Colour,
    dash: float,
) -> None:
    """A line of dashes that are `dash` pixels long, with gaps as long."""
    (ax, ay), (bx, by) = _point(start), _point(end)
    count = max(1, round(math.hypot(bx - ax, by - ay) / dash / 2))
    x, y = (bx - ax) / count, (by - ay) / count
    for step in range(count):
        middle = step + 0.5
        line(
            canvas,
            (ax + x * step, ay + y * step),
            (ax + x * middle, ay + y * middle),
            width,
            colour,
        )


def arrow(
    canvas: NDArray[np.uint8], start: Point, end: Point, width: float, colour: Colour
) -> None:
    """A line with a filled head that ends exactly at `end`."""
    (ax, ay), (bx, by) = _point(start), _point(end)
    length = math.hypot(bx - ax, by - ay)
    if length < 1e-6:
        return
    reach = min(width * 4, length * 0.6)
    x, y = (bx - ax) / length * reach, (by - ay) / length * reach
    back = (bx - x, by - y)
    line(canvas, (ax, ay), back, width, colour)
    wide = 0.55
    sides = ((back[0] - y * wide, back[1] + x * wide), (back[0] + y * wide, back[1] - x * wide))
    _fill(canvas, ((bx, by), *sides), colour)


def _fill(
    canvas: NDArray[np.uint8], corners: Sequence[tuple[float, float]], colour: Colour
) -> None:
    """A filled convex polygon."""
    fixed = np.array([(round(x * _UNIT), round(y * _UNIT)) for x, y in corners], np.int32)
    cv2.fillConvexPoly(canvas, fixed, colour, cv2.LINE_AA, _SHIFT)


def _point(value: Point) -> tuple[float, float]:
    x, y = float(value[0]), float(value[1])
    return min(max(x, -_FAR), _FAR), min(max(y, -_FAR), _FAR)
