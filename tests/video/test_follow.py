from pathlib import Path

import numpy as np
import pytest

import hrpose
from clips import colors, times, write_clip
from hrpose.detection.person_detector import FunctionDetector
from hrpose.geometry import iou
from hrpose.synthetic import render_image
from hrpose.video import Clip, follow
from refusals import refused
from stage import RATE, Knowing, Scene, crossing
from tiny_weights import write_tiny_weights


@pytest.fixture(scope="module", params=range(6))
def scene(request: pytest.FixtureRequest) -> Scene:
    return crossing(request.param)


@pytest.fixture
def clip(scene: Scene, tmp_path: Path) -> Path:
    return scene.write(tmp_path / "crossing.mkv")


def who_is_who(scene: Scene, results: list) -> list[set[int]]:
    """The ids that each of the two people had."""
    ids: list[set[int]] = [set(), set()]
    for frame, poses in results:
        truth = scene.keypoints[frame.index, :, :, :2]
        for pose, track_id in zip(poses.keypoints, poses.track_ids, strict=True):
            distances = np.linalg.norm(truth - pose[:, :2], axis=2).mean(axis=1)
            ids[int(distances.argmin())].add(int(track_id))
    return ids


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0, 0.2, 0.5, 5])
def test_persons_who_cross_keep_their_ids(scene: Scene, clip: Path, seconds: float) -> None:
    estimator = Knowing(scene)
    results = list(follow(estimator, clip, detect_every=seconds, smooth=False))
    assert [frame.index for frame, _ in results] == list(range(60))
    assert sorted(map(sorted, who_is_who(scene, results))) == [[1], [2]]
    if seconds == 0:
        assert estimator.asked == list(range(60))


def test_both_persons_are_tracked_after_they_crossed(scene: Scene, clip: Path) -> None:
    results = list(follow(Knowing(scene), clip))
    assert not scene.seen.all(), "nobody was hidden: the test proves nothing"
    assert all(len(poses) == 2 for frame, poses in results if frame.index < 20)
    assert all(len(poses) == 2 for frame, poses in results if frame.index >= 45)


def test_without_a_detector_the_full_image_is_the_box_until_a_person_is_found(
    tmp_path: Path,
) -> None:
    path = write_clip(tmp_path / "a.mp4", colors(6), times(6))
    estimator = hrpose.load(write_tiny_weights(tmp_path / "tiny.onnx"), detector="none")
    results = list(follow(estimator, path))
    assert len(results) == 6
    np.testing.assert_array_equal(results[0][1].boxes, [[0, 0, 64, 48]])
    assert results[0][1].track_ids.tolist() == [1]
    # The tiny network is sure of every keypoint, so the second look is around them.
    assert (results[1][1].boxes != results[0][1].boxes).any()


def test_a_person_with_few_confident_keypoints_keeps_the_box(tmp_path: Path) -> None:
    dark = [np.full((48, 64, 3), 20, np.uint8)] * 7
    path = write_clip(tmp_path / "a.mp4", dark, times(7))
    box = [4.0, 4.0, 30.0, 40.0]
    estimator = hrpose.load(
        write_tiny_weights(tmp_path / "tiny.onnx"),
        detector=FunctionDetector(lambda image: [box]),
        min_score=0,
    )
    for _, poses in follow(estimator, path):
        assert poses.keypoints[..., 2].max() < 0.2
        assert poses.boxes.tolist() == [box]
        assert poses.track_ids.tolist() == [1]


def test_frames_without_persons(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", colors(12), times(12))
    nobody = FunctionDetector(lambda image: np.zeros((0, 4)))
    estimator = hrpose.load(write_tiny_weights(tmp_path / "tiny.onnx"), detector=nobody)
    for seconds in (0, 0.2):
        results = list(follow(estimator, path, detect_every=seconds))
        assert [len(poses) for _, poses in results] == [0] * 12
        assert all(poses.track_ids.shape == (0,) for _, poses in results)


def test_an_open_clip_is_not_closed(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", colors(6), times(6))
    estimator = hrpose.load(write_tiny_weights(tmp_path / "tiny.onnx"), detector="none")
    with Clip.open(path) as clip:
        results = follow(estimator, clip)
        next(results)
        results.close()
        assert clip.frame_count == 6


@pytest.mark.parametrize("seconds", [-0.1, float("nan")])
def test_seconds_are_not_negative(tmp_path: Path, seconds: float) -> None:
    estimator = hrpose.load(write_tiny_weights(tmp_path / "tiny.onnx"), detector="none")
    with refused("option-invalid", "detect_every", str(seconds)):
        next(follow(estimator, tmp_path / "a.mp4", detect_every=seconds))


def test_track_needs_only_the_clip(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", colors(4), times(4))
    weights = write_tiny_weights(tmp_path / "tiny.onnx")
    expected = list(follow(hrpose.load(weights, detector="full-image"), path))
    for how, options in (
        (weights, {"detector": "full-image"}),
        (hrpose.load(weights, detector="full-image"), {}),
    ):
        tracked = list(hrpose.track(path, how, **options))
        for (frame, poses), (_, same) in zip(tracked, expected, strict=True):
            np.testing.assert_array_equal(poses.keypoints, same.keypoints)
            assert poses.track_ids.tolist() == same.track_ids.tolist()
            assert poses.draw().shape == frame.image.shape
    with pytest.raises(TypeError, match="min_score"):
        next(hrpose.track(path, how, min_score=0.5))


def walking(places: list[float], seed: int = 1) -> Scene:
    """One person, whose left edge is at each place in each frame."""
    actor = render_image(np.random.default_rng(seed), (128, 160), 1)
    images, keypoints, boxes = [], [], []
    for index, x in enumerate(map(round, places)):
        image = np.full((160, 700, 3), 90, np.uint8)
        image[:, x : x + 128][actor.masks[0]] = actor.image[actor.masks[0]]
        image[0, 0, 0] = index
        images.append(image)
        keypoints.append(actor.keypoints + np.array([x, 0, 0]))
        boxes.append(actor.boxes + np.array([x, 0, 0, 0]))
    seen = np.ones((len(places), 1), np.bool_)
    return Scene(images, np.array(keypoints), np.array(boxes), seen)


class Near(Knowing):
    """A network that finds a person only in a box around the person, and guesses in others."""

    def stream(self, images, **options):  # type: ignore[no-untyped-def]
        for image, poses in super().stream(images, **options):
            frame = int(image.pixels[0, 0, 0])
            off = iou(image.boxes.astype(np.float64), self.scene.boxes[frame]).max(axis=1) < 0.4
            poses.keypoints[off, :, 2] = 0.25
            poses.scores[off] = 0.22
            yield image, poses


def errors(scene: Scene, results: list) -> list[float]:
    """The median error of the keypoints in each frame, in pixels; infinite without a pose."""
    return [
        min(
            [
                float(np.median(np.linalg.norm(pose[:, :2] - truth[0, :, :2], axis=1)))
                for pose in poses.keypoints
            ],
            default=np.inf,
        )
        for (_, poses), truth in zip(results, scene.keypoints, strict=True)
    ]


def test_a_calm_clip_needs_the_detector_rarely(tmp_path: Path) -> None:
    scene = walking([200] * 90)
    estimator = Near(scene)
    list(follow(estimator, scene.write(tmp_path / "calm.mkv"), smooth=False))
    assert len(estimator.asked) <= 3 + 2 * 90 / RATE


@pytest.mark.parametrize(
    "places",
    [
        [20 + 30 * frame for frame in range(18)],
        [100] * 20 + [350] * 20,
        [300 + 200 * np.sin(frame / 8) for frame in range(40)],
    ],
    ids=["a runner", "a jump", "to and fro"],
)
def test_a_person_who_moves_is_in_place_in_every_frame(tmp_path: Path, places: list[float]) -> None:
    scene = walking(places)
    results = list(follow(Near(scene), scene.write(tmp_path / "fast.mkv"), smooth=False))
    assert max(errors(scene, results)) < 8


class Blinking(Near):
    """Sees nobody in one frame."""

    def stream(self, images, **options):  # type: ignore[no-untyped-def]
        for image, poses in super().stream(images, **options):
            if int(image.pixels[0, 0, 0]) == 20:
                poses.scores[:] = 0.1
            yield image, poses


def test_a_person_lost_for_a_frame_is_back_in_the_next(tmp_path: Path) -> None:
    scene = walking([100 + 4 * frame for frame in range(40)])
    path = scene.write(tmp_path / "blink.mkv")
    results = list(follow(Blinking(scene), path, smooth=False))
    assert [frame.index for frame, poses in results if not len(poses)] == [20]


def test_one_walker_has_one_id_at_two_frames_a_second(tmp_path: Path) -> None:
    scene = walking([20 + 75 * frame for frame in range(8)])
    path = write_clip(tmp_path / "slow.mkv", scene.images, times(8, 2), codec="ffv1", pixels="bgr0")
    results = list(follow(Near(scene), path, smooth=False))
    assert [poses.track_ids.tolist() for _, poses in results] == [[1]] * 8


def test_a_person_is_returned_from_the_first_frame_of_a_file(tmp_path: Path) -> None:
    """And from a camera when confirmed, because its frames do not wait."""
    scene = walking([200] * 12)
    path = scene.write(tmp_path / "still.mkv")
    assert [len(poses) for _, poses in follow(Near(scene), path)] == [1] * 12
    with Clip.open(path) as clip:
        clip.live = True
        counts = [len(poses) for _, poses in follow(Near(scene), clip)]
    assert counts == [0, 0] + [1] * 10


def test_what_a_detector_finds_for_a_moment_is_nobody(tmp_path: Path) -> None:
    scene = walking([200] * 30)
    scene.seen[:] = False
    scene.seen[10:12] = True
    results = list(follow(Near(scene), scene.write(tmp_path / "moment.mkv"), detect_every=0))
    assert [len(poses) for _, poses in results] == [0] * 30
    assert [frame.index for frame, _ in results] == list(range(30))
