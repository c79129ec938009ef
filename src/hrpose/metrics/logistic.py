"""Logistic regression: how likely something is, from a few numbers about it."""

import numpy as np
from numpy.typing import NDArray

# A little, so that there is an answer where the two are separable.
_RIDGE = 1e-4


def logistic(features: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    """(m,) what `features` (n, m) are multiplied with to give the logits of `target` (n,), which is
    in [0, 1]: those of least cross-entropy. A column of ones is the offset.
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
