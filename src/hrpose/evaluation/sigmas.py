"""OKS sigmas of any skeleton, by COCO's definition (cocodataset.org, "keypoints evaluation").

COCO: sigma_i^2 = E[d_i^2 / s^2], where d_i is the distance of an annotator's keypoint i from its
true position, in the plane, and s^2 is the person's area; the k of OKS is 2 sigma. Three ways:

- The truth is known (`truth`): sigma^2 is the mean of d^2 / s^2.
- Several annotators labeled the same persons. Their errors are independent, so the squared distance
  between two of them is 2 sigma^2 s^2 on average, and sigma^2 is HALF the mean squared distance of
  pairs, which is the sum of squares around the annotators' mean divided by their number less one.
  Distances between annotators in place of d would make sigma 1.41 times larger.
- There is one annotation: a model. The error of a keypoint is `LIMB_SHARE` of the mean length l_i
  of the limbs that meet in it: sigma_i^2 = share^2 E[l_i^2 / s^2]. With a share of 0.17, 3,533
  persons of COCO give COCO's sigmas within 15 percent from the shoulders down, ears a third too
  large, eyes a fifth and the nose two fifths too small: a first guess, not a measurement.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrpose.data.coco import CocoAnnotations, read_results
from hrpose.data.persons import PersonTable, group_by_image
from hrpose.errors import UserError
from hrpose.geometry import iou
from hrpose.metrics.coco import KeypointScores, evaluate_keypoints
from hrpose.skeleton import Skeleton

LIMB_SHARE = 0.17
# The least overlap of the boxes of one person by two annotators.
MIN_IOU = 0.5
RESAMPLES = 1000
FACTORS = (0.5, 1.0, 2.0)


@dataclass(frozen=True, slots=True, eq=False)
class Sigmas:
    """`sigmas` (k,), 95 percent intervals `low` and `high` (k,), and numbers of `persons` (k,);
    NaN for keypoints without any. `method` is the way of the estimate, in words.
    """

    skeleton: Skeleton
    sigmas: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    persons: NDArray[np.int64]
    method: str

    def known(self) -> dict[str, float]:
        """The sigmas of the keypoints that have one, as in a skeleton file."""
        pairs = zip(self.skeleton.keypoints, self.sigmas.tolist(), strict=True)
        return {name: round(sigma, 4) for name, sigma in pairs if sigma > 0}

    def rows(self) -> list[dict[str, Any]]:
        """The keypoints by `name`: sigma, low and high, None where unknown, and persons."""
        columns = (self.sigmas, self.low, self.high)
        numbers = [[float(v) if v > 0 else None for v in values] for values in columns]
        names = ("name", "sigma", "low", "high", "persons")
        values = (self.skeleton.keypoints, *numbers, self.persons.tolist())
        return [dict(zip(names, row, strict=True)) for row in zip(*values, strict=True)]

    def filled(self) -> NDArray[np.float64]:
        """(k,): the sigmas, with the skeleton's own where there is none."""
        return np.where(self.sigmas > 0, self.sigmas, self.skeleton.sigmas)


def from_repeats(
    tables: Sequence[PersonTable], truth: PersonTable | None = None, seed: int = 0
) -> Sigmas:
    """Sigmas from annotators of the same images, one table each; against `truth` where known.

    Persons are the same where their boxes overlap most, and by an IoU of at least one half, in the
    image of the same file name. Raises UserError where the skeletons differ or no person is labeled
    twice.
    """
    anchor = tables[0] if truth is None else truth
    for table in tables:
        if table.skeleton.keypoints != anchor.skeleton.keypoints:
            raise UserError(
                "sigmas: expected annotations of the same keypoints, found "
                f"{', '.join(anchor.skeleton.keypoints)} and {', '.join(table.skeleton.keypoints)}",
                code="keypoints-differ",
            )
    rows = [_same_persons(anchor, table) for table in tables]
    there = np.stack([np.where(row >= 0, 1.0, np.nan) for row in rows])
    points = np.stack([t.keypoints[row] for t, row in zip(tables, rows, strict=True)]).astype(float)
    points[np.isnan(there)] = 0
    labeled = (points[..., 2] > 0).astype(np.float64)
    if truth is None:
        areas = np.nanmean(
            np.stack([t.areas[row] for t, row in zip(tables, rows, strict=True)]) * there, axis=0
        )
        count = labeled.sum(axis=0)
        center = (points[..., :2] * labeled[..., None]).sum(axis=0)
        center /= np.maximum(count, 1)[..., None]
        degrees = np.maximum(count - 1, 0)
        method = f"{len(tables)} annotators; sigma^2 = half the mean of d^2/s^2 between two"
    else:
        areas, center = anchor.areas, anchor.keypoints[..., :2].astype(np.float64)
        labeled *= anchor.keypoints[..., 2] > 0
        degrees = labeled.sum(axis=0)
        method = f"{len(tables)} annotators against the truth; sigma^2 = the mean of d^2/s^2"
    squares = (np.square(points[..., :2] - center).sum(axis=-1) * labeled).sum(axis=0)
    if not degrees.any():
        raise UserError(
            "sigmas: expected persons who are labeled in several files, found none; are the file "
            "names of the images the same, and the boxes of the same persons?",
            code="labels-missing",
        )
    return _estimated(anchor.skeleton, squares / areas[:, None], degrees, method, seed)


def from_limbs(table: PersonTable, share: float = LIMB_SHARE, seed: int = 0) -> Sigmas:
    """Sigmas from one table, by the model at the top of this file.

    Raises UserError where the skeleton has no limbs.
    """
    limbs = table.skeleton.limbs
    if not limbs:
        raise UserError(
            "sigmas: expected a skeleton with limbs, because without repeated annotations a "
            "keypoint's sigma is guessed from the limbs that meet in it; add them with --skeleton",
            code="skeleton-incomplete",
        )
    points, labeled = table.keypoints[..., :2].astype(np.float64), table.keypoints[..., 2] > 0
    total, count = np.zeros(labeled.shape), np.zeros(labeled.shape)
    for a, b in limbs:
        both = (labeled[:, a] & labeled[:, b]).astype(np.float64)
        length = np.linalg.norm(points[:, a] - points[:, b], axis=1) * both
        for keypoint in (a, b):
            total[:, keypoint] += length
            count[:, keypoint] += both
    squares = np.square(share * total / np.maximum(count, 1)) / table.areas[:, None]
    method = (
        f"no repeats; a model: {share:g} of the mean length of the limbs that meet in a keypoint"
    )
    return _estimated(table.skeleton, squares, (count > 0).astype(np.float64), method, seed)


def ap_by_factor(
    estimate: Sigmas, annotations: CocoAnnotations, results: Path
) -> list[tuple[float, KeypointScores]]:
    """COCO's metrics of results with the sigmas times each of `FACTORS`."""
    poses, sigmas = read_results(results), estimate.filled()
    return [(f, evaluate_keypoints(annotations, poses, sigmas * f)) for f in FACTORS]


def _estimated(
    skeleton: Skeleton,
    squares: NDArray[np.float64],
    degrees: NDArray[np.float64],
    method: str,
    seed: int,
) -> Sigmas:
    """sigma^2 is the sum of `squares` over that of `degrees`, both (n, k); the interval is
    that of a bootstrap over persons (percentiles).
    """
    rng, n = np.random.default_rng(seed), len(squares)

    def sigma(weights: NDArray[Any]) -> NDArray[np.float64]:
        below = weights @ degrees
        ratio = np.divide(
            weights @ squares, below, out=np.full(below.shape, np.nan), where=below > 0
        )
        result: NDArray[np.float64] = np.sqrt(ratio)
        return result

    # One draw at a time: a matrix of all would be too large for a hundred thousand persons.
    draws = np.stack(
        [sigma(np.bincount(rng.integers(n, size=n), minlength=n)) for _ in range(RESAMPLES)]
    )
    persons = (degrees > 0).sum(axis=0)
    low, high = np.full((2, len(skeleton)), np.nan)
    if (known := persons > 0).any():
        low[known], high[known] = np.nanpercentile(draws[:, known], [2.5, 97.5], axis=0)
    return Sigmas(skeleton, sigma(np.ones(n)), low, high, persons, method)


def _same_persons(anchor: PersonTable, table: PersonTable) -> NDArray[np.int64]:
    """(n,): for each person of `anchor`, the row of the same person in `table`, or -1."""
    from scipy.optimize import linear_sum_assignment

    names = {name: row for row, name in enumerate(table.file_names.tolist())}
    result = np.full(len(anchor), -1)
    persons_of, none = group_by_image(table.image_index), np.zeros(0, np.intp)
    for image, own in group_by_image(anchor.image_index).items():
        theirs = persons_of.get(names.get(anchor.file_names[image], -1), none)
        overlap = iou(anchor.boxes[own], table.boxes[theirs])
        for i, j in zip(*linear_sum_assignment(-overlap), strict=True):
            if overlap[i, j] >= MIN_IOU:
                result[own[i]] = theirs[j]
    return result
