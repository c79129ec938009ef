"""A body: where the joints of a figure are, in space and then in the picture.

In the body's own frame x leads to its left, y down and z out of its chest; its height is 1. In the
picture's frame x leads right, y down, z towards the viewer. They are the same for a figure that
faces the viewer.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
# By name: (3,) in a frame; once placed (4,): x, y in pixels, z, and pixels per body height.
Joints = dict[str, Floats]

SIDES = {"left": 1.0, "right": -1.0}
_FRONT_SHARE = 0.85
# The camera's distance in body heights: near hands look larger, but not by much.
_CAMERA = 4.0


def pose(rng: np.random.Generator) -> Joints:
    """Joints (3,) in the picture's frame, by name: COCO's, and the ends of hands, feet, head."""
    joints = {"neck": np.array([0, 0.17, 0])}
    for side, s in SIDES.items():
        arm, bend, stride, knee = np.deg2rad(rng.uniform((8, 0, -15, 0), (110, 100, 35, 45)))
        swing, spread = np.deg2rad(rng.uniform((-15, 2), (35, 20)))
        shoulder, hip = np.array([s * 0.12, 0.2, 0]), np.array([s * 0.075, 0.51, 0])
        upper = _direction(s * arm, swing)
        # An elbow bends forwards, inwards or up: some mixture of these.
        towards = np.array([-s, -1, 1]) * rng.uniform((0, 0, 0.1), (0.4, 1, 0.5))
        towards -= upper * (towards @ upper)
        lower = np.cos(bend) * upper + np.sin(bend) * towards / np.linalg.norm(towards)
        shin = _direction(s * spread, stride - knee)
        ahead = np.array([s * 0.3, 0.35, 1])
        joints[f"{side}_shoulder"] = shoulder
        joints[f"{side}_elbow"] = elbow = shoulder + 0.16 * upper
        joints[f"{side}_wrist"] = wrist = elbow + 0.15 * lower
        joints[f"{side}_fingers"] = wrist + 0.045 * lower
        joints[f"{side}_hip"] = hip
        joints[f"{side}_knee"] = kneecap = hip + 0.225 * _direction(s * spread, stride)
        joints[f"{side}_ankle"] = ankle = kneecap + 0.215 * shin
        joints[f"{side}_toes"] = ankle + 0.06 * ahead / np.linalg.norm(ahead)
    yaw, pitch, roll, glance, nod = np.deg2rad(
        rng.uniform((-40, -8, -12, -15, -10), (40, 10, 12, 15, 12))
    )
    # The head turns on the neck; its points are given from its centre.
    head = {"crown": (0.0, -0.03, 0.0), "chin": (0.0, 0.04, 0.01)}
    head |= {"nose": (0.0, 0.018, 0.078), "mouth": (0.0, 0.048, 0.062)}
    head |= {"hair": (0.0, -0.022, -0.03)}
    for side, s in SIDES.items():
        head[f"{side}_eye"] = (s * 0.03, -0.012, 0.062)
        head[f"{side}_ear"] = (s * 0.07, 0.008, 0.005)
    turn = _rotation(0, nod) @ _rotation(1, glance)
    joints |= {name: turn @ np.array(point) + (0, 0.08, 0) for name, point in head.items()}
    if rng.random() > _FRONT_SHARE:
        yaw += np.pi
    whole = _rotation(2, roll) @ _rotation(0, pitch) @ _rotation(1, yaw)
    return {name: whole @ point for name, point in joints.items()}


def _direction(outward: float, forward: float) -> Floats:
    """The unit vector straight down, turned sideways and then forwards by angles in radians."""
    cos = np.cos(outward)
    return np.array([np.sin(outward), cos * np.cos(forward), cos * np.sin(forward)])


def _rotation(axis: int, angle: float) -> Floats:
    """(3, 3): a turn by `angle` radians in the plane of the two other axes."""
    a, b = (i for i in range(3) if i != axis)
    matrix = np.eye(3)
    matrix[[a, b], [a, b]] = np.cos(angle)
    matrix[[a, b], [b, a]] = -np.sin(angle), np.sin(angle)
    return matrix


def place(
    rng: np.random.Generator,
    joints: Joints,
    size_wh: tuple[int, int],
    across: float,
    count: int,
) -> Joints:
    """Bring joints to pixels: (4,) as (x, y, towards the viewer, pixels per body height)."""
    size = np.array(size_wh, np.float64)
    height = min(size[1], 2 * size[0] / count) * rng.uniform(0.6, 1.0)
    points = np.stack(list(joints.values()))
    scale = height * _CAMERA / (_CAMERA - points[:, 2:])
    points = np.concatenate([points[:, :2] * scale, points[:, 2:], scale], axis=1)
    middle = (points[:, :2].min(0) + points[:, :2].max(0)) / 2
    target = (across, 0.5) + rng.uniform(-1, 1, 2) * (0.3 / count, 0.08)
    points[:, :2] += target * size - middle
    return dict(zip(joints, points, strict=True))
