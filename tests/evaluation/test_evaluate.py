"""Evaluation: the whole way from a data set's files to figures, with a network that knows."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluation.oracle import DataSet, Oracle, detections
from hrpose.api import load
from hrpose.data.coco import load_persons
from hrpose.errors import UserError
from hrpose.estimator import PoseEstimator
from hrpose.evaluation.evaluate import evaluate
from hrpose.metadata import Metadata
from hrpose.metrics.coco import evaluate_keypoints
from hrpose.metrics.pck import distances
from hrpose.skeleton import Skeleton
from hrpose.synthetic import ANIMAL, write_dataset
from refusals import refused
from tiny_weights import METADATA, write_tiny_weights


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    folder = tmp_path_factory.mktemp("synthetic")
    return DataSet(write_dataset(folder, images=6, seed=3), folder / "images")


def estimator(data: DataSet) -> PoseEstimator:
    return PoseEstimator(Oracle(data.annotations), batch_size=4)


def test_a_network_that_knows_is_nearly_perfect(data: DataSet, tmp_path: Path) -> None:
    out = tmp_path / "scores"
    report = evaluate(estimator(data), data.annotations, data.images, out=out)
    assert report.metrics["AP"] > 0.95
    assert pytest.approx(1) == report.metrics["AP50"]
    assert report.boxes == "ground-truth"
    assert not report.flip_test
    assert report.images == 6
    assert report.persons == len(data.document()["annotations"])

    assert sorted(path.name for path in out.iterdir()) == ["metrics.json", "results.json"]
    metrics = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    assert metrics == report.as_dict()
    figures = {"AP", "AP50", "AP75", "APM", "APL", "AR", "AR50", "AR75", "ARM", "ARL"}
    assert figures <= metrics.keys()
    assert metrics["boxes"] == "ground-truth"
    results = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert {entry["image_id"] for entry in results} == set(range(1, 7))
    assert all(len(entry["keypoints"]) == 51 for entry in results)
    # The written results are those that were scored.
    again = evaluate_keypoints(data.annotations, out / "results.json").as_dict()
    assert again.items() <= report.metrics.items()


def test_without_a_folder_nothing_is_written(data: DataSet) -> None:
    before = sorted(data.annotations.parent.rglob("*"))
    evaluate(estimator(data), data.annotations, data.images)
    assert sorted(data.annotations.parent.rglob("*")) == before


def test_a_network_that_knows_nothing_scores_nothing(data: DataSet) -> None:
    oracle = Oracle(data.annotations)
    oracle.targets = np.zeros_like(oracle.targets)
    report = evaluate(PoseEstimator(oracle), data.annotations, data.images)
    assert report.metrics["AP"] < 0.05


def test_the_boxes_of_a_detector_are_said(data: DataSet, tmp_path: Path) -> None:
    boxes = detections(data, tmp_path)
    report = evaluate(estimator(data), data.annotations, data.images, boxes, tmp_path / "out")
    assert report.boxes == f"detections: {boxes}"
    assert json.loads((tmp_path / "out" / "metrics.json").read_bytes())["boxes"] == report.boxes
    # A detector's box is one pixel larger than the data set's, so the targets lie a little off.
    assert report.metrics["AP"] > 0.9
    results = json.loads((tmp_path / "out" / "results.json").read_bytes())
    assert max(entry["score"] for entry in results) <= 0.5


def test_persons_may_be_any_category(data: DataSet, tmp_path: Path) -> None:
    document = data.document()
    document["categories"] = [
        {"id": 1, "name": "dog"},
        {**document["categories"][0], "id": 7},
    ]
    for person in document["annotations"]:
        person["category_id"] = 7
    annotations = tmp_path / "annotations.json"
    annotations.write_text(json.dumps(document), encoding="utf-8")
    changed = DataSet(annotations, data.images)
    for boxes in ("ground-truth", detections(changed, tmp_path, category_id=7)):
        report = evaluate(estimator(changed), annotations, data.images, boxes, tmp_path / "out")
        assert report.metrics["AP"] > 0.9
        results = json.loads((tmp_path / "out" / "results.json").read_bytes())
        assert {entry["category_id"] for entry in results} == {7}
    dogs = evaluate(
        estimator(changed), annotations, data.images, detections(changed, tmp_path, category_id=1)
    )
    assert dogs.persons == 0


def test_detections_of_nobody(data: DataSet, tmp_path: Path) -> None:
    boxes = detections(data, tmp_path, category_id=3)
    report = evaluate(estimator(data), data.annotations, data.images, boxes, tmp_path / "out")
    assert (report.persons, report.metrics["AP"]) == (0, 0)
    assert json.loads((tmp_path / "out" / "results.json").read_bytes()) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_id": 99}, "entry 0: expected 'image_id' of an image"),
        ({"image_id": [1]}, "entry 0: expected 'image_id' of an image"),
        ({"bbox": [1, 2, 3]}, "entry 0: .*'bbox'"),
        ({"bbox": [1, 2, float("nan"), 4]}, "entry 0: .*NaN"),
        ({"bbox": [1, 2, 3, float("inf")]}, "entry 0: .*infinity"),
        ({"score": None}, "entry 0: .*'score'"),
        ({"score": float("nan")}, "entry 0: .*NaN"),
    ],
)
def test_bad_detections(
    data: DataSet, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    boxes = detections(data, tmp_path, **changes)
    with pytest.raises(UserError, match=message) as raised:
        evaluate(estimator(data), data.annotations, data.images, boxes, tmp_path / "out")
    assert str(boxes) in str(raised.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", ["", "{}", "[1]"])
def test_files_that_are_no_detections(data: DataSet, tmp_path: Path, content: str) -> None:
    boxes = tmp_path / "boxes.json"
    boxes.write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=r"boxes\.json: expected"):
        evaluate(estimator(data), data.annotations, data.images, boxes)


def test_a_detections_file_that_is_missing(data: DataSet, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nothing\.json: cannot be read"):
        evaluate(estimator(data), data.annotations, data.images, tmp_path / "nothing.json")


def test_weights_of_another_skeleton(data: DataSet) -> None:
    session = Oracle(data.annotations)
    session.metadata = Metadata(
        network="fish", input_wh=(192, 256), skeleton=Skeleton("fish", ("head", "tail"))
    )
    with pytest.raises(UserError, match=r"expected the keypoints of the weights .*head, tail"):
        evaluate(PoseEstimator(session), data.annotations, data.images)


def without_a_image(folder: Path) -> str:
    (folder / "images" / "000002.jpg").unlink()
    return "000002.jpg: no such file"


def with_a_damaged_image(folder: Path) -> str:
    image = folder / "images" / "000003.jpg"
    image.write_bytes(image.read_bytes()[:900])
    return "000003.jpg: damaged"


@pytest.mark.parametrize("spoil", [without_a_image, with_a_damaged_image])
def test_images_that_cannot_be_read(tmp_path: Path, spoil: Callable[[Path], str]) -> None:
    data = DataSet(write_dataset(tmp_path / "set", 3, seed=0), tmp_path / "set" / "images")
    message = spoil(tmp_path / "set")
    with pytest.raises(UserError, match=message):
        evaluate(estimator(data), data.annotations, data.images, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_without_oks_constants_the_measure_is_pck(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    annotations = write_dataset(tmp_path / "set", 2, seed=0, figure=ANIMAL)
    metadata = replace(METADATA, skeleton=ANIMAL.skeleton)
    weights = write_tiny_weights(tmp_path / "tiny.onnx", metadata)
    estimator = load(weights, detector="none")
    images = annotations.parent / "images"
    report = evaluate(estimator, annotations, images, out=tmp_path / "out")
    assert list(report.as_dict())[:4] == ["PCK@0.2", "PCK@0.1", "NME", "EPE"]
    assert "nms" not in report.as_dict()
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert len(results) == report.persons
    truth = load_persons(annotations)
    found = np.reshape([entry["keypoints"] for entry in results], (-1, 9, 3))
    by_hand = distances(found, truth.keypoints, truth.boxes)
    assert report.as_dict()["EPE"] == pytest.approx(by_hand.epe, abs=1e-2)
    assert "AP" in evaluate(estimator, annotations, images, metric="AP").as_dict()
    # Weights that know the constants are measured by them.
    knowing = replace(metadata, skeleton=replace(ANIMAL.skeleton, sigmas=(0.08,) * 9))
    other = load(write_tiny_weights(tmp_path / "knowing.onnx", knowing), detector="none")
    assert "AP" in evaluate(other, annotations, images).as_dict()
    # Said before anybody is looked at.
    monkeypatch.delattr("hrpose.evaluation.evaluate.predict")
    with refused("options-conflict", "PCK"):
        evaluate(estimator, annotations, images, "detector", metric="PCK")
