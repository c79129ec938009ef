"""Shapes, text and grids of tiles on a canvas, an (h, w, 3) uint8 RGB array that is drawn on."""

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw, ImageFont

from hrpose.skeleton import Color

# A thin dark rim keeps a light line visible on any background.
INK: Color = (18, 20, 26)
PAPER: Color = (255, 255, 255)
BACKGROUND: Color = (24, 27, 34)

# (x, y); further values, such as a score, are ignored.
Point = Sequence[float] | NDArray[np.floating[Any]]

# Shapes are placed to 1/16 of a pixel: whole pixels make thin limbs jump between frames.
_SHIFT = 4
_UNIT = 2**_SHIFT
# OpenCV draws anti-aliased polygons this much wider than their corners (measured).
_EXTRA = 1.45
# Beyond this, OpenCV's fixed-point numbers would overflow.
_FAR = 1e5


def line(
    canvas: NDArray[np.uint8],
    start: Point,
    end: Point,
    width: float,
    color: Color,
    opacity: float = 1.0,
) -> None:
    """A straight line between two points (x, y). `width` in pixels is at least 1.8."""
    (ax, ay), (bx, by) = _point(start), _point(end)
    length = math.hypot(bx - ax, by - ay)
    if length < 1e-6:
        return
    reach = max(width - _EXTRA, 0.1) / 2 / length
    x, y = (ay - by) * reach, (bx - ax) * reach
    corners = ((ax + x, ay + y), (bx + x, by + y), (bx - x, by - y), (ax - x, ay - y))
    if opacity >= 1:
        _fill(canvas, corners, color)
        return
    part, (left, top) = _part(canvas, corners, 2.0)
    if part.size:
        layer = part.copy()
        _fill(layer, [(px - left, py - top) for px, py in corners], color)
        cv2.addWeighted(layer, opacity, part, 1 - opacity, 0, dst=part)


def disc(
    canvas: NDArray[np.uint8], center: Point, radius: float, color: Color, opacity: float = 1.0
) -> None:
    """A filled circle around (x, y)."""
    x, y = _point(center)
    part, left, top = canvas, 0, 0
    if opacity < 1:
        part, (left, top) = _part(canvas, [(x, y)], radius + 2)
        if not part.size:
            return
    layer = part if opacity >= 1 else part.copy()
    at = (round((x - left) * _UNIT), round((y - top) * _UNIT))
    cv2.circle(layer, at, round(radius * _UNIT), color, -1, cv2.LINE_AA, _SHIFT)
    if opacity < 1:
        cv2.addWeighted(layer, opacity, part, 1 - opacity, 0, dst=part)


def _part(
    canvas: NDArray[np.uint8], points: Sequence[tuple[float, float]], margin: float
) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """The part of the canvas around points, as a view, and its left upper corner (x, y)."""
    height, width = canvas.shape[:2]
    left, right = (min(max(round(x), 0), width) for x in _ends([p[0] for p in points], margin))
    top, bottom = (min(max(round(y), 0), height) for y in _ends([p[1] for p in points], margin))
    return canvas[top:bottom, left:right], (left, top)


def _ends(values: Sequence[float], margin: float) -> tuple[float, float]:
    return math.floor(min(values) - margin), math.ceil(max(values) + margin) + 1


def ring(canvas: NDArray[np.uint8], center: Point, radius: float, width: int, color: Color) -> None:
    """A circle around (x, y), not filled."""
    x, y = _point(center)
    at = (round(x * _UNIT), round(y * _UNIT))
    cv2.circle(canvas, at, round(radius * _UNIT), color, width, cv2.LINE_AA, _SHIFT)


def box(canvas: NDArray[np.uint8], xywh: ArrayLike, width: float, color: Color) -> None:
    """The four sides of [x, y, w, h]."""
    x, y, w, h = np.asarray(xywh, np.float64)
    outline(canvas, [(x, y), (x + w, y), (x + w, y + h), (x, y + h)], width, color)


def outline(
    canvas: NDArray[np.uint8], corners: Sequence[Point], width: float, color: Color
) -> None:
    """The sides of a polygon with these corners (x, y)."""
    for start, end in zip(corners, [*corners[1:], corners[0]], strict=True):
        line(canvas, start, end, width, color)
        disc(canvas, start, max(width / 2 - 0.5, 0.3), color)


def dashed(
    canvas: NDArray[np.uint8], start: Point, end: Point, width: float, color: Color, dash: float
) -> None:
    """A dashed line; dashes and gaps are `dash` pixels long."""
    (ax, ay), (bx, by) = _point(start), _point(end)
    count = max(1, round(math.hypot(bx - ax, by - ay) / dash / 2))
    x, y = (bx - ax) / count, (by - ay) / count
    for step in range(count):
        middle = step + 0.5
        line(
            canvas, (ax + x * step, ay + y * step), (ax + x * middle, ay + y * middle), width, color
        )


def arrow(canvas: NDArray[np.uint8], start: Point, end: Point, width: float, color: Color) -> None:
    """A line with a filled head whose tip is at `end`."""
    (ax, ay), (bx, by) = _point(start), _point(end)
    length = math.hypot(bx - ax, by - ay)
    if length < 1e-6:
        return
    reach = min(width * 4, length * 0.6)
    x, y = (bx - ax) / length * reach, (by - ay) / length * reach
    back = (bx - x, by - y)
    line(canvas, (ax, ay), back, width, color)
    wide = 0.55
    sides = ((back[0] - y * wide, back[1] + x * wide), (back[0] + y * wide, back[1] - x * wide))
    _fill(canvas, ((bx, by), *sides), color)


def _fill(canvas: NDArray[np.uint8], corners: Sequence[tuple[float, float]], color: Color) -> None:
    """A filled convex polygon."""
    fixed = np.array([(round(x * _UNIT), round(y * _UNIT)) for x, y in corners], np.int32)
    cv2.fillConvexPoly(canvas, fixed, color, cv2.LINE_AA, _SHIFT)


def _point(value: Point) -> tuple[float, float]:
    x, y = float(value[0]), float(value[1])
    return min(max(x, -_FAR), _FAR), min(max(y, -_FAR), _FAR)


@cache
def font(size: int) -> Any:
    """Pillow's built-in font, `size` in pixels."""
    return ImageFont.load_default(size)


def extent(text: str, size: int) -> tuple[int, int]:
    """(w, h) in pixels of a line of text; the height is the same for every text."""
    ascent, descent = font(size).getmetrics()
    return round(font(size).getlength(text) + 0.5), ascent + descent


def shortened(text: str, size: int, width: int) -> str:
    """The text, or the part of it that fits into `width` pixels with an ellipsis."""
    if extent(text, size)[0] <= width:
        return text
    while text and extent(text + "...", size)[0] > width:
        text = text[:-1]
    return text + "..."


def write(
    canvas: NDArray[np.uint8],
    at: tuple[float, float],
    text: str,
    size: int,
    color: Color = PAPER,
    rim: Color | None = INK,
) -> None:
    """Write a line of text with a thin rim; `at` (x, y) is its top left corner."""
    width, height = extent(text, size)
    stroke = max(1, size // 8) if rim is not None else 0
    left, top = round(at[0]) - stroke, round(at[1]) - stroke
    patch = _patch(canvas, left, top, width + 2 * stroke, height + 2 * stroke)
    if patch is None:
        return
    pixels, (dx, dy) = patch
    image = Image.fromarray(pixels)
    ImageDraw.Draw(image).text(
        (stroke - dx, stroke - dy),
        text,
        fill=color,
        font=font(size),
        stroke_width=stroke,
        stroke_fill=rim,
    )
    pixels[:] = np.asarray(image)


def chip(
    canvas: NDArray[np.uint8],
    at: tuple[float, float],
    text: str,
    size: int,
    background: Color = INK,
) -> None:
    """Write a line of text on a rounded, slightly transparent label; `at` is its top left corner.

    A label that would leave the canvas is moved inside.
    """
    width, height = chip_extent(text, size)
    left = round(min(max(at[0], 0), max(0, canvas.shape[1] - width)))
    top = round(min(max(at[1], 0), max(0, canvas.shape[0] - height)))
    patch = _patch(canvas, left, top, width, height)
    if patch is None:
        return
    pixels, _ = patch
    label = Image.new("L", (width, height))
    ImageDraw.Draw(label).rounded_rectangle((0, 0, width - 1, height - 1), size // 3, fill=215)
    alpha = np.asarray(label)[: pixels.shape[0], : pixels.shape[1], None] / 255
    pixels[:] = (pixels * (1 - alpha) + np.array(background) * alpha).astype(np.uint8)
    write(canvas, (left + size * 0.4, top + size * 0.1), text, size, rim=None)


def chip_extent(text: str, size: int) -> tuple[int, int]:
    """(w, h) in pixels of a `chip`."""
    width, height = extent(text, size)
    return width + round(size * 0.8), height + round(size * 0.2)


def _patch(
    canvas: NDArray[np.uint8], left: int, top: int, width: int, height: int
) -> tuple[NDArray[np.uint8], tuple[int, int]] | None:
    """The part of a rectangle on the canvas, and by how much (x, y) its corner was cut."""
    x, y = max(left, 0), max(top, 0)
    part = canvas[y : max(top + height, 0), x : max(left + width, 0)]
    return (part, (x - left, y - top)) if part.size else None


def grid(
    tiles: Sequence[NDArray[np.uint8]], labels: Sequence[str], columns: int, size: int = 0
) -> NDArray[np.uint8]:
    """Tiles (h, w, 3) of any sizes in `columns` columns, each below its label.

    `size` is the height of the labels in pixels; 0 fits it to the tiles.
    """
    width = max(tile.shape[1] for tile in tiles)
    height = max(tile.shape[0] for tile in tiles)
    size = size or int(np.clip(width / 14, 11, 32))
    gap = max(4, size // 2)
    head = extent("", size)[1] + gap // 2
    columns = min(columns, len(tiles))
    rows = -(-len(tiles) // columns)
    canvas = np.full(
        (rows * (head + height + gap) + gap, columns * (width + gap) + gap, 3), BACKGROUND, np.uint8
    )
    for index, (tile, label) in enumerate(zip(tiles, labels, strict=True)):
        row, column = divmod(index, columns)
        x, y = gap + column * (width + gap), gap + row * (head + height + gap)
        write(canvas, (x, y), shortened(label, size, width), size, rim=None)
        canvas[y + head : y + head + tile.shape[0], x : x + tile.shape[1]] = tile
    return canvas


def side_by_side(images: Sequence[NDArray[np.uint8]], labels: Sequence[str]) -> NDArray[np.uint8]:
    """Images next to each other, as high as the first, each below its label."""
    height = images[0].shape[0]
    tiles = []
    for image in images:
        width = max(1, round(image.shape[1] * height / image.shape[0]))
        tiles.append(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA))
    return grid(tiles, labels, len(tiles))  # type: ignore[arg-type]
