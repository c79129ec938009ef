"""Drawing figures: their kinds, placing them in an image, painting their parts, backgrounds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from hrpose.skeleton import Skeleton

Floats = NDArray[np.float64]
# By name: (3,) in body heights; in an image (4,): x, y in pixels, z, and pixels per body height.
Keypoints = dict[str, Floats]

Pixels = NDArray[np.uint8]
Window = tuple[slice, slice]

SIDES = {"left": 1.0, "right": -1.0}
# The camera's distance in body heights: near hands are slightly larger.
_CAMERA = 4.0
_ANGLES = np.linspace(0, 2 * np.pi, 20, endpoint=False)
_CIRCLE = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1)
# OpenCV draws to a sixteenth of a pixel where points are integers with 4 fractional bits.
_SUBPIXEL_BITS = 4


class BodyPart(NamedTuple):
    """The convex hull of circles around keypoints, in one paint."""

    paint: str
    keypoints: tuple[str, ...]
    radii: tuple[float, ...]  # in body heights
    lift: float  # toward the viewer, where parts of the same depth touch
    figure: int = 0


class Paint(NamedTuple):
    """A color (3,), and for cloth a tint (3,) that a pattern (h, w) in [-1, 1] adds to it.

    All sums are in [0, 255].
    """

    color: Floats
    pattern: NDArray[np.float32] | None = None
    tint: Floats | None = None

    def within(self, window: Window) -> NDArray[np.float32]:
        """(h, w, 3), or (3,) for a plain paint."""
        color = self.color.astype(np.float32)
        if self.pattern is None or self.tint is None:
            return color
        return color + self.pattern[window][..., None] * self.tint.astype(np.float32)


@dataclass(frozen=True, slots=True)
class Figure:
    """A kind of figure.

    `pose` draws keypoints (3,) in body heights by name: the skeleton's, and others for drawing.
    `parts` are the body's parts between them, `wardrobe` their paints by name, which differ from
    the image's colors. `extent` is the largest width and height of a figure, in body heights.
    """

    plural: str
    skeleton: Skeleton
    pose: Callable[[np.random.Generator], Keypoints]
    parts: Callable[[np.random.Generator], list[BodyPart]]
    wardrobe: Callable[[np.random.Generator, Pixels], dict[str, Paint]]
    extent: tuple[float, float]

    def dress(self, rng: np.random.Generator, keypoints: Keypoints, number: int) -> list[BodyPart]:
        """The parts of one figure, the farthest first, each with the figure's `number`."""

        def nearness(part: BodyPart) -> float:
            return part.lift + float(np.mean([keypoints[name][2] for name in part.keypoints]))

        return [part._replace(figure=number) for part in sorted(self.parts(rng), key=nearness)]


def direction(outward: float, forward: float) -> Floats:
    """The unit vector straight down, turned sideways and then forwards by angles in radians."""
    cos = np.cos(outward)
    return np.array([np.sin(outward), cos * np.cos(forward), cos * np.sin(forward)])


def rotation(axis: int, angle: float) -> Floats:
    """(3, 3): a turn by `angle` radians in the plane of the two other axes."""
    a, b = (i for i in range(3) if i != axis)
    matrix = np.eye(3)
    matrix[[a, b], [a, b]] = np.cos(angle)
    matrix[[a, b], [b, a]] = -np.sin(angle), np.sin(angle)
    return matrix


def place(
    rng: np.random.Generator,
    keypoints: Keypoints,
    size_wh: tuple[int, int],
    across: float,
    count: int,
    extent: tuple[float, float],
) -> Keypoints:
    """Place keypoints in an image: (4,) as (x, y, toward the viewer, pixels per body height).

    `across` is the horizontal position relative to the image's width, `count` the number of
    figures, `extent` the largest width and height of a figure, in body heights.
    """
    size = np.array(size_wh, np.float64)
    height = min(size[1] / extent[1], size[0] / extent[0] / count) * rng.uniform(0.6, 1.0)
    points = np.stack(list(keypoints.values()))
    scale = height * _CAMERA / (_CAMERA - points[:, 2:])
    points = np.concatenate([points[:, :2] * scale, points[:, 2:], scale], axis=1)
    middle = (points[:, :2].min(0) + points[:, :2].max(0)) / 2
    target = (across, 0.5) + rng.uniform(-1, 1, 2) * (0.3 / count, 0.08)
    points[:, :2] += target * size - middle
    return dict(zip(keypoints, points, strict=True))


def color_unlike(rng: np.random.Generator, others: Sequence[Floats]) -> Floats:
    """The one of eight random colors that is farthest from the nearest of `others`."""
    colors = rng.uniform(45, 210, (8, 3))
    distances = np.linalg.norm(colors[:, None] - np.stack(others), axis=-1).min(1)
    color: Floats = colors[distances.argmax()]
    return color


def cloth(rng: np.random.Generator, shape: tuple[int, ...], color: Floats) -> Paint:
    """Plain, striped, checked or mottled cloth for an image of this shape."""
    kind, angle, wavelength = rng.integers(4), rng.uniform(0, np.pi), rng.uniform(5, 16)
    tint = rng.uniform(-45, 45, 3)
    if kind == 0:
        return Paint(color)
    if kind == 1:
        return Paint(color, _blotches(rng, shape, int(wavelength)), tint)
    cos, sin = (np.float32(f(angle) * 2 * np.pi / wavelength) for f in (np.cos, np.sin))
    y, x = (np.arange(length, dtype=np.float32) for length in shape[:2])
    stripes = np.sin(cos * x + sin * y[:, None])
    if kind == 2:
        return Paint(color, stripes, tint)
    return Paint(color, np.sign(stripes * np.sin(cos * y[:, None] - sin * x)), tint)


def _blotches(rng: np.random.Generator, shape: tuple[int, ...], period: int) -> NDArray[np.float32]:
    """(h, w) smooth noise in [-1, 1] with grains about `period` pixels wide."""
    grid = rng.uniform(-1, 1, (shape[0] // period + 2, shape[1] // period + 2))
    noise = cv2.resize(grid.astype(np.float32), shape[1::-1], interpolation=cv2.INTER_LINEAR)
    return noise  # type: ignore[return-value]


def paint(
    image: Pixels, keypoints: Keypoints, part: BodyPart, color: Paint, light: Floats
) -> tuple[Window, NDArray[np.bool_]]:
    """Paint one part over `image`, with a darker rim; return its window and its mask there.

    `light` (2,) shifts the bright inner area, in radii.
    """
    ends = np.stack([keypoints[name] for name in part.keypoints])
    radii = np.array(part.radii)[:, None] * ends[:, 3:]
    outline = _hull(ends[:, :2], radii)
    corners = np.stack([outline.min(0) - 1, outline.max(0) + 2]).astype(int)
    (left, top), (right, bottom) = corners.clip(0, (image.shape[1], image.shape[0]))
    window = slice(top, bottom), slice(left, right)
    view = image[window]
    inner = _hull(ends[:, :2] + light * radii, 0.72 * radii)
    if not view.size:
        return window, np.zeros(view.shape[:2], np.bool_)
    whole, bright = (_coverage(view.shape[:2], shape - (left, top)) for shape in (outline, inner))
    painted = color.within(window) * (0.68 + 0.32 * bright)
    view[:] = (view + (painted - view) * whole + 0.5).astype(np.uint8)
    return window, whole[..., 0] >= 0.5


def _hull(centers: Floats, radii: Floats) -> Floats:
    """The convex polygon (m, 2) around circles with `centers` (n, 2) and `radii` (n, 1)."""
    points = centers[:, None] + _CIRCLE * radii[..., None]
    hull: Floats = cv2.convexHull(points.reshape(-1, 2).astype(np.float32))[:, 0].astype(np.float64)
    return hull


def _coverage(shape: tuple[int, ...], polygon: Floats) -> NDArray[np.float32]:
    """(h, w, 1): how much of each pixel is in the polygon, 0 to 1."""
    mask = np.zeros(shape, np.uint8)
    points = np.round(polygon * (1 << _SUBPIXEL_BITS)).astype(np.int32)
    cv2.fillConvexPoly(mask, points, 255, cv2.LINE_AA, _SUBPIXEL_BITS)
    return mask[..., None] * np.float32(1 / 255)


def background(rng: np.random.Generator, size_wh: tuple[int, int]) -> Pixels:
    """(h, w, 3): a gradient with blotches, and boxes, discs and lines on it."""
    width, height = size_wh
    corners = rng.uniform(20, 235, (2, 2, 3)) * 0.5 + rng.uniform(20, 235, 3) * 0.5
    smooth = cv2.resize(corners.astype(np.float32), size_wh, interpolation=cv2.INTER_LINEAR)
    blotches = _blotches(rng, (height, width), int(rng.integers(4, 40)))
    image: Pixels = np.clip(smooth + 20 * blotches[..., None], 0, 255).astype(np.uint8)
    middle = np.array(cv2.mean(image)[:3])
    for _ in range(rng.integers(3, 12)):
        color = (0.5 * rng.uniform(0, 255, 3) + 0.5 * middle).tolist()
        (x, y), (w, h) = rng.integers(0, size_wh), rng.integers(4, [width // 3, height // 2])
        kind = rng.integers(3)
        if kind == 0:
            cv2.rectangle(image, (int(x), int(y), int(w), int(h)), color, -1)
        elif kind == 1:
            turn = float(rng.uniform(0, 180))
            box = ((float(x), float(y)), (float(w), float(h)), turn)
            cv2.ellipse(image, box, color, -1, cv2.LINE_AA)
        else:
            end, thickness = rng.integers(0, size_wh), int(rng.integers(1, 12))
            cv2.line(image, (int(x), int(y)), end.tolist(), color, thickness, cv2.LINE_AA)
    return image
