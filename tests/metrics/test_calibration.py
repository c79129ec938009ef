"""Calibration: known parameters come back, and there is always a solution."""

import numpy as np
import pytest

from hrpose.metadata import Calibration, Confidence
from hrpose.metrics.calibration import (
    fit_calibration,
    fit_confidence,
    logistic,
    presence,
    reliability,
)


def test_known_coefficients_come_back() -> None:
    rng = np.random.default_rng(0)
    features = np.concatenate([rng.normal(size=(50_000, 2)), np.ones((50_000, 1))], axis=1)
    true = np.array([2.0, -1.0, 0.5])
    likely = 1 / (1 + np.exp(-features @ true))
    np.testing.assert_allclose(logistic(features, likely), true, rtol=0.01)
    drawn = (rng.uniform(size=len(likely)) < likely).astype(float)
    np.testing.assert_allclose(logistic(features, drawn), true, atol=0.06)


def test_separable_classes_have_a_solution() -> None:
    x = np.array([-2.0, -1.0, 1.0, 2.0])
    slope, offset = logistic(np.stack([x, np.ones(4)], axis=1), (x > 0).astype(float))
    assert 3 < slope < 100
    assert abs(offset) < 1e-3


@pytest.mark.parametrize(("temperature", "offset"), [(1, 0), (0.5, 0), (2.5, 1.2), (1.5, -0.8)])
def test_a_known_calibration_comes_back(temperature: float, offset: float) -> None:
    rng = np.random.default_rng(0)
    scores = rng.uniform(0.02, 0.98, 20000)
    expected = Calibration(temperature, offset)(scores)
    similarity = rng.beta(20 * expected, 20 * (1 - expected))
    found = fit_calibration(scores, similarity)
    assert found.temperature == pytest.approx(temperature, rel=0.03)
    assert found.offset == pytest.approx(offset, abs=0.03)
    before = reliability(scores, similarity)
    after = reliability(found(scores), similarity)
    assert after.error < 0.01
    assert before.error == pytest.approx(np.abs(scores - expected).mean(), abs=0.02)


@pytest.mark.parametrize("seed", range(3))
def test_unrelated_and_opposite_scores_have_a_calibration_too(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.uniform(size=500)
    for similarity in (rng.uniform(size=500), 1 - scores, np.ones(500)):
        found = fit_calibration(scores, similarity)
        assert np.isfinite(found(scores)).all()
        assert found.temperature > 0


def test_presence() -> None:
    rng = np.random.default_rng(0)
    there, absent = rng.beta(6, 3, 5000), rng.beta(3, 6, 2500)
    found = presence(there, absent)
    pairs = (there[:, None] > absent[None, ::5]).mean()
    assert found.area == pytest.approx(pairs, abs=0.01)
    # The two densities cross at one half.
    assert found.threshold == pytest.approx(0.5, abs=0.05)
    assert found.recall == (there >= found.threshold).mean()
    assert found.specificity == (absent < found.threshold).mean()
    # By Bayes: 2 : 1 times the ratio of the densities, (s / (1 - s))^3.
    assert found.slope == pytest.approx(3, rel=0.05)
    assert found.offset == pytest.approx(np.log(2), abs=0.05)


def drawn(truth: Confidence, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    peaks = rng.uniform(0.02, 0.9, n)
    boxes = np.concatenate([np.zeros((n, 2)), rng.uniform(6, 200, (n, 2))], axis=1)
    right = (rng.uniform(size=n) < truth.scores(peaks, boxes)).astype(float)
    return peaks, boxes, right


def test_a_known_confidence_comes_back() -> None:
    truth = Confidence(heat=2.5, size=1.2, offset=1.0)
    found = fit_confidence(*drawn(truth, 20_000))
    assert found.heat == pytest.approx(truth.heat, rel=0.06)
    assert found.size == pytest.approx(truth.size, rel=0.06)
    assert found.offset == pytest.approx(truth.offset, abs=0.1)


def test_scores_are_probabilities() -> None:
    peaks, boxes, right = drawn(Confidence(heat=1.0), 20_000)
    scores = fit_confidence(peaks, boxes, right).scores(peaks, boxes)
    for least in np.arange(0.1, 0.8, 0.1):
        there = (scores >= least) & (scores < least + 0.1)
        assert right[there].mean() == pytest.approx(scores[there].mean(), abs=0.03)


@pytest.mark.parametrize("rows", [[], [0, 1, 2], slice(None)])
def test_too_few_right_or_wrong_boxes_fit_nothing(rows: list[int] | slice) -> None:
    peaks, boxes, _ = drawn(Confidence(), 1000)
    chosen = np.array(rows, int) if isinstance(rows, list) else rows
    assert fit_confidence(peaks[chosen], boxes[chosen], np.ones(len(peaks[chosen]))) == Confidence()


def test_peaks_that_mislead_fit_nothing() -> None:
    peaks, boxes, right = drawn(Confidence(heat=3.0), 2000)
    assert fit_confidence(peaks, boxes, 1 - right) == Confidence()
