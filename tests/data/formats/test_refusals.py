"""Invalid sources: errors that name the file and the entry, and no output."""

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
from hrpose.data.formats import SOURCES
from hrpose.data.formats.convert import from_coco_to, from_coco_to_yolo, to_coco
from hrpose.data.formats.cvat import children
from hrpose.data.formats.pose_set import ReadOptions
from hrpose.data.images import ImageFiles
from hrpose.data.skeleton_file import find_skeleton
from hrpose.errors import UserError
from hrpose.skeleton import Skeleton
from refusals import refused

WRITERS: dict[str, Callable[[Path], Path]] = {
    "yolo": exports.yolo,
    "cvat": exports.cvat_images,
    "label-studio": exports.label_studio,
    "labelme": exports.labelme,
    "csv": exports.csv_table,
    "datumaro": exports.datumaro,
    "supervisely": exports.supervisely,
}

# The format, the file below the source's folder, what is replaced by what, and the place and value
# that the error names. Its code is annotations-invalid, unless another one follows.
INVALID: list[tuple[str, str, str, str, tuple[str, ...], str]] = [
    (name, file, old, new, mentions, code[0] if code else "annotations-invalid")
    for name, file, old, new, mentions, *code in (
    # Numbers.
    ("yolo", "labels/train/a.txt", " 0.3 2", " nan 2", ("a.txt: line 1: left_ear", "nan")),
    ("yolo", "labels/train/a.txt", " 0.3 2", " 1e999 2", ("line 1: left_ear", "1e999")),
    ("yolo", "labels/train/a.txt", " 0.3 2", " 30 2", ("line 1: left_ear", "30")),
    ("cvat", "annotations.xml", "20.00,30.00", "nan,30.00", ("image a.jpg", "left_ear", "nan")),
    ("cvat", "annotations.xml", "20.00,30.00", "20.00", ("left_ear", "20.00")),
    ("cvat", "annotations.xml", "20.00,30.00", "1,2;3,4", ("left_ear", "2 points")),
    ("label-studio", "project-1.json", '"y": 30.0', '"y": Infinity', ("task 1: result 2: y",)),
    ("label-studio", "project-1.json", '"y": 30.0', '"y": "up"', ("task 1", "up")),
    ("labelme", "labels/a.json", "[20.0, 30.0]", "[20.0, NaN]", ("a.json: shape 2: y", "nan")),
    ("labelme", "labels/a.json", "[20.0, 30.0]", "[20.0]", ("shape 2: points",)),
    ("datumaro", "annotations/train.json", "20.0, 30.0", "20.0, NaN", ("item 1: annotation 1",)),
    ("datumaro", "annotations/train.json", "20.0, 30.0", "20.0", ("6 numbers", "5")),
    ("datumaro", "annotations/train.json", '"label_id": 0', '"label_id": 7', ("label_id", "7")),
    ("datumaro", "annotations/train.json", '"a.jpg"', '"../../etc/a.jpg"', ("image: path",)),
    ("datumaro", "annotations/train.json", '"tail"', '"tip"', ("categories", "others")),
    ("datumaro", "annotations/train.json", "[100, 200]", "[100]", ("item 1: image: size",)),
    ("supervisely", "train/ann/a.jpg.json", "[20.0, 30.0]", "[20.0]", ("node id-left_ear: loc",)),
    ("supervisely", "train/ann/a.jpg.json", "[20.0, 30.0]", "[NaN, 1]", ("object 1: node", "x")),
    ("supervisely", "train/ann/a.jpg.json", "id-tail", "id-tip", ("id-tip", "meta.json"),
     "keypoints-differ"),
    ("supervisely", "meta.json", '"graph"', '"polygon"', ("classes", "none"), "category-unknown"),
    ("supervisely", "meta.json", '"label": "tail"', '"label": "left_ear"', ("class animal",)),
    ("supervisely", "train/ann/a.jpg.json", '"width": 200', '"width": 0', ("size: width", "0")),
    ("csv", "labels.csv", "20.0,30.0", "20.0,inf", ("labels.csv: line 2: y", "inf")),
    ("csv", "labels.csv", "20.0,30.0", "20.0,", ("line 2: y", "nothing")),
    ("csv", "labels.csv", "30.0,2\n", "30.0,3\n", ("line 2: visible", "3")),
    # Names that lead out of the folder.
    ("yolo", "data.yaml", "images/train", "../../etc", ("data.yaml: train", "../etc")),
    ("yolo", "data.yaml", "images/train", "/etc", ("data.yaml: train", "/etc")),
    ("cvat", "annotations.xml", '"a.jpg"', '"../../etc/a.jpg"', ("image 0", "../../etc")),
    ("cvat", "annotations.xml", '"a.jpg"', '"/etc/a.jpg"', ("image 0", "/etc/a.jpg")),
    ("label-studio", "project-1.json", "/data/upload/1/0a1b2c3d-a.jpg",
     "/data/local-files/?d=../../etc/a.jpg", ("task 1: data", "../../etc")),
    ("labelme", "labels/a.json", "images", "../../etc", ("a.json: imagePath",)),
    ("labelme", "labels/a.json", r"..\\images\\a.jpg", "/etc/a.jpg", ("imagePath", "/etc")),
    ("csv", "labels.csv", "a.jpg", "../../etc/passwd", ("line 2: image", "../../etc/passwd")),
    ("csv", "labels.csv", "a.jpg", "c:\\a.jpg", ("line 2: image", "c:")),
    # Keypoints: unknown, twice, too few.
    ("yolo", "labels/train/a.txt", " 0.8 1", "", ("line 1", "14", "12")),
    ("yolo", "data.yaml", "right_ear, tail", "right_ear", ("kpt_names", "right_ear")),
    ("yolo", "data.yaml", "[1, 0, 2]", "[1, 2, 0]", ("flip_idx", "[1, 2, 0]")),
    ("yolo", "data.yaml", "[3, 3]", "[3, 4]", ("kpt_shape", "4")),
    ("yolo", "labels/train/a.txt", "0 ", "4 ", ("line 1: class", "4")),
    ("cvat", "annotations.xml", '"tail" source', '"tial" source',
     ("image a.jpg: skeleton 1", "'tial'", "'tail'"), "keypoints-differ"),
    ("cvat", "annotations.xml", '"right_ear" source', '"left_ear" source',
     ("skeleton 1", "left_ear")),
    ("cvat", "annotations.xml", "<parent>animal", "<parent>horse",
     ("image a.jpg: skeleton 1", "left_ear"), "keypoints-differ"),
    ("label-studio", "project-1.json", '["right_ear"]', '["left_ear"]', ("task 1", "left_ear")),
    ("label-studio", "project-1.json", '["tail"]', "[]", ("keypointlabels", "[]")),
    ("labelme", "labels/a.json", '"right_ear"', '"left_ear"', ("shape", "left_ear", "group_id")),
    ("csv", "labels.csv", "right_ear", "left_ear", ("line 3", "left_ear")),
    ("csv", "labels.csv", "0,left_ear", "0,", ("line 2: keypoint", "nothing")),
    # The form.
    ("yolo", "data.yaml", "kpt_shape", "kpt_shpe", ("kpt_shape", "nothing")),
    ("yolo", "data.yaml", "0: animal", "0: dog\n  1: cat", ("--category", "dog, cat"),
     "category-unknown"),
    ("yolo", "data.yaml", "train:", "train: [", ("data.yaml",), "recipe-invalid"),
    ("cvat", "annotations.xml", '<?xml version="1.0" encoding="utf-8"?>',
     '<!DOCTYPE a [<!ENTITY b "c">]>', ("annotations.xml",), "xml-invalid"),
    ("cvat", "annotations.xml", "</skeleton>", "</bones>", ("annotations.xml",), "xml-invalid"),
    ("cvat", "annotations.xml", "<annotations>", "<labels>", ("<annotations>",), "xml-invalid"),
    ("cvat", "annotations.xml", 'width="200"', 'width="0"', ("a.jpg: width", "0")),
    ("cvat", "annotations.xml", "b.jpg", "a.jpg", ("a.jpg twice",)),
    ("label-studio", "project-1.json", '"rotation": 0', '"rotation": 9', ("9 degrees",)),
    ("label-studio", "project-1.json", '"original_width": 200', '"original_width": 201',
     ("result 2", "201 x 100", "200 x 100")),
    ("labelme", "labels/a.json", '"imageWidth": 200', '"imageWidth": -1', ("a.json: width",)),
    ("labelme", "labels/a.json", "{", "[", ("a.json",), "json-invalid"),
    ("csv", "labels.csv", "keypoint", "limb", ("line 1", "image, person, keypoint", "limb")),
    ("csv", "labels.csv", "a.jpg,0", '"a.jpg"x,0', ("line 2",)),
    ("csv", "labels.csv", ",20.0,30.0,2\n", "\n", ("line 2", "6", "3")),
    ("csv", "labels.csv", "a.jpg", "gone.jpg", ("gone.jpg", "--images"), "images-missing"),
    )
]  # fmt: skip


@pytest.mark.parametrize(("name", "file", "old", "new", "mentions", "code"), INVALID)
def test_errors_name_the_place_and_leave_nothing(
    tmp_path: Path, name: str, file: str, old: str, new: str, mentions: tuple[str, ...], code: str
) -> None:
    source = WRITERS[name](tmp_path / "in")
    path = tmp_path / "in" / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    images = ImageFiles(tmp_path / "in" / "images") if name == "labelme" else None
    with refused(code, *mentions):
        to_coco(name, source, tmp_path / "out", ReadOptions(images))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in"]


CODES_OF_OTHER_FILES = {
    f"{what}-invalid" for what in ("annotations", "hdf5", "json", "mat", "xml", "recipe")
} | {"file-unreadable", "labels-missing"}


@pytest.mark.parametrize("name", SOURCES)
def test_other_files_are_refused(tmp_path: Path, name: str) -> None:
    for content in (None, b"", b"\xff\xfe\0", b"[]", b"{}", b"<a/>"):
        source = tmp_path / "source.bin"
        if content is not None:
            source.write_bytes(content)
        with pytest.raises(UserError) as caught:
            to_coco(name, source, tmp_path / "out", ReadOptions())
        assert caught.value.code in CODES_OF_OTHER_FILES, str(caught.value)
        assert "source.bin: " in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_the_short_form_of_label_studio(tmp_path: Path) -> None:
    source = tmp_path / "min.json"
    source.write_text(json.dumps([{"id": 4, "image": "/data/upload/1/a.jpg", "joint": []}]))
    with refused("annotations-invalid", "task 4", "JSON-MIN"):
        to_coco("label-studio", source, tmp_path / "out", ReadOptions())


@pytest.mark.parametrize(
    ("joints", "code", "mention"),
    [
        (np.full((14, 3, 2), np.nan), "annotations-invalid", "image 1"),
        (np.full((14, 3, 2), 2.0), "annotations-invalid", "image 1"),
        (np.ones((16, 3, 2)), "annotations-invalid", "(16, 3, 2)"),
        (np.ones((14, 3, 3)), "images-missing", "im00003.jpg"),
    ],
)
def test_invalid_joints_of_lsp(tmp_path: Path, joints: Any, code: str, mention: str) -> None:
    source = exports.lspet(tmp_path / "in")
    savemat(source, {"joints": joints})
    with refused(code, mention):
        to_coco("lsp", source, tmp_path / "out", ReadOptions())
    assert not (tmp_path / "out").exists()


def test_invalid_coco_files(tmp_path: Path) -> None:
    document: dict[str, Any] = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 9, "height": 9}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1],
             "keypoints": [1, 1, 2, 2, 2, 1]}
        ],
        "categories": [{"id": 1, "name": "animal", "keypoints": ["a", "b"]}],
    }  # fmt: skip
    source = tmp_path / "a.json"
    for change, mention in (
        ({"categories": []}, "'categories'"),
        ({"images": [{**document["images"][0], "file_name": "../a.jpg"}]}, "../a.jpg"),
        ({"annotations": [{**document["annotations"][0], "keypoints": [1, 1, 2]}]}, "[1, 1, 2]"),
    ):
        source.write_text(json.dumps({**document, **change}))
        for convert in (
            lambda out: to_coco("coco", source, out, ReadOptions()),
            lambda out: from_coco_to("to-cvat", source, out, ReadOptions(), ""),
            lambda out: from_coco_to_yolo({"train": (source, ReadOptions())}, out),
        ):
            code = "annotations-invalid" if "categories" in change else "labels-missing"
            with refused(code, "a.json", mention):
                convert(tmp_path / "out")
    source.write_text(json.dumps(document))
    with refused("category-unknown", "horse", "animal"):
        to_coco("coco", source, tmp_path / "out", ReadOptions(category="horse"))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.json"]


def test_images_that_yolo_could_not_tell_apart(tmp_path: Path) -> None:
    images = [
        {"id": i, "file_name": n, "width": 9, "height": 9} for i, n in enumerate(("a.jpg", "a.png"))
    ]
    category = {"id": 1, "name": "animal", "keypoints": ["a"]}
    source = tmp_path / "a.json"
    source.write_text(json.dumps({"images": images, "annotations": [], "categories": [category]}))
    with refused("names-collide", "a.png"):
        from_coco_to_yolo({"train": (source, ReadOptions())}, tmp_path / "out")


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
    arguments = ["data", "convert", "to-yolo", str(source), "--out", str(tmp_path / "out")]
    output = CliRunner().invoke(app, arguments, catch_exceptions=False).stdout
    assert "1 keypoint outside the image" in output
    label = (tmp_path / "out" / "labels" / "train" / "a.txt").read_text()
    assert label == "0 0.25 0.25 0.5 0.5 0.5 0.5 1 0 0 0\n"


def test_an_image_that_cannot_be_copied_leaves_nothing(tmp_path: Path) -> None:
    source = exports.cvat_images(tmp_path / "in")
    (tmp_path / "in" / "images" / "b.jpg").unlink()
    with refused("file-unreadable", "b.jpg"):
        to_coco("cvat", source, tmp_path / "out", ReadOptions(), copy=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in"]


@pytest.mark.parametrize(
    "content",
    [
        b"<a>" + b"<b>" * 60,
        b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><a>&x;</a>',
        b"<a>&lol;</a>",
        b'<?xml version="1.0" encoding="hex"?><a/>',
    ],
)
def test_untrusted_xml(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.xml"
    path.write_bytes(content)
    with refused("xml-invalid", "a.xml", "<a>"):
        list(children(path, "a"))


@pytest.mark.parametrize(
    ("name", "content", "code", "mention"),
    [
        ("coco17", None, "skeleton-unknown", "coco-17, mpii-16"),
        ("a.yaml", "limbs: []", "skeleton-invalid", "'keypoints'"),
        ("a.yaml", "keypoints: [a, a]", "skeleton-invalid", "a.yaml"),
        ("a.xml", "<View/>", "skeleton-invalid", "<KeyPointLabels>"),
    ],
)
def test_invalid_skeletons(
    tmp_path: Path, name: str, content: str | None, code: str, mention: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_text(content)
    with refused(code, mention):
        find_skeleton(str(path) if content is not None else name)


def test_a_skeleton_with_other_keypoints(tmp_path: Path) -> None:
    source = exports.lspet(tmp_path / "in")
    with refused("keypoints-differ", "14", "1"):
        to_coco("lsp", source, tmp_path / "out", ReadOptions(skeleton=Skeleton("one", ("a",))))


def test_an_error_of_the_command_line(tmp_path: Path) -> None:
    source = exports.csv_table(tmp_path / "in")
    source.write_text(source.read_text().replace("20.0,30.0", "x,30.0"))
    done = CliRunner().invoke(
        app, ["data", "convert", "csv", str(source), "--out", str(tmp_path / "out")]
    )
    assert isinstance(done.exception, UserError)
    assert done.exception.code == "annotations-invalid"
    assert f"{source}: line 2: x: " in str(done.exception)
