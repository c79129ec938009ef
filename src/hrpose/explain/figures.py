"""The figures of an explanation: boxes and poses on the image, features, heatmaps, pixels."""

import math
from collections.abc import Sequence
from html import escape

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from hrpose.explain.trace import Features, Floats, Trace
from hrpose.geometry import Crop, transform
from hrpose.poses import Poses
from hrpose.skeleton import Color
from hrpose.viz import LEFT, MIDDLE, RIGHT, draw, keypoint_colors, overlay
from hrpose.viz.drawing import Point, box, disc, line, outline, polygon, ring
from hrpose.viz.grids import (
    BACKGROUND,
    INK,
    PAPER,
    chip,
    chip_extent,
    color_map,
    enlarged,
    extent,
    write,
)
from hrpose.viz.html import source

# The longer side of a figure in pixels.
LONG_SIDE = 840


def _shown(image: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], float]:
    """The image at the size of a figure, and the factor of its enlargement."""
    factor = LONG_SIDE / max(image.shape[:2])
    return _resized(image, factor), factor


def _resized(image: NDArray[np.uint8], factor: float) -> NDArray[np.uint8]:
    size = (max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor)))
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    return np.array(cv2.resize(image, size, interpolation=how), np.uint8)


def box_on_image(trace: Trace) -> NDArray[np.uint8]:
    """The image with the person's box."""
    canvas, factor = _shown(trace.image)
    box(canvas, trace.box * factor, 6, INK)
    box(canvas, trace.box * factor, 3, PAPER)
    return canvas


def crop_on_image(trace: Trace) -> NDArray[np.uint8]:
    """The box, the box in the input's shape, and the padded crop, which may exceed the image."""
    height, width = trace.image.shape[:2]
    outer = _corners(trace.crop)
    corners = np.concatenate([outer, [[0, 0], [width, height]]])
    low, high = corners.min(axis=0), corners.max(axis=0)
    margin = (high - low).max() * 0.04
    low, high = low - margin, high + margin
    factor = LONG_SIDE / (high - low).max()
    size = tuple(int(value) for value in np.ceil((high - low) * factor))
    to_canvas = np.array([[factor, 0, -low[0] * factor], [0, factor, -low[1] * factor]])
    # A plain background outside the image, where the network sees black.
    canvas = np.full((size[1], size[0], 3), BACKGROUND, np.uint8)
    image, placed_image = trace.image, to_canvas
    if factor < 1:
        # The warp samples single pixels, so the image is averaged first.
        image = _resized(trace.image, factor)
        sx, sy = width / image.shape[1], height / image.shape[0]
        placed_image = to_canvas @ [[sx, 0, (sx - 1) / 2], [0, sy, (sy - 1) / 2], [0, 0, 1]]
    cv2.warpAffine(image, placed_image, size, dst=canvas, borderMode=cv2.BORDER_TRANSPARENT)
    padding = trace.metadata.padding
    x, y, w, h = trace.box
    rectangles: tuple[tuple[NDArray[np.float64], Color], ...] = (
        (_rectangle((x + w / 2, y + h / 2), (w, h)), PAPER),
        (_rectangle(trace.crop.center, np.array(trace.crop.size) / padding), LEFT),
        (outer, RIGHT),
    )
    for corner_points, color in rectangles:
        placed = transform(corner_points, to_canvas)
        outline(canvas, list(placed), 5, INK)
        if color is LEFT:
            for start, end in zip(placed, np.roll(placed, -1, axis=0), strict=True):
                _dashed(canvas, start, end, 2.5, color, 9)
        else:
            outline(canvas, list(placed), 2.5, color)
    return canvas


def _rectangle(center: ArrayLike, size: ArrayLike) -> NDArray[np.float64]:
    """(4, 2): the corners, clockwise from the top left."""
    signs = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    corners: NDArray[np.float64] = np.asarray(center) + signs * np.asarray(size) / 2
    return corners


def _corners(crop: Crop) -> NDArray[np.float64]:
    return _rectangle(crop.center, crop.size)


def _around_person(trace: Trace) -> tuple[NDArray[np.uint8], NDArray[np.float64], float]:
    """The part of the image inside the crop, resized; its first pixel (x, y); the factor."""
    height, width = trace.image.shape[:2]
    low, high = _corners(trace.crop)[[0, 2]]
    left, top = np.floor(np.clip(low, 0, [width - 1, height - 1])).astype(int)
    right, bottom = np.ceil(np.clip(high, [left + 1, top + 1], [width, height])).astype(int)
    canvas, factor = _shown(trace.image[top:bottom, left:right])
    return canvas, np.array([left, top], np.float64), factor


def _enlarged(points: NDArray[np.float64], factor: float) -> NDArray[np.float64]:
    """Points in the pixels of a resized image: the corners of pixels scale, not their centers."""
    return points * factor + (factor - 1) / 2


def pose_on_image(trace: Trace, threshold: float) -> NDArray[np.uint8]:
    """The finished skeleton, with its keypoints' names."""
    canvas, corner, factor = _around_person(trace)
    poses = trace.poses
    keypoints = poses.keypoints.copy()
    keypoints[..., :2] = _enlarged(keypoints[..., :2] - corner, factor)
    boxes = (poses.boxes - [*corner, 0, 0]) * factor
    larger = Poses(keypoints, boxes.astype(np.float32), poses.scores, poses.skeleton)
    return draw(canvas, larger, threshold, names=True)


def keypoint_on_image(trace: Trace) -> NDArray[np.uint8]:
    """The keypoint on the image, with its coordinates."""
    canvas, corner, factor = _around_person(trace)
    place = trace.poses.keypoints[0, trace.keypoint, :2]
    return label_point(
        canvas, _enlarged(place - corner, factor), f"({place[0]:.1f}, {place[1]:.1f})"
    )


def label_point(canvas: NDArray[np.uint8], at: ArrayLike, label: str) -> NDArray[np.uint8]:
    """Draw a dot with a label on `canvas`; returns the canvas."""
    x, y = (float(value) for value in np.asarray(at))
    radius = max(5.0, min(canvas.shape[:2]) / 60)
    disc(canvas, (x, y), radius + 2, INK)
    disc(canvas, (x, y), radius, MIDDLE)
    size = max(12, round(min(canvas.shape[:2]) / 22))
    width, height = chip_extent(label, size)
    right = x + radius * 1.6
    left = right if right + width <= canvas.shape[1] else x - radius * 1.6 - width
    chip(canvas, (left, y - height / 2), label, size)
    return canvas


def scale_of(trace: Trace) -> int:
    """The enlargement of the input, to a height of about 400 pixels."""
    return max(1, round(400 / len(trace.view)))


def network_input(trace: Trace, mirrored: bool = False) -> NDArray[np.uint8]:
    """The input, every pixel enlarged."""
    scale = scale_of(trace)
    view = trace.view[:, ::-1] if mirrored else trace.view
    return np.ascontiguousarray(view.repeat(scale, axis=0).repeat(scale, axis=1))


def keypoint_tile(trace: Trace, keypoint: int) -> NDArray[np.uint8]:
    """A keypoint's merged heatmap over the input, with a ring at the keypoint."""
    scale = max(1, scale_of(trace) * 2 // 3)
    tile = overlay(trace.view, trace.merged[keypoint], trace.strides, scale)
    color = keypoint_colors(trace.metadata.skeleton)[keypoint]
    place = enlarged(trace.in_crop[keypoint], scale)
    ring(tile, place, tile.shape[0] / 36, 5, INK)
    ring(tile, place, tile.shape[0] / 36, 2, color)
    return tile


def heat_tile(trace: Trace, heatmap: Floats, mirrored: bool = False) -> NDArray[np.uint8]:
    """A heatmap over the input or its mirror image."""
    view = trace.view[:, ::-1] if mirrored else trace.view
    return overlay(view, heatmap, trace.strides, scale_of(trace))


def keypoint_in_input(trace: Trace) -> NDArray[np.uint8]:
    """The keypoint in the input, with its coordinates."""
    place = trace.in_crop[trace.keypoint]
    label = f"({place[0]:.2f}, {place[1]:.2f})"
    return label_point(network_input(trace), enlarged(place, scale_of(trace)), label)


def keypoint_in_heatmap(trace: Trace) -> NDArray[np.uint8]:
    """The keypoint in its heatmap, every pixel enlarged, with its coordinates."""
    scale = max(1, round(trace.view.shape[0] * scale_of(trace) / trace.merged.shape[1]))
    squares = color_map(trace.merged[trace.keypoint]).repeat(scale, axis=0).repeat(scale, axis=1)
    place = trace.in_heatmap[trace.keypoint]
    label = f"({place[0]:.2f}, {place[1]:.2f})"
    return label_point(np.ascontiguousarray(squares), enlarged(place, scale), label)


def pixels(trace: Trace, heatmap: Floats, *, arrow: bool = False) -> NDArray[np.uint8]:
    """The pixels around the keypoint's peak with their values, and coordinates at the edge.

    The window is the same for every heatmap of a keypoint. The highest pixel has a white frame;
    `arrow` leads from it to the decoded position.
    """
    # Fewer and larger pixels leave space for the arrow.
    reach, cell = (2, 128) if arrow else (3, 76)
    left, top = (int(value) - reach for value in trace.peak_pixels[trace.keypoint])
    count, rim = 2 * reach + 1, 34
    canvas = np.full((count * cell + rim, count * cell + rim, 3), BACKGROUND, np.uint8)
    height, width = heatmap.shape
    row, column = divmod(int(heatmap.argmax()), width)
    top_value = float(max(trace.merged[trace.keypoint].max(), 1e-6))
    for step in range(count):
        for words, at in (
            (str(left + step), (rim + (step + 0.5) * cell, rim / 2)),
            (str(top + step), (rim / 2, rim + (step + 0.5) * cell)),
        ):
            _centered(canvas, words, at, 17, (150, 156, 170))
    for y in range(count):
        for x in range(count):
            if not (0 <= left + x < width and 0 <= top + y < height):
                continue
            value = float(heatmap[top + y, left + x])
            # Relative to the peak, so that weak heatmaps show their shape too.
            color = color_map(np.array([[0.08 + 0.9 * value / top_value]]))[0, 0]
            corner = (rim + x * cell, rim + y * cell)
            canvas[corner[1] + 1 : corner[1] + cell, corner[0] + 1 : corner[0] + cell] = color
            ink = INK if float(color @ np.array([0.3, 0.6, 0.1])) > 140 else PAPER
            middle = (corner[0] + cell / 2, corner[1] + cell * (0.82 if arrow else 0.5))
            # + 0.0 turns -0.0 into 0.0.
            _centered(canvas, f"{round(value, 2) + 0.0:.2f}", middle, 19, ink)

    def on_canvas(place: Floats) -> Floats:
        corner: Floats = rim + (place - [left, top] + 0.5) * cell
        return corner

    frame = on_canvas(np.array([column, row], np.float64)) - cell / 2
    box(canvas, [*frame, cell, cell], 4, PAPER)
    if arrow:
        start = on_canvas(trace.peak_pixels[trace.keypoint].astype(np.float64))
        end = on_canvas(trace.in_heatmap[trace.keypoint])
        disc(canvas, start, 6, INK)
        _arrow(canvas, start, end, 5, INK)
        disc(canvas, start, 4, LEFT)
    return canvas


def feature_map(values: Floats) -> NDArray[np.uint8]:
    """The mean over the channels of features (c, h, w), from their lowest value to their highest.

    One pixel for each of theirs.
    """
    mean = values.mean(axis=0)
    low, high = float(mean.min()), float(mean.max())
    return color_map((mean - low) / max(high - low, 1e-9))


def channels(values: Floats, count: int) -> list[tuple[int, NDArray[np.uint8]]]:
    """The `count` channels of features (c, h, w) that vary most: their numbers, and each alone."""
    order = np.argsort(-values.std(axis=(1, 2)), kind="stable")[:count]
    return [(int(number), feature_map(values[number : number + 1])) for number in order]


# The diagram of features: the longer side of an image, the steps between columns and rows, and the
# space around, in units of the SVG.
_SIDE, _STEP, _ROW, _TOP, _LEFT = 96, 150, 142, 34, 18


def diagram(trace: Trace, features: Features, titles: Sequence[str], label: str) -> str:
    """The features as SVG in HTML: a column for each stage, a row for each branch, and the flow."""
    in_w, in_h = trace.metadata.input_wh
    wide, tall = _SIDE * min(1, in_w / in_h), _SIDE * min(1, in_h / in_w)
    shown = [*features.columns, (trace.direct.max(axis=0, keepdims=True),)]
    lines, parts = [], []
    for column, branches in enumerate(shown):
        x = _LEFT + _STEP * column
        parts.append(
            f'<text class="head" x="{x + wide / 2:g}" y="16">{escape(titles[column])}</text>'
        )
        following = shown[column + 1] if column + 1 < len(shown) else ()
        for branch, values in enumerate(branches):
            y = _TOP + _ROW * branch
            size = (len(trace.direct) if not following else len(values), *values.shape[1:])
            parts.append(
                f'<image href="{source(feature_map(values), ".png")}" x="{x:g}" y="{y:g}" '
                f'width="{wide:g}" height="{tall:g}" preserveAspectRatio="none"/>'
                f'<text x="{x + wide / 2:g}" y="{y + tall + 16:g}">'
                f"{' x '.join(map(str, size))}</text>"
            )
            for target in range(len(following)):
                new = target >= len(branches)
                if new and branch < len(branches) - 1:
                    continue
                kind = "new" if new else "straight" if branch == target else "flow"
                lines.append(
                    f'<line class="{kind}" x1="{x + wide:g}" y1="{y + tall / 2:g}" '
                    f'x2="{x + _STEP - 3:g}" y2="{_TOP + _ROW * target + tall / 2:g}"/>'
                )
    width = 2 * _LEFT + _STEP * (len(shown) - 1) + max(wide, 84)
    height = _TOP + _ROW * (len(features.columns[4]) - 1) + tall + 26
    return (
        f'<div class="wide"><svg class="features" viewBox="0 0 {width:g} {height:g}" role="img" '
        f'aria-label="{escape(label)}">{"".join(lines + parts)}</svg></div>'
    )


def score_bars(trace: Trace, names: Sequence[str], threshold: float, caption: str) -> str:
    """Each keypoint's score as a bar in its color, and the threshold as a line, as HTML."""
    rows = []
    colors = keypoint_colors(trace.metadata.skeleton)
    for name, color, score in zip(names, colors, trace.poses.keypoints[0, :, 2], strict=True):
        paint = f"rgb{tuple(int(value) for value in color)}" if score >= threshold else "#70788a"
        rows.append(
            f"<span>{escape(name)}</span>"
            f'<i style="--share:{100 * score:.1f}%;--paint:{paint}"></i><b>{score:.2f}</b>'
        )
    return (
        f'<figure><div class="bars" style="--line:{threshold * 100:.1f}%">{"".join(rows)}</div>'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _centered(
    canvas: NDArray[np.uint8], words: str, at: tuple[float, float], size: int, color: Color
) -> None:
    width, height = extent(words, size)
    write(canvas, (at[0] - width / 2, at[1] - height / 2), words, size, color, rim=None)


def _dashed(
    canvas: NDArray[np.uint8], start: Point, end: Point, width: float, color: Color, dash: float
) -> None:
    """A dashed line; dashes and gaps are `dash` pixels long."""
    (ax, ay), (bx, by) = start[:2], end[:2]
    count = max(1, round(math.hypot(bx - ax, by - ay) / dash / 2))
    x, y = (bx - ax) / count, (by - ay) / count
    for step in range(count):
        middle = step + 0.5
        line(
            canvas, (ax + x * step, ay + y * step), (ax + x * middle, ay + y * middle), width, color
        )


def _arrow(canvas: NDArray[np.uint8], start: Point, end: Point, width: float, color: Color) -> None:
    """A line with a filled head whose tip is at `end`."""
    (ax, ay), (bx, by) = start[:2], end[:2]
    length = math.hypot(bx - ax, by - ay)
    if length < 1e-6:
        return
    reach = min(width * 4, length * 0.6)
    x, y = (bx - ax) / length * reach, (by - ay) / length * reach
    back = (bx - x, by - y)
    line(canvas, (ax, ay), back, width, color)
    wide = 0.55
    sides = ((back[0] - y * wide, back[1] + x * wide), (back[0] + y * wide, back[1] - x * wide))
    polygon(canvas, ((bx, by), *sides), color)
