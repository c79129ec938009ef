"""How well boxes of people are found: recall and precision at IoU 0.5, and the curve's area."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hrpose.geometry import iou


@dataclass(frozen=True, slots=True, eq=False)
class BoxScores:
    """`thresholds`, `recall` and `precision` (n,), from the most to the least certain box.

    `persons` counts the true ones. `AP` is the area under the curve, made falling as usual.
    """

    thresholds: NDArray[np.float64]
    recall: NDArray[np.float64]
    precision: NDArray[np.float64]
    persons: int

    @property
    def AP(self) -> float:
        envelope = np.maximum.accumulate(self.precision[::-1])[::-1]
        return float(np.sum(np.diff(self.recall, prepend=0.0) * envelope))

    def at(self, threshold: float) -> tuple[float, float]:
        """(recall, precision) of the boxes that score at least `threshold`."""
        count = int(np.searchsorted(-self.thresholds, -threshold, side="right"))
        return (0.0, 1.0) if count == 0 else (self.recall[count - 1], self.precision[count - 1])

    @property
    def best_threshold(self) -> float:
        """Where the lesser of recall and precision is highest; 0.5 where nothing was found."""
        if len(self.thresholds) == 0:
            return 0.5
        return float(self.thresholds[np.minimum(self.recall, self.precision).argmax()])


def matched(
    truth: NDArray[np.float64],
    found: NDArray[np.float64],
    scores: NDArray[np.float64],
    min_height: float = 0.0,
    min_iou: float = 0.5,
) -> NDArray[np.float64]:
    """(n,) of the boxes `found` (n, 4) in an image: 1 for those right, 0 for those wrong.

    They are matched from the most certain on, each to the free person of `truth` (p, 4) it covers
    best. People lower than `min_height` count neither way, as COCO does with sizes: NaN is said of
    the boxes that match them, and of unmatched boxes that are lower themselves.
    """
    counts = truth[:, 3] >= min_height
    overlap = iou(found, truth)
    outcome = np.where(found[:, 3] >= min_height, 0.0, np.nan)
    for i in np.argsort(-scores, kind="stable"):
        # People that count go first, as in COCO's matching.
        fits = overlap[i] >= min_iou
        if fits.any():
            best = int(np.argmax(np.where(fits, overlap[i] + 2.0 * counts, -1.0)))
            outcome[i] = 1.0 if counts[best] else np.nan
            overlap[:, best] = 0.0
    return outcome


def evaluate_boxes(
    truth: Sequence[NDArray[np.float64]],
    found: Sequence[NDArray[np.float64]],
    scores: Sequence[NDArray[np.float64]],
    min_height: float = 0.0,
    min_iou: float = 0.5,
) -> BoxScores:
    """Compare boxes (n, 4) found in each image with the true ones, in the same order, as
    `matched` does.
    """
    persons = sum(int((boxes[:, 3] >= min_height).sum()) for boxes in truth)
    outcomes = [
        matched(*each, min_height, min_iou) for each in zip(truth, found, scores, strict=True)
    ]
    certainty, hit = (
        np.concatenate([np.zeros(0), *scores]),
        np.concatenate([np.zeros(0), *outcomes]),
    )
    certainty, hit = certainty[~np.isnan(hit)], hit[~np.isnan(hit)]
    order = np.argsort(-certainty, kind="stable")
    hits = np.cumsum(hit[order])
    return BoxScores(
        certainty[order],
        hits / max(persons, 1),
        hits / np.arange(1, len(hits) + 1),
        persons,
    )
