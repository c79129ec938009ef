"""The person detector's metadata: there and back, and refused where it is something else."""

import json

import numpy as np
import pytest

from hrpose.metadata import Confidence, DetectorMetadata, Metadata
from refusals import refused

METADATA = DetectorMetadata(
    "w16-small",
    256,
    threshold=0.3,
    confidence=Confidence(2.0, 1.5, -0.5),
    name="detector",
    license="research",
    scores={"AP": 0.5},
)


def test_there_and_back() -> None:
    assert DetectorMetadata.from_json(METADATA.to_json()) == METADATA


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        Metadata("w16-small", (96, 128)).to_json(),
        "[" * 9999,
        METADATA.to_json().replace('"threshold": 0.3', '"threshold": NaN'),
        METADATA.to_json().replace("256", "250"),
        METADATA.to_json().replace("256", "1e999"),
        METADATA.to_json().replace("256", "32000000"),
        METADATA.to_json().replace('"version": 1', '"version": 2'),
        METADATA.to_json().replace('"offset": -0.5', '"offset": NaN'),
        METADATA.to_json().replace('"heat": 2.0', '"heat": -2.0'),
        METADATA.to_json().replace('"heat": 2.0', '"heat": "2"'),
        METADATA.to_json().replace('"heat": 2.0', '"heat": 2.0, "color": 1'),
    ],
)
def test_anything_else_is_refused_in_one_line(text: str) -> None:
    with refused("metadata-invalid", "x.onnx"):
        DetectorMetadata.from_json(text, "x.onnx")


def test_an_older_file_scores_by_its_peaks() -> None:
    document = json.loads(METADATA.to_json())
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
