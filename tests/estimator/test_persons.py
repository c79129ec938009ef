"""The estimator and its detector: who is looked at, how often, and how many at most."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hrpose.estimator import MAX_PERSONS, InputImage, PoseEstimator
from hrpose.geometry import Boxes
from hrpose.metadata import Metadata
from refusals import refused

METADATA = Metadata(network="bright", input_wh=(48, 64))
K = len(METADATA.skeleton)
IMAGE = np.zeros((90, 70, 3), np.uint8)


@dataclass
class Bright:
    """A session that sees every keypoint where its crop is brightest, and counts its batches."""

    metadata: Metadata = METADATA
    batches: list[int] = field(default_factory=list)

    def __call__(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.batches.append(len(crops))
        blocks = crops[..., 0].reshape(len(crops), 16, 4, 12, 4)
        planes = blocks.max(axis=(2, 4)).astype(np.float32) / 255
        return np.repeat(planes[:, None], K, axis=1)


@dataclass
class Fixed:
    """A detector that always finds the same, and remembers how often it was asked."""

    found: Boxes
    name: str = "fixed"
    asked: int = 0

    def __call__(self, image: NDArray[np.uint8]) -> Boxes:
        assert image.shape == (90, 70, 3)
        self.asked += 1
        return self.found


def two() -> Fixed:
    return Fixed(Boxes(np.array([[1.0, 2, 30, 40], [20, 10, 40, 60]]), np.array([0.4, 0.8])))


def test_without_boxes_the_detector_is_asked() -> None:
    detector = two()
    estimator = PoseEstimator(Bright(), detector=detector)
    poses = estimator(IMAGE)
    # The surest first.
    np.testing.assert_allclose(poses.boxes, detector.found.xywh[::-1])
    np.testing.assert_allclose(estimator.image(IMAGE).box_scores, [0.8, 0.4])
    assert detector.asked == 2


@pytest.mark.parametrize("boxes", [[], [[5, 5, 20, 20]]])
def test_with_boxes_nobody_is_looked_for(boxes: Any) -> None:
    detector = two()
    poses = PoseEstimator(Bright(), detector=detector)(IMAGE, boxes)
    assert len(poses) == len(boxes)
    assert detector.asked == 0


def test_nobody_is_found() -> None:
    session = Bright()
    assert len(PoseEstimator(session, detector=Fixed(Boxes.empty()))(IMAGE)) == 0
    assert session.batches == []


def test_of_a_crowd_the_surest_are_taken() -> None:
    n = MAX_PERSONS + 30
    crowd = Boxes(np.tile([1.0, 2, 30, 40], (n, 1)), np.linspace(0, 1, n))
    poses = PoseEstimator(Bright(), detector=Fixed(crowd))(IMAGE)
    assert len(poses) == MAX_PERSONS


@pytest.mark.parametrize(
    ("box", "score", "said"),
    [
        ([80, 2, 30, 40], 1, "70 x 90"),
        ([1, 2, 0, 40], 1, "box 0"),
        ([1, 2, np.nan, 40], 1, "box 0"),
        ([1, 2, 30, 40], 1.5, "1.5"),
    ],
)
def test_a_detector_that_errs_is_named(box: list[float], score: float, said: str) -> None:
    wrong = Fixed(Boxes(np.array([box], np.float64), np.array([score], np.float64)))
    with refused("boxes-invalid", "detector fixed: ", said):
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
