"""Each format as its tool exports it, to the same COCO keypoints."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from data.formats import exports
from data.formats.exports import BOXES, EXPECTED, KEYPOINTS
from hrpose.cli.main import app
from hrpose.data.coco import load_persons
from hrpose.data.formats.convert import to_coco
from hrpose.data.formats.pose_set import ReadOptions, box_of_keypoints
from hrpose.data.images import ImageFiles
from hrpose.data.skeleton_file import find_skeleton
from hrpose.skeleton import Skeleton
from hrpose.skeletons import COCO_17, LSP_14
from refusals import refused


def documents(out: Path) -> dict[str, Any]:
    return {path.stem: json.loads(path.read_text()) for path in sorted(out.glob("*.json"))}


def persons(document: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    names = {image["id"]: image["file_name"] for image in document["images"]}
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in names.values()}
    for annotation in document["annotations"]:
        found[names[annotation["image_id"]]].append(annotation)
    return found


@pytest.mark.parametrize(
    ("name", "write", "has_boxes"),
    [
        ("cvat", exports.cvat_images, True),
        ("label-studio", exports.label_studio, True),
        ("csv", exports.csv_table, False),
    ],
)
def test_the_same_persons_from_every_tool(
    tmp_path: Path, name: str, write: Callable[[Path], Path], has_boxes: bool
) -> None:
    to_coco(name, write(tmp_path / "in"), tmp_path / "out", ReadOptions())
    (document,) = documents(tmp_path / "out").values()
    assert document["categories"][0]["keypoints"] == list(KEYPOINTS)
    for image, found in persons(document).items():
        assert [person["keypoints"] for person in found] == EXPECTED[image]
        if has_boxes:
            assert [person["bbox"] for person in found] == [BOXES[image]]
        assert all(("bbox_guessed" in person) != has_boxes for person in found)
    assert all((i["width"], i["height"]) == exports.SIZE for i in document["images"])
    # What follows finds the images beside the file.
    table = load_persons(tmp_path / "out" / "annotations.json")
    images = ImageFiles(tmp_path / "out" / "images")
    assert all(table.image_name(row) in images for row in range(len(table)))
    assert "flip_pairs:\n- [left_ear, right_ear]" in (tmp_path / "out/skeleton.yaml").read_text()


def test_labelme_beside_its_images(tmp_path: Path) -> None:
    source = exports.labelme(tmp_path / "in")
    given = ReadOptions(ImageFiles(tmp_path / "in" / "images"))
    to_coco("labelme", source, tmp_path / "out", given)
    (document,) = documents(tmp_path / "out").values()
    for image, found in persons(document).items():
        assert [person["keypoints"] for person in found] == EXPECTED[image]
        assert [person["bbox"] for person in found] == [BOXES[image]]


@pytest.mark.parametrize(
    ("name", "options", "limbs"),
    [
        ("datumaro", {}, [[1, 3], [2, 3]]),
        ("datumaro", {"skeletons": True}, []),
        ("supervisely", {}, [[1, 3]]),
    ],
)
def test_exports_of_subsets(
    tmp_path: Path, name: str, options: dict[str, bool], limbs: list[list[int]]
) -> None:
    done = to_coco(
        name, getattr(exports, name)(tmp_path / "in", **options), tmp_path / "out", ReadOptions()
    )
    found = documents(tmp_path / "out")
    assert set(found) == {"train", "val"}
    for document, image in zip(found.values(), EXPECTED, strict=True):
        assert document["categories"][0]["keypoints"] == list(KEYPOINTS)
        assert document["categories"][0]["skeleton"] == limbs
        ((file_name, (person,)),) = persons(document).items()
        assert (tmp_path / "out" / "images" / file_name).name == image
        assert (tmp_path / "out" / "images" / file_name).is_file()
        assert (person["keypoints"], person["bbox"]) == (EXPECTED[image][0], BOXES[image])
        assert "bbox_guessed" not in person
    assert any("left out" in note and "(2)" in note for note in done.found.notes)


def test_datumaro_without_saved_images(tmp_path: Path) -> None:
    source = exports.datumaro(tmp_path / "in")
    (source / "annotations" / "val.json").unlink()
    path = source / "annotations" / "train.json"
    path.write_text(path.read_text().replace('"a.jpg"', '"/home/me/media/a.jpg"'))
    shutil.move(source / "images" / "train", tmp_path / "media")
    given = ReadOptions(ImageFiles(tmp_path / "media"))
    to_coco("datumaro", path, tmp_path / "out", given)
    (document,) = documents(tmp_path / "out").values()
    assert [image["file_name"] for image in document["images"]] == ["a.jpg"]


@pytest.mark.parametrize("values", [2, 3])
def test_yolo_keeps_its_subsets(tmp_path: Path, values: int) -> None:
    to_coco("yolo", exports.yolo(tmp_path / "in", values), tmp_path / "out", ReadOptions())
    found = documents(tmp_path / "out")
    assert set(found) == {"train", "val"}
    for subset, name in (("train", "a.jpg"), ("val", "b.jpg")):
        (image, (person,)) = next(iter(persons(found[subset]).items()))
        assert image == f"images/{subset}/{name}"
        expected = np.reshape(EXPECTED[name][0], (3, 3))
        if values == 2:  # there is no visibility
            expected[expected[:, 2] > 0, 2] = 2
        assert person["keypoints"] == expected.ravel().tolist()
        assert person["bbox"] == BOXES[name]
    assert found["val"]["categories"][0]["name"] == "animal"


def test_yolo_without_names_is_coco_where_it_mirrors_like_coco(tmp_path: Path) -> None:
    source = exports.yolo(tmp_path / "in")
    flips = COCO_17.flip_permutation.tolist()
    source.write_text(
        f"train: images/train\nkpt_shape: [17, 3]\nflip_idx: {flips}\nnames: [person]\n"
    )
    label = tmp_path / "in" / "labels" / "train" / "a.txt"
    label.write_text("0 0.5 0.5 0.2 0.4 " + "0.5 0.5 2 " * 17 + "\n\n")
    done = to_coco("yolo", source, tmp_path / "out", ReadOptions())
    assert done.found.skeleton is COCO_17
    assert done.files == ("train.json",)


def test_clips_of_cvat(tmp_path: Path) -> None:
    done = to_coco("cvat", exports.cvat_video(tmp_path / "in"), tmp_path / "out", ReadOptions())
    (document,) = documents(tmp_path / "out").values()
    assert [(i["file_name"], i["video"]) for i in document["images"]] == [
        ("frame_000000.png", "clip.mp4"),
        ("frame_000005.png", "clip.mp4"),
    ]
    assert [a["keypoints"] for a in document["annotations"]] == [
        *EXPECTED["a.jpg"],
        *EXPECTED["b.jpg"],
    ]
    assert [a["track_id"] for a in document["annotations"]] == [0, 1]
    assert done.found.skeleton.limbs == ((0, 2),)
    assert done.found.skeleton.flip_pairs == ((0, 1),)


@pytest.mark.parametrize("lsp", [False, True])
def test_leeds_sports_poses(tmp_path: Path, lsp: bool) -> None:
    source = exports.lspet(tmp_path / "in", lsp=lsp)
    to_coco("lsp", source, tmp_path / "out", ReadOptions())
    table = load_persons(tmp_path / "out" / "annotations.json")
    assert table.skeleton is LSP_14
    assert table.image_name(1) == ("im0002.jpg" if lsp else "im00002.jpg")
    # The third value is 1 for hidden joints in LSP, for usable ones in LSPET.
    expected = [2, 1] * 7 if lsp else [0, 2] * 7
    assert table.keypoints[0, :, 2].tolist() == expected
    assert table.keypoints[0, 13].tolist() == [135, 68, expected[13]]


def test_points_of_cvat_without_skeletons(tmp_path: Path) -> None:
    source = tmp_path / "a.xml"
    shape = '<points label="{}" points="{}" occluded="0" group_id="{}"/>'
    source.write_text(
        '<annotations><image id="0" name="a.jpg" width="200" height="100">'
        + shape.format("ear", "1,2", 1)
        + shape.format("tail", "3,4", 1)
        + shape.format("ear", "5,6", 2)
        + "</image></annotations>"
    )
    to_coco("cvat", source, tmp_path / "out", ReadOptions())
    (document,) = documents(tmp_path / "out").values()
    found = [a["keypoints"] for a in document["annotations"]]
    assert found == [[1, 2, 2, 3, 4, 2], [5, 6, 2, 0, 0, 0]]
    source.write_text(
        '<annotations><image id="0" name="a.jpg" width="200" height="100">'
        + shape.format("animal", "1,2;3,4;5,6", 0)
        + "</image></annotations>"
    )
    names = tmp_path / "three.yaml"
    names.write_text("keypoints: [ear, back, tail]\n")
    given = ReadOptions(skeleton=find_skeleton(str(names)))
    to_coco("cvat", source, tmp_path / "again", given)
    (document,) = documents(tmp_path / "again").values()
    assert document["annotations"][0]["keypoints"] == [1, 2, 2, 3, 4, 2, 5, 6, 2]


def test_persons_of_keypoints_in_label_studio(tmp_path: Path) -> None:
    """By parent, by relation, and by position: the smallest rectangle that lacks the keypoint."""
    common = {"original_width": 100, "original_height": 100}

    def box(key: str, x: float, y: float, w: float, h: float) -> dict[str, Any]:
        value = {"x": x, "y": y, "width": w, "height": h, "rectanglelabels": ["person"]}
        return {**common, "id": key, "type": "rectanglelabels", "value": value}

    def point(key: str, x: float, y: float, name: str, **more: Any) -> dict[str, Any]:
        value = {"x": x, "y": y, "width": 1, "keypointlabels": [name]}
        return {**common, "id": key, "type": "keypointlabels", "value": value, **more}

    results = [
        box("large", 0, 0, 90, 90),
        box("small", 10, 10, 40, 40),
        point("1", 20, 20, "nose"),
        point("2", 30, 30, "nose"),  # the small one has its nose
        point("3", 95, 95, "hand", parentID="small"),
        point("4", 20, 22, "hand"),
        point("5", 99, 1, "foot"),
        {"type": "relation", "from_id": "5", "to_id": "large", "direction": "right"},
    ]
    tasks = [
        {"id": 1, "data": {"img": "s3://bucket/x/a.jpg"}, "annotations": [{"result": results}]},
        {"id": 2, "data": {"img": "s3://bucket/x/b.jpg"}, "annotations": []},
    ]
    source = tmp_path / "tasks.json"
    source.write_text(json.dumps(tasks))
    done = to_coco("label-studio", source, tmp_path / "out", ReadOptions())
    (document,) = documents(tmp_path / "out").values()
    assert document["images"][0]["file_name"] == "a.jpg"
    assert done.found.notes == ("left out: tasks without annotations (1)",)
    names = document["categories"][0]["keypoints"]
    found = [
        dict(zip(names, np.reshape(a["keypoints"], (3, 3))[:, :2].tolist(), strict=True))
        for a in document["annotations"]
    ]
    assert found == [
        {"nose": [30, 30], "hand": [20, 22], "foot": [99, 1]},
        {"nose": [20, 20], "hand": [95, 95], "foot": [0, 0]},
    ]


def test_boxes_made_from_keypoints() -> None:
    assert box_of_keypoints([(20, 30, 2), (60, 50, 1)], (200, 100)) == (16, 26, 48, 28)
    assert box_of_keypoints([(2, 2, 2), (198, 98, 2)], (200, 100)) == (0, 0, 200, 100)
    # One keypoint has no size; it is never a person with the image as box.
    assert box_of_keypoints([(120, 50, 2)], (200, 100)) == (100, 30, 40, 40)
    assert box_of_keypoints([(20, 30, 2)], (200, 100)) == (0, 10, 40, 40)
    left, top, w, h = box_of_keypoints([(-50, 5, 2), (-30, 9, 2)], (200, 100))
    assert (left, top, w, h) == (-52, 3, 24, 8)


@pytest.mark.parametrize("header", ["keypoint", "joint"])  # older tables have joint
def test_tables_of_predict_are_read(tmp_path: Path, header: str) -> None:
    exports.images(tmp_path / "images")
    source = tmp_path / "poses.csv"
    source.write_text(
        f"file,frame,time,track_id,person,{header},x,y,score,present\n"
        "a.jpg,,,,0,nose,1.5,2.5,0.9,true\na.jpg,,,,0,tail,3,4,0.1,false\n"
    )
    with refused("keypoints-differ", "line 2", "tails", "nose"):
        to_coco("csv", source, tmp_path / "out", ReadOptions(skeleton=Skeleton("tails", ("tail",))))
    to_coco("csv", source, tmp_path / "out", ReadOptions())
    (document,) = documents(tmp_path / "out").values()
    assert document["annotations"][0]["keypoints"] == [1.5, 2.5, 2]


def test_from_the_command_line(tmp_path: Path) -> None:
    source, out = exports.csv_table(tmp_path / "in"), tmp_path / "out"
    arguments = ["data", "convert", "csv", str(source), "--out", str(out)]
    done = CliRunner().invoke(app, [*arguments, "--copy"])
    assert done.exit_code == 0, done.stderr
    assert "2 persons in 2 images" in done.stdout
    assert "boxes of 2 persons were made from their keypoints" in done.stdout
    assert not (out / "images").is_symlink()
    assert (out / "images" / "a.jpg").read_bytes() == (tmp_path / "in/images/a.jpg").read_bytes()
    again = CliRunner().invoke(app, arguments)
    assert getattr(again.exception, "code", None) == "folder-not-empty"
