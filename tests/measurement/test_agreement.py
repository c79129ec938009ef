"""Agreement with a reference, against published numbers and by its definition."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hrpose.measurement.agreement import Estimate, agreement, intraclass
from refusals import refused

# Shrout and Fleiss 1979, table 2: six targets rated by four judges.
SHROUT_FLEISS = np.array(
    [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], float
)
# Bland and Altman 1986, table 1: peak expiratory flow of 17 persons, the first reading of the large
# and of the mini meter, in l/min.
LARGE = [494, 395, 516, 434, 476, 557, 413, 442, 650, 433, 417, 656, 267, 478, 178, 423, 427]
MINI = [512, 430, 520, 428, 500, 600, 364, 380, 658, 445, 432, 626, 260, 477, 259, 350, 451]


def test_the_coefficients_that_shrout_and_fleiss_published() -> None:
    absolute, consistent = intraclass(SHROUT_FLEISS)
    # Table 4 of the paper; the intervals are pingouin 0.7's for the same ratings.
    assert absolute.value == pytest.approx(0.29, abs=0.005)
    assert consistent.value == pytest.approx(0.71, abs=0.005)
    assert (absolute.low, absolute.high) == pytest.approx((0.02, 0.76), abs=0.005)
    assert (consistent.low, consistent.high) == pytest.approx((0.34, 0.95), abs=0.005)


def test_the_limits_that_bland_and_altman_published() -> None:
    found = agreement(LARGE, MINI, big=50)
    # The paper: bias -2.1, standard deviation 38.8; the limits there are 2 deviations, not 1.96.
    assert found.bias.value == pytest.approx(-2.1, abs=0.05)
    assert found.deviation == pytest.approx(38.8, abs=0.05)
    # Its intervals: -22.0 to 17.8 of the bias, and 34.6 of a limit to both sides by a variance of
    # 3 s^2 / n; with 1.96 and n - 1 it is 34.9.
    assert (found.bias.low, found.bias.high) == pytest.approx((-22.0, 17.8), abs=0.1)
    assert found.lower.value == pytest.approx(-2.1 - 1.96 * 38.8, abs=0.1)
    assert found.upper.high - found.upper.value == pytest.approx(34.6, abs=0.6)
    big = np.abs(np.subtract(LARGE, MINI)) > 50
    assert found.big_errors.value == big.mean()
    assert found.big_errors.low < big.mean() < found.big_errors.high


@given(st.floats(-40, 40), st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_a_bias_lowers_absolute_agreement_alone(bias: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    reference = rng.uniform(0, 120, 40)
    measured = reference + rng.normal(0, 3, 40)
    plain, moved = (agreement(measured + by, reference, 5) for by in (0, bias))
    assert moved.icc_3_1.value == pytest.approx(plain.icc_3_1.value)
    assert moved.bias.value == pytest.approx(plain.bias.value + bias)
    assert moved.upper.value - moved.lower.value == pytest.approx(2 * 1.96 * plain.deviation)
    assert moved.icc_2_1.low <= moved.icc_2_1.value <= moved.icc_2_1.high
    if abs(bias) > 10:
        assert moved.icc_2_1.value < plain.icc_2_1.value
        assert moved.icc_2_1.value < moved.icc_3_1.value


def test_limits_hold_nineteen_of_twenty_differences() -> None:
    rng = np.random.default_rng(3)
    reference = rng.uniform(0, 90, 5000)
    difference = rng.normal(2, 4, 5000)
    found = agreement(reference + difference, reference, 5)
    inside = (found.lower.value < difference) & (difference < found.upper.value)
    assert inside.mean() == pytest.approx(0.95, abs=0.01)
    assert found.bias.low < 2 < found.bias.high
    assert found.lower.low < 2 - 1.96 * 4 < found.lower.high


def test_pairs_without_a_value_and_series_without_spread() -> None:
    found = agreement([1.0, 2, np.nan, 4, 5], [1.0, np.nan, 3, 4, 5], 1)
    assert found.pairs == 3
    assert found.bias == Estimate(0, 0, 0)
    assert found.icc_3_1.value == 1
    constant = agreement([5.0] * 4, [5.0] * 4, 1)
    assert np.isnan(constant.icc_2_1.value)
    assert constant.big_errors.value == 0 < constant.big_errors.high < 1
    with refused("reference-invalid", "found 2"):
        agreement([1.0, 2, np.nan], [1.0, 2, 3], 1)
    with pytest.raises(ValueError, match="expected two arrays"):
        agreement([1.0, 2], [1.0, 2, 3], 1)
