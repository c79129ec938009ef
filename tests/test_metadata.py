"""Metadata of pose models and person detectors: JSON and back, and refused where they are wrong."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hrpose.codec import Codec
from hrpose.metadata import Calibration, Confidence, DetectorMetadata, Metadata, metadata_in
from hrpose.skeleton import Skeleton
from hrpose.skeletons import COCO_17
from refusals import refused

PLAIN = Metadata("w32", (192, 256))
finite = st.floats(0.1, 10)
calibrations = st.builds(Calibration, finite, st.floats(-3, 3))


@given(
    st.builds(
        Metadata,
        network=st.text(),
        input_wh=st.tuples(st.integers(32, 512), st.integers(32, 512)),
        codec=st.builds(Codec, sigma=finite),
        padding=finite,
        mean=st.tuples(finite, finite, finite),
        std=st.tuples(finite, finite, finite),
        name=st.text(),
        training_data=st.text(),
        license=st.text(),
        scores=st.dictionaries(st.text(), finite),
        calibration=st.none() | calibrations,
    )
)
def test_json_and_back(metadata: Metadata) -> None:
    assert Metadata.from_json(metadata.to_json()) == metadata


def test_the_skeleton_comes_back_as_the_known_one() -> None:
    assert Metadata.from_json(PLAIN.to_json()).skeleton is COCO_17


def test_older_files_are_read() -> None:
    colored = replace(PLAIN, skeleton=Skeleton("dot", ("dot",), colors=((1, 2, 3),)))
    for metadata, key in ((colored, "hrpose.passport"), (DETECTOR, "hrpose.finder")):
        text = metadata.to_json().replace('"license"', '"licence"')
        assert metadata_in({key: text.replace('"colors"', '"colours"')}, "old.onnx") == metadata


def test_the_title_is_the_name_or_else_the_network() -> None:
    assert (PLAIN.title, replace(PLAIN, name="mine").title) == ("w32", "mine")


def test_heatmaps_are_a_quarter_of_the_input() -> None:
    assert PLAIN.heatmap_wh == (48, 64)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "3", '"text"', "{}", "[" * 9999])
def test_what_is_no_metadata(text: str) -> None:
    with refused("metadata-invalid", "weights.onnx"):
        Metadata.from_json(text, "weights.onnx")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("version", 2),
        ("network", None),
        ("input_wh", [192]),
        ("input_wh", ["a", 2]),
        ("input_wh", 3),
        ("input_wh", [0, 64]),
        ("input_wh", [3, 64]),  # less than the stride: a heatmap without pixels
        ("input_wh", [5000, 64]),
        ("input_wh", [1e999, 64]),
        ("codec", {}),
        ("codec", []),
        ("codec", {"name": "dark", "sigma": 1e9, "stride": 4}),
        ("codec", {"name": "dark", "sigma": float("nan"), "stride": 4}),
        ("codec", {"name": "dark", "sigma": 2, "stride": 0}),
        ("mean", [0.1, 0.2]),
        ("std", "abc"),
        ("std", [0.2, 0, 0.2]),
        ("mean", [0.5, float("inf"), 0.5]),
        ("padding", "wide"),
        ("padding", -1),
        ("padding", float("nan")),
        ("skeleton", {}),
        ("skeleton", 3),
        ("scores", []),
        ("scores", {"AP": "high"}),
    ],
)
def test_a_wrong_or_missing_entry(key: str, value: Any) -> None:
    wrong = json.loads(PLAIN.to_json())
    wrong[key] = value
    if value is None:
        del wrong[key]
    with refused("metadata-invalid", "weights.onnx"):
        Metadata.from_json(json.dumps(wrong), "weights.onnx")


def test_without_a_calibration_scores_are_the_peaks() -> None:
    assert "calibration" not in PLAIN.to_json()  # as before there was one
    peaks = np.array([[-0.1, 0.0, 0.3], [0.7, 1.0, 1.2]], np.float32)
    assert np.array_equal(PLAIN.keypoint_scores(peaks), np.clip(peaks, 0, 1))
    assert np.array_equal(PLAIN.keypoint_scores(peaks, clip=False), peaks)
    calibrated = replace(PLAIN, calibration=Calibration(2.0, 0.5))
    assert np.array_equal(
        calibrated.keypoint_scores(peaks, clip=False), calibrated.keypoint_scores(peaks)
    )


@given(calibrations)
def test_a_calibration_keeps_the_order(calibration: Calibration) -> None:
    middle = calibration(np.linspace(0.05, 0.95, 19))
    assert np.all(np.diff(middle) >= 0)
    assert np.all((middle >= 0) & (middle <= 1))


def test_a_temperature_above_one_makes_scores_less_sure() -> None:
    cold = Calibration(temperature=2)
    assert cold(np.array([0.1, 0.5, 0.9])) == pytest.approx([0.25, 0.5, 0.75])


@pytest.mark.parametrize("values", [(0, 0), (-1, 0), (float("nan"), 0), (1, float("inf"))])
def test_what_is_no_calibration(values: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="temperature above 0"):
        Calibration(*values)
    data = json.loads(PLAIN.to_json())
    data["calibration"] = {"temperature": values[0], "offset": values[1]}
    with refused("metadata-invalid", "w.onnx"):
        Metadata.from_json(json.dumps(data), "w.onnx")


DETECTOR = DetectorMetadata(
    "w16-small",
    256,
    threshold=0.3,
    confidence=Confidence(2.0, 1.5, -0.5),
    name="detector",
    license="research",
    scores={"AP": 0.5},
)


def test_detector_json_and_back() -> None:
    assert DetectorMetadata.from_json(DETECTOR.to_json()) == DETECTOR


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        Metadata("w16-small", (96, 128)).to_json(),
        "[" * 9999,
        DETECTOR.to_json().replace('"threshold": 0.3', '"threshold": NaN'),
        DETECTOR.to_json().replace("256", "250"),
        DETECTOR.to_json().replace("256", "1e999"),
        DETECTOR.to_json().replace("256", "32000000"),
        DETECTOR.to_json().replace('"version": 1', '"version": 2'),
        DETECTOR.to_json().replace('"offset": -0.5', '"offset": NaN'),
        DETECTOR.to_json().replace('"heat": 2.0', '"heat": -2.0'),
        DETECTOR.to_json().replace('"heat": 2.0', '"heat": "2"'),
        DETECTOR.to_json().replace('"heat": 2.0', '"heat": 2.0, "color": 1'),
    ],
)
def test_what_is_no_detector_metadata(text: str) -> None:
    with refused("metadata-invalid", "x.onnx"):
        DetectorMetadata.from_json(text, "x.onnx")


def test_an_older_detector_scores_by_its_peaks() -> None:
    document = json.loads(DETECTOR.to_json())
    del document["confidence"]
    metadata = DetectorMetadata.from_json(json.dumps(document))
    peaks, boxes = np.array([0.0, 0.3, 1.0]), np.full((3, 4), 9.0)
    assert metadata.confidence.scores(peaks, boxes).tolist() == [0.0, 0.3, 1.0]


def test_a_score_is_a_probability_of_peak_and_size() -> None:
    confidence = Confidence(heat=2.0, size=1.0, offset=-0.5)
    boxes = np.array([[0, 0, 64, 64], [0, 0, 128, 128], [5, 5, 32, 128]], np.float64)
    scores = confidence.scores(np.array([0.5, 0.5, 0.5]), boxes)
    np.testing.assert_allclose(np.log(scores / (1 - scores)), [-0.5, 0.5, -0.5])
    certain = Confidence(1e300, 1e300, 1e300).scores(np.array([0.0, 1.0]), boxes[:2])
    assert (certain >= 0).all()
    assert (certain <= 1).all()
