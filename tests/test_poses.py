"""The result type: validated shapes, selection, and COCO's form."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from hrpose.geometry import BODY_MARGIN
from hrpose.poses import FEWEST_KEYPOINTS, Poses, boxes_around, rescore
from hrpose.skeleton import Skeleton
from hrpose.skeletons import COCO_17

PAIR = Skeleton("pair", ("a", "b"))


def three_persons(**changed: Any) -> Poses:
    parts: dict[str, Any] = {
        "keypoints": np.arange(18, dtype=np.float32).reshape(3, 2, 3),
        "boxes": np.arange(12, dtype=np.float32).reshape(3, 4),
        "scores": np.array([0.5, 0.25, 1], np.float32),
        "skeleton": PAIR,
        "track_ids": np.array([7, 8, 9]),
    }
    return Poses(**{**parts, **changed})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("keypoints", np.zeros((3, 17, 3), np.float32)),
        ("keypoints", np.zeros((3, 2, 2), np.float32)),
        ("boxes", np.zeros((2, 4), np.float32)),
        ("boxes", np.zeros((3, 5), np.float32)),
        ("scores", np.zeros((3, 1), np.float32)),
        ("track_ids", np.zeros(2, np.int64)),
    ],
)
def test_shapes_that_do_not_fit_are_refused(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"Poses\.{field}: expected shape .*, found"):
        three_persons(**{field: value})


@pytest.mark.parametrize(
    ("chosen", "ids"),
    [
        (1, [8]),
        (-1, [9]),
        (np.int64(2), [9]),
        (slice(1, None), [8, 9]),
        (slice(0, 0), []),
        (np.array([True, False, True]), [7, 9]),
        (np.array([2, 0]), [9, 7]),
        ([], []),
    ],
)
def test_persons_are_selected(chosen: Any, ids: list[int]) -> None:
    everybody = three_persons()
    some = everybody[chosen]
    assert some.track_ids is not None
    assert some.track_ids.tolist() == ids
    rows = [id_ - 7 for id_ in ids]
    np.testing.assert_array_equal(some.keypoints, everybody.keypoints[rows])
    np.testing.assert_array_equal(some.boxes, everybody.boxes[rows])
    np.testing.assert_array_equal(some.scores, everybody.scores[rows])


def test_an_index_outside_is_an_error() -> None:
    with pytest.raises(IndexError):
        three_persons()[3]


def test_one_by_one() -> None:
    assert [len(person) for person in three_persons()] == [1, 1, 1]
    assert [float(person.scores[0]) for person in three_persons(track_ids=None)] == [0.5, 0.25, 1]


def test_nobody() -> None:
    nobody = Poses.empty(COCO_17)
    assert len(nobody) == 0
    assert nobody.keypoints.shape == (0, 17, 3)
    assert list(nobody) == []
    assert nobody.to_coco("image") == []


def test_coco_results() -> None:
    entries = three_persons().to_coco(image_id=42, category_id=3)
    assert len(entries) == 3
    assert entries[1] == {
        "image_id": 42,
        "category_id": 3,
        "keypoints": [6.0, 7.0, 8.0, 9.0, 10.0, 11.0],
        "score": 0.25,
        "bbox": [4.0, 5.0, 6.0, 7.0],
        "track_id": 8,
    }
    assert "track_id" not in three_persons(track_ids=None).to_coco(image_id=42)[0]


def test_rescore_is_the_mean_of_counted_keypoints_times_the_box() -> None:
    poses = np.zeros((3, 4, 3))
    poses[0, :, 2] = 0.9, 0.5, 0.2, 0.1  # 0.2 itself is not above 0.2
    poses[1, :, 2] = 0.2, 0.1, 0, 0
    poses[2, :, 2] = 1
    assert rescore(poses, [0.5, 1, 0.3]) == pytest.approx([0.35, 0, 0.3])


IMAGE_WH = (200, 100)
OLD = np.array([[1.0, 2, 3, 4]])


def person(*points: tuple[float, float, float]) -> NDArray[np.float32]:
    return np.array([points], np.float32)


def test_a_box_holds_the_sure_keypoints_and_a_margin() -> None:
    corners = [(20, 30, 0.9), (60, 30, 0.9), (20, 90, 0.9), (60, 90, 0.9)]
    unsure, beside = (150, 50, 0.1), (60, 120, 0.9)
    found = boxes_around(person(*corners, *corners[:2], unsure, beside), OLD, IMAGE_WH)
    margin = 60 * BODY_MARGIN
    np.testing.assert_allclose(
        found, [[20 - margin, 30 - margin, 40 + 2 * margin, 60 + 2 * margin]]
    )


@pytest.mark.parametrize(
    ("sure", "moves"), [(0, False), (FEWEST_KEYPOINTS - 1, False), (FEWEST_KEYPOINTS, True)]
)
def test_with_few_sure_keypoints_the_box_stays(sure: int, moves: bool) -> None:
    points = [(10.0 + i, 20.0 + i, 0.9 if i < sure else 0.1) for i in range(17)]
    found = boxes_around(person(*points), OLD, IMAGE_WH)
    assert (found != OLD).any() == moves


def test_keypoints_on_one_spot_do_not_make_a_speck() -> None:
    first = np.array([[0.0, 0, 80, 120]])
    np.testing.assert_allclose(
        boxes_around(person(*[(50.0, 60.0, 0.9)] * 17), first, IMAGE_WH), [[44, 54, 12, 12]]
    )


def test_nobody_has_no_box() -> None:
    found = boxes_around(np.zeros((0, 17, 3), np.float32), np.zeros((0, 4)), IMAGE_WH)
    assert found.shape == (0, 4)


@given(
    st.lists(
        st.tuples(st.floats(-50, 250), st.floats(-50, 150), st.floats(0, 1)),
        min_size=17,
        max_size=17,
    )
)
def test_any_box_is_one_that_can_be_cropped(points: list[tuple[float, float, float]]) -> None:
    ((x, y, w, h),) = boxes_around(person(*points), OLD, IMAGE_WH)
    assert w > 0
    assert h > 0
    # It touches the image.
    assert x < IMAGE_WH[0]
    assert y < IMAGE_WH[1]
    assert x + w > 0
    assert y + h > 0
