import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hrpose.poses import Poses
from hrpose.skeletons import COCO_17
from hrpose.video import Tracker

RATE = 30
# A standing person, 60 x 160 pixels: a column of keypoints with some width.
BODY = np.stack([30 + 25 * np.sin(np.arange(17) * 2.0), np.linspace(0, 160, 17)], axis=1)


def persons(*places: tuple[float, float], score: float = 0.9) -> Poses:
    """One person with its top left corner at each place."""
    n = len(places)
    corners = np.array(places, np.float64).reshape(n, 1, 2)
    points = BODY + corners
    keypoints = np.concatenate([points, np.full((n, 17, 1), score)], axis=2).astype(np.float32)
    boxes = np.concatenate([corners[:, 0], np.tile([60.0, 160.0], (n, 1))], axis=1)
    return Poses(keypoints, boxes.astype(np.float32), np.ones(n, np.float32), COCO_17)


@pytest.mark.parametrize("score", [0.9, 0.05], ids=["by keypoints", "by boxes"])
def test_ids_follow_persons_in_any_order(score: float) -> None:
    tracker, rng = Tracker(), np.random.default_rng(0)
    for frame in range(50):
        places = np.array([[10 + 2 * frame, 20], [300 - frame, 25], [200, 200 + frame]])
        order = rng.permutation(3)
        ids = tracker.update(persons(*places[order], score=score), frame / RATE)
        if frame == 0:
            first = dict(zip(order.tolist(), ids.tolist(), strict=True))
        assert ids.tolist() == [first[number] for number in order.tolist()]
    assert sorted(first.values()) == [1, 2, 3]


@pytest.mark.parametrize(
    ("away", "same"), [(0.2, True), (1.0, True), (1.9, True), (2.2, False), (10, False)]
)
def test_a_track_is_kept_for_two_seconds(away: float, same: bool) -> None:
    tracker = Tracker()
    tracker.update(persons((100, 100)), 0)
    (found,) = tracker.update(persons((104, 101)), away)
    assert found == (1 if same else 2)


def test_a_hidden_person_is_expected_along_the_path() -> None:
    tracker = Tracker()
    for frame in range(20):
        tracker.update(persons((6 * frame, 50)), frame / RATE)
    hidden = 12
    (found,) = tracker.update(persons((6 * (19 + hidden), 50)), (19 + hidden) / RATE)
    assert found == 1


def test_a_distant_pose_gets_a_new_id() -> None:
    tracker = Tracker()
    tracker.update(persons((0, 0)), 0)
    assert tracker.update(persons((400, 0)), 1 / RATE).tolist() == [2]
    assert tracker.update(persons((400, 0), (0, 0)), 2 / RATE).tolist() == [2, 1]


def test_the_assignment_is_globally_optimal() -> None:
    """Both stepped to the right: the left one now stands nearly where the right one was."""
    tracker = Tracker()
    tracker.update(persons((0, 0), (14, 0)), 0)
    assert tracker.update(persons((11, 0), (25, 0)), 1 / RATE).tolist() == [1, 2]


def test_no_persons() -> None:
    tracker = Tracker()
    nobody = Poses.empty(COCO_17)
    assert tracker.update(nobody, 0).shape == (0,)
    assert tracker.update(persons((0, 0)), 0.1).tolist() == [1]
    assert tracker.update(nobody, 0.2).shape == (0,)
    assert tracker.update(persons((0, 0)), 0.3).tolist() == [1]


def test_repeated_times() -> None:
    tracker = Tracker()
    for _ in range(3):
        assert tracker.update(persons((5, 5)), 1.0).tolist() == [1]


@given(st.integers(0, 10_000), st.lists(st.integers(0, 6), min_size=1, max_size=12))
def test_ids_are_different_and_counted(seed: int, counts: list[int]) -> None:
    tracker, rng = Tracker(), np.random.default_rng(seed)
    highest = 0
    for frame, count in enumerate(counts):
        places = [tuple(place) for place in rng.uniform(0, 500, (count, 2))]
        ids = tracker.update(persons(*places), frame / RATE).tolist()
        assert len(set(ids)) == count
        new = [id_ for id_ in ids if id_ > highest]
        assert sorted(new) == list(range(highest + 1, highest + 1 + len(new)))
        highest = max([highest, *ids])
