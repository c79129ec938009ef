"""Whole bodies of 133 keypoints around poses of 17: face, hands and feet are placed by rule where
the body says they are.
"""

import numpy as np
from numpy.typing import NDArray

from hrpose.poses import Poses
from hrpose.skeletons import WHOLEBODY_133

Points = NDArray[np.float64]


def hand(open_: float = 1.0) -> Points:
    """(21, 2) a hand that points along x, its wrist at (0, 0) and its middle finger 1 long.

    `open_` spreads the fingers.
    """
    angles = np.radians([-52, -16, -2, 10, 24]) * open_
    palms = np.array([0.2, 0.46, 0.48, 0.45, 0.41])
    lengths = np.array([0.5, 0.48, 0.52, 0.48, 0.38])
    along = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    joints = palms[:, None] + lengths[:, None] * np.array([0, 0.45, 0.73, 1.0])
    fingers = joints[..., None] * along[:, None]
    return np.concatenate([np.zeros((1, 2)), fingers.reshape(20, 2)])


def face() -> Points:
    """(68, 2) a face from the front, its eyes at (-0.5, 0) and (0.5, 0), in iBUG's order."""

    def arc(
        n: int, center: tuple[float, float], radii: tuple[float, float], start: float, end: float
    ) -> Points:
        angles = np.radians(np.linspace(start, end, n))
        return np.stack(
            [center[0] + radii[0] * np.cos(angles), center[1] + radii[1] * np.sin(angles)], -1
        )

    jaw = arc(17, (0, 0.1), (1.15, 1.6), 180, 0)
    brows = [arc(5, (x, -0.2), (0.4, 0.22), 200, 340) for x in (-0.55, 0.55)]
    bridge = np.stack([np.zeros(4), np.linspace(-0.02, 0.55, 4)], -1)
    wings = np.stack([np.linspace(-0.22, 0.22, 5), 0.66 + 0.06 * np.array([0, 0.7, 1, 0.7, 0])], -1)
    eyes = [arc(7, (x, 0), (0.22, 0.11), 180, 540)[:6] for x in (-0.5, 0.5)]
    outer = arc(13, (0, 1.12), (0.45, 0.2), 180, 540)[:12]
    inner = arc(9, (0, 1.12), (0.33, 0.07), 180, 540)[:8]
    return np.concatenate([jaw, *brows, bridge, wings, *eyes, outer, inner])


def _placed(points: Points, at: Points, along: Points) -> Points:
    """Points with x along `along` (2,), whose length is one, moved to `at`."""
    across = np.array([-along[1], along[0]])
    return at + points[:, :1] * along + points[:, 1:] * across


def whole_body(poses: Poses, score: float = 0.9) -> Poses:
    """Poses of COCO's 17 keypoints as poses of 133."""
    keypoints = np.zeros((len(poses), 133, 3), np.float32)
    keypoints[:, :17] = poses.keypoints
    for person, body in zip(keypoints, poses.keypoints.astype(float), strict=True):
        person[23:91, 2] = score
        xy = body[:, :2]
        for side, (knee, ankle) in enumerate(((13, 15), (14, 16))):
            down = (xy[ankle] - xy[knee]) * 0.2
            across = np.array([down[1], -down[0]]) * (1 if side == 0 else -1)
            feet = [down * 0.9 + across * 0.7, down * 0.8 + across, down * 0.5 - across * 0.2]
            person[17 + 3 * side : 20 + 3 * side, :2] = xy[ankle] + feet
            person[17 + 3 * side : 20 + 3 * side, 2] = min(score, body[ankle, 2])
        eyes = xy[1] - xy[2]
        person[23:91, :2] = _placed(face(), (xy[1] + xy[2]) / 2, eyes)
        for at, (elbow, wrist), turn in ((91, (7, 9), 1), (112, (8, 10), -1)):
            forearm = xy[wrist] - xy[elbow]
            person[at : at + 21, 2] = min(score, body[wrist, 2], body[elbow, 2])
            points = hand() * (1, turn)
            person[at : at + 21, :2] = _placed(points, xy[wrist] + forearm * 0.06, forearm * 0.72)
    return Poses(
        keypoints,
        poses.boxes,
        poses.scores,
        WHOLEBODY_133,
        image_wh=poses.image_wh,
        source=poses.source,
    )
