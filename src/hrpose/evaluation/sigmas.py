"""OKS constants of any skeleton, by COCO's definition (cocodataset.org, "keypoints evaluation").

COCO: sigma_i^2 = E[d_i^2 / s^2], where d_i is how far an annotator's keypoint i is from its true
place, in the plane, and s^2 is the person's area; the k of OKS is 2 sigma. Three ways to know d:

- the truth is known (`truth`): d is measured, and sigma^2 is the mean of d^2 / s^2.
- several annotators labeled the same people: each is off, and independently, so the square of the
  distance between two of them is 2 sigma^2 s^2 on average. sigma^2 is therefore HALF the mean
  square distance of pairs, which is the sum of squares around the annotators' mean divided by
  their number less one. Who takes distances between annotators for d gets sigma 1.41 times larger.
- nobody labeled twice: a model. A keypoint is known to `LIMB_SHARE` of the mean length l_i of the
  limbs that meet in it: sigma_i^2 = share^2 E[l_i^2 / s^2]. With a share of 0.17, 3,533 people of
  COCO give back COCO's constants within 15 percent from the shoulders down, ears a third too large,
  eyes a fifth and the nose two fifths too small. It is a guess to start with, no measurement.
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
# Boxes of the same person by two annotators overlap at least so much.
LEAST_IOU = 0.5
RESAMPLES = 1000
FACTORS = (0.5, 1.0, 2.0)


@dataclass(frozen=True, slots=True, eq=False)
class Sigmas:
    """`sigmas` (k,), the 95 percent interval `low` and `high` (k,), and `persons` (k,), how many
    each rests on; NaN for keypoints that rest on nobody. `method` says how, in words.
    """

    skeleton: Skeleton
    sigmas: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    persons: NDArray[np.int64]
    method: str

    def known(self) -> dict[str, float]:
        """The constants of the keypoints that have one, as a skeleton file takes them."""
        pairs = zip(self.skeleton.keypoints, self.sigmas.tolist(), strict=True)
        return {name: round(sigma, 4) for name, sigma in pairs if sigma > 0}

    def filled(self) -> NDArray[np.float64]:
        """(k,): the skeleton's own constant where there is none."""
        return np.where(self.sigmas > 0, self.sigmas, self.skeleton.sigmas)


def from_repeats(
    tables: Sequence[PersonTable], truth: PersonTable | None = None, seed: int = 0
) -> Sigmas:
    """Of annotators who labeled the same images, one table each; against `truth` where known.

    People are the same where their boxes overlap best, and by at least a half, in the image of
    the same file name. Raises UserError where the skeletons differ or nobody is there twice.
    """
    anchor = tables[0] if truth is None else truth
    for table in tables:
        if table.skeleton.keypoints != anchor.skeleton.keypoints:
            raise UserError(
                "sigmas: expected annotations of the same keypoints, found "
                f"{', '.join(anchor.skeleton.keypoints)} and {', '.join(table.skeleton.keypoints)}"
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
            "sigmas: expected people who are labeled in several files, found none; are the file "
            "names of the images the same, and the boxes of the same people?"
        )
    return _estimated(anchor.skeleton, squares / areas[:, None], degrees, method, seed)


def from_limbs(table: PersonTable, share: float = LIMB_SHARE, seed: int = 0) -> Sigmas:
    """Of one labeling, by the model at the head of this file. Raises UserError without limbs."""
    limbs = table.skeleton.limbs
    if not limbs:
        raise UserError(
            "sigmas: expected a skeleton with limbs, for without repeated annotations a keypoint's "
            "constant is guessed from the limbs that meet in it; name them with --skeleton"
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
    """COCO's figures of results with the constants times each of `FACTORS`."""
    poses, sigmas = read_results(results), estimate.filled()
    return [(f, evaluate_keypoints(annotations, poses, sigmas * f)) for f in FACTORS]


def _estimated(
    skeleton: Skeleton,
    squares: NDArray[np.float64],
    degrees: NDArray[np.float64],
    method: str,
    seed: int,
) -> Sigmas:
    """sigma^2 is the sum of `squares` over that of `degrees`, both (n, k); the interval is from
    drawing people again and again, with replacement (bootstrap, percentiles).
    """
    rng, n = np.random.default_rng(seed), len(squares)

    def sigma(weights: NDArray[Any]) -> NDArray[np.float64]:
        below = weights @ degrees
        ratio = np.divide(
            weights @ squares, below, out=np.full(below.shape, np.nan), where=below > 0
        )
        result: NDArray[np.float64] = np.sqrt(ratio)
        return result

    # One draw after the other: a matrix of all would not fit for a hundred thousand people.
    draws = np.stack(
        [sigma(np.bincount(rng.integers(n, size=n), minlength=n)) for _ in range(RESAMPLES)]
    )
    persons = (degrees > 0).sum(axis=0)
    low, high = np.full((2, len(skeleton)), np.nan)
    if (seen := persons > 0).any():
        low[seen], high[seen] = np.nanpercentile(draws[:, seen], [2.5, 97.5], axis=0)
    return Sigmas(skeleton, sigma(np.ones(n)), low, high, persons, method)


def _same_persons(anchor: PersonTable, table: PersonTable) -> NDArray[np.int64]:
    """(n,): for each person of `anchor`, the row of the same one in `table`, or -1."""
    from scipy.optimize import linear_sum_assignment

    names = {name: row for row, name in enumerate(table.file_names.tolist())}
    result = np.full(len(anchor), -1)
    persons_of, none = group_by_image(table.image_index), np.zeros(0, np.intp)
    for image, own in group_by_image(anchor.image_index).items():
        theirs = persons_of.get(names.get(anchor.file_names[image], -1), none)
        overlap = iou(anchor.boxes[own], table.boxes[theirs])
        for i, j in zip(*linear_sum_assignment(-overlap), strict=True):
            if overlap[i, j] >= LEAST_IOU:
                result[own[i]] = theirs[j]
    return result
