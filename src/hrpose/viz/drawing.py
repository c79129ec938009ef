"""Poses on images, in the colors of their skeleton; lines, discs and boxes."""

from __future__ import annotations  # so that help() shows the names of types, not their contents

import colorsys
import math
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from hrpose.covariance import ellipses_around, without_absent
from hrpose.errors import UserError
from hrpose.image import ImageSource
from hrpose.poses import MIN_SCORE, THRESHOLD, Poses
from hrpose.skeleton import Color, Skeleton
from hrpose.viz.grids import INK, PAPER, enlarged, grid, overlay, pale, write_labels
from hrpose.viz.hiding import hide as hide_persons

# After Okabe and Ito: distinct to most color-blind people, and bright on photos. RGB.
LEFT, RIGHT, MIDDLE = (0, 158, 255), (255, 140, 0), (90, 220, 120)
# Thumb to little finger, and what has no side or finger: faces and the roots of hands.
FINGERS = (RIGHT, (255, 110, 200), LEFT, (240, 70, 70), MIDDLE)
PLAIN = (235, 235, 235)

# What colors tell apart: the sides of a person, or the persons.
COLORS = ("side", "person")
# Keypoints and poses are drawn opaque from these scores on; the least sure ones have the opacity.
_SURE_KEYPOINT, _SURE_POSE = 0.6, 0.45
_FAINT_KEYPOINT, _FAINT_POSE = 0.4, 0.65
# The size of a hand, and of a face, in widths of its lines; and what is finer by a fixed part.
_FINENESS = (45, 100)
_OF_BODY: dict[str | None, float] = {"foot": 0.65, "head": 0.5}
_HEAD = ("nose", "eye", "ear")
# The hues of persons are this part of a circle apart.
_GOLDEN = 0.618034

# (x, y); further values, such as a score, are ignored.
Point = Sequence[float] | NDArray[np.floating[Any]]

# Shapes are placed to 1/16 of a pixel: whole pixels make thin limbs jump between frames.
_SHIFT = 4
_UNIT = 2**_SHIFT
# OpenCV draws anti-aliased polygons this much wider than their corners (measured).
_EXTRA = 1.45
# Beyond this, OpenCV's fixed-point numbers would overflow.
_FAR = 1e5


def keypoint_colors(skeleton: Skeleton) -> list[Color]:
    """One RGB color per keypoint: the skeleton's own, or that of its side.

    The first keypoint of a flip pair is the left one. Beside a body, fingers have a color each, and
    the face is white. A skeleton without colors and flip pairs gets a hue for each keypoint.
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
    for index, part in enumerate(details(skeleton)):
        if part not in (None, *_OF_BODY):
            finger = skeleton.fingers[index]
            colors[index] = PLAIN if finger is None else FINGERS[finger]
    return colors


def limb_colors(skeleton: Skeleton) -> list[Color]:
    """One RGB color per limb: that of its end, or of its side; green between left and right."""
    colors = keypoint_colors(skeleton)
    if skeleton.colors or not skeleton.flip_pairs:
        return [colors[end] for _, end in skeleton.limbs]
    colored: list[Color] = []
    for start, end in skeleton.limbs:
        sides = {colors[start], colors[end]} - {MIDDLE}
        between = sides.pop() if len(sides) == 1 else MIDDLE
        colored.append(colors[end] if colors[start] == PLAIN else between)  # a finger's first limb
    return colored


def details(skeleton: Skeleton) -> tuple[str | None, ...]:
    """(k,) what is drawn finer than the body: foot, face, hand, left_hand, right_hand; or head, the
    body's nose, eyes and ears where there is a face. None for others, and without a body.
    """
    if len(skeleton.body) == len(skeleton) and "foot" not in skeleton.parts:
        return (None,) * len(skeleton)
    head = "head" if "face" in skeleton.parts else None
    return tuple(
        part if part != "body" else head if name.rpartition("_")[2] in _HEAD else None
        for name, part in zip(skeleton.keypoints, skeleton.parts, strict=True)
    )


def person_size(poses: Poses, person: int, threshold: float) -> float:
    """The extent of the shown keypoints in pixels; half the box for fewer than two."""
    keypoints = poses.keypoints[person]
    shown = keypoints[keypoints[:, 2] >= threshold, :2]
    if len(shown) < 2:
        return float(poses.boxes[person, 2:].max()) / 2
    return float(np.ptp(shown, axis=0).max())


def draw(
    image: NDArray[np.uint8],
    poses: Poses | Mapping[str, Any],
    threshold: float = THRESHOLD,
    boxes: bool = False,
    *,
    ids: bool = False,
    scores: bool = False,
    names: bool = False,
    ellipses: bool = False,
    present: bool = False,
    color: str = "side",
    hide: str | None = None,
) -> NDArray[np.uint8]:
    """A copy of an (h, w, 3) uint8 RGB image with the skeletons of `poses` on it.

    Torchvision's form is accepted too: a tensor (3, h, w), and the target of Keypoint R-CNN, see
    `Poses.from_target`.

    With the `color` "side" the person's left limbs are blue, the right ones orange, the others
    green; with "person" each person has a color, which stays the same in a clip. Keypoints with a
    score below `threshold`, in [0, 1], are left out, and so are limbs that end in one; the less
    sure ones are faint, and so are poses with a low score. `boxes` draws the persons' boxes, `ids`
    their track ids (without tracks, their index in `poses`), `scores` the scores of the poses,
    `names` the names of the keypoints, `ellipses` where they are with 95 % probability, which needs
    poses with a covariance. With `present`, keypoints that are rather absent than visible or hidden
    are left out, by `Poses.presence`. `hide` fills faces, heads or bodies with gray before, see
    `hrpose.viz.hide`. Line widths grow with the person; small persons are drawn over large ones.
    """
    if color not in COLORS:
        raise UserError(
            f"color: expected one of {', '.join(COLORS)}, found '{color}'", code="option-invalid"
        )
    if not isinstance(poses, Poses):
        poses = Poses.from_target(poses)
    image = image if isinstance(image, np.ndarray) else ImageSource.of(image).pixels()
    canvas = np.array(image, order="C") if hide is None else hide_persons(image, poses, hide)
    if present:
        poses = without_absent(poses)
    order = sorted(range(len(poses)), key=lambda person: -person_size(poses, person, threshold))
    for person in order:
        width = line_width(person_size(poses, person, threshold))
        if boxes:
            box(canvas, poses.boxes[person], width * 0.6 + 1.6, INK)
            box(canvas, poses.boxes[person], max(width * 0.6, 1), PAPER)
        own = _person_color(poses, person) if color == "person" else None
        if ellipses:
            _draw_ellipses(canvas, poses, person, threshold, own)
        _draw_skeleton(canvas, poses, person, width, threshold, own)
    if ids or scores or names:
        persons = {person: person_size(poses, person, threshold) for person in order}
        colors, parts = keypoint_colors(poses.skeleton), details(poses.skeleton)
        minor = {index for index, part in enumerate(parts) if part not in (None, *_OF_BODY)}
        write_labels(
            canvas, poses, persons, colors, minor, threshold, ids=ids, scores=scores, names=names
        )
    return canvas


def line_width(size: float) -> float:
    """Pixels for a person of `size` pixels: a seventieth, from 1.8 to 14."""
    return float(np.clip(size / 70, 1.8, 14))


def _number(poses: Poses, person: int) -> int:
    """The track id of a person, or the index."""
    return person if poses.track_ids is None else int(poses.track_ids[person])


def _person_color(poses: Poses, person: int) -> Color:
    hue = (0.56 + _GOLDEN * _number(poses, person)) % 1
    r, g, b = (round(value * 255) for value in colorsys.hsv_to_rgb(hue, 0.75, 1.0))
    return r, g, b


def _opacities(poses: Poses, person: int) -> NDArray[np.float64]:
    """(k,) the opacity of each keypoint, by its score and that of the pose."""
    of_keypoints = np.interp(
        poses.keypoints[person, :, 2], [THRESHOLD, _SURE_KEYPOINT], [_FAINT_KEYPOINT, 1]
    )
    of_pose = np.interp(poses.scores[person], [MIN_SCORE, _SURE_POSE], [_FAINT_POSE, 1])
    result: NDArray[np.float64] = of_keypoints * of_pose
    return result


def _draw_skeleton(
    canvas: NDArray[np.uint8],
    poses: Poses,
    person: int,
    width: float,
    threshold: float,
    own: Color | None,
) -> None:
    """All rims first, then the colors, or the person's `own`: no rim crosses a neighboring limb."""
    # Lists of numbers: many small shapes are drawn faster without arrays.
    keypoints = poses.keypoints[person].tolist()
    present = (poses.keypoints[person, :, 2] >= threshold).tolist()
    opacity = _opacities(poses, person).tolist()
    widths, radii, rims = _sizes(poses, person, width, threshold)
    limbs = [
        (start, end, own or color, min(opacity[start], opacity[end]))
        for (start, end), color in zip(
            poses.skeleton.limbs, limb_colors(poses.skeleton), strict=True
        )
        if present[start] and present[end]
    ]
    dots = [
        (index, own or color, opacity[index])
        for index, color in enumerate(keypoint_colors(poses.skeleton))
        if present[index]
    ]
    # Rims are fainter than colors, which they would darken.
    for start, end, _, alpha in limbs:
        line(canvas, keypoints[start], keypoints[end], widths[end] + 2 * rims[end], INK, alpha**2)
    for index, _, alpha in dots:
        disc(canvas, keypoints[index], radii[index] + rims[index], INK, alpha**2)
    for start, end, color, alpha in limbs:
        line(canvas, keypoints[start], keypoints[end], widths[end], color, alpha)
    for index, color, alpha in dots:
        if alpha >= 1:
            disc(canvas, keypoints[index], radii[index] + rims[index] * 0.5, INK)
        disc(canvas, keypoints[index], radii[index], color, alpha)


def _sizes(poses: Poses, person: int, width: float, threshold: float) -> list[list[float]]:
    """(3, k) the line width at each keypoint, the radius of its disc, and the width of its rim.

    `width` is that of the person; faces and hands have widths by their own size.
    """
    parts, keypoints = details(poses.skeleton), poses.keypoints[person]
    bodies = (width * _OF_BODY.get(part, 1) for part in parts)
    sizes = [(own, own * 0.85 + 0.6, 0.5 + own * 0.14) for own in bodies]
    for part in {*parts} - _OF_BODY.keys() - {None}:
        own = [index for index, other in enumerate(parts) if other == part]
        shown = keypoints[own][keypoints[own, 2] >= threshold, :2]
        size = np.ptp(shown, axis=0).max().item() if len(shown) else 0.0
        fine = min(width, max(size / _FINENESS[part == "face"], 1))
        # In a small hand or face, discs and rims would cover the lines.
        small = (fine, min(fine * 0.7 + 0.6, size / 40), min(fine * 0.14 + 0.3, size / 100))
        sizes = [small if other == part else own for own, other in zip(sizes, parts, strict=True)]
    return [list(values) for values in zip(*sizes, strict=True)]


def _draw_ellipses(
    canvas: NDArray[np.uint8], poses: Poses, person: int, threshold: float, own: Color | None
) -> None:
    """The 95 % ellipse of each shown keypoint, a thin line over a darker one."""
    colors = keypoint_colors(poses.skeleton)
    corners = ellipses_around(poses)[person]
    for index in np.flatnonzero(poses.keypoints[person, :, 2] >= threshold).tolist():
        fixed = np.round(np.clip(corners[index], -_FAR, _FAR) * _UNIT).astype(np.int32)
        for width, shade in ((3, INK), (1, pale(own or colors[index]))):
            cv2.polylines(canvas, [fixed], True, shade, width, cv2.LINE_AA, _SHIFT)


def heatmap_sheet(
    crop: NDArray[np.uint8],
    heatmaps: NDArray[np.floating],
    skeleton: Skeleton,
    points: ArrayLike | None = None,
    strides: tuple[float, float] = (4, 4),
    scale: int = 2,
    columns: int = 6,
) -> NDArray[np.uint8]:
    """A grid with one tile per keypoint: its heatmap over the crop, its name and its peak value.

    `crop` (H, W, 3) uint8 RGB, `heatmaps` (k, h, w). `points` (k, 2), keypoints in pixels of the
    crop, are marked if given. `strides` and `scale` are those of `overlay`.
    """
    tiles = [overlay(crop, heatmap, strides, scale) for heatmap in heatmaps]
    if points is not None:
        for tile, point, color in zip(
            tiles, enlarged(points, scale), keypoint_colors(skeleton), strict=True
        ):
            radius = max(5.0, tile.shape[0] / 40)
            ring(tile, point, radius, 4, INK)
            ring(tile, point, radius, 2, color)
    labels = [
        f"{name.replace('_', ' ')}  {float(heatmap.max()):.2f}"
        for name, heatmap in zip(skeleton.keypoints, heatmaps, strict=True)
    ]
    return grid(tiles, labels, columns)


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
        polygon(canvas, corners, color)
        return
    part, (left, top) = _part(canvas, corners, 2.0)
    if part.size:
        layer = part.copy()
        polygon(layer, [(px - left, py - top) for px, py in corners], color)
        cv2.addWeighted(layer, opacity, part, 1 - opacity, 0, dst=part)


def disc(
    canvas: NDArray[np.uint8], center: Point, radius: float, color: Color, opacity: float = 1.0
) -> None:
    """A filled circle around (x, y)."""
    x, y = _point(center)
    part, left, top = canvas, 0, 0
    if opacity < 1:
        part, (left, top) = _part(canvas, ((x, y),), radius + 2)
        if not part.size:
            return
    layer = part if opacity >= 1 else part.copy()
    at = (round((x - left) * _UNIT), round((y - top) * _UNIT))
    cv2.circle(layer, at, round(radius * _UNIT), color, -1, cv2.LINE_AA, _SHIFT)
    if opacity < 1:
        cv2.addWeighted(layer, opacity, part, 1 - opacity, 0, dst=part)


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


def polygon(
    canvas: NDArray[np.uint8], corners: Sequence[tuple[float, float]], color: Color
) -> None:
    """A filled convex polygon."""
    fixed = np.array([(round(x * _UNIT), round(y * _UNIT)) for x, y in corners], np.int32)
    cv2.fillConvexPoly(canvas, fixed, color, cv2.LINE_AA, _SHIFT)


def _part(
    canvas: NDArray[np.uint8], points: Sequence[tuple[float, float]], margin: float
) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """The part of the canvas around points, as a view, and its left upper corner (x, y)."""
    height, width = canvas.shape[:2]
    xs, ys = zip(*points, strict=True)
    left, right = _ends(min(xs) - margin, max(xs) + margin, width)
    top, bottom = _ends(min(ys) - margin, max(ys) + margin, height)
    return canvas[top:bottom, left:right], (left, top)


def _ends(low: float, high: float, length: int) -> tuple[int, int]:
    return min(max(math.floor(low), 0), length), min(max(math.ceil(high) + 1, 0), length)


def _point(value: Point) -> tuple[float, float]:
    x, y = float(value[0]), float(value[1])
    if -_FAR <= x <= _FAR and -_FAR <= y <= _FAR:  # nearly all
        return x, y
    return min(max(x, -_FAR), _FAR), min(max(y, -_FAR), _FAR)
