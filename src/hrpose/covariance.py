"""Covariance and presence: how uncertain the place of a keypoint is, and whether there is one.

    heatmap ─ second moments ─▶ calibrated by the metadata ─ inverse map ─▶ pixels of the image

A covariance here is that of a Gaussian whose 95 % ellipse, at a Mahalanobis distance of `RADIUS`,
holds the true keypoint in 95 of 100 cases. Errors have heavier tails than a Gaussian (left taken
for right, another person's wrist), so that more than half of them are inside its 50 % ellipse:
`CovarianceFit.radii_at` has the distances that hold other shares. Presence is the probability that
a keypoint is visible, hidden, or absent: outside the image, or not to be placed by anyone.
"""

from __future__ import annotations  # so that help() shows the names of types, not their contents

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hrpose.codec import Codec
from hrpose.errors import UserError

if TYPE_CHECKING:
    from hrpose.poses import Poses

# The Mahalanobis distance within which 95 % of a Gaussian in the plane is: the root of the 95 %
# quantile of a chi-squared distribution with two degrees of freedom.
RADIUS = math.sqrt(-2 * math.log(0.05))
# Parts of a heatmap below this part of its peak are background.
_BACKGROUND = 0.1
# Moments below this, in input pixels, are those of no network's heatmap.
_MIN_SPREAD = 0.1


@dataclass(frozen=True, slots=True)
class CovarianceFit:
    """From the second moments of a heatmap to the covariance of its keypoint.

    `hrpose weights calibrate` fits it. With moments M of the geometric mean radius r = det(M)^(1/4)
    in input pixels, and a heatmap whose peak has the height p, the standard deviation of keypoint j
    is s = keypoints[j] factor(p) r^exponent input pixels, and the covariance s^2 M^(1/2) / r. Its
    shape is halfway, by logarithms, between that of M and a circle. factor(p) is interpolated
    linearly in `factors` at the increasing `peaks`, in logarithms, and constant outside.

    The part levels[i] of true places is within the Mahalanobis distance radii[i][j]; at the level
    0.95 that is `RADIUS`.
    """

    peaks: tuple[float, ...]
    factors: tuple[float, ...]
    exponent: float
    keypoints: tuple[float, ...]
    levels: tuple[float, ...]
    radii: tuple[tuple[float, ...], ...]

    def check(self) -> None:
        """Raises ValueError where values are out of range."""
        factors = np.array((*self.factors, *self.keypoints))
        radii = np.array(self.radii, np.float64)
        sound = (
            0 < len(self.peaks) == len(self.factors)
            and np.isfinite([self.exponent, *self.peaks]).all()
            and (np.diff(self.peaks) > 0).all()
            and (np.isfinite(factors) & (factors > 0)).all()
            and radii.shape == (len(self.levels), len(self.keypoints))
            and (np.diff([0, *self.levels, 1]) > 0).all()
            and np.isfinite(radii).all()
            and (np.diff(radii, axis=0, prepend=0) >= 0).all()
        )
        if not sound:
            raise ValueError("covariance: expected finite and increasing values above 0")

    def __call__(
        self, moments: NDArray[np.float64], peaks: NDArray[np.floating]
    ) -> NDArray[np.float64]:
        """Covariances in input pixels², of `moments` (n, k, 2, 2) and `peaks` (n, k)."""
        shape, r = halfway(moments)
        factor = np.exp(np.interp(peaks, self.peaks, np.log(self.factors)))
        s = np.array(self.keypoints) * factor * r**self.exponent
        result: NDArray[np.float64] = shape * np.square(s)[..., None, None]
        return result

    def radii_at(self, level: float) -> NDArray[np.float64]:
        """(k,) the Mahalanobis distance from each keypoint that holds the part `level` of places.

        Between the levels of the fit it is interpolated linearly, and beyond them constant.
        """
        return np.array(
            [np.interp(level, self.levels, radii) for radii in zip(*self.radii, strict=True)]
        )


# Logits beyond this are probabilities of 0 and 1.
_MAX_LOGIT = 30.0
# The number of `presence_features`.
FEATURES = 5


@dataclass(frozen=True, slots=True)
class PresenceFit:
    """From a heatmap to the probabilities that its keypoint is visible, hidden and absent.

    `hrpose weights calibrate` fits it to labels with COCO's visibility. The logit of "there is a
    label" is the sum of `presence_features` times `labeled`, plus the keypoint's of
    `labeled_offsets`; that of "visible", if there is a label, the same with `visible`.
    """

    labeled: tuple[float, ...]
    labeled_offsets: tuple[float, ...]
    visible: tuple[float, ...]
    visible_offsets: tuple[float, ...]

    def check(self) -> None:
        """Raises ValueError where values are out of range."""
        values = (*self.labeled, *self.labeled_offsets, *self.visible, *self.visible_offsets)
        if not (
            len(self.labeled) == len(self.visible) == FEATURES
            and len(self.labeled_offsets) == len(self.visible_offsets)
            and np.isfinite(values).all()
        ):
            raise ValueError(f"presence: expected {FEATURES} finite coefficients and offsets")

    def __call__(self, features: NDArray[np.float64]) -> NDArray[np.float32]:
        """(n, k, 3): the probabilities, of `presence_features` (n, k, 5)."""

        def probability(
            coefficients: tuple[float, ...], offsets: tuple[float, ...]
        ) -> NDArray[np.float64]:
            logit = features @ np.array(coefficients) + np.array(offsets)
            result: NDArray[np.float64] = 1 / (1 + np.exp(-logit.clip(-_MAX_LOGIT, _MAX_LOGIT)))
            return result

        labeled = probability(self.labeled, self.labeled_offsets)
        visible = labeled * probability(self.visible, self.visible_offsets)
        return np.stack([visible, labeled - visible, 1 - labeled], axis=-1).astype(np.float32)


def presence_features(
    peaks: NDArray[np.floating],
    moments: NDArray[np.float64],
    points: NDArray[np.float64],
    input_wh: tuple[int, int],
) -> NDArray[np.float64]:
    """(n, k, 5) what presence depends on, of `peaks` (n, k) and points (n, k, 2) in input pixels.

    The logit of the peak, the logarithm of the heatmap's width, the distances to the nearest side
    and to the top or bottom of the crop, and the height in it, in parts of the input.
    """
    height = np.clip(peaks, 0.01, 0.99).astype(np.float64)
    x, y = points[..., 0] / input_wh[0], points[..., 1] / input_wh[1]
    width = np.log(halfway(moments)[1])
    return np.stack(
        [np.log(height / (1 - height)), width, np.minimum(x, 1 - x), np.minimum(y, 1 - y), y],
        axis=-1,
    )


def halfway(moments: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """M^(1/2) / r (..., 2, 2), whose determinant is 1, and r = det(M)^(1/4) of moments M.

    The root of a 2x2 matrix M is (M + det(M)^(1/2) I) / (trace(M) + 2 det(M)^(1/2))^(1/2).
    """
    xx, xy, yy = moments[..., 0, 0], moments[..., 0, 1], moments[..., 1, 1]
    # A heatmap of one pixel has none, one of a line none across it.
    floor = _MIN_SPREAD**2
    xx, yy = xx + floor, yy + floor
    root = np.sqrt(np.maximum(xx * yy - xy * xy, floor**2))
    r = np.sqrt(root)
    scale = 1 / (np.sqrt(xx + yy + 2 * root) * r)
    values = np.stack([xx + root, xy, xy, yy + root], axis=-1) * scale[..., None]
    return values.reshape(*values.shape[:-1], 2, 2), r


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


def check_fits(metadata: Any) -> bool:
    """True. Raises UserError where a `Metadata`, which knows this module and not the other way
    round, has no covariance, or one of no use.
    """
    title, covariance, presence = metadata.title, metadata.covariance, metadata.presence
    if covariance is None:
        raise UserError(
            f"{title}: these weights have no covariance of keypoints; fit it on labeled persons "
            "with `hrpose weights calibrate`",
            code="covariance-missing",
        )
    try:
        covariance.check()
        if presence is not None:
            presence.check()
    except ValueError as error:
        raise UserError(
            f"{title}: {error}; fit it again with `hrpose weights calibrate`",
            code="metadata-invalid",
        ) from error
    return True


def in_crop(
    codec: Codec,
    fits: tuple[CovarianceFit, PresenceFit | None],
    heatmaps: NDArray[np.float32],
    points: NDArray[np.float64],
    peaks: NDArray[np.float32],
) -> tuple[NDArray[np.floating], ...]:
    """The covariances (n, k, 2, 2) of keypoints in crops, in input pixels², and perhaps presence.

    `points` (n, k, 2) in input pixels and `peaks` (n, k) are what `heatmaps` (n, k, h, w) decode
    to. With a fit of the presence, its probabilities (n, k, 3) are returned too.
    """
    covariance, presence = fits
    width, height = heatmaps.shape[3], heatmaps.shape[2]
    shapes = moments(heatmaps, points, codec.strides((width, height)))
    if presence is None:
        return (covariance(shapes, peaks),)
    input_wh = width * codec.stride, height * codec.stride
    features = presence_features(peaks, shapes, points, input_wh)
    return covariance(shapes, peaks), presence(features)


def transformed(
    covariance: NDArray[np.float64], inverse_matrices: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Those of crops (n, k, 2, 2), with `inverse_matrices` (n, 2, 3), in pixels² of the image."""
    turn = inverse_matrices[:, None, :, :2]
    result: NDArray[np.float32] = (turn @ covariance @ turn.swapaxes(2, 3)).astype(np.float32)
    return result


def ellipses_around(poses: Poses, corners: int = 48) -> NDArray[np.float64]:
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


def without_absent(poses: Poses) -> Poses:
    """The same poses, with a score of 0 for keypoints whose presence says that there is none.

    Raises UserError for poses without a presence.
    """
    if poses.presence is None:
        raise UserError(
            "present: expected poses with a presence, found none; load weights that tell it with "
            "covariance=True",
            code="presence-missing",
        )
    keypoints = poses.keypoints.copy()
    keypoints[..., 2] *= poses.presence[..., 2] <= 0.5
    return replace(poses, keypoints=keypoints)


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
