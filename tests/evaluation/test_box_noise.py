"""Box noise: as large as requested, and an AP that falls with it."""

import json
import threading
from pathlib import Path

import numpy as np
import pytest

from hrpose.data.coco import read_annotations
from hrpose.data.images import ImageFiles
from hrpose.estimator import PoseEstimator
from hrpose.evaluation.predictions import AMOUNTS, add_noise, box_noise, ground_truth, predict
from hrpose.geometry import Crop
from hrpose.metadata import Metadata
from hrpose.skeletons import COCO_17
from hrpose.synthetic import write_dataset


def test_noise_is_as_large_as_requested() -> None:
    rng = np.random.default_rng(0)
    boxes = np.tile([400.0, 300, 100, 200], (20000, 1))
    sizes = np.tile([1000, 1000], (20000, 1))
    assert np.allclose(add_noise(boxes, 0, sizes, rng), boxes)
    off = add_noise(boxes, 0.1, sizes, rng)
    centers = off[:, :2] + off[:, 2:] / 2
    assert centers.mean(axis=0) == pytest.approx([450, 400], abs=1)
    assert centers.std(axis=0) == pytest.approx([10, 20], rel=0.03)
    assert np.log(off[:, 2:] / [100, 200]).std(axis=0) == pytest.approx([0.1, 0.1], rel=0.03)


def test_centers_stay_in_the_image() -> None:
    boxes = np.tile([0.0, 0, 40, 40], (1000, 1))
    off = add_noise(boxes, 2.0, np.tile([50, 60], (1000, 1)), np.random.default_rng(0))
    centers = off[:, :2] + off[:, 2:] / 2
    assert (centers >= 1).all()
    assert (centers <= [49, 59]).all()
    assert (off[:, 2:] > 0).all()


class Template:
    """A session whose keypoints are always at the same points of the crop: as good as the boxes."""

    def __init__(self, places: np.ndarray) -> None:
        self.metadata = Metadata("template", (48, 64))
        points = places * self.metadata.input_wh
        self.answer, _ = self.metadata.codec.encode(points, np.ones(17), self.metadata.input_wh)

    def __call__(self, crops: np.ndarray) -> np.ndarray:
        return np.repeat(self.answer[None], len(crops), axis=0)


def test_ap_falls_with_the_boxes(tmp_path: Path) -> None:
    annotations = write_dataset(tmp_path, images=12, seed=0)
    document = json.loads(annotations.read_bytes())
    places = np.random.default_rng(0).uniform(0.2, 0.8, (17, 2))
    for person in document["annotations"]:
        crop = Crop.from_box(person["bbox"], (48, 64))
        points = places * crop.size + np.array(crop.center) - np.array(crop.size) / 2
        keypoints = np.concatenate([points, np.full((17, 1), 2)], axis=1)
        person.update(keypoints=keypoints.ravel().tolist(), num_keypoints=17)
    annotations.write_text(json.dumps(document), encoding="utf-8")
    steps: list[int] = []
    points = box_noise(
        PoseEstimator(Template(places)),
        read_annotations(annotations),
        ImageFiles(tmp_path / "images"),
        COCO_17,
        lambda done, total: steps.append(done),
    )
    assert [point.amount for point in points] == list(AMOUNTS)
    assert steps == list(range(1, len(AMOUNTS) + 1))
    assert points[0].iou == pytest.approx(1)
    assert points[0].AP > 0.6
    assert points[0].iou > points[2].iou > points[5].iou > 0
    assert points[0].AP > points[2].AP > points[5].AP
    assert points[5].AP < 0.3


def test_images_are_read_beside_the_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    annotations = write_dataset(tmp_path, images=9, seed=0)
    table = read_annotations(annotations).persons()
    estimator = PoseEstimator(Template(np.full((17, 2), 0.5)))  # type: ignore[arg-type]
    read, threads = ImageFiles.read, []

    def noted(self: ImageFiles, name: str) -> np.ndarray:
        threads.append(threading.current_thread().name)
        return read(self, name)

    monkeypatch.setattr(ImageFiles, "read", noted)
    found = predict(estimator, table, ground_truth(table), ImageFiles(tmp_path / "images"))
    assert len(threads) == 9
    assert threading.current_thread().name not in threads
    assert np.array_equal(found.instances.boxes, table.boxes)
