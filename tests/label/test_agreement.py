"""Two annotators of the same images: OKS constants, and the project's that follow."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hrpose.data.skeleton_file import find_skeleton
from hrpose.label.project import Project
from refusals import refused

from .conftest import Labels

BOX = [10, 10, 40, 40]
POINTS = np.array([[20.0, 20], [30, 30], [15, 40]])
# How far the second annotator is off, in pixels; of the third keypoint there is one label only.
OFF = np.array([[4.0, 0], [0, 2], [0, 0]])


def annotations(folder: Path) -> Path:
    """The labels of the second annotator, of two images."""
    label = np.concatenate([POINTS + OFF, [[2], [2], [0]]], 1)
    label[2] = 0
    path = folder / "ben.json"
    document = {
        "images": [
            {"id": i, "file_name": f"{i}.jpg", "width": 96, "height": 64} for i in range(3)
        ],
        "annotations": [
            {
                "id": i + 1, "image_id": i, "category_id": 1, "iscrowd": 0, "bbox": BOX,
                "area": 1600, "keypoints": label.ravel().tolist(), "num_keypoints": 2,
            }
            for i in range(2)
        ],
        "categories": [
            {"id": 1, "name": "horse", "keypoints": ["nose", "left_ear", "right_ear"]}
        ],
    }  # fmt: skip
    path.write_text(json.dumps(document), "utf-8")
    return path


@pytest.fixture
def labels(opened: Callable[..., Labels], folder: Path, tmp_path: Path) -> Labels:
    return opened(others=[annotations(tmp_path)])


def label_all(labels: Labels) -> None:
    """The labels of the first annotator, of all images."""
    points = [[*point, 2] for point in POINTS.tolist()]
    for row in labels.get("images")["images"]:
        labels.get(f"images/{row['id']}")  # its size is known from here on
        change = {"id": f"change-{row['id']}-x", "image": row["id"], "version": 0}
        label = {"box": BOX, "keypoints": points}
        answer = labels.change({**change, "person": f"person-{row['id']}", "label": label})
        assert answer.status_code == 200


def take(labels: Labels) -> Any:
    return labels("POST", "/v1/label/agreement", json={})


def test_constants_are_those_of_the_distances(labels: Labels) -> None:
    found = labels.get("agreement")
    assert found == {"others": ["ben.json"], "keypoints": [], "used": None}
    assert take(labels).status_code == 409
    label_all(labels)
    rows = labels.get("agreement")["keypoints"]
    assert [row["name"] for row in rows] == ["nose", "left_ear", "right_ear"]
    # Half the mean of d^2 / s^2 between two, where s^2 is the area.
    expected = [4 / np.sqrt(2) / 40, 2 / np.sqrt(2) / 40]
    assert [row["sigma"] for row in rows[:2]] == pytest.approx(expected)
    assert [row["persons"] for row in rows] == [2, 2, 0]
    assert rows[2]["sigma"] is rows[2]["low"] is None


def test_the_project_follows(labels: Labels, opened: Callable[..., Labels], folder: Path) -> None:
    label_all(labels)
    answer = take(labels)
    assert answer.status_code == 200
    assert answer.json()["used"][:2] == pytest.approx([0.0707, 0.0354])
    kept = find_skeleton(str(labels.project.folder / "skeleton.yaml"))
    assert kept.has_sigmas
    assert kept.sigmas == labels.project.skeleton.sigmas == (0.0707, 0.0354, 0.05)
    # Also the next time, with the same command.
    labels.close()
    assert opened().project.skeleton.sigmas == kept.sigmas


def test_labels_as_they_change(labels: Labels) -> None:
    label_all(labels)
    before = labels.get("agreement")["keypoints"][0]["sigma"]
    points = [[*(point + off), 2] for point, off in zip(POINTS, OFF, strict=True)]
    (image,) = [i["id"] for i in labels.get("images")["images"] if i["name"] == "0.jpg"]
    change = {"id": "change-again", "image": image, "version": 1, "person": f"person-{image}"}
    labels.change({**change, "label": {"box": BOX, "keypoints": points}})
    assert labels.get("agreement")["keypoints"][0]["sigma"] == pytest.approx(before / np.sqrt(2))


def test_without_labels_of_others_there_is_none(opened: Callable[..., Labels]) -> None:
    labels = opened()
    assert labels.get("agreement")["others"] == []
    assert take(labels).status_code == 409


def test_other_keypoints_are_refused(folder: Path, tmp_path: Path) -> None:
    with refused("keypoints-differ", "ben.json"):
        Project(folder, "coco-17", others=[annotations(tmp_path)])
    assert Project(folder, str(folder / "horse.yaml")).close() is None
