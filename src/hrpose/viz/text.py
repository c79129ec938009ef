"""Text on images, (h, w, 3) uint8 RGB arrays: lines, labels, and places that are free."""

from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from hrpose.skeleton import Color

# A thin dark rim keeps light text and lines visible on any background.
INK: Color = (18, 20, 26)
PAPER: Color = (255, 255, 255)


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
    alpha = _rounded(width, height, size // 3)[: pixels.shape[0], : pixels.shape[1]]
    pixels[:] = (pixels * (1 - alpha) + np.array(background) * alpha).astype(np.uint8)
    write(canvas, (left + size * 0.4, top + size * 0.1), text, size, rim=None)


@lru_cache(64)
def _rounded(width: int, height: int, radius: int) -> NDArray[np.float64]:
    """The opacity (h, w, 1) of a slightly transparent rounded rectangle."""
    label = Image.new("L", (width, height))
    ImageDraw.Draw(label).rounded_rectangle((0, 0, width - 1, height - 1), radius, fill=215)
    return np.asarray(label)[..., None] / 255


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


# [left, top, right, bottom]
Place = tuple[float, float, float, float]


def places_beside(
    x: float, y: float, extent: tuple[int, int], gap: float, right: bool
) -> list[Place]:
    """Places for a name beside (x, y), the best first: level with it, then further up and down."""
    width, height = extent
    places = []
    for rows in (0.0, -1.0, 1.0, -2.0, 2.0, -3.0, 3.0):
        for outside in (right, not right):
            left = x + gap if outside else x - gap - width
            top = y + (rows - 0.5) * height
            places.append((left, top, left + width, top + height))
    return places


def free_place(
    places: Sequence[Place], taken: Sequence[Place], canvas: NDArray[np.uint8]
) -> Place | None:
    """The first place on the canvas that covers no other text."""
    height, width = canvas.shape[:2]
    for place in places:
        left, top, right, bottom = place
        inside = left >= 0 and top >= 0 and right <= width and bottom <= height
        if inside and not any(
            left < other[2] and other[0] < right and top < other[3] and other[1] < bottom
            for other in taken
        ):
            return place
    return None
