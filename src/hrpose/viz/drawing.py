"""The colors: the skeleton's own, or one for each side, the same in every image."""

import colorsys
import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw, ImageFont

from hrpose.poses import Poses
from hrpose.skeleton import Color, Skeleton

# After Okabe and Ito: told apart by most color-blind people, and bright on images. RGB.
LEFT, RIGHT, MIDDLE = (0, 158, 255), (255, 140, 0), (90, 220, 120)
# The thin rim that lets a line be seen on any ground.
INK: Color = (18, 20, 26)
PAPER: Color = (255, 255, 255)


def keypoint_colors(skeleton: Skeleton) -> list[Color]:
    """One RGB color per keypoint: the skeleton's, or its side's, the pairs' first one being left.

    A skeleton without either gets as many hues as it has keypoints.
    """
    if skeleton.colors:
        return list(skeleton.colors)
    if not skeleton.flip_pairs:
        hues = [index / len(skeleton) for index in range(len(skeleton))]
        rgb = [colorsys.hsv_to_rgb(hue, 0.8, 1.0) for hue in hues]
        return [(round(r * 255), round(g * 255), round(b * 255)) for r, g, b in rgb]
    colors: list[Color] = [MIDDLE] * len(skeleton)
    for left, right in skeleton.flip_pairs:
        colors[left], colors[right] = LEFT, RIGHT
    return colors


def limb_colors(skeleton: Skeleton) -> list[Color]:
    """One RGB color per limb: its end's, or the side's and the middle's where it joins both."""
    colors = keypoint_colors(skeleton)
    if skeleton.colors or not skeleton.flip_pairs:
        return [colors[end] for _, end in skeleton.limbs]
    found: list[Color] = []
    for start, end in skeleton.limbs:
        sides = {colors[start], colors[end]} - {MIDDLE}
        found.append(sides.pop() if len(sides) == 1 else MIDDLE)
    return found


def shown_keypoints(poses: Poses, person: int, threshold: float) -> NDArray[np.float32]:
    """(m, 2): the keypoints of a person that are present."""
    keypoints = poses.keypoints[person]
    shown: NDArray[np.float32] = keypoints[keypoints[:, 2] >= threshold, :2]
    return shown


def person_size(poses: Poses, person: int, threshold: float) -> float:
    """How far the shown keypoints reach, in pixels; half the box where there are none."""
    shown = shown_keypoints(poses, person, threshold)
    if len(shown) < 2:
        return float(poses.boxes[person, 2:].max()) / 2
    return float(np.ptp(shown, axis=0).max())


# x and y; what follows them, as a keypoint's score, is not looked at.
Point = Sequence[float] | NDArray[np.floating[Any]]

# Shapes are placed to 1/16 of a pixel: whole pixels make thin limbs jump from frame to frame.
_SHIFT = 4
_UNIT = 2**_SHIFT
# OpenCV's anti-aliased polygons are this much wider than their corners say (measured).
_EXTRA = 1.45
# Far outside the image OpenCV's fixed-point numbers would overflow.
_FAR = 1e5


def line(canvas: NDArray[np.uint8], start: Point, end: Point, width: float, color: Color) -> None:
    """A straight line from (x, y) to (x, y). `width` in pixels need not be whole; at least 1.8."""
    (ax, ay), (bx, by) = _point(start), _point(end)
    length = math.hypot(bx - ax, by - ay)
    if length < 1e-6:
        return
    reach = max(width - _EXTRA, 0.1) / 2 / length
    x, y = (ay - by) * reach, (bx - ax) * reach
    corners = ((ax + x, ay + y), (bx + x, by + y), (bx - x, by - y), (ax - x, ay - y))
    _fill(canvas, corners, color)


def disc(canvas: NDArray[np.uint8], center: Point, radius: float, color: Color) -> None:
    """A filled circle around (x, y)."""
    x, y = _point(center)
    at = (round(x * _UNIT), round(y * _UNIT))
    cv2.circle(canvas, at, round(radius * _UNIT), color, -1, cv2.LINE_AA, _SHIFT)


def ring(canvas: NDArray[np.uint8], center: Point, radius: float, width: int, color: Color) -> None:
    """A circle around (x, y), its middle left open."""
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
    """A closed polygon's sides through its corners (x, y)."""
    for start, end in zip(corners, [*corners[1:], corners[0]], strict=True):
        line(canvas, start, end, width, color)
        disc(canvas, start, max(width / 2 - 0.5, 0.3), color)


def dashed(
    canvas: NDArray[np.uint8],
    start: Point,
    end: Point,
    width: float,
    color: Color,
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
            color,
        )


def arrow(canvas: NDArray[np.uint8], start: Point, end: Point, width: float, color: Color) -> None:
    """A line with a filled head that ends exactly at `end`."""
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
    color: Color = PAPER,
    rim: Color | None = INK,
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
        fill=color,
        font=font(size),
        stroke_width=stroke,
        stroke_fill=rim,
    )
    pixels[:] = np.asarray(image)


def chip(
    canvas: NDArray[np.uint8], at: tuple[float, float], text: str, size: int, ground: Color = INK
) -> None:
    """Write a line on a rounded, slightly transparent label; `at` is its top left corner.

    A label that would leave the image is moved inside.
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
    """The part of a rectangle that is on the canvas, and how much its corner was cut."""
    x, y = max(left, 0), max(top, 0)
    part = canvas[y : max(top + height, 0), x : max(left + width, 0)]
    return (part, (x - left, y - top)) if part.size else None


# [left, top, right, bottom]
Place = tuple[float, float, float, float]


def write_words(
    canvas: NDArray[np.uint8],
    poses: Poses,
    order: Sequence[int],
    threshold: float,
    *,
    ids: bool,
    scores: bool,
    names: bool,
) -> None:
    """Write into `canvas`, person by person in this order; no word covers another."""
    taken: list[Place] = []
    for person in order:
        size = _text_size(person_size(poses, person, threshold), canvas)
        if names:
            _write_names(canvas, poses, person, max(10, round(size * 0.8)), threshold, taken)
        number = person if poses.track_ids is None else int(poses.track_ids[person])
        label = [f"#{number}"] * ids + [f"{poses.scores[person]:.2f}"] * scores
        if label:
            _write_label(canvas, poses, person, "  ".join(label), size, threshold, taken)


def _text_size(size: float, canvas: NDArray[np.uint8]) -> int:
    """Pixels: an eighteenth of the person, readable and not larger than the image can bear."""
    return int(np.clip(size / 18, 11, max(11, min(32, canvas.shape[0] / 16))))


def _write_label(
    canvas: NDArray[np.uint8],
    poses: Poses,
    person: int,
    label: str,
    size: int,
    threshold: float,
    taken: list[Place],
) -> None:
    """Above the person's highest keypoint, or the box where that is higher; else a little beside."""
    x, y, w, _ = (float(value) for value in poses.boxes[person])
    shown = shown_keypoints(poses, person, threshold)
    middle, top = x + w / 2, y
    if len(shown):
        highest = shown[int(np.argmin(shown[:, 1]))]
        middle, top = float(highest[0]), min(top, float(highest[1]) - size / 2)
    width, height = chip_extent(label, size)
    most = (canvas.shape[1] - width, canvas.shape[0] - height)
    places: list[Place] = []
    for rows in (0, 1, -1, 2, -2):
        for columns in (0, -0.6, 0.6):
            left = min(max(middle + (columns - 0.5) * width, 0), max(most[0], 0))
            upper = min(max(top + (rows - 1.2) * height, 0), max(most[1], 0))
            places.append((left, upper, left + width, upper + height))
    place = _free_place(places, taken, canvas) or places[0]
    taken.append(place)
    chip(canvas, place[:2], label, size)


def _write_names(
    canvas: NDArray[np.uint8],
    poses: Poses,
    person: int,
    size: int,
    threshold: float,
    taken: list[Place],
) -> None:
    """Each keypoint's name on the side away from the person; a thin line where it must go further."""
    shown = shown_keypoints(poses, person, threshold)
    middle = float(shown[:, 0].mean()) if len(shown) else 0.0
    reach = size * 0.4
    taken += [(x - reach, y - reach, x + reach, y + reach) for x, y in shown.tolist()]
    colors = keypoint_colors(poses.skeleton)
    for index, name in enumerate(poses.skeleton.keypoints):
        x, y, score = (float(value) for value in poses.keypoints[person, index])
        if score < threshold:
            continue
        word = name.replace("_", " ")
        places = _places_beside(x, y, extent(word, size), size * 0.6, right=x >= middle)
        place = _free_place(places, taken, canvas) or places[0]
        taken.append(place)
        left, top, right, bottom = place
        if place not in places[:2]:
            end = (min(max(x, left), right), top if y < top else bottom)
            line(canvas, (x, y), end, 1.5, _pale(colors[index]))
        write(canvas, (left, top), word, size, _pale(colors[index]))


def _places_beside(
    x: float, y: float, extent: tuple[int, int], gap: float, right: bool
) -> list[Place]:
    """Places for a word beside (x, y), the best first: level with it, then further up and down."""
    width, height = extent
    places = []
    for rows in (0.0, -1.0, 1.0, -2.0, 2.0, -3.0, 3.0):
        for outside in (right, not right):
            left = x + gap if outside else x - gap - width
            top = y + (rows - 0.5) * height
            places.append((left, top, left + width, top + height))
    return places


def _free_place(
    places: Sequence[Place], taken: Sequence[Place], canvas: NDArray[np.uint8]
) -> Place | None:
    """The first place that is on the canvas and covers nothing."""
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


def _pale(color: Color) -> Color:
    """A color halfway to white, for letters."""
    r, g, b = (round((value + c) / 2) for value, c in zip(color, PAPER, strict=True))
    return r, g, b
