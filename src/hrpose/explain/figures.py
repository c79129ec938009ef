"""The figures of an explanation: boxes and poses on the image, heatmaps, pixels, the network."""

import math

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from hrpose.explain.trace import Floats, Trace
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
    shortened,
    write,
)

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


def score_bars(trace: Trace, threshold: float) -> NDArray[np.uint8]:
    """Each keypoint's score as a bar in its color, and the threshold as a line."""
    names = [name.replace("_", " ") for name in trace.metadata.skeleton.keypoints]
    size, row, left, wide = 20, 32, 200, 560
    canvas = np.full((row * len(names) + 24, left + wide + 90, 3), BACKGROUND, np.uint8)
    colors = keypoint_colors(trace.metadata.skeleton)
    for index, (name, color) in enumerate(zip(names, colors, strict=True)):
        y = 12 + index * row
        score = float(trace.poses.keypoints[0, index, 2])
        shown: Color = color if score >= threshold else (96, 100, 112)
        write(canvas, (16, y + 3), shortened(name, size, left - 24), size, rim=None)
        canvas[y + 6 : y + row - 6, left : left + wide] = (40, 44, 54)
        canvas[y + 6 : y + row - 6, left : left + round(wide * score)] = shown
        write(canvas, (left + wide + 14, y + 3), f"{score:.2f}", size, rim=None)
    x = left + wide * threshold
    _dashed(canvas, (x, 8), (x, canvas.shape[0] - 8), 2.5, PAPER, 6)
    return canvas


def network(trace: Trace) -> NDArray[np.uint8]:
    """A diagram of HRNet: four parallel branches that exchange their features."""
    canvas = np.full((476, 1080, 3), BACKGROUND, np.uint8)
    width, height = trace.metadata.input_wh
    tops, lefts = (60, 190, 305, 405), (150, 370, 590, 810)
    tall, wide = (84, 64, 50, 40), (150, 116, 92, 72)
    gray: Color = (120, 128, 146)
    for stage in range(4):
        for branch in range(stage + 1):
            center = (lefts[stage] + 75, tops[branch] + tall[branch] / 2)
            if stage < 3:
                for target in range(stage + 2):
                    start = (lefts[stage] + 75 + wide[branch] / 2 + 6, center[1])
                    end = (
                        lefts[stage + 1] + 75 - wide[target] / 2 - 6,
                        tops[target] + tall[target] / 2,
                    )
                    straight = target == branch
                    _arrow(canvas, start, end, 3.4 if straight else 1.8, gray)
            corner = (round(center[0] - wide[branch] / 2), tops[branch])
            shade = (LEFT, (48, 132, 205), (64, 108, 160), (70, 88, 122))[branch]
            far = (corner[0] + wide[branch], corner[1] + tall[branch])
            cv2.rectangle(canvas, corner, far, shade, -1)
        _centered(canvas, f"stage {stage + 1}", (lefts[stage] + 75, 32), 21, PAPER)
    for branch in range(4):
        part = 4 * 2**branch
        words = f"{width // part} x {height // part}"
        _centered(canvas, words, (lefts[3] + 75, tops[branch] + tall[branch] / 2), 17, PAPER)
        under = (lefts[branch] + 75, tops[branch] + tall[branch] + 13)
        _centered(canvas, f"1/{part}", under, 15, (150, 156, 170))
    middle = tops[0] + tall[0] / 2
    _centered(canvas, "crop", (52, middle - 12), 20, PAPER)
    _centered(canvas, f"{width} x {height}", (52, middle + 14), 17, (150, 156, 170))
    _arrow(canvas, (102, middle), (lefts[0] - 4, middle), 3.4, gray)
    _arrow(canvas, (lefts[3] + 154, middle), (lefts[3] + 190, middle), 3.4, MIDDLE)
    count = len(trace.metadata.skeleton)
    _centered(canvas, f"{count}", (1036, middle - 12), 20, MIDDLE)
    _centered(canvas, "heatmaps", (1036, middle + 14), 15, MIDDLE)
    return canvas


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
