"""The metadata: JSON and back, and what is said of a wrong one."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hrpose.codec import Codec
from hrpose.metadata import Calibration, Metadata
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


@given(calibrations, calibrations)
def test_calibrations_follow_each_other(first: Calibration, second: Calibration) -> None:
    scores = np.linspace(0.05, 0.95, 19)
    middle = first(scores)
    kept = (middle > 1e-3) & (middle < 1 - 1e-3)
    assert np.allclose(second(middle)[kept], first.then(second)(scores)[kept])
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
