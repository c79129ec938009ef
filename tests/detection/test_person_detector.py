"""The built-in person detector: boxes to maps and back, and boxes in any image."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hrpose.detection import open_detector, person_detector
from hrpose.detection.person_detector import PersonDetector, letterbox, resize
from hrpose.metadata import Confidence
from refusals import refused
from tiny_person_detector import METADATA, REACH, SIDE, write_tiny_detector
from tiny_weights import write_tiny_weights

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


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> PersonDetector:
    return PersonDetector(
        write_tiny_detector(tmp_path_factory.mktemp("detector") / "tiny.onnx"), threads=1
    )


@pytest.mark.parametrize(("width", "height"), [(64, 64), (640, 427), (427, 640), (2000, 1500)])
def test_boxes_are_in_the_pixels_of_the_image(
    detector: PersonDetector, width: int, height: int
) -> None:
    image = np.zeros((height, width, 3), np.uint8)
    scale = max(width, height) / SIDE
    x, y, half = width * 0.6, height * 0.4, round(3 * scale)
    image[round(y) - half : round(y) + half, round(x) - half : round(x) + half, 0] = 255
    found = detector(image)
    assert len(found) == 1
    expected = [x - REACH * scale, y - REACH * scale, 2 * REACH * scale, 2 * REACH * scale]
    np.testing.assert_allclose(found.xywh[0], expected, atol=3 * scale)


def test_a_box_ends_at_the_edge_of_the_image(detector: PersonDetector) -> None:
    image = np.zeros((640, 640, 3), np.uint8)
    image[:60, :60, 0] = 255
    (box,) = detector(image).xywh
    assert box[:2].tolist() == [0, 0]
    assert (box[2:] < 2 * REACH * 10).all()


def test_nobody_is_no_box(detector: PersonDetector) -> None:
    assert len(detector(np.zeros((48, 64, 3), np.uint8))) == 0


@pytest.mark.parametrize("wh", [(1, 1), (3, 5000), (5000, 3), (33, 32)])
def test_odd_sizes_are_looked_at(detector: PersonDetector, wh: tuple[int, int]) -> None:
    found = detector(np.full((wh[1], wh[0], 3), (255, 0, 0), np.uint8))
    inside = found.xywh[:, :2] + found.xywh[:, 2:]
    assert (found.xywh[:, :2] >= 0).all()
    assert (inside <= np.array(wh) + 1e-9).all()


@pytest.mark.parametrize(
    ("wh", "input_wh"),
    [((640, 427), (64, 64)), ((1000, 300), (64, 32)), ((416, 416), (64, 64)), ((9, 999), (32, 64))],
)
def test_the_input_is_no_larger_than_the_image_needs(
    wh: tuple[int, int], input_wh: tuple[int, int]
) -> None:
    assert letterbox(wh, SIDE).input_wh == input_wh


def test_a_large_image_is_averaged_not_sampled() -> None:
    stripes = np.zeros((1024, 1024, 3), np.uint8)
    stripes[:, ::2] = 255
    pixels, _ = resize(stripes, SIDE)
    np.testing.assert_allclose(pixels[4:-4, 4:-4], 127.5, atol=2)


def test_the_threshold_is_the_metadata_unless_given(tmp_path: Path) -> None:
    path = write_tiny_detector(tmp_path / "tiny.onnx")
    assert PersonDetector(path).threshold == METADATA.threshold
    assert PersonDetector(path, threshold=0.9).threshold == 0.9


def test_scores_are_made_as_the_metadata_says(tmp_path: Path) -> None:
    image = np.zeros((64, 64, 3), np.uint8)
    image[16:22, 16:22, 0] = 200  # a peak of about 0.78 in a box of 16 x 16 pixels
    plain = PersonDetector(write_tiny_detector(tmp_path / "plain.onnx"))(image)
    doubtful = replace(METADATA, confidence=Confidence(heat=1.0, size=1.0), threshold=0.3)
    found = PersonDetector(write_tiny_detector(tmp_path / "doubtful.onnx", doubtful))(image)
    odds = plain.scores[0] / (1 - plain.scores[0]) * np.exp(np.log2(16 / 64))
    np.testing.assert_allclose(found.scores, [odds / (1 + odds)])
    np.testing.assert_array_equal(found.xywh, plain.xywh)
    # The threshold is one of scores, not of peaks.
    assert len(PersonDetector(tmp_path / "doubtful.onnx", threshold=0.6)(image)) == 0


def test_other_files_are_refused_by_name(tmp_path: Path) -> None:
    pose = write_tiny_weights(tmp_path / "pose.onnx")
    with refused("weights-unsuitable", "pose.onnx"):
        PersonDetector(pose)


def test_a_file_with_a_detectors_metadata_is_opened_as_one(tmp_path: Path) -> None:
    path = write_tiny_detector(tmp_path / "own.onnx")
    detector = open_detector(path, threshold=0.7)
    assert isinstance(detector, PersonDetector)
    assert detector.threshold == 0.7
    bare = write_tiny_detector(tmp_path / "bare.onnx", metadata=None)
    with refused("detector-unsuitable", "bare.onnx"):
        open_detector(bare)
