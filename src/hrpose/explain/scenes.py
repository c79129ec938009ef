"""Pictures of the photo: the box, the crop around it, the finished pose."""

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from hrpose.drawing import LEFT, MIDDLE, RIGHT, draw, shapes, text
from hrpose.drawing.palette import INK, PAPER
from hrpose.drawing.sheet import GROUND
from hrpose.explain.trace import Trace
from hrpose.geometry import Crop, transform
from hrpose.poses import Poses
from hrpose.skeleton import Colour

# The long side of what is shown, in pixels.
LONG_SIDE = 840


def _shown(image: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], float]:
    """The photo at the size of the page, and the factor that brought it there."""
    factor = LONG_SIDE / max(image.shape[:2])
    return _resized(image, factor), factor


def _resized(image: NDArray[np.uint8], factor: float) -> NDArray[np.uint8]:
    size = (max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor)))
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    return np.array(cv2.resize(image, size, interpolation=how), np.uint8)


def box_on_photo(trace: Trace) -> NDArray[np.uint8]:
    """The photo with the person's box."""
    canvas, factor = _shown(trace.image)
    shapes.box(canvas, trace.box * factor, 6, INK)
    shapes.box(canvas, trace.box * factor, 3, PAPER)
    return canvas


def crop_on_photo(trace: Trace) -> NDArray[np.uint8]:
    """The box, the box at the input's shape and the padded crop, on the photo and beyond it."""
    height, width = trace.image.shape[:2]
    outer = _corners(trace.crop)
    corners = np.concatenate([outer, [[0, 0], [width, height]]])
    low, high = corners.min(axis=0), corners.max(axis=0)
    margin = (high - low).max() * 0.04
    low, high = low - margin, high + margin
    factor = LONG_SIDE / (high - low).max()
    size = tuple(int(value) for value in np.ceil((high - low) * factor))
    to_canvas = np.array([[factor, 0, -low[0] * factor], [0, factor, -low[1] * factor]])
    # The photo on plain ground: what lies outside of it is black to the network.
    canvas = np.full((size[1], size[0], 3), GROUND, np.uint8)
    photo, placed_photo = trace.image, to_canvas
    if factor < 1:
        # The warp takes single pixels and would miss what lies between.
        photo = _resized(trace.image, factor)
        sx, sy = width / photo.shape[1], height / photo.shape[0]
        placed_photo = to_canvas @ [[sx, 0, (sx - 1) / 2], [0, sy, (sy - 1) / 2], [0, 0, 1]]
    cv2.warpAffine(photo, placed_photo, size, dst=canvas, borderMode=cv2.BORDER_TRANSPARENT)
    padding = trace.passport.padding
    x, y, w, h = trace.box
    rectangles: tuple[tuple[NDArray[np.float64], Colour], ...] = (
        (_rectangle((x + w / 2, y + h / 2), (w, h)), PAPER),
        (_rectangle(trace.crop.center, np.array(trace.crop.size) / padding), LEFT),
        (outer, RIGHT),
    )
    for corner_points, colour in rectangles:
        placed = transform(corner_points, to_canvas)
        shapes.outline(canvas, list(placed), 5, INK)
        if colour is LEFT:
            for start, end in zip(placed, np.roll(placed, -1, axis=0), strict=True):
                shapes.dashed(canvas, start, end, 2.5, colour, 9)
        else:
            shapes.outline(canvas, list(placed), 2.5, colour)
    return canvas


def _rectangle(center: ArrayLike, size: ArrayLike) -> NDArray[np.float64]:
    """(4, 2): the corners, clockwise from the top left."""
    signs = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    corners: NDArray[np.float64] = np.asarray(center) + signs * np.asarray(size) / 2
    return corners


def _corners(crop: Crop) -> NDArray[np.float64]:
    return _rectangle(crop.center, crop.size)


def _around_person(trace: Trace) -> tuple[NDArray[np.uint8], NDArray[np.float64], float]:
    """The part of the photo that the crop shows, its first pixel (x, y), and its enlargement."""
    height, width = trace.image.shape[:2]
    low, high = _corners(trace.crop)[[0, 2]]
    left, top = np.floor(np.clip(low, 0, [width - 1, height - 1])).astype(int)
    right, bottom = np.ceil(np.clip(high, [left + 1, top + 1], [width, height])).astype(int)
    canvas, factor = _shown(trace.image[top:bottom, left:right])
    return canvas, np.array([left, top], np.float64), factor


def _enlarged(points: NDArray[np.float64], factor: float) -> NDArray[np.float64]:
    """Where points lie in a resized picture: it is the edges of pixels that are multiplied."""
    return points * factor + (factor - 1) / 2


def pose_on_photo(trace: Trace, threshold: float) -> NDArray[np.uint8]:
    """The finished skeleton, with its joints' names."""
    canvas, corner, factor = _around_person(trace)
    poses = trace.poses
    keypoints = poses.keypoints.copy()
    keypoints[..., :2] = _enlarged(keypoints[..., :2] - corner, factor)
    boxes = (poses.boxes - [*corner, 0, 0]) * factor
    larger = Poses(keypoints, boxes.astype(np.float32), poses.scores, poses.skeleton)
    return draw(canvas, larger, threshold, names=True)


def point_on_photo(trace: Trace) -> NDArray[np.uint8]:
    """The joint on the photo, with its coordinates."""
    canvas, corner, factor = _around_person(trace)
    place = trace.poses.keypoints[0, trace.joint, :2]
    return pointed(canvas, _enlarged(place - corner, factor), f"({place[0]:.1f}, {place[1]:.1f})")


def pointed(canvas: NDArray[np.uint8], at: ArrayLike, label: str) -> NDArray[np.uint8]:
    """A mark and a label in a picture, which is changed."""
    x, y = (float(value) for value in np.asarray(at))
    radius = max(5.0, min(canvas.shape[:2]) / 60)
    shapes.disc(canvas, (x, y), radius + 2, INK)
    shapes.disc(canvas, (x, y), radius, MIDDLE)
    size = max(12, round(min(canvas.shape[:2]) / 22))
    width, height = text.chip_extent(label, size)
    right = x + radius * 1.6
    left = right if right + width <= canvas.shape[1] else x - radius * 1.6 - width
    text.chip(canvas, (left, y - height / 2), label, size)
    return canvas
