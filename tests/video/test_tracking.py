import copy

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hrpose.poses import MIN_SCORE, Poses
from hrpose.skeletons import COCO_17
from hrpose.video import Tracker

RATE = 30
# A standing person, 60 x 160 pixels: a column of keypoints with some width.
BODY = np.stack([30 + 25 * np.sin(np.arange(17) * 2.0), np.linspace(0, 160, 17)], axis=1)


def persons(*places: tuple[float, float], score: float = 0.9, pose_score: float = 0.9) -> Poses:
    """One person with its top left corner at each place; keypoints have `score`."""
    n = len(places)
    corners = np.array(places, np.float64).reshape(n, 1, 2)
    points = BODY + corners
    keypoints = np.concatenate([points, np.full((n, 17, 1), score)], axis=2).astype(np.float32)
    boxes = np.concatenate([corners[:, 0], np.tile([60.0, 160.0], (n, 1))], axis=1)
    scores = np.full(n, pose_score, np.float32)
    return Poses(keypoints, boxes.astype(np.float32), scores, COCO_17)


def standing(tracker: Tracker, *places: tuple[float, float], frames: int = 5) -> float:
    """Show persons for some frames; returns the time of the next one."""
    for frame in range(frames):
        tracker.update(persons(*places), frame / RATE)
    return frames / RATE


def ids(tracker: Tracker, poses: Poses, time: float, **options: object) -> list[int | None]:
    return [tracker.id_of(number) for number in tracker.update(poses, time, **options).tolist()]  # type: ignore[arg-type]


@pytest.mark.parametrize("score", [0.9, 0.05], ids=["by keypoints", "by boxes"])
def test_ids_follow_persons_in_any_order(score: float) -> None:
    tracker, rng = Tracker(), np.random.default_rng(0)
    for frame in range(50):
        places = np.array([[10 + 2 * frame, 20], [300 - frame, 25], [200, 200 + frame]])
        order = rng.permutation(3)
        numbers = tracker.update(persons(*places[order], score=score), frame / RATE)
        if frame == 0:
            first = dict(zip(order.tolist(), numbers.tolist(), strict=True))
        assert numbers.tolist() == [first[number] for number in order.tolist()]
    assert sorted(tracker.id_of(number) or 0 for number in first.values()) == [1, 2, 3]


def test_a_copy_changes_apart() -> None:
    tracker = Tracker()
    time = standing(tracker, (0, 0), (200, 0))
    copied, before = tracker.copy(), copy.deepcopy(tracker)
    tracker.update(persons((5, 3), (206, -2)), time)
    places = [[track.keypoints for track in each.tracks] for each in (tracker, copied, before)]
    np.testing.assert_array_equal(places[1], places[2])
    assert not np.array_equal(places[0], places[1])
    # It decides as the original would have.
    for each in (copied, before):
        each.update(persons((5, 3), (206, -2)), time)
    for track, other in zip(copied.tracks, tracker.tracks, strict=True):
        np.testing.assert_array_equal(track.box, other.box)
        np.testing.assert_array_equal(track.velocity, other.velocity)


@pytest.mark.parametrize(
    ("away", "same"), [(0.2, True), (1.0, True), (2.9, True), (3.2, False), (10, False)]
)
def test_a_track_is_kept_for_three_seconds(away: float, same: bool) -> None:
    tracker = Tracker()
    time = standing(tracker, (100, 100)) + away
    for frame in range(3):
        found = ids(tracker, persons((104, 101)), time + frame / RATE)
    assert found == [1 if same else 2]


def test_a_hidden_person_is_expected_along_the_path() -> None:
    tracker = Tracker()
    for frame in range(20):
        tracker.update(persons((6 * frame, 50)), frame / RATE)
    hidden = 12
    nobody = Poses.empty(COCO_17)
    for frame in range(20, 19 + hidden):
        tracker.update(nobody, frame / RATE)
    assert ids(tracker, persons((6 * (19 + hidden), 50)), (19 + hidden) / RATE) == [1]


def test_a_distant_pose_is_somebody_else() -> None:
    tracker = Tracker()
    time = standing(tracker, (0, 0))
    for frame in range(3):
        found = ids(tracker, persons((400, 0)), time + frame / RATE)
    assert found == [2]
    assert ids(tracker, persons((400, 0), (0, 0)), time + 3 / RATE) == [2, 1]


def test_the_assignment_is_globally_optimal() -> None:
    """Both stepped to the right: the left one now stands nearly where the right one was."""
    tracker = Tracker()
    time = standing(tracker, (0, 0), (14, 0))
    assert ids(tracker, persons((11, 0), (25, 0)), time) == [1, 2]


@pytest.mark.parametrize(
    ("gap", "pose_score", "frames"),
    [(1 / 30, 0.9, 3), (1 / 5, 0.9, 2), (1.0, 0.9, 1), (1.0, MIN_SCORE, 2), (1 / 30, MIN_SCORE, 3)],
)
def test_a_track_becomes_a_person_when_it_was_detected_often_enough(
    gap: float, pose_score: float, frames: int
) -> None:
    tracker = Tracker()
    tracker.update(Poses.empty(COCO_17), 0)
    for frame in range(1, frames + 1):
        poses = persons((50, 50), pose_score=pose_score)
        assert ids(tracker, poses, frame * gap) == [1 if frame == frames else 0]


def test_a_moment_is_nobody() -> None:
    tracker = Tracker()
    (number,) = tracker.update(persons((50, 50)), 0).tolist()
    assert tracker.id_of(number) == 0
    assert tracker.waits(number)
    for frame in range(1, 20):
        tracker.update(Poses.empty(COCO_17), frame / RATE)
    assert tracker.id_of(number) is None
    assert not tracker.waits(number)
    assert tracker.tracks == []


def test_poses_under_the_minimum_score_are_nobodys_and_end_a_track() -> None:
    tracker = Tracker(keep=1, min_score=0.3)
    time = standing(tracker, (50, 50))
    for frame in range(40):
        weak = persons((50, 50), pose_score=0.29)
        assert tracker.update(weak, time + frame / RATE).tolist() == [0]
    assert tracker.tracks == []


def test_a_piece_of_a_person_is_nobody_else() -> None:
    """A pillar halves a person, and the detector finds the right half beside the whole."""
    tracker = Tracker()
    time = standing(tracker, (100, 100))
    whole, piece = persons((100, 100)), persons((145, 100))
    piece.keypoints[..., 0] = 130 + piece.keypoints[..., 0] % 28
    piece.boxes[:] = (130, 100, 30, 160)
    both = Poses(
        *(np.concatenate([getattr(each, name) for each in (whole, piece)])
          for name in ("keypoints", "boxes", "scores")), COCO_17,
    )  # fmt: skip
    for frame in range(40):
        found = ids(tracker, both, time + frame / RATE)
        assert [number for number in found if number] == [1]


def test_a_half_hidden_pose_replaces_nothing() -> None:
    tracker = Tracker()
    time = standing(tracker, (100, 100))
    (track,) = tracker.tracks
    before = track.keypoints.copy(), track.box.copy()
    for frame in range(20):
        hidden = persons((100, 100), score=0.6, pose_score=0.5)
        # The half that cannot be seen is guessed into the other one.
        hidden.keypoints[:, 9:, :2] = hidden.keypoints[:, 8:9, :2]
        hidden.keypoints[:, 9:, 2] = 0.4
        hidden.boxes[:, 3] = 80
        number = tracker.update(hidden, time + frame / RATE, owners=[track.number])
        assert number.tolist() == [track.number]
    np.testing.assert_allclose(track.keypoints[:, :2], before[0][:, :2], atol=3)
    np.testing.assert_allclose(track.box, before[1], atol=3)
    assert track.speed < 0.1


def test_a_box_does_not_shrink_at_once() -> None:
    """A pillar from the left pushes the box to the right; the person has not moved."""
    tracker = Tracker()
    time = standing(tracker, (100, 100))
    narrow = np.array([[130.0, 100, 30, 160]])
    tracker.update(persons((100, 100)), time, boxes=narrow)
    x, _, w, _ = tracker.tracks[0].box
    assert w > 58
    assert x <= 102


def test_after_a_gap_the_velocity_is_that_between_the_observations() -> None:
    tracker = Tracker()
    for frame in range(10):
        tracker.update(persons((3 * frame, 50)), frame / RATE)
    for frame in range(10, 25):
        tracker.update(Poses.empty(COCO_17), frame / RATE)
    tracker.update(persons((27 + 32, 50)), 25 / RATE)
    np.testing.assert_allclose(tracker.tracks[0].velocity, [2 * RATE, 0], atol=1)


def test_a_pose_in_an_expected_box_is_no_other_persons() -> None:
    """The box of a hidden person shows who is in front: that is not the hidden one."""
    tracker = Tracker()
    time = standing(tracker, (100, 100), (150, 100))
    front, behind = (track.number for track in tracker.tracks)
    found = tracker.update(persons((100, 100), (100, 100)), time, owners=[front, behind])
    assert sorted(found.tolist()) == [0, front]


def turning(tracker: Tracker) -> float:
    """A runner to the right at 6 body heights a second, who is then not seen for a frame."""
    for frame in range(10):
        tracker.update(persons((32 * frame, 50)), frame / RATE)
    tracker.update(Poses.empty(COCO_17), 10 / RATE)
    return 11 / RATE


def test_who_was_just_lost_after_a_turn_is_found_again() -> None:
    tracker = Tracker()
    assert ids(tracker, persons((220, 50)), turning(tracker)) == [1]


def test_a_piece_of_somebody_else_is_not_who_was_just_lost() -> None:
    tracker = Tracker()
    for frame in range(10):
        tracker.update(persons((32 * frame, 50), (500, 50)), frame / RATE)
    found = persons((500, 50), (480, 60))
    found.boxes[1] = (510, 60, 30, 140)
    found.keypoints[1, :, :2] = found.keypoints[1, :, :2] / 4 + (390, 20)
    assert ids(tracker, found, 10 / RATE)[1] != 1


def colored(*colors: float) -> np.ndarray:
    """Persons of one gray level each."""
    levels = np.array(colors, np.float64).reshape(-1, 1, 1)
    return np.broadcast_to(np.append([1.0] * 3, 0), (len(colors), 19, 4)) * levels + [0, 0, 0, 1]


def test_who_has_other_colors_is_not_who_was_just_lost() -> None:
    for level, expected in ((60, 1), (200, 0)):
        tracker = Tracker()
        time = turning(tracker)
        tracker.tracks[0].colors = colored(50)[0]
        found = ids(tracker, persons((220, 50)), time, colors=colored(level))
        assert found == [expected]


@pytest.mark.parametrize("colors", [False, True])
def test_colors_tell_who_is_behind_whom(colors: bool) -> None:
    """One walks past who stands still, who is hidden: the pose in the walker's box is not his."""
    tracker = Tracker()
    both, one = ({"colors": colored(*levels)} if colors else {} for levels in ((30, 220), (30,)))
    for frame in range(20):
        tracker.update(persons((4 * frame, 50), (100, 50)), frame / RATE, **both)
    walker, still = tracker.tracks
    for frame in range(20, 26):
        poses = persons((4 * frame, 50))
        tracker.update(poses, frame / RATE, owners=[walker.number], **one)
    assert not still.visible
    other = {"colors": colored(220)} if colors else {}
    drawn = tracker.update(persons((100, 50)), 26 / RATE, owners=[walker.number], **other)
    assert drawn.tolist() == ([0] if colors else [walker.number])


def test_one_person_may_change_colors() -> None:
    """A person who is alone is covered, or in the shade, and nobody else."""
    tracker = Tracker()
    for frame in range(20):
        level = 30 if frame < 10 else 200
        found = ids(tracker, persons((100, 50)), frame / RATE, colors=colored(level))
    assert found == [1]


def test_no_persons() -> None:
    tracker = Tracker(confirm=False)
    nobody = Poses.empty(COCO_17)
    assert tracker.update(nobody, 0).shape == (0,)
    assert tracker.expected(tracker.tracks, 0.1).xywh.shape == (0, 4)
    assert ids(tracker, persons((0, 0)), 0.1) == [1]
    assert tracker.update(nobody, 0.2).shape == (0,)
    assert ids(tracker, persons((0, 0)), 0.3) == [1]


def test_repeated_times() -> None:
    tracker = Tracker()
    for _ in range(3):
        assert tracker.update(persons((5, 5)), 1.0).tolist() == [1]


@given(st.integers(0, 10_000), st.lists(st.integers(0, 6), min_size=1, max_size=12))
def test_numbers_differ_and_ids_are_counted(seed: int, counts: list[int]) -> None:
    tracker, rng = Tracker(), np.random.default_rng(seed)
    given_ids: set[int] = set()
    for frame, count in enumerate(counts):
        places = [tuple(place) for place in rng.uniform(0, 500, (count, 2))]
        numbers = tracker.update(persons(*places), frame / 2).tolist()
        positive = [number for number in numbers if number]
        assert len(set(positive)) == len(positive)
        given_ids |= {tracker.id_of(number) or 0 for number in positive} - {0}
    assert given_ids == set(range(1, len(given_ids) + 1))
