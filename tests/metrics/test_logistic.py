"""Logistic regression: what made the outcomes is found again, and there is always an answer."""

import numpy as np

from hrpose.metrics.logistic import logistic


def test_what_made_the_outcomes_is_found_again() -> None:
    rng = np.random.default_rng(0)
    features = np.concatenate([rng.normal(size=(50_000, 2)), np.ones((50_000, 1))], axis=1)
    true = np.array([2.0, -1.0, 0.5])
    likely = 1 / (1 + np.exp(-features @ true))
    np.testing.assert_allclose(logistic(features, likely), true, rtol=0.01)
    drawn = (rng.uniform(size=len(likely)) < likely).astype(float)
    np.testing.assert_allclose(logistic(features, drawn), true, atol=0.06)


def test_what_can_be_told_for_certain_has_an_answer_too() -> None:
    x = np.array([-2.0, -1.0, 1.0, 2.0])
    slope, offset = logistic(np.stack([x, np.ones(4)], axis=1), (x > 0).astype(float))
    assert 3 < slope < 100
    assert abs(offset) < 1e-3
