"""The result type: validated shapes, selection, and COCO's form."""

from typing import Any

import numpy as np
import pytest

from hrpose.poses import Poses
from hrpose.skeleton import COCO_17, Skeleton

PAIR = Skeleton("pair", ("a", "b"))


def three_people(**changed: Any) -> Poses:
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
        three_people(**{field: value})


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
def test_people_are_selected(chosen: Any, ids: list[int]) -> None:
    everybody = three_people()
    some = everybody[chosen]
    assert some.track_ids is not None
    assert some.track_ids.tolist() == ids
    rows = [id_ - 7 for id_ in ids]
    np.testing.assert_array_equal(some.keypoints, everybody.keypoints[rows])
    np.testing.assert_array_equal(some.boxes, everybody.boxes[rows])
    np.testing.assert_array_equal(some.scores, everybody.scores[rows])


def test_an_index_outside_is_an_error() -> None:
    with pytest.raises(IndexError):
        three_people()[3]


def test_one_by_one() -> None:
    assert [len(person) for person in three_people()] == [1, 1, 1]
    assert [float(person.scores[0]) for person in three_people(track_ids=None)] == [0.5, 0.25, 1]


def test_nobody() -> None:
    nobody = Poses.empty(COCO_17)
    assert len(nobody) == 0
    assert nobody.keypoints.shape == (0, 17, 3)
    assert list(nobody) == []
    assert nobody.to_coco("photo") == []


def test_coco_results() -> None:
    entries = three_people().to_coco(image_id=42, category_id=3)
    assert len(entries) == 3
    assert entries[1] == {
        "image_id": 42,
        "category_id": 3,
        "keypoints": [6.0, 7.0, 8.0, 9.0, 10.0, 11.0],
        "score": 0.25,
        "bbox": [4.0, 5.0, 6.0, 7.0],
        "track_id": 8,
    }
    assert "track_id" not in three_people(track_ids=None).to_coco(image_id=42)[0]
