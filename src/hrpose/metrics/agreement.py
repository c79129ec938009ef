"""Agreement of measurements, such as angles, with those of a reference: bias, limits, ICC.

- Bland and Altman, "Measuring agreement in method comparison studies", 1999: the bias is the mean
  difference, the limits of agreement are 1.96 standard deviations around it.
- Shrout and Fleiss, "Intraclass correlations: uses in assessing rater reliability", 1979: ICC(2,1)
  for absolute agreement, which a bias lowers, and ICC(3,1) for consistency, which it does not.
- The share of big errors, with Wilson's interval.

Intervals are of 95 %, and take the pairs for independent. Neighboring images of a clip are not: of
one clip the intervals are too narrow. Needs SciPy (extra `train` or `video`).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hrpose.errors import UserError

_LEVEL = 0.95
_TAIL = 1 - (1 - _LEVEL) / 2
# Limits of agreement, in standard deviations.
_REACH = 1.96
MIN_PAIRS = 3


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its 95 % interval; NaN where the pairs do not determine it."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Agreement:
    """Of n `pairs`, measured minus reference, in their unit: `bias`, the standard `deviation` of
    the differences, the `lower` and `upper` limit of agreement, and `mean_absolute` difference.

    `icc_2_1` and `icc_3_1` are ICC(2,1) and ICC(3,1), the same as "ICC2" and "ICC3" elsewhere.
    `big_errors` is the share of differences beyond `big`, in either direction.
    """

    pairs: int
    bias: Estimate
    deviation: float
    lower: Estimate
    upper: Estimate
    mean_absolute: float
    icc_2_1: Estimate
    icc_3_1: Estimate
    big: float
    big_errors: Estimate


def agreement(measured: ArrayLike, reference: ArrayLike, big: float) -> Agreement:
    """The agreement of `measured` (n,) with `reference` (n,), without pairs in which one is NaN.

    Errors beyond `big`, in the unit of both, are big errors. Raises UserError where there are fewer
    than three pairs.
    """
    from scipy.stats import t

    found, wanted = np.asarray(measured, np.float64), np.asarray(reference, np.float64)
    if found.shape != wanted.shape or found.ndim != 1:
        raise ValueError(
            f"agreement: expected two arrays (n,), found {found.shape} and {wanted.shape}"
        )
    both = np.isfinite(found) & np.isfinite(wanted)
    found, wanted = found[both], wanted[both]
    n = len(found)
    if n < MIN_PAIRS:
        raise UserError(
            f"agreement: expected at least {MIN_PAIRS} pairs of values, found {n}",
            code="reference-invalid",
        )
    difference = found - wanted
    bias, deviation = float(difference.mean()), float(difference.std(ddof=1))
    quantile = float(t.ppf(_TAIL, n - 1))
    around = quantile * deviation / np.sqrt(n)
    # The variance of a limit: that of the mean, and that of 1.96 standard deviations.
    limit = quantile * deviation * np.sqrt(1 / n + _REACH**2 / (2 * (n - 1)))
    limits = [
        Estimate(value, value - limit, value + limit)
        for value in (bias - _REACH * deviation, bias + _REACH * deviation)
    ]
    absolute, consistent = intraclass(np.stack([found, wanted], axis=1))
    return Agreement(
        pairs=n,
        bias=Estimate(bias, bias - around, bias + around),
        deviation=deviation,
        lower=limits[0],
        upper=limits[1],
        mean_absolute=float(np.abs(difference).mean()),
        icc_2_1=absolute,
        icc_3_1=consistent,
        big=big,
        big_errors=_share(int((np.abs(difference) > big).sum()), n),
    )


def intraclass(ratings: NDArray[np.float64]) -> tuple[Estimate, Estimate]:
    """ICC(2,1) and ICC(3,1) of ratings (n, k): n targets, each rated by the same k raters.

    From the mean squares of a two-way analysis of variance; the intervals are those of Shrout and
    Fleiss. NaN where nothing varies.
    """
    from scipy.stats import f

    n, k = ratings.shape
    grand, rows, columns = ratings.mean(), ratings.mean(axis=1), ratings.mean(axis=0)
    residual = ratings - rows[:, None] - columns + grand
    between = float(k * np.square(rows - grand).sum() / (n - 1))
    raters = float(n * np.square(columns - grand).sum() / (k - 1))
    error = float(np.square(residual).sum() / ((n - 1) * (k - 1)))
    nothing = Estimate(np.nan, np.nan, np.nan)
    if between == 0 and error == 0:
        return nothing, nothing
    consistency = (between - error) / (between + (k - 1) * error)
    absolute = (between - error) / (between + (k - 1) * error + k * (raters - error) / n)
    if error <= 1e-12 * between:  # a bias at most: no spread to estimate an interval from
        return Estimate(absolute, np.nan, np.nan), Estimate(consistency, consistency, consistency)
    ratio, free = between / error, (n - 1, (n - 1) * (k - 1))
    low, high = ratio / f.ppf(_TAIL, *free), ratio * f.ppf(_TAIL, *free[::-1])
    consistent = Estimate(consistency, *(float((x - 1) / (x + k - 1)) for x in (low, high)))
    # Satterthwaite's degrees of freedom of the raters and errors together.
    spread = n * (1 + (k - 1) * absolute) - k * absolute
    rater_ratio = raters / error
    degrees = (
        (k - 1) * (n - 1) * (k * absolute * rater_ratio + spread) ** 2
        / ((n - 1) * k**2 * absolute**2 * rater_ratio**2 + spread**2)
    )  # fmt: skip
    upper, lower = f.ppf(_TAIL, n - 1, degrees), f.ppf(_TAIL, degrees, n - 1)
    others = k * raters + (k * n - k - n) * error
    bounds = (
        n * (between - upper * error) / (upper * others + n * between),
        n * (lower * between - error) / (others + n * lower * between),
    )
    return Estimate(absolute, *map(float, bounds)), consistent


def _share(count: int, n: int) -> Estimate:
    """A share with Wilson's interval, which is sensible for 0 and 1 too."""
    share, square = count / n, _REACH**2
    center = (share + square / (2 * n)) / (1 + square / n)
    half = _REACH * np.sqrt(share * (1 - share) / n + square / (4 * n**2)) / (1 + square / n)
    return Estimate(share, max(float(center - half), 0.0), min(float(center + half), 1.0))
