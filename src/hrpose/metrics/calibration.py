"""How well scores predict what they are scores of, and the logistic regressions that make them.

A calibrated keypoint score is the expected keypoint similarity, so that the mean over a pose is the
expected OKS (Gu et al., "On the Calibration of Human Pose Estimation", ICML 2024); the height of a
heatmap's peak is not. `fit_calibration` finds the closest `Calibration`: logit(calibrated) =
logit(score) / temperature + offset, the temperature of Guo et al., "On Calibration of Modern Neural
Networks", ICML 2017, with the offset of Platt, because no temperature alone corrects peaks that are
all on one side of one half. `fit_confidence` does the same for the boxes of a person detector.

`fit_covariance` makes the 95 % ellipses of keypoints hold 95 % of the labels, given the height and
the width of the heatmap, by quantile regression (Koenker and Bassett, Econometrica 1978), as
conformal prediction scales regions of any shape (Romano et al., NeurIPS 2019). `coverage` measures
it on other persons.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrpose.covariance import RADIUS, CovarianceFit, PresenceFit, halfway
from hrpose.metadata import Calibration, Confidence

BINS = 10
# With fewer boxes that are right, or wrong, no confidence is fitted.
MIN_BOXES = 20
# With fewer labeled keypoints, or persons, no covariance is fitted.
MIN_COVARIANCE_KEYPOINTS, MIN_COVARIANCE_PERSONS = 500, 40
# With fewer keypoints that are absent, or hidden, their presence is not fitted.
MIN_ABSENT = 100
# The logit of what is always so.
_ALWAYS = 10.0
COVERAGE_LEVELS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98)
# Heights of peaks at which the factor of the covariance is fitted.
_KNOTS = 4
# The values of all keypoints count as much as so many labels of one.
_SHARED = 100
# Errors below so many input pixels are as good as none.
_MIN_ERROR = 1e-3
# Drawn sets of images, for intervals.
_DRAWS = 1000
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
    recall = 1 - np.searchsorted(np.sort(labeled), values) / len(labeled)
    specificity = np.searchsorted(low, values) / len(low)
    best = int(np.argmax(recall + specificity))
    slope, offset = _line(scores, present.astype(np.float64))
    return Presence(
        area=area(scores, present),
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


def fit_covariance(
    peaks: NDArray[np.floating],
    moments: NDArray[np.float64],
    errors: NDArray[np.float64],
    labeled: NDArray[np.bool_],
    flip_pairs: Sequence[tuple[int, int]],
) -> CovarianceFit | None:
    """The fit whose 95 % ellipses hold 95 % of the labels; None with too few of them.

    Of n persons: `peaks` (n, k), `moments` (n, k, 2, 2) and `errors` (n, k, 2), predicted less
    labeled, in input pixels, of the keypoints that are `labeled` (n, k). Left and right share their
    values. A keypoint with few labels is drawn to the values of all.
    """
    rows, keypoints = np.nonzero(labeled)
    if len(rows) < MIN_COVARIANCE_KEYPOINTS or len(np.unique(rows)) < MIN_COVARIANCE_PERSONS:
        return None
    k = labeled.shape[1]
    group = np.arange(k)
    for left, right in flip_pairs:
        group[right] = left
    own = group[keypoints]
    shape, r = halfway(moments[labeled])
    distance = _distances(errors[labeled], shape)
    height = peaks[labeled].astype(np.float64)
    knots = np.unique(np.quantile(height, np.linspace(0.03, 0.97, _KNOTS)))
    hats = np.stack([np.interp(height, knots, hat) for hat in np.eye(len(knots))], axis=1)
    features = np.concatenate([hats, np.log(r)[:, None], np.eye(k)[own]], axis=1)
    target = np.log(np.maximum(distance, _MIN_ERROR))
    found = _quantile_regression(features, target, 0.95)
    residual = target - features @ found
    overall = np.quantile(residual, COVERAGE_LEVELS)
    table = np.tile(overall, (k, 1))
    for each in np.unique(own):
        values = residual[own == each]
        weight = len(values) / (len(values) + _SHARED)
        part = weight * np.quantile(values, COVERAGE_LEVELS) + (1 - weight) * overall
        table[group == each] = part
    at95 = table[:, COVERAGE_LEVELS.index(0.95)]
    offsets = found[len(knots) + 1 :][group]
    radii = RADIUS * np.exp(table - at95[:, None])
    return CovarianceFit(
        peaks=_digits(knots),
        factors=_digits(np.exp(found[: len(knots)])),
        exponent=_digits(found[[len(knots)]])[0],
        keypoints=_digits(np.exp(offsets + at95) / RADIUS),
        levels=COVERAGE_LEVELS,
        radii=tuple(map(_digits, radii.T)),
    )


def _digits(values: NDArray[np.float64]) -> tuple[float, ...]:
    """Five digits of each: metadata are read by people too."""
    return tuple(float(f"{value:.5g}") for value in values)


def fit_presence(
    features: NDArray[np.float64], visibility: NDArray[np.floating]
) -> PresenceFit | None:
    """The fit of least cross-entropy; None with fewer than `MIN_ABSENT` keypoints with, or without
    a label.

    `features` (n, k, 5) are `presence_features`, `visibility` (n, k) is COCO's: 0 without a label,
    1 hidden, 2 visible. With few hidden ones all that are present are visible.
    """
    n, k, m = features.shape
    own = np.broadcast_to(np.eye(k), (n, k, k))
    columns = np.concatenate([features, own], axis=2)
    labeled = visibility > 0
    if min(labeled.sum(), (~labeled).sum()) < MIN_ABSENT:
        return None
    present = logistic(columns.reshape(n * k, m + k), labeled.ravel().astype(np.float64))
    visible = np.concatenate([np.zeros(m), np.full(k, _ALWAYS)])
    if (visibility == 1).sum() >= MIN_ABSENT:
        visible = logistic(columns[labeled], (visibility[labeled] == 2).astype(np.float64))
    return PresenceFit(
        _digits(present[:m]), _digits(present[m:]), _digits(visible[:m]), _digits(visible[m:])
    )


def area(scores: NDArray[np.floating], positive: NDArray[np.bool_]) -> float:
    """The area under the ROC curve: how often a positive scores higher. A tie counts half."""
    low = np.sort(scores[~positive])
    high = scores[positive]
    below = np.searchsorted(low, high) + np.searchsorted(low, high, side="right")
    return float(below.mean() / 2 / len(low)) if len(low) and len(high) else math.nan


@dataclass(frozen=True, slots=True, eq=False)
class PresenceReport:
    """How well `Metadata.presence` says which of `labels` labeled and `others` are there.

    `area` and `score_area` under the ROC curves of its probability of a label, and of the plain
    score; `visible_area` and `visible_score_area` for visible ones among the labeled. `curve`
    compares probabilities with the part that has a label.
    """

    area: float
    score_area: float
    visible_area: float
    visible_score_area: float
    curve: Reliability
    labels: int
    others: int

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        curve = {"predicted": self.curve.score.tolist(), "found": self.curve.similarity.tolist()}
        areas = ("area", "score_area", "visible_area", "visible_score_area", "labels", "others")
        return {name: getattr(self, name) for name in areas} | {"curve": curve}


def presence_report(
    presence: NDArray[np.floating], scores: NDArray[np.floating], visibility: NDArray[np.float64]
) -> PresenceReport:
    """Compare presence (n, k, 3) and scores (n, k) with the `visibility` (n, k) of labels."""
    there, labeled = 1 - presence[..., 2].astype(np.float64), visibility > 0
    given = presence[labeled][:, 0] / np.maximum(there[labeled], 1e-6)
    visible = visibility[labeled] == 2
    return PresenceReport(
        area=area(there, labeled),
        score_area=area(scores, labeled),
        visible_area=area(given, visible),
        visible_score_area=area(scores[labeled], visible),
        curve=reliability(there.ravel(), labeled.ravel().astype(np.float64)),
        labels=int(labeled.sum()),
        others=int((~labeled).sum()),
    )


def _quantile_regression(
    features: NDArray[np.float64], target: NDArray[np.float64], quantile: float
) -> NDArray[np.float64]:
    """The coefficients (m,) by which `features` (n, m) predict a quantile of `target` (n,).

    By least squares that are weighted again and again; errors below 1/20 count as squares.
    """
    ridge = 1e-5 * len(target) * np.eye(features.shape[1])
    weights = np.ones_like(target)
    found = np.zeros(0)
    for _ in range(60):
        weighted = features * weights[:, None]
        found = np.asarray(np.linalg.solve(features.T @ weighted + ridge, weighted.T @ target))
        error = target - features @ found
        side: NDArray[np.float64] = np.where(error > 0, quantile, 1 - quantile)
        weights = side / np.maximum(np.abs(error), 0.05)
    return found


def _distances(errors: NDArray[np.float64], covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    """The Mahalanobis lengths (...,) of errors (..., 2)."""
    solved = np.linalg.solve(covariance, errors[..., None])[..., 0]
    result: NDArray[np.float64] = np.sqrt(np.maximum((errors * solved).sum(axis=-1), 0))
    return result


@dataclass(frozen=True, slots=True, eq=False)
class Coverage:
    """Of `keypoints` labels, the part `found` (l,) inside the ellipses of nominal `levels` (l,).

    `low` and `high` (l,) bound the true part with 95 % probability: a bootstrap that draws images,
    because the keypoints of a person err together. `radius` is the median of the 95 % ellipses'
    mean radius, in pixels of the image.
    """

    levels: tuple[float, ...]
    found: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    keypoints: int
    radius: float

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        lists = {name: getattr(self, name).tolist() for name in ("found", "low", "high")}
        counts = {"keypoints": self.keypoints, "radius": self.radius}
        return {"levels": list(self.levels), **lists, **counts}


def coverage(
    fit: CovarianceFit,
    covariance: NDArray[np.floating],
    errors: NDArray[np.float64],
    chosen: NDArray[np.bool_],
    images: NDArray[np.integer],
    levels: tuple[float, ...] = (0.5, 0.8, 0.95),
    seed: int = 0,
) -> Coverage | None:
    """How many of the `chosen` (n, k) labels are inside their ellipses; None where none is chosen.

    `covariance` (n, k, 2, 2) and `errors` (n, k, 2), predicted less labeled, are in the same
    pixels; `images` (n,) says which persons are in one image.
    """
    if not chosen.any():
        return None
    distance = _distances(errors, covariance.astype(np.float64))
    inside = np.stack([distance <= fit.radii_at(level) for level in levels])
    _, image = np.unique(images, return_inverse=True)
    hits = np.stack([np.bincount(image, (row & chosen).sum(axis=1)) for row in inside])
    counts = np.bincount(image, chosen.sum(axis=1))
    drawn = np.random.default_rng(seed).integers(0, len(counts), (_DRAWS, len(counts)))
    totals = counts[drawn].sum(axis=1)
    some = totals > 0
    parts = hits[:, drawn[some]].sum(axis=2) / totals[some]
    low, high = np.quantile(parts, [0.025, 0.975], axis=1)
    spread = np.linalg.det(covariance[chosen].astype(np.float64)) ** 0.25
    return Coverage(
        levels, hits.sum(axis=1) / counts.sum(), low, high, int(counts.sum()),
        float(RADIUS * np.median(spread)),
    )  # fmt: skip


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
