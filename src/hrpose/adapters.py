"""Poses as other libraries' types. Each library is imported where it is needed, and only there."""

from typing import TYPE_CHECKING, Any

import numpy as np

from hrpose.errors import UserError, missing
from hrpose.geometry import xywh_to_xyxy

if TYPE_CHECKING:
    from hrpose.poses import Poses


def to_supervision(poses: "Poses", threshold: float) -> Any:
    """`supervision.KeyPoints` of n people: xy (n, k, 2), the joints' and the people's scores.

    Joints with a score below `threshold` are not `visible`. Its `data` has `xyxy` (n, 4), the
    boxes' corners, `class_name`, and `tracker_id` where people were followed. Raises UserError
    where supervision is missing or older than 0.29.
    """
    try:
        from supervision import KeyPoints  # type: ignore[import-not-found, unused-ignore]
    except ModuleNotFoundError as error:
        raise missing("to_supervision", error, "supervision>=0.29") from error
    n = len(poses)
    name = poses.skeleton.category or poses.skeleton.name
    data: dict[str, Any] = {"xyxy": xywh_to_xyxy(poses.boxes), "class_name": np.full(n, name)}
    if poses.track_ids is not None:
        data["tracker_id"] = poses.track_ids
    try:
        return KeyPoints(
            xy=poses.keypoints[..., :2],
            class_id=np.zeros(n, np.int64),
            keypoint_confidence=poses.keypoints[..., 2],
            detection_confidence=poses.scores,
            visible=poses.keypoints[..., 2] >= threshold,
            data=data,
        )
    except TypeError as error:
        raise UserError(
            "to_supervision: expected supervision 0.29 or newer, found an older one; "
            "pip install -U supervision"
        ) from error
