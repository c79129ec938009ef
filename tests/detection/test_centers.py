"""Boxes to maps and back: the round trip, and who owns which cell."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hrpose.detection import person_detector

WH = (128, 96)
STRIDE_AND_A_BIT = person_detector.STRIDE + 0.5


def back(targets: person_detector.Targets, threshold: float = 1.0) -> np.ndarray:
    boxes, _ = person_detector.decode(targets.heat, targets.distances, threshold)
    return boxes


@given(x=st.floats(0, 110), y=st.floats(0, 80), w=st.floats(14, 128), h=st.floats(14, 96))
def test_a_box_comes_back(x: float, y: float, w: float, h: float) -> None:
    box = np.array([[x, y, min(w, 128 - x), min(h, 96 - y)]])
    found = back(person_detector.encode(box, WH))
    np.testing.assert_allclose(found, box, atol=1e-4)


@given(x=st.floats(0, 120), y=st.floats(0, 90), w=st.floats(4, 14), h=st.floats(6, 14))
def test_a_box_of_few_cells_nearly_comes_back(x: float, y: float, w: float, h: float) -> None:
    # Cells beside it are outside, from where no distance leads back.
    box = np.array([[x, y, min(w, 128 - x), min(h, 96 - y)]])
    found = back(person_detector.encode(box, WH))
    np.testing.assert_allclose(found, box, atol=STRIDE_AND_A_BIT)


def test_persons_apart_come_back_each() -> None:
    boxes = np.array([[4.0, 8.0, 20.0, 60.0], [50.0, 20.0, 16.0, 40.0], [90.0, 2.0, 30.0, 90.0]])
    found = back(person_detector.encode(boxes, WH))
    np.testing.assert_allclose(found[np.argsort(found[:, 0])], boxes, atol=1e-4)


def test_nobody_gives_empty_maps() -> None:
    targets = person_detector.encode(np.zeros((0, 4)), WH)
    assert targets.heat.shape == (24, 32)
    assert targets.heat.max() == targets.weights.max() == 0
    assert len(back(targets)) == 0


def test_the_smaller_of_two_with_one_center_owns_it() -> None:
    small, large = [54.0, 38.0, 20.0, 20.0], [14.0, 8.0, 100.0, 80.0]
    found = back(person_detector.encode(np.array([large, small]), WH))
    np.testing.assert_allclose(found, [small], atol=1e-4)


@given(st.integers(1, 6), st.integers(0, 1000))
def test_each_person_weighs_one(persons: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    boxes = np.column_stack([rng.uniform(0, 60, (persons, 2)), rng.uniform(10, 30, (persons, 2))])
    targets = person_detector.encode(boxes, WH)
    owners = round(float(targets.weights.sum()))
    assert targets.weights.sum() == pytest.approx(owners, abs=1e-4)
    assert 1 <= owners <= persons
    assert targets.heat.min() >= 0
    assert targets.heat.max() == 1


def test_best_first_and_not_too_many() -> None:
    heat = np.zeros((24, 32), np.float32)
    heat[2, 3], heat[10, 20], heat[20, 5] = 0.5, 0.9, 0.2
    distances = np.full((4, 24, 32), 8, np.float32)
    boxes, scores = person_detector.decode(heat, distances, 0.3)
    np.testing.assert_allclose(scores, [0.9, 0.5])
    np.testing.assert_allclose(boxes[0], [20 * 4 + 1.5 - 8, 10 * 4 + 1.5 - 8, 16, 16])
    assert len(person_detector.decode(heat, distances, 0.3, limit=1)[0]) == 1


def test_not_a_number_is_nobody() -> None:
    heat = np.full((24, 32), np.nan, np.float32)
    assert len(person_detector.decode(heat, np.ones((4, 24, 32), np.float32), 0.1)[0]) == 0
