"""Weights and a detector scored together."""

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from evaluation.oracle import DataSet, Oracle
from hrpose.data.coco import load_persons
from hrpose.estimator import PoseEstimator
from hrpose.evaluation.evaluate import evaluate
from hrpose.geometry import Boxes
from hrpose.image import read_image
from hrpose.metrics.pck import DISTANCES
from hrpose.synthetic import write_dataset


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    folder = tmp_path_factory.mktemp("synthetic")
    return DataSet(write_dataset(folder, images=4, seed=5), folder / "images")


class Knows:
    """A detector that knows the data set's images by their pixels."""

    name = "one that knows"

    def __init__(self, data: DataSet, blind: bool = False) -> None:
        table = load_persons(data.annotations)
        self.found = {}
        for row, name in enumerate(table.file_names):
            pixels = read_image(data.images / name.decode()).tobytes()
            boxes = table.boxes[(table.image_index == row) & (not blind)]
            self.found[pixels] = Boxes(boxes, np.ones(len(boxes)))

    def __call__(self, image: NDArray[np.uint8]) -> Boxes:
        return self.found[image.tobytes()]


def test_a_detector_that_knows_equals_the_ground_truth(data: DataSet, tmp_path: Path) -> None:
    given = evaluate(PoseEstimator(Oracle(data.annotations)), data.annotations, data.images)
    found = evaluate(
        PoseEstimator(Oracle(data.annotations), detector=Knows(data)),
        data.annotations,
        data.images,
        "detector",
        tmp_path,
    )
    # The distances need the labeled boxes.
    assert given.metrics.items() - found.metrics.items() == {
        (name, given.metrics[name]) for name in DISTANCES
    }
    assert found.persons == given.persons
    assert found.boxes == "detector: one that knows"
    assert json.loads((tmp_path / "metrics.json").read_bytes())["boxes"] == found.boxes


def test_a_detector_that_finds_nobody_scores_nothing(data: DataSet) -> None:
    estimator = PoseEstimator(Oracle(data.annotations), detector=Knows(data, blind=True))
    report = evaluate(estimator, data.annotations, data.images, "detector")
    assert report.persons == 0
    # Images in which nobody is found count: their people are missed.
    assert report.images == 4
    assert report.metrics["AP"] == 0
