"""Whether keypoint scores are honest, what would make them so, and how weights carry it.

A calibrated keypoint score is the keypoint similarity that is to be expected there, so that the
mean over a pose is the OKS that is to be expected (Gu et al., "On the Calibration of Human Pose
Estimation", ICML 2024). Heatmap peaks are not that by themselves. `fit` finds the `Calibration`
that comes closest: logit(calibrated) = logit(score) / temperature + offset, as in Guo et al., "On
Calibration of Modern Neural Networks", ICML 2017, and with the offset of Platt: peaks that lie
above or below one half all together cannot be mended by a temperature alone.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hrpose.errors import UserError
from hrpose.evaluation.error_analysis import Found, KeypointErrors, Matches
from hrpose.metadata import Calibration, Metadata, metadata_of, write_with_metadata
from hrpose.metrics.logistic import logistic

BINS = 10
# Fewer labeled keypoints than this say nothing about scores.
FEWEST_KEYPOINTS = 100
# Peaks of heatmaps go a little beyond 0 and 1, and count as these; numbers beyond here are none.
LOWEST_PEAK, HIGHEST_PEAK = -0.5, 1.5


@dataclass(frozen=True, slots=True, eq=False)
class Reliability:
    """Keypoints in ten bins of as many keypoints each, by their score: `score` and `similarity`
    (b,) are their means. `error` is the expected calibration error: the mean distance of the two.
    """

    score: NDArray[np.float64]
    similarity: NDArray[np.float64]

    @property
    def error(self) -> float:
        return float(np.abs(self.score - self.similarity).mean())


@dataclass(frozen=True, slots=True, eq=False)
class Presence:
    """How well the keypoint score tells labeled keypoints from those without a label.

    `area` under the ROC curve: the chance that a labeled keypoint scores above one without a label.
    `threshold`: where the mean of `recall` (labeled keypoints above it) and `specificity` (the
    others below it) is greatest. A keypoint of score s is there with probability 1 / (1 +
    exp(-(slope * logit(s) + offset))), as often as in these annotations. `labeled` and `unlabeled`
    count them.
    """

    area: float
    threshold: float
    recall: float
    specificity: float
    slope: float
    offset: float
    labeled: int
    unlabeled: int


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """Of the matched poses' labeled keypoints, `before` and `after` the calibration.

    `presence` is None where all keypoints or none are labeled.
    """

    calibration: Calibration
    before: Reliability
    after: Reliability
    presence: Presence | None


def examine(found: Found, matches: Matches, errors: KeypointErrors) -> Scores:
    """How honest the keypoint scores are, and what would mend them.

    Raises UserError where there are too few keypoints, or where scores are no peaks of heatmaps.
    """
    scores = found.keypoints[matches.poses, :, 2]
    labeled = errors.kinds >= 0
    if labeled.sum() < FEWEST_KEYPOINTS:
        raise UserError(
            f"calibration: expected at least {FEWEST_KEYPOINTS} labeled keypoints of matched "
            "people, "
            f"found {labeled.sum()}"
        )
    if scores.min() < LOWEST_PEAK or scores.max() > HIGHEST_PEAK:
        raise UserError(
            "calibration: expected keypoint scores in [0, 1], found "
            f"{scores.min():g} to {scores.max():g}"
        )
    scores = np.clip(scores, 0, 1)
    own, similar = scores[labeled], errors.similarities[labeled]
    calibration = fit(own, similar)
    return Scores(
        calibration,
        reliability(own, similar),
        reliability(calibration(own), similar),
        None if labeled.all() else presence(own, scores[~labeled]),
    )


def fit(scores: NDArray[np.float64], target: NDArray[np.float64]) -> Calibration:
    """The calibration of least cross-entropy; scores and targets (n,) in [0, 1]."""
    slope, offset = _line(scores, target)
    # Scores that rise where the similarity falls, or say nothing, have no temperature.
    return Calibration(1 / max(slope, 1e-2), offset)


def reliability(scores: NDArray[np.float64], similar: NDArray[np.float64]) -> Reliability:
    """Bin scores (n,) in [0, 1] and compare them with the similarities (n,)."""
    bins = np.array_split(np.argsort(scores, kind="stable"), BINS)
    means = [np.array([values[rows].mean() for rows in bins]) for values in (scores, similar)]
    return Reliability(means[0], means[1])


def presence(labeled: NDArray[np.float64], unlabeled: NDArray[np.float64]) -> Presence:
    """Tell scores (n,) of labeled keypoints from scores (m,) of keypoints without a label."""
    scores = np.concatenate([labeled, unlabeled])
    there = np.arange(len(scores)) < len(labeled)
    values = np.unique(scores)
    low = np.sort(unlabeled)
    # The share of the others below each labeled one, ties half.
    below = np.searchsorted(low, labeled) + np.searchsorted(low, labeled, side="right")
    recall = 1 - np.searchsorted(np.sort(labeled), values) / len(labeled)
    specificity = np.searchsorted(low, values) / len(low)
    best = int(np.argmax(recall + specificity))
    slope, offset = _line(scores, there.astype(np.float64))
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


def _line(scores: NDArray[np.float64], target: NDArray[np.float64]) -> tuple[float, float]:
    """(slope, offset) of the logistic regression of targets in [0, 1] on the scores' logits."""
    x = Calibration.logit(scores)
    slope, offset = logistic(np.stack([x, np.ones_like(x)], axis=1), target)
    return float(slope), float(offset)


def check_copy(weights: Path, out: Path) -> None:
    """Raises UserError where `out` cannot be a copy of `weights`, before any work is done."""
    if weights.suffix not in (".onnx", ".safetensors") or out.suffix != weights.suffix:
        raise UserError(
            f"{out}: a calibration is stored in a copy of .onnx or .safetensors weights, with the "
            f"same ending; found weights {weights.name}"
        )
    if out.resolve() == weights.resolve():
        raise UserError(f"{out}: would be written over; choose another name for the copy")


def store_calibration(weights: Path, calibration: Calibration, out: Path) -> None:
    """Write `weights` (.onnx or .safetensors) to `out` with the calibration, and nothing else
    changed. One that they have already comes first, then the new one.

    Raises UserError where the files are of other kinds or cannot be read or written.
    """
    check_copy(weights, out)
    metadata = metadata_of(weights, Metadata)
    before = metadata.calibration or Calibration()
    calibrated = replace(metadata, calibration=before.then(calibration))
    write_with_metadata(out, weights.read_bytes(), calibrated)
