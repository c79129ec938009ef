"""A COCO set of one's own: what is written is what the readers of COCO find."""

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hrpose.data.coco import load_persons
from hrpose.data.dataset_folder import CocoSet
from hrpose.poses import Poses
from hrpose.skeleton import Skeleton
from hrpose.skeletons import COCO_17, MPII_16


def poses(scores: list[float], skeleton: Skeleton = COCO_17) -> Poses:
    k, n = len(skeleton), len(scores)
    keypoints = np.zeros((n, k, 3), np.float32)
    keypoints[..., 0], keypoints[..., 1] = 10 + np.arange(k), 20 + np.arange(k)
    keypoints[..., 2] = np.array(scores)[:, None]
    keypoints[:, 0, 2] = 0.1  # the first keypoint is never sure
    boxes = np.tile(np.array([5, 6, 40, 50], np.float32), (n, 1))
    return Poses(keypoints, boxes, np.array(scores, np.float32), skeleton)


def written(path: Path, skeleton: Skeleton, *images: tuple[Any, ...]) -> Path:
    with path.open("wb") as file:
        dataset = CocoSet(file, skeleton, threshold=0.3)
        for image in images:
            dataset.add(*image)
        dataset.close()
    return path


def test_keypoints_below_the_threshold_are_absent(tmp_path: Path) -> None:
    path = written(tmp_path / "set.json", COCO_17, (7, "a.jpg", (100, 80), poses([0.9, 0.2])))
    document = json.loads(path.read_bytes())
    assert document["images"] == [{"id": 7, "file_name": "a.jpg", "width": 100, "height": 80}]
    sure, unsure = document["annotations"]
    assert sure["keypoints"][:6] == [0, 0, 0, 11, 21, 2]
    assert (sure["num_keypoints"], unsure["num_keypoints"]) == (16, 0)
    assert unsure["keypoints"] == [0] * 51
    assert (sure["bbox"], sure["area"], sure["image_id"]) == ([5, 6, 40, 50], 2000, 7)
    assert [sure["id"], unsure["id"]] == [1, 2]


@pytest.mark.parametrize("skeleton", [COCO_17, MPII_16], ids=lambda skeleton: skeleton.name)
def test_our_own_reader_reads_it(tmp_path: Path, skeleton: Skeleton) -> None:
    path = written(
        tmp_path / "set.json",
        skeleton,
        (3, "a.jpg", (100, 80), poses([0.9], skeleton)),
        (4, "empty.jpg", (10, 10), Poses.empty(skeleton)),
    )
    persons = load_persons(path)
    assert persons.skeleton.keypoints == skeleton.keypoints
    assert persons.image_ids.tolist() == [3, 4]
    # Read as the official code reads boxes: to the last pixel inside.
    assert persons.boxes.tolist() == [[5, 6, 39, 49]]
    visibility = persons.keypoints[0, :, 2]
    assert visibility.tolist() == [0] + [2] * (len(skeleton) - 1)


def test_the_official_reader_reads_it(tmp_path: Path) -> None:
    coco = pytest.importorskip("pycocotools.coco")
    path = written(tmp_path / "set.json", COCO_17, (3, "a.jpg", (100, 80), poses([0.9, 0.8])))
    with contextlib.redirect_stdout(io.StringIO()):
        read = coco.COCO(str(path))
    assert len(read.getAnnIds(imgIds=[3], catIds=[1])) == 2
    assert read.loadCats([1])[0]["skeleton"][0] == [16, 14]
