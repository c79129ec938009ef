"""The second look: boxes around what the first one found."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hrpose.runtime.refine import FEWEST_KEYPOINTS, MARGIN, boxes_around

WH = (200, 100)
OLD = np.array([[1.0, 2, 3, 4]])


def person(
    *points: tuple[float, float, float],
) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.array([points], np.float32)


def test_a_box_holds_the_sure_keypoints_and_a_margin() -> None:
    corners = [(20, 30, 0.9), (60, 30, 0.9), (20, 90, 0.9), (60, 90, 0.9)]
    unsure, beside = (150, 50, 0.1), (60, 120, 0.9)
    found = boxes_around(person(*corners, *corners[:2], unsure, beside), OLD, WH)
    margin = 60 * MARGIN
    np.testing.assert_allclose(
        found, [[20 - margin, 30 - margin, 40 + 2 * margin, 60 + 2 * margin]]
    )


@pytest.mark.parametrize(
    ("sure", "moves"), [(0, False), (FEWEST_KEYPOINTS - 1, False), (FEWEST_KEYPOINTS, True)]
)
def test_with_few_sure_keypoints_the_box_stays(sure: int, moves: bool) -> None:
    points = [(10.0 + i, 20.0 + i, 0.9 if i < sure else 0.1) for i in range(17)]
    found = boxes_around(person(*points), OLD, WH)
    assert (found != OLD).any() == moves


def test_keypoints_on_one_spot_do_not_make_a_speck() -> None:
    first = np.array([[0.0, 0, 80, 120]])
    np.testing.assert_allclose(
        boxes_around(person(*[(50.0, 60.0, 0.9)] * 17), first, WH), [[44, 54, 12, 12]]
    )


def test_nobody() -> None:
    found = boxes_around(np.zeros((0, 17, 3), np.float32), np.zeros((0, 4)), WH)
    assert found.shape == (0, 4)


@given(
    st.lists(
        st.tuples(st.floats(-50, 250), st.floats(-50, 150), st.floats(0, 1)),
        min_size=17,
        max_size=17,
    )
)
def test_any_box_is_one_that_can_be_cropped(points: list[tuple[float, float, float]]) -> None:
    ((x, y, w, h),) = boxes_around(person(*points), OLD, WH)
    assert w > 0
    assert h > 0
    # It touches the picture.
    assert x < WH[0]
    assert y < WH[1]
    assert x + w > 0
    assert y + h > 0
