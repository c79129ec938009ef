"""How large a person is in a picture, and what of it is shown."""

import numpy as np
from numpy.typing import NDArray

from hrpose.poses import Poses


def shown_joints(poses: Poses, person: int, threshold: float) -> NDArray[np.float32]:
    """(m, 2): the joints of a person that are present."""
    keypoints = poses.keypoints[person]
    shown: NDArray[np.float32] = keypoints[keypoints[:, 2] >= threshold, :2]
    return shown


def person_size(poses: Poses, person: int, threshold: float) -> float:
    """How far the shown joints reach, in pixels; half the box where there are none."""
    shown = shown_joints(poses, person, threshold)
    if len(shown) < 2:
        return float(poses.boxes[person, 2:].max()) / 2
    return float(np.ptp(shown, axis=0).max())
