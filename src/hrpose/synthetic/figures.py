"""Figures: persons with COCO's 17 keypoints, animals with 9, in random poses; painting them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from hrpose.skeleton import Skeleton
from hrpose.skeletons import COCO_17

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


# How often a person faces the camera.
_FRONT_SHARE = 0.85
_TRUNK = ("left_shoulder", "right_shoulder", "left_hip", "right_hip")
_LEGS = ("front", "back")
_SIDED = (
    *("hip", "knee", "ankle", "toes"),
    *("shoulder", "elbow", "wrist", "fingers", "eye", "ear"),
)


def _person_pose(rng: np.random.Generator) -> Keypoints:
    """Keypoints (3,) in body heights, by name: COCO's, and the ends of hands, feet and head."""
    keypoints = {"neck": np.array([0, 0.17, 0])}
    for side, s in SIDES.items():
        arm, bend, stride, knee = np.deg2rad(rng.uniform((8, 0, -15, 0), (110, 100, 35, 45)))
        swing, spread = np.deg2rad(rng.uniform((-15, 2), (35, 20)))
        shoulder, hip = np.array([s * 0.12, 0.2, 0]), np.array([s * 0.075, 0.51, 0])
        upper = direction(s * arm, swing)
        # An elbow bends in a mixture of forward, inward and up.
        toward = np.array([-s, -1, 1]) * rng.uniform((0, 0, 0.1), (0.4, 1, 0.5))
        toward -= upper * (toward @ upper)
        lower = np.cos(bend) * upper + np.sin(bend) * toward / np.linalg.norm(toward)
        shin = direction(s * spread, stride - knee)
        forward = np.array([s * 0.3, 0.35, 1])
        keypoints[f"{side}_shoulder"] = shoulder
        keypoints[f"{side}_elbow"] = elbow = shoulder + 0.16 * upper
        keypoints[f"{side}_wrist"] = wrist = elbow + 0.15 * lower
        keypoints[f"{side}_fingers"] = wrist + 0.045 * lower
        keypoints[f"{side}_hip"] = hip
        keypoints[f"{side}_knee"] = kneecap = hip + 0.225 * direction(s * spread, stride)
        keypoints[f"{side}_ankle"] = ankle = kneecap + 0.215 * shin
        keypoints[f"{side}_toes"] = ankle + 0.06 * forward / np.linalg.norm(forward)
    yaw, pitch, roll, glance, nod = np.deg2rad(
        rng.uniform((-40, -8, -12, -15, -10), (40, 10, 12, 15, 12))
    )
    # Points of the head are relative to its center; it turns on the neck.
    head = {"crown": (0.0, -0.03, 0.0), "chin": (0.0, 0.04, 0.01)}
    head |= {"nose": (0.0, 0.018, 0.078), "mouth": (0.0, 0.048, 0.062)}
    head |= {"hair": (0.0, -0.022, -0.03)}
    for side, s in SIDES.items():
        head[f"{side}_eye"] = (s * 0.03, -0.012, 0.062)
        head[f"{side}_ear"] = (s * 0.07, 0.008, 0.005)
    turn = rotation(0, nod) @ rotation(1, glance)
    keypoints |= {name: turn @ np.array(point) + (0, 0.08, 0) for name, point in head.items()}
    if rng.random() > _FRONT_SHARE:
        yaw += np.pi
    body = rotation(2, roll) @ rotation(0, pitch) @ rotation(1, yaw)
    return {name: body @ point for name, point in keypoints.items()}


def _person_parts(rng: np.random.Generator) -> list[BodyPart]:
    sleeve, leg = rng.choice(["shirt", "skin"]), rng.choice(["trousers", "trousers", "skin"])
    build = rng.uniform(1.0, 1.35)
    parts = [
        BodyPart("shirt", _TRUNK, (0.045 * build, 0.045 * build, 0.055 * build, 0.055 * build), 0),
        BodyPart("skin", ("neck", "chin"), (0.04, 0.04), -0.02),
        BodyPart("skin", ("crown", "chin"), (0.07, 0.052), 0.03),
        BodyPart("hair", ("hair",), (0.084,), 0.03),
        BodyPart("dark", ("mouth",), (0.011,), 0.03),
        BodyPart("dark skin", ("nose",), (0.017,), 0.04),
    ]
    for side in SIDES:
        hip, knee, ankle, toes, shoulder, elbow, wrist, fingers, eye, ear = (
            f"{side}_{name}" for name in _SIDED
        )
        parts += [
            BodyPart("trousers", (hip, knee), (0.06 * build, 0.045 * build), -0.06),
            BodyPart(leg, (knee, ankle), (0.042 * build, 0.03 * build), -0.07),
            BodyPart("shoes", (ankle, toes), (0.03, 0.026), -0.06),
            BodyPart("shirt", (shoulder, elbow), (0.047 * build, 0.036 * build), 0.02),
            BodyPart(sleeve, (elbow, wrist), (0.036 * build, 0.027 * build), 0.03),
            BodyPart("skin", (wrist, fingers), (0.027, 0.024), 0.03),
            BodyPart("white", (eye,), (0.019,), 0.03),
            BodyPart("dark", (eye,), (0.01,), 0.031),
            BodyPart("dark skin", (ear,), (0.02,), 0.04),
        ]
    return parts


def _person_wardrobe(rng: np.random.Generator, image: Pixels) -> dict[str, Paint]:
    """A person's paints by name, in colors that differ from those of the image."""
    around = np.array(cv2.mean(image)[:3])
    skin = (70, 45, 30) + rng.uniform(0.15, 1) * np.array([180, 165, 155]) + rng.normal(0, 8, 3)
    shirt = color_unlike(rng, [around])
    trousers = color_unlike(rng, [around, shirt])
    return {
        "skin": Paint(skin.clip(0, 255)),
        "dark skin": Paint((skin * 0.6).clip(0, 255)),
        "hair": Paint((skin * rng.uniform(0.1, 0.4) + rng.uniform(0, 30, 3)).clip(0, 255)),
        "shoes": Paint(rng.uniform(0, 255, 3)),
        "white": Paint(np.full(3, 245.0)),
        "dark": Paint(np.array([25.0, 15.0, 15.0])),
        "shirt": cloth(rng, image.shape, shirt),
        "trousers": cloth(rng, image.shape, trousers),
    }


PERSON = Figure(
    "persons", COCO_17, _person_pose, _person_parts, _person_wardrobe, extent=(0.5, 1.0)
)


ANIMAL_9 = Skeleton(
    name="animal-9",
    keypoints=(
        "nose",
        "left_ear",
        "right_ear",
        "withers",
        "root_of_tail",
        "left_front_paw",
        "right_front_paw",
        "left_back_paw",
        "right_back_paw",
    ),
    flip_pairs=((1, 2), (5, 6), (7, 8)),
    limbs=((0, 1), (0, 2), (0, 3), (3, 4), (3, 5), (3, 6), (4, 7), (4, 8)),
    upper_body=(0, 1, 2, 3, 5, 6),
    category="animal",
)


def _animal_pose(rng: np.random.Generator) -> Keypoints:
    keypoints = {"withers": np.array([0, -0.06, 0.26]), "root_of_tail": np.array([0, -0.06, -0.3])}
    wag, droop = np.deg2rad(rng.uniform((-35, 10), (35, 70)))
    keypoints["tail_tip"] = keypoints["root_of_tail"] + 0.24 * direction(wag, -droop)
    for leg, z in zip(_LEGS, (0.24, -0.26), strict=True):
        for side, s in SIDES.items():
            swing, bend, spread = np.deg2rad(rng.uniform((-28, 0, 0), (28, 35, 8)))
            bend = -bend if leg == "front" else bend
            keypoints[f"{side}_{leg}_hip"] = hip = np.array([s * 0.08, 0.04, z])
            knee = hip + 0.2 * direction(s * spread, swing)
            keypoints[f"{side}_{leg}_knee"] = knee
            keypoints[f"{side}_{leg}_paw"] = knee + 0.19 * direction(s * spread, swing + bend)
    raised, glance, nod = np.deg2rad(rng.uniform((-25, -25, -20), (70, 25, 25)))
    neck = np.array([0, -np.sin(raised), np.cos(raised)])
    poll = keypoints["withers"] + 0.24 * neck
    # Points of the head are relative to its top, where the neck ends.
    head = {"poll": (0.0, 0.0, 0.0), "muzzle": (0.0, 0.06, 0.13), "nose": (0.0, 0.065, 0.175)}
    for side, s in SIDES.items():
        head[f"{side}_eye"] = (s * 0.045, 0.0, 0.055)
        head[f"{side}_ear_root"] = (s * 0.045, -0.03, -0.01)
        head[f"{side}_ear"] = (s * 0.075, -0.12, -0.01)
    turn = rotation(1, glance) @ rotation(0, nod)
    keypoints |= {name: poll + turn @ np.array(point) for name, point in head.items()}
    # Mostly from either side, sometimes from the front or the back.
    yaw = rng.choice([-1, 1]) * np.pi / 2 + np.deg2rad(rng.uniform(-65, 65))
    pitch, roll = np.deg2rad(rng.uniform((-5, -8), (20, 8)))
    body: Floats = rotation(2, roll) @ rotation(0, pitch) @ rotation(1, yaw)
    return {name: body @ point for name, point in keypoints.items()}


def _animal_parts(rng: np.random.Generator) -> list[BodyPart]:
    build = rng.uniform(0.85, 1.25)
    hips = tuple(f"{side}_{leg}_hip" for side in SIDES for leg in _LEGS)
    trunk = (*hips, "withers", "root_of_tail")
    parts = [
        BodyPart("coat", trunk, (*(0.075 * build,) * 4, 0.06 * build, 0.06 * build), 0),
        BodyPart("coat", ("withers", "poll"), (0.075 * build, 0.055), 0.01),
        BodyPart("coat", ("root_of_tail", "tail_tip"), (0.03, 0.014), -0.01),
        BodyPart("coat", ("poll", "muzzle"), (0.065, 0.042), 0.03),
        BodyPart("dark", ("nose",), (0.026,), 0.04),
    ]
    for side in SIDES:
        parts += [
            BodyPart("dark coat", (f"{side}_ear_root", f"{side}_ear"), (0.032, 0.014), 0.03),
            BodyPart("white", (f"{side}_eye",), (0.019,), 0.035),
            BodyPart("dark", (f"{side}_eye",), (0.011,), 0.036),
        ]
        for leg in _LEGS:
            hip, knee, paw = (f"{side}_{leg}_{name}" for name in ("hip", "knee", "paw"))
            parts += [
                BodyPart("coat", (hip, knee), (0.06 * build, 0.036), 0.01),
                BodyPart("coat", (knee, paw), (0.034, 0.026), 0.0),
                BodyPart("dark", (paw,), (0.032,), 0.01),
            ]
    return parts


def _animal_wardrobe(rng: np.random.Generator, image: Pixels) -> dict[str, Paint]:
    coat = color_unlike(rng, [np.array(cv2.mean(image)[:3])])
    return {
        "coat": cloth(rng, image.shape, coat),
        "dark coat": Paint((coat * 0.6).clip(0, 255)),
        "white": Paint(np.full(3, 240.0)),
        "dark": Paint(np.array([25.0, 18.0, 15.0])),
    }


ANIMAL = Figure(
    "animals", ANIMAL_9, _animal_pose, _animal_parts, _animal_wardrobe, extent=(1.2, 1.0)
)
