"""Boxes from keypoints: where a first look found the person, to look there a second time."""

import numpy as np
from numpy.typing import NDArray

# Keypoints below this score say nothing about where the person is.
SURE_SCORE = 0.2
# With fewer, the rest of the body may be anywhere.
FEWEST_KEYPOINTS = 6
# The body reaches beyond its joints by this part of their longer side: the top of the head, the
# feet (COCO train2017: median 0.11 above, 0.09 below, 0.06 at the sides).
MARGIN = 0.1
# Keypoints that fall on one spot are not a person so small, so the second look goes at most this
# many times closer.
CLOSEST = 10


def boxes_around(
    keypoints: NDArray[np.float32], boxes_xywh: NDArray[np.float64], image_wh: tuple[int, int]
) -> NDArray[np.float64]:
    """Boxes (n, 4) around the sure ones of `keypoints` (n, k, 3), in the pixels they are in.

    Those beside the picture of `image_wh` do not count. A person with few sure keypoints keeps
    the box of `boxes_xywh` (n, 4).
    """
    if not len(keypoints):
        return boxes_xywh
    points = keypoints[..., :2].astype(np.float64)
    inside = ((points >= 0) & (points < image_wh)).all(axis=-1)
    sure = (inside & (keypoints[..., 2] >= SURE_SCORE))[..., None]
    least = np.where(sure, points, np.inf).min(axis=1)
    most = np.where(sure, points, -np.inf).max(axis=1)
    enough = sure.sum(axis=(1, 2)) >= FEWEST_KEYPOINTS
    longer = (most - least).max(axis=1, keepdims=True)
    margin = np.maximum(MARGIN * longer, boxes_xywh[:, 2:].max(axis=1, keepdims=True) / CLOSEST / 2)
    around = np.concatenate([least - margin, most - least + 2 * margin], axis=1)
    return np.where(enough[:, None], around, boxes_xywh)
