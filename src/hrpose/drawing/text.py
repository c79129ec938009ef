"""Text on pictures, by the font that comes with Pillow: readable at any size."""

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from hrpose.drawing.palette import INK, PAPER
from hrpose.skeleton import Colour


@cache
def font(size: int) -> Any:
    """Pillow's own font in pixels; it travels with Pillow, so it is there offline."""
    return ImageFont.load_default(size)


def extent(text: str, size: int) -> tuple[int, int]:
    """(w, h) in pixels of a line: its own width, and the height of any line of this size."""
    ascent, descent = font(size).getmetrics()
    return round(font(size).getlength(text) + 0.5), ascent + descent


def shortened(text: str, size: int, width: int) -> str:
    """The text, or as much of its start as fits into `width` pixels, with an ellipsis."""
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
    colour: Colour = PAPER,
    rim: Colour | None = INK,
) -> None:
    """Write a line into `canvas`, its top left corner `at` (x, y), with a thin rim."""
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
        fill=colour,
        font=font(size),
        stroke_width=stroke,
        stroke_fill=rim,
    )
    pixels[:] = np.asarray(image)


def chip(
    canvas: NDArray[np.uint8], at: tuple[float, float], text: str, size: int, ground: Colour = INK
) -> None:
    """Write a line on a rounded, slightly transparent label; `at` is its top left corner.

    A label that would leave the picture is moved inside.
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
    pixels[:] = (pixels * (1 - alpha) + np.array(ground) * alpha).astype(np.uint8)
    write(canvas, (left + size * 0.4, top + size * 0.1), text, size, rim=None)


def chip_extent(text: str, size: int) -> tuple[int, int]:
    """(w, h) in pixels of a `chip`."""
    width, height = extent(text, size)
    return width + round(size * 0.8), height + round(size * 0.2)


def _patch(
    canvas: NDArray[np.uint8], left: int, top: int, width: int, height: int
) -> tuple[NDArray[np.uint8], tuple[int, int]] | None:
    """The part of a rectangle that lies on the canvas, and how much its corner was cut."""
    x, y = max(left, 0), max(top, 0)
    part = canvas[y : max(top + height, 0), x : max(left + width, 0)]
    return (part, (x - left, y - top)) if part.size else None
