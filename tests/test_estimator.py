"""The estimator: images and boxes in, or a detector; poses in the pixels of the image out."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import hrpose
from hrpose import codec
from hrpose.estimator import MAX_PERSONS, InputImage, PoseEstimator
from hrpose.geometry import Boxes, transform, warp
from hrpose.metadata import Calibration, Metadata
from hrpose.session import OnnxSession, open_session
from refusals import refused
from tiny_weights import METADATA, write_tiny_weights

K = len(METADATA.skeleton)


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> OnnxSession:
    return OnnxSession(write_tiny_weights(tmp_path_factory.mktemp("weights") / "tiny.onnx"))


@dataclass
class Scripted:
    """A session that answers from `answer`, and remembers how many crops came at once."""

    answer: Callable[[NDArray[np.uint8]], NDArray[np.float32]]
    metadata: Metadata = METADATA
    batches: list[int] = field(default_factory=list)

    def __call__(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.batches.append(len(crops))
        return self.answer(crops)


def peaks(points: NDArray[np.float64]) -> NDArray[np.float32]:
    """Heatmaps (n, k, h, w) with a Gaussian at each of `points` (n, k, 2), in input pixels."""
    maps: NDArray[np.float32] = codec.encode(
        points, np.ones(points.shape[:-1]), METADATA.heatmap_wh, sigma=1.0
    )[0]
    return maps


def in_the_middle(crops: NDArray[np.uint8]) -> NDArray[np.float32]:
    # (24, 32) is the middle of the 48 x 64 crop, and a whole pixel of the heatmap.
    return peaks(np.tile([24.0, 32.0], (len(crops), K, 1)))


def noise(seed: int = 0, width: int = 70, height: int = 90) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


BOXES = [[3, 4, 30, 50], [20, 10, 40, 40], [-10, -10, 60, 50], [0, 0, 70, 90], [60, 80, 40, 40.5]]


@pytest.mark.parametrize("flip_test", [False, True])
@pytest.mark.parametrize("batch_size", [1, 2, 5, 64])
def test_a_batch_equals_its_singles(session: OnnxSession, flip_test: bool, batch_size: int) -> None:
    image = noise()
    estimator = PoseEstimator(session, flip_test=flip_test, batch_size=batch_size)
    together = estimator(image, BOXES)
    for pose, box in zip(together, BOXES, strict=True):
        alone = PoseEstimator(session, flip_test=flip_test, batch_size=1)(image, [box])
        np.testing.assert_allclose(alone.keypoints, pose.keypoints, atol=1e-4)
        np.testing.assert_allclose(alone.scores, pose.scores, atol=1e-6)


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_a_stream_keeps_the_order_of_its_images(session: OnnxSession, batch_size: int) -> None:
    counts = (2, 0, 5, 1, 0, 3)
    images = [InputImage.of(noise(seed), BOXES[:n]) for seed, n in enumerate(counts)]
    estimator = PoseEstimator(session, batch_size=batch_size)
    found = list(estimator.stream(images))
    assert [len(poses) for _, poses in found] == list(counts)
    for image, (same, poses) in zip(images, found, strict=True):
        assert same is image
        alone = estimator(image.pixels, image.boxes)
        np.testing.assert_allclose(alone.keypoints, poses.keypoints, atol=1e-4)


def test_no_more_crops_at_once_than_asked() -> None:
    session = Scripted(in_the_middle)
    list(PoseEstimator(session, batch_size=4).stream([InputImage.of(noise(), BOXES)] * 3))
    assert max(session.batches) == 4
    assert sum(session.batches) == 3 * len(BOXES)


@pytest.mark.parametrize("flip_test", [False, True])
def test_keypoints_of_crops_are_those_of_the_image(session: OnnxSession, flip_test: bool) -> None:
    image, metadata = noise(), session.metadata
    crops = [metadata.crop(box) for box in BOXES]
    estimator = PoseEstimator(session, flip_test=flip_test, batch_size=2)
    points, peaks = estimator.keypoints(np.stack([warp(image, crop) for crop in crops]))
    poses = estimator(image, BOXES)
    for crop, in_crop, pose in zip(crops, points, poses, strict=True):
        in_image = transform(in_crop, crop.inverse_matrix)
        np.testing.assert_allclose(in_image, pose.keypoints[0, :, :2], atol=1e-3)
    np.testing.assert_allclose(metadata.keypoint_scores(peaks), poses.keypoints[..., 2])


def test_keypoints_go_through_in_batches() -> None:
    session = Scripted(in_the_middle)
    width, height = session.metadata.input_wh
    crops = np.zeros((9, height, width, 3), np.uint8)
    estimator = PoseEstimator(session, batch_size=4)
    points, peaks = estimator.keypoints(crops)
    assert (points.shape, peaks.shape) == ((9, K, 2), (9, K))
    assert session.batches == [4, 4, 1]
    assert len(estimator.heatmaps(crops)) == 9
    assert [len(part) for part in estimator.keypoints(crops[:0])] == [0, 0]
    assert len(estimator.heatmaps(crops[:0])) == 0


@pytest.mark.parametrize("wrong", ["float", "one", "size"])
def test_crops_of_another_kind_are_refused(wrong: str) -> None:
    session = Scripted(in_the_middle)
    width, height = session.metadata.input_wh
    crops = {
        "float": np.zeros((1, height, width, 3), np.float32),
        "one": np.zeros((height, width, 3), np.uint8),
        "size": np.zeros((1, height, width + 4, 3), np.uint8),
    }[wrong]
    with refused("array-invalid", "crops"):
        PoseEstimator(session).keypoints(crops)
    assert session.batches == []


def test_neighboring_images_share_batches() -> None:
    session = Scripted(in_the_middle)
    list(PoseEstimator(session, batch_size=4).stream([InputImage.of(noise())] * 8))
    assert session.batches == [4, 4]


def test_points_come_back_in_the_pixels_of_the_image() -> None:
    boxes = np.asarray(BOXES)
    poses = PoseEstimator(Scripted(in_the_middle))(noise(), boxes, [1, 0.5, 0, 1, 1])
    # The middle of the crop is the middle of the box, whatever its form.
    middle = boxes[:, :2] + boxes[:, 2:] / 2
    expected = np.repeat(middle[:, None], K, axis=1)
    np.testing.assert_allclose(poses.keypoints[..., :2], expected, atol=1e-4)
    np.testing.assert_allclose(poses.keypoints[..., 2], 1)
    np.testing.assert_allclose(poses.scores, [1, 0.5, 0, 1, 1])
    np.testing.assert_allclose(poses.boxes, boxes)


def test_scores_count_clear_keypoints_only_and_stay_in_range() -> None:
    heights = np.zeros(K, np.float32)
    heights[:4] = 0.8, 0.4, 0.1, 1.7
    session = Scripted(lambda crops: in_the_middle(crops) * heights[:, None, None])
    poses = PoseEstimator(session)(noise())
    np.testing.assert_allclose(poses.keypoints[0, :5, 2], [0.8, 0.4, 0.1, 1, 0])
    # 0.1 is below the threshold of 0.2, and 1.7 counts as 1.
    np.testing.assert_allclose(poses.scores, [(0.8 + 0.4 + 1) / 3], rtol=1e-6)


def test_a_calibration_changes_scores_and_not_places() -> None:
    image = np.zeros((64, 48, 3), np.uint8)
    calibration = Calibration(temperature=2, offset=-1)
    plain = PoseEstimator(Scripted(lambda crops: 0.8 * in_the_middle(crops)))(image)
    metadata = replace(METADATA, calibration=calibration)
    honest = PoseEstimator(Scripted(lambda crops: 0.8 * in_the_middle(crops), metadata))(image)
    assert np.array_equal(honest.keypoints[..., :2], plain.keypoints[..., :2])
    assert np.allclose(honest.keypoints[..., 2], calibration(plain.keypoints[..., 2]))
    assert honest.scores == pytest.approx(calibration(plain.scores))


def test_the_flip_test_mirrors_back_swaps_sides_and_moves_one_pixel() -> None:
    left = METADATA.skeleton.keypoints.index("left_wrist")
    right = METADATA.skeleton.keypoints.index("right_wrist")
    width = METADATA.heatmap_wh[0]
    # White on the left half, so that the session can tell a crop from its mirror image.
    image = np.zeros((64, 48, 3), np.uint8)
    image[:, :24] = 255

    def answer(crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        maps = np.zeros((len(crops), K, METADATA.heatmap_wh[1], width), np.float32)
        for row, crop in enumerate(crops):
            mirrored = crop[:, :24].mean() < crop[:, 24:].mean()
            if mirrored:
                # Column 4 seen in the mirror, where the grid is one pixel off.
                maps[row, right, 8, width - 4] = 0.6
            else:
                maps[row, left, 8, 4] = 1.0
        return maps

    session = Scripted(answer)
    estimator = PoseEstimator(session, flip_test=True)
    (merged,) = estimator.heatmaps(image[None])
    assert session.batches == [2]
    expected = np.zeros_like(merged)
    expected[left, 8, 4] = 0.8
    np.testing.assert_allclose(merged, expected)


@pytest.mark.parametrize("boxes", [[], np.zeros((0, 4)), np.zeros((0, 5))])
def test_no_boxes_no_persons(boxes: Any) -> None:
    session = Scripted(in_the_middle)
    poses = PoseEstimator(session)(noise(), boxes)
    assert len(poses) == 0
    assert poses.keypoints.shape == (0, K, 3)
    assert session.batches == []
    assert list(PoseEstimator(session).stream([])) == []


def test_without_boxes_the_image_is_the_box() -> None:
    poses = PoseEstimator(Scripted(in_the_middle))(noise())
    assert poses.boxes.tolist() == [[0, 0, 70, 90]]


@pytest.mark.parametrize(
    ("boxes", "mention"),
    [
        ([[0, 0, 10, float("nan")]], "box 0: "),
        ([[0, 0, 10, 10], [float("-inf"), 0, 10, 10]], "box 1: "),
        ([[0, 0, 0, 10]], "box 0: "),
        ([[0, 0, 10, -1]], "[0.0, 0.0, 10.0, -1.0]"),
        ([[70, 0, 10, 10]], "70 x 90"),
        ([[0, 90, 10, 10]], "70 x 90"),
        ([[-10, 0, 10, 10]], "70 x 90"),
        ([[0, -10, 10, 10]], "70 x 90"),
        ([[0, 0, 2e6, 10]], "2000000.0"),
        ([0, 0, 10, 10], "(4,)"),
        ([[0, 0, 10]], "(1, 3)"),
        ([[0, 0, 10, 10], [0, 0]], "boxes: "),
        ([["a", 0, 10, 10]], "'a'"),
        ([[10**400, 0, 10, 10]], "boxes: "),
        ("boxes", "'boxes'"),
    ],
)
def test_bad_boxes(boxes: Any, mention: str) -> None:
    with refused("boxes-invalid", mention):
        InputImage.of(noise(), boxes)


@pytest.mark.parametrize(
    ("scores", "mention"),
    [
        ([1], "(1,)"),
        (1.0, "()"),
        ([1, float("nan")], "box 1: "),
        ([1.5, 1], "box 0: "),
        ([1, -0.1], "box 1: "),
        (["a", 1], "'a'"),
    ],
)
def test_bad_box_scores(scores: Any, mention: str) -> None:
    with refused("boxes-invalid", "box_scores", mention):
        InputImage.of(noise(), BOXES[:2], scores)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((5, 5), np.uint8),
        np.zeros((5, 5, 4), np.uint8),
        np.zeros((5, 5, 3), np.float32),
        np.zeros((0, 5, 3), np.uint8),
    ],
    ids=lambda image: f"{image.dtype}{image.shape}",
)
def test_arrays_that_are_no_images(image: NDArray[Any]) -> None:
    with refused("array-invalid", str(image.shape)):
        InputImage.of(image)


def test_a_batch_has_at_least_one_crop() -> None:
    with refused("option-invalid", "batch_size", "0"):
        PoseEstimator(Scripted(in_the_middle), batch_size=0)


def test_the_metadata_travels_in_the_file(session: OnnxSession) -> None:
    assert session.metadata == METADATA


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("weights.txt", "weights-unknown"),
        ("weights.onnx", "weights-damaged"),
        ("weights.safetensors", "weights-damaged"),
    ],
)
def test_files_that_are_no_weights(tmp_path: Any, name: str, code: str) -> None:
    path = tmp_path / name
    path.write_text("not weights", encoding="utf-8")
    with refused(code, name):
        open_session(path)


BRIGHT = Metadata(network="bright", input_wh=(48, 64))
BRIGHT_K = len(BRIGHT.skeleton)
IMAGE = np.zeros((90, 70, 3), np.uint8)


@dataclass
class Bright:
    """A session that sees every keypoint where its crop is brightest, and counts its batches."""

    metadata: Metadata = BRIGHT
    batches: list[int] = field(default_factory=list)

    def __call__(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.batches.append(len(crops))
        blocks = crops[..., 0].reshape(len(crops), 16, 4, 12, 4)
        planes = blocks.max(axis=(2, 4)).astype(np.float32) / 255
        return np.repeat(planes[:, None], BRIGHT_K, axis=1)


@dataclass
class Fixed:
    """A detector that always returns the same boxes, and counts its calls."""

    found: Boxes
    name: str = "fixed"
    calls: int = 0

    def __call__(self, image: NDArray[np.uint8]) -> Boxes:
        assert image.shape == (90, 70, 3)
        self.calls += 1
        return self.found


def two() -> Fixed:
    return Fixed(Boxes(np.array([[1.0, 2, 30, 40], [20, 10, 40, 60]]), np.array([0.4, 0.8])))


def test_without_boxes_the_detector_is_asked() -> None:
    detector = two()
    estimator = PoseEstimator(Bright(), detector=detector)
    image = estimator.image(IMAGE)
    # The best first.
    np.testing.assert_allclose(image.boxes, detector.found.xywh[::-1])
    np.testing.assert_allclose(image.box_scores, [0.8, 0.4])
    assert image.detected
    assert detector.calls == 1


@pytest.mark.parametrize("boxes", [[], [[5, 5, 20, 20]]])
def test_with_boxes_nobody_is_looked_for(boxes: Any) -> None:
    detector = two()
    poses = PoseEstimator(Bright(), detector=detector)(IMAGE, boxes)
    assert len(poses) == len(boxes)
    assert detector.calls == 0


def test_nobody_is_found() -> None:
    session = Bright()
    assert len(PoseEstimator(session, detector=Fixed(Boxes.empty()))(IMAGE)) == 0
    assert session.batches == []


def test_of_a_crowd_the_surest_are_taken() -> None:
    n = MAX_PERSONS + 30
    crowd = Boxes(np.tile([1.0, 2, 30, 40], (n, 1)), np.linspace(0, 1, n))
    image = PoseEstimator(Bright(), detector=Fixed(crowd)).image(IMAGE)
    assert len(image.boxes) == MAX_PERSONS


def lit(count: int) -> NDArray[np.uint8]:
    """An image (90, 70, 3) with a bright spot in each of `count` places."""
    image = np.zeros((90, 70, 3), np.uint8)
    for i in range(count):
        image[17:24, 7 + 50 * i : 14 + 50 * i] = 255
    return image


# Boxes around the two spots; the second box sees the first spot too.
SPOTS = [[2.0, 5, 16, 30], [0, 0, 30, 60], [52, 5, 16, 30]]


@pytest.mark.parametrize(
    ("scores", "kept"),
    [([0.9, 0.8, 0.7], [0, 2]), ([0.8, 0.9, 0.7], [1, 2]), ([0.9, 0.8, 0.1], [0])],
    ids=["repeated", "repeated_by_a_better_one", "unsure"],
)
def test_detected_persons_are_distinct_and_sure(scores: list[float], kept: list[int]) -> None:
    detector = Fixed(Boxes(np.array(SPOTS), np.array(scores)))
    estimator = PoseEstimator(Bright(), detector=detector)
    np.testing.assert_allclose(estimator(lit(2)).boxes, np.array(SPOTS)[kept])
    # The same boxes, given: every one has its pose.
    given = estimator(lit(2), SPOTS, scores)
    np.testing.assert_allclose(given.boxes, SPOTS)


@pytest.mark.parametrize(
    ("min_score", "kept"), [(None, [0, 1, 2]), (0.0, [0, 1, 2]), (0.5, [0, 2]), (1.0, [])]
)
def test_a_minimum_score_counts_in_given_boxes_too(min_score: Any, kept: list[int]) -> None:
    poses = PoseEstimator(Bright(), min_score=min_score)(lit(2), SPOTS, [0.9, 0.1, 0.7])
    np.testing.assert_allclose(poses.boxes, np.array(SPOTS)[kept].reshape(-1, 4))


def test_the_minimum_score_of_detected_persons_can_be_lowered() -> None:
    detector = Fixed(Boxes(np.array(SPOTS[::2]), np.array([0.9, 0.05])))
    assert len(PoseEstimator(Bright(), detector=detector)(lit(2))) == 1
    assert len(PoseEstimator(Bright(), detector=detector, min_score=0)(lit(2))) == 2


@pytest.mark.parametrize("min_score", [-0.1, 1.1, float("nan")])
def test_a_minimum_score_is_from_0_to_1(min_score: float) -> None:
    with refused("option-invalid", "min_score"):
        PoseEstimator(Bright(), min_score=min_score)


def test_without_selection_there_is_a_pose_for_each_box() -> None:
    detector = Fixed(Boxes(np.array(SPOTS), np.array([0.9, 0.8, 0.1])))
    estimator = PoseEstimator(Bright(), detector=detector)
    ((image, poses),) = estimator.stream([estimator.image(lit(2))], select=False)
    assert len(poses) == len(image.boxes) == 3


@pytest.mark.parametrize(
    ("box", "score", "mention"),
    [
        ([80, 2, 30, 40], 1, "70 x 90"),
        ([1, 2, 0, 40], 1, "box 0"),
        ([1, 2, np.nan, 40], 1, "box 0"),
        ([1, 2, 30, 40], 1.5, "1.5"),
    ],
)
def test_a_detector_that_errs_is_named(box: list[float], score: float, mention: str) -> None:
    wrong = Fixed(Boxes(np.array([box], np.float64), np.array([score], np.float64)))
    with refused("boxes-invalid", "detector fixed: ", mention):
        PoseEstimator(Bright(), detector=wrong)(IMAGE)


def spotted(count: int) -> InputImage:
    """An image with one bright spot, and a loose box `count` times."""
    image = np.zeros((400, 300, 3), np.uint8)
    image[200:204, 160:164] = 255
    return InputImage.of(image, [[60, 40, 200, 300]] * count)


def test_thousands_of_boxes_go_through_in_batches() -> None:
    session = Bright()
    _, poses = next(iter(PoseEstimator(session, batch_size=64).stream([spotted(2000)])))
    assert len(poses) == 2000
    assert max(session.batches) == 64
    # Every one of them sees the spot, as exactly as a cell of its heatmap allows.
    np.testing.assert_allclose(poses.keypoints[:, 0, :2], [[162, 202]] * 2000, atol=24)


def test_images_with_nobody_do_not_pile_up() -> None:
    read: list[int] = []

    def images() -> Iterator[InputImage]:
        for i in range(100):
            read.append(i)
            yield spotted(1 if i == 0 else 0)

    stream = PoseEstimator(Bright(), batch_size=4).stream(images())
    assert len(next(stream)[1]) == 1
    assert len(read) <= 5
    assert sum(1 for _ in stream) == 99


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_the_second_look_is_closer(batch_size: int) -> None:
    images = [spotted(1), spotted(0), spotted(3)]
    streams = (
        PoseEstimator(Bright(), refine=refine, batch_size=batch_size).stream(images)
        for refine in (False, True)
    )
    (same, rough), (same_again, fine) = (zip(*stream, strict=True) for stream in streams)
    # What comes back is what was given, although the boxes were others the second time.
    assert all(a is b is c for a, b, c in zip(images, same, same_again, strict=True))
    assert [len(poses) for poses in fine] == [1, 0, 3]
    for before, after in zip(rough, fine, strict=True):
        # The box is now about the spot, and what is seen in it is exact.
        assert (after.boxes[:, 2:] < before.boxes[:, 2:] / 5).all()
        np.testing.assert_allclose(after.keypoints[..., 0], 161.5, atol=2)
        np.testing.assert_allclose(after.keypoints[..., 1], 201.5, atol=2)


def test_the_second_look_costs_as_much_as_the_first() -> None:
    session = Bright()
    list(PoseEstimator(session, refine=True, batch_size=4).stream([spotted(3), spotted(5)]))
    assert sum(session.batches) == 16


def test_scores_without_their_boxes_are_refused() -> None:
    detector = two()
    with refused("boxes-invalid", "box_scores"):
        PoseEstimator(Bright(), detector=detector)(IMAGE, box_scores=[0.5])


def test_it_is_printed_in_one_line() -> None:
    assert repr(PoseEstimator(Bright())).startswith(
        f"PoseEstimator({BRIGHT.title}, 48x64, the full"
    )
    shipped = repr(hrpose.load())
    assert (
        shipped == "PoseEstimator(w32-small, 192x256, builtin detector, ONNX Runtime on CPU, fp32)"
    )
