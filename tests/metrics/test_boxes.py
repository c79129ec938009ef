"""Recall and precision of boxes, on cases small enough to count by hand."""

import numpy as np
import pytest

from hrpose.metrics.coco import BoxScores, evaluate_boxes

PERSON = [10.0, 10.0, 40.0, 100.0]
OTHER = [200.0, 10.0, 40.0, 100.0]
CHILD = [300.0, 10.0, 20.0, 50.0]
NOWHERE = [400.0, 300.0, 40.0, 100.0]


def evaluate(
    truth: list[list[float]], found: list[tuple[list[float], float]], min_height: float = 0
) -> BoxScores:
    boxes = np.array([box for box, _ in found], np.float64).reshape(-1, 4)
    persons = np.array(truth, np.float64).reshape(-1, 4)
    return evaluate_boxes([persons], [boxes], [np.array([s for _, s in found])], min_height)


@pytest.mark.parametrize(
    ("truth", "found", "recall", "precision", "ap"),
    [
        ([PERSON, OTHER], [(PERSON, 0.9), (OTHER, 0.8)], 1.0, 1.0, 1.0),
        ([PERSON, OTHER], [(PERSON, 0.9)], 0.5, 1.0, 0.5),
        ([PERSON], [(PERSON, 0.9), (NOWHERE, 0.8)], 1.0, 0.5, 1.0),
        ([PERSON], [(PERSON, 0.8), (NOWHERE, 0.9)], 1.0, 0.5, 0.5),
        # The same person found twice is right once.
        ([PERSON], [(PERSON, 0.9), (PERSON, 0.8)], 1.0, 0.5, 1.0),
        ([], [(NOWHERE, 0.9)], 0.0, 0.0, 0.0),
    ],
)
def test_counted_by_hand(
    truth: list[list[float]],
    found: list[tuple[list[float], float]],
    recall: float,
    precision: float,
    ap: float,
) -> None:
    scores = evaluate(truth, found)
    assert scores.at(0.0) == pytest.approx((recall, precision))
    assert pytest.approx(ap) == scores.AP


def test_low_persons_count_neither_way() -> None:
    low_ghost = [400.0, 300.0, 20.0, 50.0]
    found = [(PERSON, 0.9), (CHILD, 0.8), (low_ghost, 0.7), (NOWHERE, 0.6)]
    scores = evaluate([PERSON, CHILD], found, min_height=96)
    assert scores.persons == 1
    assert scores.at(0.0) == pytest.approx((1.0, 0.5))


def test_the_threshold_moves_along_the_curve() -> None:
    scores = evaluate([PERSON, OTHER], [(PERSON, 0.9), (OTHER, 0.4), (NOWHERE, 0.2)])
    assert scores.at(0.95) == (0.0, 1.0)
    assert scores.at(0.9) == pytest.approx((0.5, 1.0))
    assert scores.at(0.4) == pytest.approx((1.0, 1.0))
    assert scores.best_threshold == pytest.approx(0.4)


def test_nothing_found_is_no_error() -> None:
    scores = evaluate([PERSON], [])
    assert scores.AP == 0
    assert scores.at(0.5) == (0.0, 1.0)
