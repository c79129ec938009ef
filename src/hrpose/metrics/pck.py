"""How far keypoints are from their labels: PCK, NME and EPE, for people with one pose each.

They need no constants, so they serve skeletons for which nobody has measured OKS's.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

# The names of `DistanceScores.as_dict`.
DISTANCES = ("PCK@0.2", "PCK@0.1", "NME", "EPE")


@dataclass(frozen=True, slots=True)
class DistanceScores:
    """Over all labeled keypoints of all people; NaN where there are none.

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
    """Score n people with k keypoints.

    `predicted` (n, k, 2 or 3) and `truth` (n, k, 3) in the same pixels, the truth's last the
    visibility: 0 is not labeled. `boxes` (n, 4) as [x, y, w, h]. Raises ValueError where shapes
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
