"""Colors of persons: what tells apart those who overlap, where they wear different clothes.

They are those of the limbs, between the keypoints, so that a person who turns or walks keeps them.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hrpose.poses import CONFIDENT_SCORE, Poses

Floats = NDArray[np.float64]

# Samples along a limb, and beside them in body heights.
ALONG = np.linspace(0.2, 0.8, 4)
BESIDE = np.array([[dx, dy] for dx in (-0.012, 0.0, 0.012) for dy in (-0.012, 0.0, 0.012)])
# Colors that differ by more, of 255, differ.
DIFFERENT = 80.0
# How much better another person's colors fit, as a distance, before a pose is not this person's.
MAX_APART = 0.15


def limb_colors(image: NDArray[np.uint8], poses: Poses) -> Floats:
    """(n, l, 4) the median color of each limb: red, green, blue, and how sure it is, in [0, 1].

    `image` (h, w, 3) is RGB. Limbs that are not wholly seen, with confidence, have 0 there.
    """
    limbs = np.array(poses.skeleton.limbs, np.int64).reshape(-1, 2)
    height, width = image.shape[:2]
    keypoints = poses.keypoints.astype(np.float64)
    ends = keypoints[:, limbs, :]
    start, end = ends[:, :, :1, :2], ends[:, :, 1:, :2]
    points = start + (end - start) * ALONG[:, None]
    size = poses.boxes[:, 2:].max(axis=1).astype(np.float64)
    points = points[..., None, :] + BESIDE * size[:, None, None, None, None]
    points = points.reshape(*ends.shape[:2], len(ALONG) * len(BESIDE), 2)
    sure = ends[..., 2].min(axis=2)
    corners = ends[..., :2].min(axis=2), ends[..., :2].max(axis=2)
    inside = ((corners[0] >= 0) & (corners[1] < (width, height))).all(axis=-1)
    sure = np.where(inside & (sure >= CONFIDENT_SCORE), sure, 0.0)
    x = np.clip(points[..., 0], 0, width - 1).astype(np.int64)
    y = np.clip(points[..., 1], 0, height - 1).astype(np.int64)
    found = np.median(image[y, x], axis=2)
    return np.concatenate([found, sure[..., None]], axis=-1)


def color_distance(colors: Floats, other: Floats) -> Floats:
    """(n,) or (), how far the colors (n, l, 4) or (l, 4) are from the others (l, 4).

    In [0, 1]; 0 where no limb is known in both.
    """
    off = np.linalg.norm(colors[..., :3] - other[..., :3], axis=-1)
    weights = colors[..., 3] * other[..., 3]
    total = weights.sum(axis=-1)
    part = (weights * np.minimum(off / DIFFERENT, 1.0)).sum(axis=-1)
    result: Floats = np.where(total > 0, part / np.maximum(total, 1e-9), 0.0)
    return result


def mixed(colors: Floats, new: Floats, share: float) -> Floats:
    """The colors (l, 4) with a share of the new ones (l, 4), where these are known."""
    part = np.where(colors[:, 3] > 0, share, 1.0) * (new[:, 3] > 0)
    result: Floats = colors + part[:, None] * (new - colors)
    return result


def likeness(colors: Floats, others: Sequence[Floats | None], there: NDArray[np.bool_]) -> Floats:
    """(n, m) in [0, 1], of the colors (n, l, 4) to those of m persons.

    It is below 1 only where somebody else who is `there` (n, m) has the colors rather: one who is
    covered or in the shade has other colors, but not another person's.
    """
    apart = np.zeros((len(colors), len(others)))
    for column, other in enumerate(others):
        if other is not None:
            apart[:, column] = color_distance(colors, other)
    least = np.where(there, apart, np.inf).min(axis=1, initial=np.inf, keepdims=True)
    result: Floats = np.exp(-np.square((apart - np.minimum(least, apart)) / MAX_APART))
    return result
