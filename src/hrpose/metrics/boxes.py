"""How well a detector's boxes match those of persons: recall, precision and AP at one IoU."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hrpose.geometry import iou


@dataclass(frozen=True, slots=True, eq=False)
class BoxScores:
    """`thresholds`, `recall` and `precision` (n,), from the highest to the lowest score.

    `persons` is the number of labeled persons. `AP` is the area under the curve of precision over
    recall, made monotonic as usual.
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
        """Where the lesser of recall and precision is greatest; 0.5 where there are no boxes."""
        if len(self.thresholds) == 0:
            return 0.5
        return float(self.thresholds[np.minimum(self.recall, self.precision).argmax()])


def matched(
    truth: NDArray[np.float64],
    boxes: NDArray[np.float64],
    scores: NDArray[np.float64],
    min_height: float = 0.0,
    min_iou: float = 0.5,
) -> NDArray[np.float64]:
    """(n,) of detected `boxes` (n, 4) in an image: 1 where right, 0 where wrong, NaN where ignored.

    They are matched in the order of their scores (n,), each to the free person of `truth` (p, 4)
    that it overlaps most. Persons lower than `min_height` are ignored, as COCO does with sizes, and
    so are the boxes that match them and unmatched boxes that are lower themselves.
    """
    counts = truth[:, 3] >= min_height
    overlap = iou(boxes, truth)
    outcome = np.where(boxes[:, 3] >= min_height, 0.0, np.nan)
    for i in np.argsort(-scores, kind="stable"):
        # Persons that count go first, as in COCO's matching.
        fits = overlap[i] >= min_iou
        if fits.any():
            best = int(np.argmax(np.where(fits, overlap[i] + 2.0 * counts, -1.0)))
            outcome[i] = 1.0 if counts[best] else np.nan
            overlap[:, best] = 0.0
    return outcome


def evaluate_boxes(
    truth: Sequence[NDArray[np.float64]],
    boxes: Sequence[NDArray[np.float64]],
    scores: Sequence[NDArray[np.float64]],
    min_height: float = 0.0,
    min_iou: float = 0.5,
) -> BoxScores:
    """Match the detected boxes (n, 4) of each image, with scores (n,), to its labeled ones (p, 4),
    and score all images together.
    """
    persons = sum(int((labeled[:, 3] >= min_height).sum()) for labeled in truth)
    outcomes = [
        matched(*each, min_height, min_iou) for each in zip(truth, boxes, scores, strict=True)
    ]
    ranks, right = (np.concatenate([np.zeros(0), *each]) for each in (scores, outcomes))
    ranks, right = ranks[~np.isnan(right)], right[~np.isnan(right)]
    order = np.argsort(-ranks, kind="stable")
    hits = np.cumsum(right[order])
    precision = hits / np.arange(1, len(hits) + 1)
    return BoxScores(ranks[order], hits / max(persons, 1), precision, persons)
