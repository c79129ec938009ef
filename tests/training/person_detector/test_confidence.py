"""The fitted scores: as often right as they say, and the peak itself where little is known."""

import numpy as np
import pytest

from hrpose.metadata import Confidence
from hrpose.training.person_detector.module import fit_confidence


def drawn(true: Confidence, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    peaks = rng.uniform(0.02, 0.9, n)
    boxes = np.concatenate([np.zeros((n, 2)), rng.uniform(6, 200, (n, 2))], axis=1)
    right = (rng.uniform(size=n) < true.scores(peaks, boxes)).astype(float)
    return peaks, boxes, right


def test_what_made_the_boxes_right_is_found_again() -> None:
    true = Confidence(heat=2.5, size=1.2, offset=1.0)
    found = fit_confidence(*drawn(true, 20_000))
    assert found.heat == pytest.approx(true.heat, rel=0.06)
    assert found.size == pytest.approx(true.size, rel=0.06)
    assert found.offset == pytest.approx(true.offset, abs=0.1)


def test_scores_are_as_often_right_as_they_say() -> None:
    peaks, boxes, right = drawn(Confidence(heat=1.0), 20_000)
    scores = fit_confidence(peaks, boxes, right).scores(peaks, boxes)
    for least in np.arange(0.1, 0.8, 0.1):
        there = (scores >= least) & (scores < least + 0.1)
        assert right[there].mean() == pytest.approx(scores[there].mean(), abs=0.03)


@pytest.mark.parametrize("rows", [[], [0, 1, 2], slice(None)])
def test_of_too_few_or_all_right_nothing_is_said(rows: list[int] | slice) -> None:
    peaks, boxes, _ = drawn(Confidence(), 1000)
    chosen = np.array(rows, int) if isinstance(rows, list) else rows
    assert fit_confidence(peaks[chosen], boxes[chosen], np.ones(len(peaks[chosen]))) == Confidence()


def test_peaks_that_say_the_opposite_are_left_as_they_are() -> None:
    peaks, boxes, right = drawn(Confidence(heat=3.0), 2000)
    assert fit_confidence(peaks, boxes, 1 - right) == Confidence()
