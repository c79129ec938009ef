"""COCO to another tool's form and back: the same within the form's rounding."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from hrpose.data.formats.convert import from_coco_to, from_coco_to_yolo, to_coco
from hrpose.data.formats.pose_set import ReadOptions
from hrpose.data.images import ImageFiles
from hrpose.data.skeleton_file import find_skeleton
from refusals import refused

NAMES = ("left ear", 'a "b" & <c>', "tail")


@st.composite
def sets(draw: st.DrawFn) -> dict[str, Any]:
    """COCO keypoints of up to three images, whose sizes are those of `write_images`."""
    images, annotations = [], []
    for image_id in range(1, draw(st.integers(1, 3)) + 1):
        width, height = 20 * image_id, 90
        images.append(
            {"id": image_id, "file_name": f"in/{image_id}.png", "width": width, "height": height}
        )
        for _ in range(draw(st.integers(0, 2))):
            xs, ys = st.floats(0, width), st.floats(0, height)
            keypoints = []
            for _ in NAMES:
                visible = draw(st.integers(0, 2))
                keypoints += [draw(xs), draw(ys), visible] if visible else [0, 0, 0]
            if not any(keypoints[2::3]):
                keypoints[:3] = [1.5, 2.25, 2]
            left, top = draw(st.floats(0, width / 2)), draw(st.floats(0, height / 2))
            w, h = draw(st.floats(1, width / 2)), draw(st.floats(1, height / 2))
            annotations.append(
                {"id": len(annotations) + 1, "image_id": image_id, "category_id": 1, "iscrowd": 0,
                 "keypoints": keypoints, "num_keypoints": sum(v > 0 for v in keypoints[2::3]),
                 "bbox": [left, top, w, h], "area": w * h}
            )  # fmt: skip
    if not annotations:
        annotations.append(
            {"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "num_keypoints": 1,
             "keypoints": [3, 4, 1, 0, 0, 0, 0, 0, 0], "bbox": [1, 2, 3, 4], "area": 12}
        )  # fmt: skip
    category = {"id": 1, "name": "animal", "keypoints": list(NAMES), "skeleton": [[1, 3]]}
    return {"images": images, "annotations": annotations, "categories": [category]}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    (folder / "in").mkdir()
    for image_id in range(1, 4):
        Image.new("L", (20 * image_id, 90)).save(folder / "in" / f"{image_id}.png")
    return folder


def same(before: dict[str, Any], after: dict[str, Any], prefix: str, boxes: bool) -> None:
    assert after["categories"][0]["keypoints"] == list(NAMES)
    assert [i["file_name"] for i in after["images"]] == [
        prefix + i["file_name"] for i in before["images"]
    ]
    for key in ("width", "height"):
        assert [i[key] for i in after["images"]] == [i[key] for i in before["images"]]
    assert len(after["annotations"]) == len(before["annotations"])
    for old, new in zip(before["annotations"], after["annotations"], strict=True):
        assert new["image_id"] == old["image_id"]
        assert new["keypoints"][2::3] == old["keypoints"][2::3]
        np.testing.assert_allclose(new["keypoints"], old["keypoints"], rtol=0, atol=2e-3)
        if boxes:
            np.testing.assert_allclose(new["bbox"], old["bbox"], rtol=0, atol=2e-3)


@pytest.mark.parametrize("name", ["yolo", "cvat", "label-studio", "coco"])
@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(document=sets())
def test_there_and_back(
    tmp_path_factory: pytest.TempPathFactory, images: Path, name: str, document: dict[str, Any]
) -> None:
    folder = tmp_path_factory.mktemp("trip")
    source, there, back = folder / "coco.json", folder / "there", folder / "back"
    source.write_text(json.dumps(document))
    found = ReadOptions(ImageFiles(images))
    match name:
        case "yolo":
            from_coco_to_yolo({"train": (source, found)}, there)
            to_coco(name, there / "data.yaml", back, ReadOptions())
        case "cvat":
            from_coco_to("to-cvat", source, there, found, "")
            to_coco(name, there / "annotations.xml", back, found)
        case "label-studio":
            from_coco_to("to-label-studio", source, there, found, "/data/local-files/?d=")
            keypoints = find_skeleton(str(there / "config.xml"))
            to_coco(name, there / "tasks.json", back, replace(found, skeleton=keypoints))
        case _:
            to_coco(name, source, back, found)
    (path,) = back.glob("*.json")
    after = json.loads(path.read_text())
    same(document, after, "images/train/" if name == "yolo" else "", name != "cvat")


@pytest.mark.parametrize("name", ["to-yolo", "to-label-studio"])
def test_sizes_that_the_annotations_lack_are_those_of_the_files(
    images: Path, tmp_path: Path, name: str
) -> None:
    person = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [2, 3, 10, 40], "area": 99}
    image = {"id": 1, "file_name": "in/1.png"}
    document = {
        "images": [image | {"width": 20, "height": 90}],
        "categories": [{"id": 1, "name": "dog", "keypoints": NAMES, "skeleton": []}],
        "annotations": [person | {"iscrowd": 0, "keypoints": [4, 5, 2] * 3, "num_keypoints": 3}],
    }
    made = []
    for folder, entry in (("sized", document["images"][0]), ("unsized", image)):
        source, out = tmp_path / f"{folder}.json", tmp_path / folder
        source.write_text(json.dumps(document | {"images": [entry]}))
        options = ReadOptions(ImageFiles(images))
        if name == "to-yolo":
            from_coco_to_yolo({"train": (source, options)}, out)
        else:
            from_coco_to(name, source, out, options, "")
        files = [p for p in sorted(out.rglob("*")) if p.suffix in (".txt", ".json")]
        made.append([p.read_text() for p in files])
    assert made[0] == made[1]
    with refused("images-missing", "in/1.png"):
        if name == "to-yolo":
            from_coco_to_yolo({"train": (source, ReadOptions())}, tmp_path / "none")
        else:
            from_coco_to(name, source, tmp_path / "none", ReadOptions(), "")
