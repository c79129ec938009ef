"""How far keypoints are from their labels, for persons with one pose each: PCK, NME, EPE and PCKh.

PCK, NME and EPE need no constants, so they serve skeletons without measured OKS sigmas. PCKh is
MPII's metric, with the numbers of HRNet's official code: a joint is right where its distance to the
label is at most a fraction of the head's size, which is 0.6 times the diagonal of the labeled head
box. Two choices of the official code are kept, so that scores can be compared: the mean leaves out
pelvis and thorax, and PCKh@0.1 is measured at 0.11 of the head's size.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

# The names of `DistanceScores.as_dict`.
DISTANCES = ("PCK@0.2", "PCK@0.1", "NME", "EPE")


@dataclass(frozen=True, slots=True)
class DistanceScores:
    """Over all labeled keypoints of all persons; NaN where there are none.

    `pck` and `pck_strict` are the percentages within 0.2 and 0.1 of the box's longer side. `nme` is
    the mean distance in percent of the square root of the box's area, `epe` in pixels.
    """

    pck: float
    pck_strict: float
    nme: float
    epe: float

    def as_dict(self) -> dict[str, float]:
        """The metrics by name."""
        return dict(zip(DISTANCES, (self.pck, self.pck_strict, self.nme, self.epe), strict=True))


def distances(predicted: ArrayLike, truth: ArrayLike, boxes: ArrayLike) -> DistanceScores:
    """PCK, NME and EPE of n persons with k keypoints.

    `predicted` (n, k, 2 or 3) and `truth` (n, k, 3) in the same pixels, the truth's last the
    visibility: 0 is unlabeled. `boxes` (n, 4) as [x, y, w, h]. Raises ValueError where shapes
    do not fit.
    """
    points, target = np.asarray(predicted, np.float64), np.asarray(truth, np.float64)
    sizes = np.asarray(boxes, np.float64)
    n, k = target.shape[:2]
    if points.shape[:2] != (n, k) or target.shape != (n, k, 3) or sizes.shape != (n, 4):
        raise ValueError(
            "distances: expected predicted (n, k, 2), truth (n, k, 3) and boxes (n, 4), found "
            f"{points.shape}, {target.shape}, {sizes.shape}"
        )
    labeled = target[..., 2] > 0
    if not labeled.any():
        return DistanceScores(*[float("nan")] * 4)
    found = np.linalg.norm(points[..., :2] - target[..., :2], axis=-1)[labeled]
    side, area = sizes[:, 2:].max(axis=1), sizes[:, 2:].prod(axis=1)
    sides, roots = (np.broadcast_to(v[:, None], (n, k))[labeled] for v in (side, np.sqrt(area)))
    return DistanceScores(
        pck=100 * float((found <= 0.2 * sides).mean()),
        pck_strict=100 * float((found <= 0.1 * sides).mean()),
        nme=100 * float((found / roots).mean()),
        epe=float(found.mean()),
    )


HEAD_BIAS = 0.6
# MPII's order: r ankle, knee, hip, l hip, knee, ankle, pelvis, thorax, neck, head, r wrist, elbow,
# shoulder, l shoulder, elbow, wrist.
_ROWS = {
    "Head": (9,),
    "Shoulder": (12, 13),
    "Elbow": (11, 14),
    "Wrist": (10, 15),
    "Hip": (2, 3),
    "Knee": (1, 4),
    "Ankle": (0, 5),
}
_NOT_IN_MEAN = (6, 7)
_STRICT = 0.11


@dataclass(frozen=True, slots=True)
class PCKhScores:
    """Percentages in [0, 100] of right joints at half the head's size; NaN where none is labeled.

    Rows of two sides are the mean of both sides. `mean` and `mean_at_01` weigh each joint by how
    often it is labeled.
    """

    head: float
    shoulder: float
    elbow: float
    wrist: float
    hip: float
    knee: float
    ankle: float
    mean: float
    mean_at_01: float

    def as_dict(self) -> dict[str, float]:
        """By name: the means, which the official code calls Mean and Mean@0.1, then each joint."""
        return {
            "PCKh": self.mean,
            "PCKh@0.1": self.mean_at_01,
            "Head": self.head,
            "Shoulder": self.shoulder,
            "Elbow": self.elbow,
            "Wrist": self.wrist,
            "Hip": self.hip,
            "Knee": self.knee,
            "Ankle": self.ankle,
        }


def pckh(
    predicted: ArrayLike, truth: ArrayLike, missing: ArrayLike, head_boxes: ArrayLike
) -> PCKhScores:
    """PCKh of n persons with MPII's 16 joints.

    `predicted` (n, 16, 2 or 3) in pixels counted from 0; `truth` (n, 16, 2) in MPII's pixels,
    counted from 1; `missing` (n, 16) true where a joint is unlabeled; `head_boxes` (n, 2, 2)
    two corners (x, y) of each head. Raises ValueError where shapes do not fit.
    """
    points, target = np.asarray(predicted, np.float64), np.asarray(truth, np.float64)
    labeled = ~np.asarray(missing).astype(bool)
    heads = np.asarray(head_boxes, np.float64)
    n = len(target)
    if (
        points.shape[:2] != (n, 16)
        or points.ndim != 3
        or target.shape != (n, 16, 2)
        or labeled.shape != (n, 16)
        or heads.shape != (n, 2, 2)
    ):
        raise ValueError(
            "pckh: expected predicted (n, 16, 2), truth (n, 16, 2), missing (n, 16) and head_boxes "
            f"(n, 2, 2), found {points.shape}, {target.shape}, {labeled.shape}, {heads.shape}"
        )
    head_sizes = HEAD_BIAS * np.linalg.norm(heads[:, 1] - heads[:, 0], axis=1)
    distances = np.linalg.norm(points[:, :, :2] + 1 - target, axis=2)
    # Compared as a product: a head of size 0 is then no division by 0.
    right, strictly_right = (
        (distances <= fraction * head_sizes[:, None]) & labeled for fraction in (0.5, _STRICT)
    )
    per_joint = _percent(right.sum(axis=0), labeled.sum(axis=0))
    counted = [joint for joint in range(16) if joint not in _NOT_IN_MEAN]
    means = (
        _percent(hits[:, counted].sum(), labeled[:, counted].sum())
        for hits in (right, strictly_right)
    )
    rows = (per_joint[list(joints)].mean() for joints in _ROWS.values())
    return PCKhScores(*(float(value) for value in (*rows, *means)))


def _percent(hits: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.float64]:
    share = np.full(np.shape(counts), np.nan)
    np.divide(100.0 * hits, counts, out=share, where=np.asarray(counts) > 0)
    return share
