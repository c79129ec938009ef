"""Fits a finder's `Confidence`: which of its boxes are people's, as often as its scores say."""

import numpy as np
from numpy.typing import NDArray

from hrpose.metadata import Confidence
from hrpose.metrics.logistic import logistic

# With fewer right or wrong boxes nothing is fitted.
FEWEST = 20


def fit(
    peaks: NDArray[np.float64], boxes: NDArray[np.float64], right: NDArray[np.float64]
) -> Confidence:
    """The likeliest numbers by logistic regression ("Platt scaling"), with the box's size.

    `peaks` (n,) in [0, 1] of `boxes` (n, 4) in input pixels; `right` (n,) is 1 where the box is a
    person's, else 0. Where too few are either, or the peaks say nothing, the score stays the peak.
    """
    if min(right.sum(), (1 - right).sum()) < FEWEST:
        return Confidence()
    heat, size, offset = logistic(Confidence.features(peaks, boxes), right)
    return Confidence(float(heat), float(size), float(offset)) if heat > 0 else Confidence()
