"""Left and right that changed places, by comparison with what a model sees."""

import numpy as np
from numpy.typing import NDArray

from hrpose.inspection.sides import Group
from hrpose.skeleton import Skeleton

# Joints that the model is less sure of say nothing, nor pairs nearer than this part of the size.
_LEAST_SCORE = 0.2
_APART = 0.1
# Beyond this part of the size one miss is like another.
_FARTHEST = 0.3
# Of all that swapping could win: 1 where the model's joints lie on the labels of the other side.
CLEARLY = 0.5


def evidence(
    poses: NDArray[np.float64],
    keypoints: NDArray[np.float64],
    sizes: NDArray[np.float64],
    skeleton: Skeleton,
    known: list[Group],
) -> NDArray[np.float64]:
    """(n, g) in [-1, 1]: how far each group's labels fit the model's joints better when swapped.

    `poses` and `keypoints` (n, k, 3), `sizes` (n,) in pixels. 0 where the model says nothing: of
    the joints too few are sure or far from their twin. A group of all pairs needs three of them.
    """
    result = np.zeros((len(poses), len(known)))
    if not len(known):
        return result
    sure = np.nan_to_num(poses[..., 2]) >= _LEAST_SCORE
    labelled = keypoints[..., 2] > 0
    own = _distances(poses, keypoints, sizes)
    twin = skeleton.flip_permutation
    other = _distances(poses, keypoints[:, twin], sizes)
    apart = _distances(keypoints, keypoints[:, twin], sizes)
    told = sure & labelled & labelled[:, twin] & (apart > _APART)
    weight = np.where(told, np.nan_to_num(poses[..., 2]), 0)
    gain = weight * np.where(told, own - other, 0)
    most = weight * np.minimum(apart, _FARTHEST)
    for column, group in enumerate(known):
        joints = group.joints(skeleton)
        enough = told[:, joints].sum(axis=1) >= (6 if group.whole and len(joints) > 4 else 1)
        share = gain[:, joints].sum(axis=1) / np.maximum(most[:, joints].sum(axis=1), 1e-9)
        result[:, column] = np.where(enough, share, 0)
    return result


def _distances(
    a: NDArray[np.float64], b: NDArray[np.float64], sizes: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(n, k): as parts of the size, at most `_FARTHEST`."""
    lengths = np.linalg.norm(a[..., :2] - b[..., :2], axis=-1) / sizes[:, None]
    result: NDArray[np.float64] = np.minimum(np.nan_to_num(lengths, nan=_FARTHEST), _FARTHEST)
    return result
