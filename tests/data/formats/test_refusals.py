"""Faulty sources: one line that names the file, the entry and what was expected, and no output."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import savemat
from typer.testing import CliRunner

from data.formats import exports
from hrpose.cli.main import app
from hrpose.data.formats.convert import SOURCES, from_coco_to, from_coco_to_yolo, to_coco
from hrpose.data.formats.cvat import children
from hrpose.data.formats.persons import Given
from hrpose.data.images import ImageFiles
from hrpose.data.skeleton_file import skeleton_called
from hrpose.errors import UserError
from hrpose.skeleton import Skeleton

WRITERS: dict[str, Callable[[Path], Path]] = {
    "yolo": exports.yolo,
    "cvat": exports.cvat_images,
    "label-studio": exports.label_studio,
    "labelme": exports.labelme,
    "csv": exports.csv_table,
}

# The format, the file below the source's folder, what is replaced by what, and the complaint.
FAULTS = [
    # Numbers.
    ("yolo", "labels/train/a.txt", " 0.3 2", " nan 2", r"a\.txt: line 1: left_ear: .* found nan"),
    ("yolo", "labels/train/a.txt", " 0.3 2", " 1e999 2", r"line 1: left_ear: .*finite number"),
    ("yolo", "labels/train/a.txt", " 0.3 2", " 30 2", r"shares of the image"),
    ("cvat", "annotations.xml", "20.00,30.00", "nan,30.00", r"image a.jpg: .*left_ear.*found nan"),
    ("cvat", "annotations.xml", "20.00,30.00", "20.00", r"left_ear: expected places"),
    ("cvat", "annotations.xml", "20.00,30.00", "1,2;3,4", r"left_ear: expected one place"),
    ("label-studio", "project-1.json", '"y": 30.0', '"y": Infinity', r"task 1: result 2: y: "),
    ("label-studio", "project-1.json", '"y": 30.0', '"y": "up"', r"task 1: .* found up"),
    ("labelme", "labels/a.json", "[20.0, 30.0]", "[20.0, NaN]", r"json: shape 2: y: .*found nan"),
    ("labelme", "labels/a.json", "[20.0, 30.0]", "[20.0]",
     r"shape 2: points: expected 1 of \[x, y\]"),
    ("csv", "labels.csv", "20.0,30.0", "20.0,inf", r"labels\.csv: line 2: y: .*found inf"),
    ("csv", "labels.csv", "20.0,30.0", "20.0,", r"line 2: y: expected a number, found nothing"),
    ("csv", "labels.csv", "30.0,2\n", "30.0,3\n", r"line 2: visible: expected 0, 1, 2"),
    # Names that lead out of the folder.
    ("yolo", "data.yaml", "images/train", "../../etc", r"train: expected .*without '\.\.'"),
    ("yolo", "data.yaml", "images/train", "/etc", r"train: expected .*, found /etc"),
    ("cvat", "annotations.xml", '"a.jpg"', '"../../etc/a.jpg"', r"image 0: .*found \.\./\.\./etc"),
    ("cvat", "annotations.xml", '"a.jpg"', '"/etc/a.jpg"', r"image 0: expected the relative name"),
    ("label-studio", "project-1.json", "/data/upload/1/0a1b2c3d-a.jpg",
     "/data/local-files/?d=../../etc/a.jpg", r"task 1: data: .*found \.\./\.\./etc"),
    ("labelme", "labels/a.json", "images", "../../etc", r"a\.json: imagePath.*without '\.\.'"),
    ("labelme", "labels/a.json", r"..\\images\\a.jpg", "/etc/a.jpg", r"imagePath.*found /etc"),
    ("csv", "labels.csv", "a.jpg", "../../etc/passwd", r"line 2: image: expected the relative"),
    ("csv", "labels.csv", "a.jpg", "c:\\a.jpg", r"line 2: image: expected the relative"),
    # Keypoints: unknown, twice, too few.
    ("yolo", "labels/train/a.txt", " 0.8 1", "", r"line 1: expected 14 numbers.*found 12"),
    ("yolo", "data.yaml", "right_ear, tail", "right_ear", r"kpt_names: expected 3 different names"),
    ("yolo", "data.yaml", "[1, 0, 2]", "[1, 2, 0]", r"flip_idx: expected 3 indices"),
    ("yolo", "data.yaml", "[3, 3]", "[3, 4]", r"kpt_shape: expected a whole number from 2 to 3"),
    ("yolo", "labels/train/a.txt", "0 ", "4 ", r"line 1: class: expected a whole number from 0"),
    ("cvat", "annotations.xml", '"tail" source', '"tial" source',
     r"image a.jpg: skeleton 1: .*found 'tial'; did you mean 'tail'"),
    ("cvat", "annotations.xml", '"right_ear" source', '"left_ear" source',
     r"found 'left_ear' again"),
    ("cvat", "annotations.xml", "<parent>animal", "<parent>horse",
     r"image a.jpg: skeleton 1: .*found 'left_ear'"),
    ("label-studio", "project-1.json", '["right_ear"]', '["left_ear"]',
     r"expected a rectangle around"),
    ("label-studio", "project-1.json", '["tail"]', "[]", r"keypointlabels: expected one label"),
    ("labelme", "labels/a.json", '"right_ear"', '"left_ear"', r"found 'left_ear' again; give each"),
    ("csv", "labels.csv", "right_ear", "left_ear", r"line 3: .*found 'left_ear' again"),
    ("csv", "labels.csv", "0,left_ear", "0,", r"line 2: keypoint: expected the name of a keypoint"),
    # The form.
    ("yolo", "data.yaml", "kpt_shape", "kpt_shpe", r"kpt_shape: expected \[keypoints, 2 or 3\]"),
    ("yolo", "data.yaml", "0: animal", "0: dog\n  1: cat", r"one of them as --category.* dog, cat"),
    ("yolo", "data.yaml", "train:", "train: [", r"data\.yaml: expected YAML"),
    ("cvat", "annotations.xml", '<?xml version="1.0" encoding="utf-8"?>',
     '<!DOCTYPE a [<!ENTITY b "c">]>', r"annotations\.xml: .*document type"),
    ("cvat", "annotations.xml", "</skeleton>", "</bones>", r"mismatched tag"),
    ("cvat", "annotations.xml", "<annotations>", "<labels>", r"expected XML with <annotations>"),
    ("cvat", "annotations.xml", 'width="200"', 'width="0"', r"a.jpg: width: expected a whole"),
    ("cvat", "annotations.xml", "b.jpg", "a.jpg", r"expected each image once, found a\.jpg"),
    ("label-studio", "project-1.json", '"rotation": 0', '"rotation": 9',
     r"rectangle that is not turned"),
    ("label-studio", "project-1.json", '"original_width": 200', '"original_width": 201',
     r"result 2: expected an image of 201 x 100"),
    ("labelme", "labels/a.json", '"imageWidth": 200', '"imageWidth": -1',
     r"a\.json: width: expected"),
    ("labelme", "labels/a.json", "{", "[", r"a\.json: expected JSON"),
    ("csv", "labels.csv", "joint", "keypoint", r"line 1: expected the columns image, person"),
    ("csv", "labels.csv", "a.jpg,0", '"a.jpg"x,0', r"line 2: expected CSV"),
    ("csv", "labels.csv", ",20.0,30.0,2\n", "\n", r"line 2: expected 6 values, found 3"),
    ("csv", "labels.csv", "a.jpg", "gone.jpg", r"expected the image gone\.jpg.*--images"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "file", "old", "new", "message"), FAULTS)
def test_faults_are_named(
    tmp_path: Path, name: str, file: str, old: str, new: str, message: str
) -> None:
    source = WRITERS[name](tmp_path / "in")
    path = tmp_path / "in" / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    images = ImageFiles(tmp_path / "in" / "images") if name == "labelme" else None
    with pytest.raises(UserError, match=message) as caught:
        to_coco(name, source, tmp_path / "out", Given(images))
    assert "\n" not in str(caught.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in"]


@pytest.mark.parametrize("name", SOURCES)
def test_what_is_no_such_source(tmp_path: Path, name: str) -> None:
    for content in (None, b"", b"\xff\xfe\0", b"[]", b"{}", b"<a/>"):
        source = tmp_path / "source.bin"
        if content is not None:
            source.write_bytes(content)
        with pytest.raises(UserError, match=r"source\.bin: "):
            to_coco(name, source, tmp_path / "out", Given())
    assert not (tmp_path / "out").exists()


def test_the_short_form_of_label_studio(tmp_path: Path) -> None:
    source = tmp_path / "min.json"
    source.write_text(json.dumps([{"id": 4, "image": "/data/upload/1/a.jpg", "joint": []}]))
    with pytest.raises(UserError, match=r"task 4: expected 'annotations'.*not JSON-MIN"):
        to_coco("label-studio", source, tmp_path / "out", Given())


@pytest.mark.parametrize(
    ("joints", "message"),
    [
        (np.full((14, 3, 2), np.nan), "image 1: expected finite places and 0 or 1, found NaN"),
        (np.full((14, 3, 2), 2.0), "image 1: expected finite places and 0 or 1"),
        (np.ones((16, 3, 2)), r"expected the shape \(14, 3, n\) of LSPET"),
        (np.ones((14, 3, 3)), "expected the image im00003.jpg"),
    ],
)
def test_faults_of_keypoints_mat(tmp_path: Path, keypoints: Any, message: str) -> None:
    source = exports.lspet(tmp_path / "in")
    savemat(source, {"joints": keypoints})
    with pytest.raises(UserError, match=message):
        to_coco("lsp", source, tmp_path / "out", Given())
    assert not (tmp_path / "out").exists()


def test_faults_of_coco(tmp_path: Path) -> None:
    document: dict[str, Any] = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 9, "height": 9}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1],
             "keypoints": [1, 1, 2, 2, 2, 1]}
        ],
        "categories": [{"id": 1, "name": "animal", "keypoints": ["a", "b"]}],
    }  # fmt: skip
    source = tmp_path / "a.json"
    for change, message in (
        ({"categories": []}, "'categories': expected one category with 'keypoints'"),
        ({"images": [{**document["images"][0], "file_name": "../a.jpg"}]}, "without '..'"),
        ({"annotations": [{**document["annotations"][0], "keypoints": [1, 1, 2]}]}, "6 finite"),
        ({"annotations": [{**document["annotations"][0], "keypoints": [1, 1, 3] * 2}]}, "0, 1 and"),
    ):
        source.write_text(json.dumps({**document, **change}))
        for convert in (
            lambda out: to_coco("coco", source, out, Given()),
            lambda out: from_coco_to("to-cvat", source, out, Given(), ""),
            lambda out: from_coco_to_yolo({"train": (source, Given())}, out),
        ):
            with pytest.raises(UserError, match=message):
                convert(tmp_path / "out")
    source.write_text(json.dumps(document))
    with pytest.raises(UserError, match="expected 'horse', found animal"):
        to_coco("coco", source, tmp_path / "out", Given(category="horse"))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.json"]


def test_images_that_yolo_could_not_tell_apart(tmp_path: Path) -> None:
    images = [
        {"id": i, "file_name": n, "width": 9, "height": 9} for i, n in enumerate(("a.jpg", "a.png"))
    ]
    category = {"id": 1, "name": "animal", "keypoints": ["a"]}
    source = tmp_path / "a.json"
    source.write_text(json.dumps({"images": images, "annotations": [], "categories": [category]}))
    with pytest.raises(UserError, match=r"a\.png: expected images whose names differ"):
        from_coco_to_yolo({"train": (source, Given())}, tmp_path / "out")


def test_keypoints_that_yolo_cannot_hold_are_counted(tmp_path: Path) -> None:
    document = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 10, "height": 10}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 5, 5],
             "keypoints": [5, 5, 1, 11, 5, 2]}
        ],
        "categories": [{"id": 1, "name": "animal", "keypoints": ["a", "b"]}],
    }  # fmt: skip
    source = tmp_path / "a.json"
    source.write_text(json.dumps(document))
    arguments = ["data", "convert", "to-yolo", str(source), str(tmp_path / "out")]
    said = CliRunner().invoke(app, arguments, catch_exceptions=False).stdout
    assert "1 keypoints outside their images are written as not labeled" in said
    label = (tmp_path / "out" / "labels" / "train" / "a.txt").read_text()
    assert label == "0 0.25 0.25 0.5 0.5 0.5 0.5 1 0 0 0\n"


def test_a_image_that_cannot_be_copied_leaves_nothing(tmp_path: Path) -> None:
    source = exports.cvat_images(tmp_path / "in")
    (tmp_path / "in" / "images" / "b.jpg").unlink()
    with pytest.raises(UserError, match=r"b\.jpg: no such file"):
        to_coco("cvat", source, tmp_path / "out", Given(), copy=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<a>" + b"<b>" * 60, "more than 50 deep"),
        (b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><a>&x;</a>', "document type"),
        (b"<a>&lol;</a>", "undefined entity"),
        (b'<?xml version="1.0" encoding="hex"?><a/>', "expected XML"),
    ],
)
def test_xml_of_strangers(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a.xml"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        list(children(path, "a"))


def test_skeletons_that_are_called(tmp_path: Path) -> None:
    for text, content, message in (
        ("coco17", None, "expected coco-17, mpii-16"),
        ("a.yaml", "limbs: []", "expected 'keypoints'"),
        ("a.yaml", "keypoints: [a, a]", "no name twice"),
        ("a.xml", "<View/>", "expected <KeyPointLabels>"),
    ):
        path = tmp_path / text
        if content is not None:
            path.write_text(content)
        with pytest.raises(UserError, match=message):
            skeleton_called(str(path) if content is not None else text)
    source = exports.lspet(tmp_path / "in")
    with pytest.raises(UserError, match="expected a skeleton of 14 keypoints, found 1"):
        to_coco("lsp", source, tmp_path / "out", Given(skeleton=Skeleton("one", ("a",))))


def test_the_command_line_says_it_in_one_line(tmp_path: Path) -> None:
    source = exports.csv_table(tmp_path / "in")
    source.write_text(source.read_text().replace("20.0,30.0", "x,30.0"))
    done = CliRunner().invoke(app, ["data", "convert", "csv", str(source), str(tmp_path / "out")])
    assert isinstance(done.exception, UserError)
    assert str(done.exception) == f"{source}: line 2: x: expected a number, found x"
