"""How well scores predict what they are scores of, and the logistic regressions that make them.

A calibrated keypoint score is the expected keypoint similarity, so that the mean over a pose is the
expected OKS (Gu et al., "On the Calibration of Human Pose Estimation", ICML 2024); the height of a
heatmap's peak is not. `fit_calibration` finds the closest `Calibration`: logit(calibrated) =
logit(score) / temperature + offset, the temperature of Guo et al., "On Calibration of Modern Neural
Networks", ICML 2017, with the offset of Platt, because no temperature alone corrects peaks that are
all on one side of one half. `fit_confidence` does the same for the boxes of a person detector.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hrpose.metadata import Calibration, Confidence

BINS = 10
# With fewer boxes that are right, or wrong, no confidence is fitted.
MIN_BOXES = 20
# A little, so that there is a solution where the two classes are separable.
_RIDGE = 1e-4


@dataclass(frozen=True, slots=True, eq=False)
class Reliability:
    """Keypoints in ten bins of equal count, by score: `score` and `similarity` (b,) are the bins'
    means. `error` is the expected calibration error: the mean distance between the two.
    """

    score: NDArray[np.float64]
    similarity: NDArray[np.float64]

    @property
    def error(self) -> float:
        return float(np.abs(self.score - self.similarity).mean())


@dataclass(frozen=True, slots=True, eq=False)
class Presence:
    """How well keypoint scores separate labeled keypoints from those without a label.

    `area` under the ROC curve: the probability that a labeled keypoint scores above one without a
    label. `threshold` maximizes the mean of `recall` (labeled keypoints above it) and `specificity`
    (the others below it). A keypoint of score s is present with probability 1 / (1 + exp(-(slope *
    logit(s) + offset))), at the rate of these annotations. `labeled` and `unlabeled` are counts.
    """

    area: float
    threshold: float
    recall: float
    specificity: float
    slope: float
    offset: float
    labeled: int
    unlabeled: int


def reliability(scores: NDArray[np.float64], similarities: NDArray[np.float64]) -> Reliability:
    """Compare scores (n,) in [0, 1] with the similarities (n,) in bins."""
    bins = np.array_split(np.argsort(scores, kind="stable"), BINS)
    means = [np.array([values[rows].mean() for rows in bins]) for values in (scores, similarities)]
    return Reliability(means[0], means[1])


def presence(labeled: NDArray[np.float64], unlabeled: NDArray[np.float64]) -> Presence:
    """Separate scores (n,) of labeled keypoints from scores (m,) of keypoints without a label."""
    scores = np.concatenate([labeled, unlabeled])
    present = np.arange(len(scores)) < len(labeled)
    values = np.unique(scores)
    low = np.sort(unlabeled)
    # The share of the others below each labeled one; a tie counts half.
    below = np.searchsorted(low, labeled) + np.searchsorted(low, labeled, side="right")
    recall = 1 - np.searchsorted(np.sort(labeled), values) / len(labeled)
    specificity = np.searchsorted(low, values) / len(low)
    best = int(np.argmax(recall + specificity))
    slope, offset = _line(scores, present.astype(np.float64))
    return Presence(
        area=float(below.mean() / 2 / len(low)),
        threshold=float(values[best]),
        recall=float(recall[best]),
        specificity=float(specificity[best]),
        slope=slope,
        offset=offset,
        labeled=len(labeled),
        unlabeled=len(unlabeled),
    )


def fit_calibration(scores: NDArray[np.float64], target: NDArray[np.float64]) -> Calibration:
    """The calibration of least cross-entropy, for scores and targets (n,) in [0, 1]."""
    slope, offset = _line(scores, target)
    # Where similarity falls as scores rise, or does not depend on them, there is no temperature.
    return Calibration(1 / max(slope, 1e-2), offset)


def fit_confidence(
    peaks: NDArray[np.float64], boxes: NDArray[np.float64], right: NDArray[np.float64]
) -> Confidence:
    """The confidence of greatest likelihood ("Platt scaling", with the size of the box).

    `peaks` (n,) in [0, 1] of `boxes` (n, 4) in input pixels; `right` (n,) is 1 where the box is a
    person's, else 0. Where fewer than `MIN_BOXES` are either, or the peaks are no evidence, the
    score stays the peak.
    """
    if min(right.sum(), (1 - right).sum()) < MIN_BOXES:
        return Confidence()
    heat, size, offset = logistic(Confidence.features(peaks, boxes), right)
    return Confidence(float(heat), float(size), float(offset)) if heat > 0 else Confidence()


def logistic(features: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    """Logistic regression: the coefficients (m,) of `features` (n, m) whose logits have the least
    cross-entropy to `target` (n,) in [0, 1]. A column of ones is the offset.
    """
    from scipy.optimize import minimize
    from scipy.special import expit

    def loss(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        z = features @ parameters
        ridge = _RIDGE * parameters
        value = np.mean(np.logaddexp(0, z) - target * z) + ridge @ parameters / 2
        return float(value), (expit(z) - target) @ features / len(z) + ridge

    start = np.eye(1, features.shape[1])[0]
    result: NDArray[np.float64] = minimize(loss, start, jac=True).x
    return result


def _line(scores: NDArray[np.float64], target: NDArray[np.float64]) -> tuple[float, float]:
    """(slope, offset) of the logistic regression of targets in [0, 1] on the scores' logits."""
    x = Calibration.logit(scores)
    slope, offset = logistic(np.stack([x, np.ones_like(x)], axis=1), target)
    return float(slope), float(offset)
