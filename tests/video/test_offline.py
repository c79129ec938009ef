import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from benchmarks.offline import measure, refine
from benchmarks.walkers import plant
from hypothesis import given
from hypothesis import strategies as st

import hrpose
from clips import colors, times, write_clip
from hrpose.detection.person_detector import FunctionDetector
from hrpose.poses import Poses
from hrpose.skeletons import COCO_17
from hrpose.video import ClipPoses, follow, follow_offline, refine_clip, tracks
from hrpose.video.offline import agree, smooth_boxes
from hrpose.video.tracks import check_person
from refusals import refused
from stage import Knowing, crossing
from tiny_weights import write_tiny_weights


def one(x: float, score: float = 0.8, id: int = 1, size: float = 100) -> Poses:
    """A person whose keypoints are a column from (x, 0)."""
    keypoints = np.zeros((1, 17, 3), np.float32)
    keypoints[0, :, 0] = x + np.sin(np.arange(17)) * size / 4
    keypoints[0, :, 1] = np.linspace(0, size, 17)
    keypoints[0, :, 2] = score
    box = np.array([[x - size / 4, 0, size / 2, size]], np.float32)
    return Poses(keypoints, box, np.array([score], np.float32), COCO_17, np.array([id]))


def joined(*persons: Poses) -> Poses:
    parts = ("keypoints", "boxes", "scores", "track_ids")
    values = [np.concatenate([getattr(person, part) for person in persons]) for part in parts]
    return Poses(values[0], values[1], values[2], COCO_17, values[3])


def clip(frames: list[Poses], rate: float = 10) -> ClipPoses:
    return ClipPoses.collect([(i / rate, poses) for i, poses in enumerate(frames)], COCO_17)


@pytest.mark.parametrize("yaw", [0.0, 0.8, 1.57], ids=["front", "oblique", "side"])
def test_errors_of_a_walker_fall(yaw: float) -> None:
    walker = plant(np.random.default_rng(7), seconds=5, yaw=yaw)
    before, after = measure(walker, walker.poses()), measure(walker, refine(walker))
    assert after.seen < 0.65 * before.seen
    assert after.large < 0.5 * before.large
    assert after.jitter < 0.4 * before.jitter
    assert after.swapped < 0.6 * before.swapped
    assert after.found > 90
    assert after.hidden < 6


def test_nothing_lags() -> None:
    """A keypoint that swings once a second is in phase, unlike with a causal filter."""
    at = np.arange(90) / 30
    walker = plant(
        np.random.default_rng(0), seconds=3, yaw=1.57, swaps=[], gaps=0, absences=0, outliers=0
    )
    ankle = np.array([poses.keypoints[0, 15, 0] for poses in refine(walker)])
    errors = [
        np.abs(np.interp(at[5:-5] + shift, at, ankle) - walker.truth[5:-5, 15, 0]).mean()
        for shift in (-0.02, 0, 0.02)
    ]
    assert min(errors) == errors[1]


@pytest.mark.parametrize(("missing", "filled"), [(1, True), (4, True), (5, False)])
def test_an_absent_person_is_filled_within_the_limit(missing: int, filled: bool) -> None:
    nobody = one(0)[:0]
    frames = [one(10.0 * i) if not 5 <= i < 5 + missing else nobody for i in range(20)]
    found = list(refine_clip(clip(frames), max_gap=0.5))
    assert [len(poses) for poses in found[5 : 5 + missing]] == [int(filled)] * missing
    if filled:
        middle = found[5 + missing // 2]
        assert middle.filled is not None
        assert middle.filled.all()
        expected = one(10.0 * (5 + missing // 2))
        np.testing.assert_allclose(middle.keypoints, expected.keypoints, atol=0.5)
        np.testing.assert_allclose(middle.boxes, expected.boxes, atol=0.5)
        np.testing.assert_allclose(middle.scores, [0.8], atol=1e-6)
    others = [poses for i, poses in enumerate(found) if not 5 <= i < 5 + missing]
    assert not any(poses.filled.any() for poses in others)


@pytest.mark.parametrize(("missing", "filled"), [(3, True), (8, False)])
def test_a_hidden_keypoint_is_filled_within_the_limit(missing: int, filled: bool) -> None:
    frames = [one(50.0) for _ in range(20)]
    for poses in frames[5 : 5 + missing]:
        poses.keypoints[0, 9] = 3, 4, 0.1
    found = list(refine_clip(clip(frames), max_gap=0.5))
    poses = found[6]
    assert poses.filled.sum() == filled
    assert poses.filled[0, 9] == filled
    expected = (*one(50.0).keypoints[0, 9, :2], 0.8) if filled else (3, 4, 0.1)
    np.testing.assert_allclose(poses.keypoints[0, 9], expected, atol=0.2)
    assert poses.to_coco(1)[0].get("filled") == ([9] if filled else None)


def test_a_keypoint_that_is_never_seen_stays_as_it_is() -> None:
    frames = [one(50.0) for _ in range(6)]
    for poses in frames:
        poses.keypoints[0, 0] = 1, 2, 0.05
    for poses in refine_clip(clip(frames)):
        np.testing.assert_allclose(poses.keypoints[0, 0], (1, 2, 0.05))


@given(st.integers(0, 10_000))
def test_every_frame_and_id_comes_back(seed: int) -> None:
    rng = np.random.default_rng(seed)
    nobody = one(0)[:0]
    frames = []
    for i in range(int(rng.integers(1, 12))):
        persons = [one(100.0 * id + i, id=id) for id in (1, 2, 7) if rng.random() < 0.7]
        frames.append(joined(*persons) if persons else nobody)
    collected = clip(frames)
    assert [poses.track_ids.tolist() for poses in collected] == [
        p.track_ids.tolist() for p in frames
    ]
    refined = list(refine_clip(collected))
    assert len(refined) == len(frames)
    for before, after in zip(frames, refined, strict=True):
        assert set(before.track_ids.tolist()) <= set(after.track_ids.tolist())
        assert np.isfinite(after.keypoints).all()
        np.testing.assert_allclose(
            after.keypoints[np.isin(after.track_ids, before.track_ids)], before.keypoints, atol=8
        )


def test_times_may_repeat() -> None:
    frames = [(t, one(50.0)) for t in (0.0, 0.1, 0.1, 0.1, 0.05, 0.3)]
    for poses in refine_clip(ClipPoses.collect(frames, COCO_17)):
        np.testing.assert_allclose(poses.keypoints, one(50.0).keypoints, atol=1e-3)


def test_long_clips_are_joined_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = [joined(one(10.0 * i, id=1), one(300, id=2)) for i in range(23)]
    whole = clip(frames)
    monkeypatch.setattr(tracks, "_JOINED", 5)
    for one_by_one, at_once in zip(clip(frames), whole, strict=True):
        np.testing.assert_array_equal(one_by_one.keypoints, at_once.keypoints)
        assert one_by_one.track_ids.tolist() == [1, 2]


def test_poses_without_ids() -> None:
    with pytest.raises(ValueError, match="track_ids"):
        clip([replace(one(0), track_ids=None)])


def test_nobody() -> None:
    empty = clip([one(0)[:0]] * 3)
    assert [len(poses) for poses in refine_clip(empty)] == [0, 0, 0]
    assert [len(poses) for poses in empty.only("2")] == [0, 0, 0]


@pytest.mark.parametrize("max_gap", [-0.1, float("nan")])
def test_gaps_are_seconds(max_gap: float) -> None:
    with refused("option-invalid", "max_gap"):
        refine_clip(clip([one(0)]), max_gap=max_gap)
    scene = Knowing(crossing(1))
    with refused("option-invalid", "max_gap"):  # before the clip is read
        next(follow_offline(scene, "none.mp4", max_gap=max_gap))


@pytest.mark.parametrize(
    ("person", "id"),
    [("1", 1), ("3", 3), ("largest", 2), ("300,50", 3), ("100.5,20", 1), ("202,10", 2)],
)
def test_one_person_is_chosen(person: str, id: int) -> None:
    frames = [joined(one(100, id=1), one(200, id=2, size=120), one(300, id=3)) for _ in range(4)]
    (track,) = clip(frames).only(person).tracks
    assert track.id == id


@pytest.mark.parametrize("person", ["4", "900,50"])
def test_a_person_who_is_not_there(person: str) -> None:
    with refused("persons-missing", person, "1, 3"):
        clip([joined(one(100, id=1), one(300, id=3))]).only(person)


@pytest.mark.parametrize("person", ["", "0", "-1", "1.5", "left", "1,2,3", "nan,1", "inf", "x,y"])
def test_words_for_a_person(person: str) -> None:
    with refused("option-invalid", f"'{person}'"):
        check_person(person)


def test_boxes_are_smoothed() -> None:
    rng = np.random.default_rng(0)
    frames = [one(200.0) for _ in range(40)]
    for i, poses in enumerate(frames):  # now and then the feet are not seen
        poses.keypoints[0, 14:, 2] = 0.05 if rng.random() < 0.3 else 0.8
        frames[i] = replace(poses, boxes=poses.boxes + rng.normal(0, 3, 4).astype(np.float32))
    boxes = np.concatenate([p.boxes for p in smooth_boxes(refine_clip(clip(frames)), (400, 200))])
    assert np.abs(np.diff(boxes, axis=0)).max() < 2
    np.testing.assert_allclose(boxes.mean(axis=0), (165, -10, 70, 120), atol=12)


def test_a_second_pose_of_somebody_else_is_no_pose() -> None:
    first = joined(one(100, id=1), one(110, id=2))
    first = replace(first, filled=np.array([[True] * 17, [False] * 17]))
    near, mirrored = one(101, id=1), one(110, id=2)
    mirrored = replace(mirrored, keypoints=mirrored.keypoints[:, COCO_17.flip_permutation])
    assert agree(first, joined(near, mirrored)).tolist() == [True, True]
    # The first person was hidden; what is seen in that box is the second.
    assert agree(first, joined(one(109), one(110))).tolist() == [False, True]
    assert agree(first, joined(one(100), one(400))).tolist() == [True, False]


def test_a_clip_of_two_persons(tmp_path: Path) -> None:
    """Followed, estimated again and smoothed: nearer to the truth, and with the same ids."""
    scene = crossing(3)
    path = scene.write(tmp_path / "scene.mkv")
    errors = {}
    for name, found in {
        "online": follow(Knowing(scene), path, detect_every=0, smooth=False),
        "offline": follow_offline(Knowing(scene), path, detect_every=0),
    }.items():
        pairs = list(found)
        assert [frame.index for frame, _ in pairs] == list(range(60))
        distances = []
        for frame, poses in pairs:
            truth = scene.keypoints[frame.index, :, :, :2]
            for pose in poses.keypoints:
                each = np.linalg.norm(truth - pose[:, :2], axis=2).mean(axis=1)
                distances.append(each.min())
        errors[name] = float(np.mean(distances))
    assert errors["offline"] < 0.75 * errors["online"]


def test_frames_are_not_kept(tmp_path: Path) -> None:
    """Poses may refer to their pixels; those of a whole clip would fill the memory."""
    path = write_clip(tmp_path / "a.mp4", colors(4), times(4))
    estimator = hrpose.load(write_tiny_weights(tmp_path / "tiny.onnx"), detector="full-image")
    alive: list[weakref.ref[np.ndarray]] = []

    def watch(image: np.ndarray) -> np.ndarray:
        alive.append(weakref.ref(image))
        return np.array([[4.0, 4.0, 30.0, 40.0]])

    estimator.detector = FunctionDetector(watch)
    for _ in follow_offline(estimator, path, detect_every=0):
        assert sum(image() is not None for image in alive) <= 1
    assert len(alive) == 4


def test_one_person_of_a_clip(tmp_path: Path) -> None:
    scene = crossing(3)
    path = scene.write(tmp_path / "scene.mkv")
    found = follow_offline(Knowing(scene), path, detect_every=0, person="2", recrop=False)
    assert {id for _, poses in found for id in poses.track_ids.tolist()} == {2}


def test_the_pass_can_be_stopped(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", colors(6), times(6))
    estimator = hrpose.load(write_tiny_weights(tmp_path / "tiny.onnx"), detector="full-image")
    seen: list[tuple[str, int]] = []

    def progress(what: str, done: int) -> bool:
        seen.append((what, done))
        return len(seen) < 9

    assert list(follow_offline(estimator, path, progress=progress)) == []
    assert [done for _, done in seen] == [1, 2, 3, 4, 5, 6, 1, 2, 3]
