"""Covariance: how uncertain the place of a keypoint is, from the shape of its heatmap.

    heatmap ─ second moments ─▶ calibrated by the metadata ─ inverse map ─▶ pixels of the image

A covariance here is that of a Gaussian whose 95 % ellipse, at a Mahalanobis distance of `RADIUS`,
holds the true keypoint in 95 of 100 cases.
"""

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hrpose.errors import UserError

if TYPE_CHECKING:
    from hrpose.metadata import Metadata
    from hrpose.poses import Poses

# The Mahalanobis distance within which 95 % of a Gaussian in the plane is: the root of the 95 %
# quantile of a chi-squared distribution with two degrees of freedom.
RADIUS = math.sqrt(-2 * math.log(0.05))
# Parts of a heatmap below this part of its peak are background.
_BACKGROUND = 0.1


def moments(
    heatmaps: NDArray[np.float32], points: NDArray[np.float64], strides: tuple[float, float]
) -> NDArray[np.float64]:
    """(n, k, 2, 2): the second moments of heatmaps (n, k, h, w) around points (n, k, 2).

    `points` and the moments are in input pixels, of which a heatmap pixel has `strides` along x and
    y. What is below a tenth of a heatmap's peak counts as zero.
    """
    n, k, height, width = heatmaps.shape
    flat = heatmaps.reshape(n * k, height, width)
    peaks = flat.max(axis=(1, 2), initial=0)
    mass = np.maximum(flat - (_BACKGROUND * peaks)[:, None, None], 0)
    x, y = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)
    columns, rows = mass.sum(axis=1), mass.sum(axis=2)
    total = np.maximum(columns.sum(axis=1), 1e-12).astype(np.float64)
    mean_x, mean_y = columns @ x / total, rows @ y / total
    xx, yy = columns @ (x * x) / total, rows @ (y * y) / total
    xy = np.einsum("nx,x->n", np.einsum("nyx,y->nx", mass, y), x) / total
    # Around the point instead of the origin.
    px, py = (points / strides).reshape(n * k, 2).T
    values = np.stack(
        [
            xx - 2 * px * mean_x + px * px,
            xy - px * mean_y - py * mean_x + px * py,
            yy - 2 * py * mean_y + py * py,
        ],
        axis=1,
    )
    found = values * (strides[0] ** 2, strides[0] * strides[1], strides[1] ** 2)
    return found[:, [[0, 1], [1, 2]]].reshape(n, k, 2, 2)


def check_covariance(metadata: "Metadata") -> bool:
    """True. Raises UserError where weights have no fit of the covariance."""
    return True  # until the fit is in the metadata


def in_crop(
    metadata: "Metadata",
    heatmaps: NDArray[np.float32],
    points: NDArray[np.float64],
    peaks: NDArray[np.float32],
) -> NDArray[np.float64]:
    """The covariances (n, k, 2, 2) of keypoints in crops, in input pixels².

    `points` (n, k, 2) in input pixels and `peaks` (n, k) are what `heatmaps` (n, k, h, w) decode
    to.
    """
    codec = metadata.codec
    strides = codec.strides((heatmaps.shape[3], heatmaps.shape[2]))
    found = moments(heatmaps, points, strides)
    # Rough, until the fit is in the metadata.
    return (0.02 * metadata.input_wh[1]) ** 2 * np.eye(2) + 0.5 * found


def transformed(
    covariance: NDArray[np.float64], inverse_matrices: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Those of crops (n, k, 2, 2), with `inverse_matrices` (n, 2, 3), in pixels² of the image."""
    turn = inverse_matrices[:, None, :, :2]
    result: NDArray[np.float32] = (turn @ covariance @ turn.swapaxes(2, 3)).astype(np.float32)
    return result


def ellipses_around(poses: "Poses", corners: int = 48) -> NDArray[np.float64]:
    """(n, k, corners, 2): points on the 95 % ellipses of keypoints, in pixels of the image.

    Raises UserError for poses without a covariance.
    """
    if poses.covariance is None:
        raise UserError(
            "ellipses: expected poses with a covariance, found none; load the weights with "
            "covariance=True",
            code="covariance-missing",
        )
    values, vectors = np.linalg.eigh(poses.covariance.astype(np.float64))
    roots = vectors * np.sqrt(np.maximum(values, 0))[..., None, :]
    angles = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    circle = RADIUS * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    result: NDArray[np.float64] = poses.xy[:, :, None] + circle @ roots.swapaxes(2, 3)
    return result


def interpolated(
    covariance: NDArray[np.float32],
    known: NDArray[np.bool_],
    wanted: NDArray[np.bool_],
    times: NDArray[np.float64],
    motion: NDArray[np.float64],
) -> NDArray[np.float32]:
    """Covariances (t, k, 2, 2) of one person, with new ones where keypoints were interpolated.

    `known` (t, k) says where a keypoint was measured and `wanted` (t, k) where its place was
    interpolated, at `times` (t,) in seconds. The new covariance is between those before and after
    the gap, in proportion to time, plus what the keypoint may have moved aside in between: where
    white noise of the spectral density `motion` (t,), in pixels²/s³, is its acceleration, that is
    q s³ (T - s)³ / 3 T³ after s of T seconds. Before the first measurement and after the last it is
    the nearest one plus q s³ / 3. Where nothing was measured it stays as it is.
    """
    result = covariance.copy()
    measured = known.any(axis=0)
    for keypoint in np.flatnonzero(wanted.any(axis=0) & measured):
        rows, gap = np.flatnonzero(known[:, keypoint]), np.flatnonzero(wanted[:, keypoint])
        after = np.searchsorted(rows, gap)
        first, last = rows[(after - 1).clip(0)], rows[after.clip(0, len(rows) - 1)]
        since, until = np.abs(times[gap] - times[first]), np.abs(times[last] - times[gap])
        whole = since + until
        inside = first < last
        part = np.where(inside, since / np.where(inside, whole, 1), 0)[:, None, None]
        bridge = since * np.where(inside, until / np.where(inside, whole, 1), 1)
        result[gap, keypoint] = (
            (1 - part) * covariance[first, keypoint]
            + part * covariance[last, keypoint]
            + (motion[gap] * bridge**3 / 3)[:, None, None] * np.eye(2)
        )
    return result
