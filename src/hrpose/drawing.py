"""Drawing poses on pictures."""

import colorsys

import cv2
import numpy as np
from numpy.typing import NDArray

from hrpose.poses import Poses
from hrpose.skeleton import Skeleton

# Okabe and Ito's colours, told apart by most colour-blind people. RGB.
LEFT, RIGHT, MIDDLE = (0, 158, 255), (255, 140, 0), (90, 220, 120)

# Points are drawn at 1/16 of a pixel: whole pixels make thin limbs jump.
_SHIFT = 4


def draw(
    image: NDArray[np.uint8], poses: Poses, threshold: float = 0.3, boxes: bool = False
) -> NDArray[np.uint8]:
    """A copy of an (h, w, 3) uint8 RGB image with the skeletons of `poses` on it.

    Left limbs are blue, right ones orange (the person's left and right), the others green.
    Keypoints with a score below `threshold` are left out, and so are limbs that end in one.
    `boxes` draws the people's boxes too.
    """
    canvas = np.ascontiguousarray(image).copy()
    colours = keypoint_colours(poses.skeleton)
    for person in range(len(poses)):
        keypoints = poses.keypoints[person]
        width = _line_width(keypoints, poses.boxes[person], threshold)
        if boxes:
            _draw_box(canvas, poses.boxes[person], width)
        _draw_limbs(canvas, keypoints, poses.skeleton, colours, width, threshold)
        _draw_keypoints(canvas, keypoints, colours, width, threshold)
    return canvas


def keypoint_colours(skeleton: Skeleton) -> list[tuple[int, int, int]]:
    """One RGB colour per keypoint, by its side: the pairs' first keypoint is the left one."""
    colours = [MIDDLE] * len(skeleton)
    for left, right in skeleton.flip_pairs:
        colours[left], colours[right] = LEFT, RIGHT
    if not skeleton.flip_pairs:
        hues = np.linspace(0, 1, len(skeleton), endpoint=False)
        rgb = [colorsys.hsv_to_rgb(float(hue), 0.8, 1.0) for hue in hues]
        colours = [(round(r * 255), round(g * 255), round(b * 255)) for r, g, b in rgb]
    return colours


def _line_width(
    keypoints: NDArray[np.float32], box: NDArray[np.float32], threshold: float
) -> float:
    """A sixtieth of the person's size, between 1 and 12 pixels."""
    shown = keypoints[keypoints[:, 2] >= threshold, :2]
    size = float(np.ptp(shown, axis=0).max()) if len(shown) > 1 else float(box[2:].max()) / 2
    return float(np.clip(size / 60, 1, 12))


def _draw_limbs(
    canvas: NDArray[np.uint8],
    keypoints: NDArray[np.float32],
    skeleton: Skeleton,
    colours: list[tuple[int, int, int]],
    width: float,
    threshold: float,
) -> None:
    for start, end in skeleton.limbs:
        if min(keypoints[start, 2], keypoints[end, 2]) < threshold:
            continue
        # A limb belongs to a side where both of its ends do.
        colour = colours[start] if colours[start] == colours[end] else MIDDLE
        ends = _fixed(keypoints[start]), _fixed(keypoints[end])
        # A dark rim keeps a limb visible on any background.
        cv2.line(canvas, *ends, (20, 20, 20), round(width + 2), cv2.LINE_AA, _SHIFT)
        cv2.line(canvas, *ends, colour, max(1, round(width)), cv2.LINE_AA, _SHIFT)


def _draw_keypoints(
    canvas: NDArray[np.uint8],
    keypoints: NDArray[np.float32],
    colours: list[tuple[int, int, int]],
    width: float,
    threshold: float,
) -> None:
    for keypoint, colour in zip(keypoints, colours, strict=True):
        if keypoint[2] < threshold:
            continue
        for radius, fill in ((width + 1.5, (20, 20, 20)), (width + 0.5, colour)):
            scaled = round(radius * 2**_SHIFT)
            cv2.circle(canvas, _fixed(keypoint), scaled, fill, -1, cv2.LINE_AA, _SHIFT)


def _draw_box(canvas: NDArray[np.uint8], box: NDArray[np.float32], width: float) -> None:
    start, end = _fixed(box[:2]), _fixed(box[:2] + box[2:])
    cv2.rectangle(
        canvas, start, end, (255, 255, 255), max(1, round(width / 2)), cv2.LINE_AA, _SHIFT
    )


def _fixed(point: NDArray[np.float32]) -> tuple[int, int]:
    # Far outside the picture OpenCV's fixed-point numbers would overflow.
    x, y = (round(float(v) * 2**_SHIFT) for v in np.clip(point[:2], -1e5, 1e5))
    return x, y
