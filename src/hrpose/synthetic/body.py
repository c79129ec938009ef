"""A body: where the joints of a figure are, in space and then in the picture.

In the body's own frame x leads to its left, y down and z ahead of it; its height is 1. In the
picture's frame x leads right, y down, z towards the viewer. They are the same for a figure that
faces the viewer.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
# By name: (3,) in a frame; once placed (4,): x, y in pixels, z, and pixels per body height.
Joints = dict[str, Floats]

SIDES = {"left": 1.0, "right": -1.0}
# The camera's distance in body heights: near hands look larger, but not by much.
_CAMERA = 4.0


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
    joints: Joints,
    size_wh: tuple[int, int],
    across: float,
    count: int,
    room: tuple[float, float],
) -> Joints:
    """Bring joints to pixels: (4,) as (x, y, towards the viewer, pixels per body height).

    The figure stands `across` the picture (a share of its width), as one of `count`. `room` is the
    most width and height that it takes, in body heights.
    """
    size = np.array(size_wh, np.float64)
    height = min(size[1] / room[1], size[0] / room[0] / count) * rng.uniform(0.6, 1.0)
    points = np.stack(list(joints.values()))
    scale = height * _CAMERA / (_CAMERA - points[:, 2:])
    points = np.concatenate([points[:, :2] * scale, points[:, 2:], scale], axis=1)
    middle = (points[:, :2].min(0) + points[:, :2].max(0)) / 2
    target = (across, 0.5) + rng.uniform(-1, 1, 2) * (0.3 / count, 0.08)
    points[:, :2] += target * size - middle
    return dict(zip(joints, points, strict=True))
