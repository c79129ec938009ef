"""Line charts as one image, for where no browser is: the curves of a training."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from hrpose.skeleton import Color
from hrpose.viz.html import Line, ticks
from hrpose.viz.text import PAPER, extent, shortened, write

# The colors of the pages' curves, and of their texts and rules.
COLORS: tuple[Color, ...] = (
    *((0, 114, 196), (217, 119, 6), (47, 158, 110)),
    *((168, 85, 199), (207, 63, 79), (91, 100, 114)),
)
_INK: Color = (28, 32, 40)
_QUIET: Color = (91, 100, 114)
_RULE: Color = (227, 230, 235)

# In pixels: a chart, the margins around its box, and its text.
_WIDTH, _HEIGHT = 820, 500
_LEFT, _RIGHT, _TOP, _BOTTOM = 96, 24, 92, 64
_TITLE, _TEXT = 24, 20
# Bits behind the point of coordinates that OpenCV draws at.
_SHIFT = 4


@dataclass(frozen=True, slots=True, eq=False)
class Chart:
    """`lines` whose y are relative to `most`, the value at the top of the chart."""

    title: str
    lines: Sequence[Line]
    most: float = 1.0


def draw_charts(
    charts: Sequence[Chart], x_title: str, x_range: tuple[float, float], columns: int = 2
) -> NDArray[np.uint8]:
    """The charts beside and below each other, (h, w, 3) uint8 RGB, all over the same `x_range`."""
    columns = min(columns, len(charts))
    rows = -(-len(charts) // columns)
    canvas = np.full((rows * _HEIGHT, columns * _WIDTH, 3), PAPER, np.uint8)
    for index, chart in enumerate(charts):
        row, column = divmod(index, columns)
        top, left = row * _HEIGHT, column * _WIDTH
        _draw(canvas[top : top + _HEIGHT, left : left + _WIDTH], chart, x_title, x_range)
    return canvas


def _draw(
    canvas: NDArray[np.uint8], chart: Chart, x_title: str, x_range: tuple[float, float]
) -> None:
    """A chart over all of the canvas, which may be a part of a larger one."""
    low, high = x_range
    inner_w, inner_h = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
    pixels = canvas.copy()  # OpenCV draws on whole arrays only

    def at(x: float, y: float) -> tuple[float, float]:
        return _LEFT + (x - low) / (high - low) * inner_w, _TOP + (1 - y) * inner_h

    write(pixels, (_LEFT, 14), shortened(chart.title, _TITLE, inner_w), _TITLE, _INK, rim=None)
    for value in ticks(0, chart.most, 5):
        _, y = at(low, value / chart.most)
        cv2.line(pixels, (_LEFT, round(y)), (_WIDTH - _RIGHT, round(y)), _RULE, 1)
        width, height = extent(text := f"{value:.4g}", _TEXT)
        write(pixels, (_LEFT - 10 - width, y - height / 2), text, _TEXT, _QUIET, rim=None)
    for value in ticks(low, high, 8):
        x, _ = at(value, 0)
        width, _ = extent(text := f"{value:.4g}", _TEXT)
        write(pixels, (x - width / 2, _HEIGHT - _BOTTOM + 6), text, _TEXT, _QUIET, rim=None)
    width, height = extent(x_title, _TEXT)
    middle = (_LEFT + (inner_w - width) / 2, _HEIGHT - height - 4)
    write(pixels, middle, x_title, _TEXT, _QUIET, rim=None)
    at_x = float(_LEFT)
    for index, line in enumerate(chart.lines):
        color = COLORS[index % len(COLORS)]
        points = np.array([at(x, y) for x, y in zip(line.x, line.y, strict=True)])  # type: ignore[arg-type]
        path = np.rint(points * 2**_SHIFT).astype(np.int32)
        cv2.polylines(pixels, [path], False, color, 3, cv2.LINE_AA, _SHIFT)
        if line.dots:
            for x, y in path.tolist():
                cv2.circle(pixels, (x, y), 5 << _SHIFT, color, -1, cv2.LINE_AA, _SHIFT)
        if len(chart.lines) == 1:
            break  # the title names it
        cv2.line(pixels, (round(at_x), 64), (round(at_x) + 22, 64), color, 4)
        write(pixels, (at_x + 28, 52), line.name, _TEXT, _INK, rim=None)
        at_x += 28 + extent(line.name, _TEXT)[0] + 18
    canvas[:] = pixels
