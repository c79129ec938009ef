"""Fits a finder's `Confidence`: which of its boxes are people's, as often as its scores say."""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from hrpose.finder_passport import Confidence

# With fewer right or wrong boxes nothing is fitted.
FEWEST = 20
# Of a weak pull towards zero: what few boxes say is not believed beyond measure.
_PULL = 1e-3


def fit(
    peaks: NDArray[np.float64], boxes: NDArray[np.float64], right: NDArray[np.float64]
) -> Confidence:
    """The likeliest numbers by logistic regression ("Platt scaling"), with the box's size.

    `peaks` (n,) in [0, 1] of `boxes` (n, 4) in input pixels; `right` (n,) is 1 where the box is a
    person's, else 0. Where too few are either, or the peaks say nothing, the score stays the peak.
    """
    if min(right.sum(), (1 - right).sum()) < FEWEST:
        return Confidence()
    features = Confidence.features(peaks, boxes)

    def unlikeliness(numbers: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        logits = features @ numbers
        value = np.logaddexp(0, logits).sum() - right @ logits + _PULL * (numbers**2).sum() / 2
        slope = (1 / (1 + np.exp(-logits)) - right) @ features + _PULL * numbers
        return float(value), slope

    heat, size, offset = minimize(unlikeliness, np.zeros(3), jac=True).x
    return Confidence(float(heat), float(size), float(offset)) if heat > 0 else Confidence()
