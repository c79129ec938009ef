"""What annotation tools leave half done: it is left out and counted, and the rest is converted."""

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from data.formats import exports
from data.formats.test_readers import documents
from hrpose.cli.main import app
from hrpose.data.coco import read_annotations
from hrpose.io import read_json
from hrpose.skeletons import COCO_17
from refusals import check_refusal, refused


def convert(name: str, source: Path, *options: str) -> Result:
    out = source.parent.parent / "out"
    return CliRunner().invoke(
        app, ["data", "convert", name, str(source), "--out", str(out), *options]
    )


def converted(name: str, source: Path, *options: str) -> tuple[dict[str, Any], str]:
    done = convert(name, source, *options)
    assert done.exit_code == 0, (done.output, done.exception)
    return documents(source.parent.parent / "out"), done.stdout


def edit_tasks(root: Path, change: Any) -> Path:
    source = exports.label_studio(root)
    tasks = json.loads(source.read_text())
    change(tasks)
    source.write_text(json.dumps(tasks))
    return source


def test_results_of_label_studio_without_a_place(tmp_path: Path) -> None:
    def ghosts(tasks: Any) -> None:
        results = tasks[0]["annotations"][0]["result"]
        ghost = {**results[1], "id": "ghost", "value": {"width": 0.5, "keypointlabels": ["tail"]}}
        choice = {"id": "c", "type": "choices", "value": {"choices": ["dull"]}}
        results += [ghost, choice, {**ghost, "value": None}]
        results += [{**ghost, "value": {**results[1]["value"], "x": None}}]

    found, output = converted("label-studio", edit_tasks(tmp_path / "in", ghosts))
    assert len(found["annotations"]["annotations"]) == 2
    assert "left out: results without a place in the image (3)" in output
    assert "left out: results other than rectangles and keypoints (1)" in output


@pytest.mark.parametrize("key", ["was_cancelled", "was_canceled"])
def test_cancelled_annotations_of_label_studio(tmp_path: Path, key: str) -> None:
    def cancel(tasks: Any) -> None:
        annotation = tasks[1]["annotations"][0]
        annotation[key] = True
        tasks[1]["predictions"] = [{"result": annotation["result"]}]

    found, output = converted("label-studio", edit_tasks(tmp_path / "in", cancel))
    assert [image["file_name"] for image in found["annotations"]["images"]] == ["a.jpg"]
    assert "left out: tasks that were cancelled (1)" in output


def odd_coco(root: Path, change: Any) -> Path:
    """A COCO file of one person in each of two images."""
    exports.images(root / "images")
    document: dict[str, Any] = {
        "images": [{"id": n, "file_name": f"{x}.jpg", "width": 200, "height": 100}
                   for n, x in ((1, "a"), (2, "b"))],
        "annotations": [{"id": n, "image_id": n, "category_id": 1, "iscrowd": 0, "area": 800,
                         "bbox": [10, 10, 40, 20], "keypoints": [20, 20, 2, 30, 25, 1]}
                        for n in (1, 2)],
        "categories": [{"id": 1, "name": "animal", "keypoints": ["head", "tail"]}],
    }  # fmt: skip
    change(document)
    (root / "annotations.json").write_text(json.dumps(document))
    return root / "annotations.json"


def test_crowds_and_sizes_of_coco_files_are_counted(tmp_path: Path) -> None:
    def change(document: Any) -> None:
        document["annotations"][0]["iscrowd"] = 1
        document["images"][1]["width"] = None

    found, output = converted("coco", odd_coco(tmp_path / "in", change))
    assert len(found["annotations"]["annotations"]) == 1
    assert "left out: crowds (1)" in output
    assert "images without a size, read from their files: 1" in output


def test_images_of_one_file_become_one(tmp_path: Path) -> None:
    def change(document: Any) -> None:
        document["images"][1]["file_name"] = "a.jpg"

    source = odd_coco(tmp_path / "in", change)
    checked = CliRunner().invoke(app, ["data", "check", str(source)])
    assert "with the 'file_name' of another image" in checked.stdout
    found, output = converted("coco", source)
    assert [image["id"] for image in found["annotations"]["images"]] == [1]
    assert [person["image_id"] for person in found["annotations"]["annotations"]] == [1, 1]
    assert "1 image with the 'file_name' of another image (id 2)" in output


def test_a_file_without_a_person_has_a_problem(tmp_path: Path) -> None:
    crowd = odd_coco(
        tmp_path / "in", lambda document: [e.update(iscrowd=1) for e in document["annotations"]]
    )
    checked = CliRunner().invoke(app, ["data", "check", str(crowd)])
    assert checked.exit_code == 1
    assert "no-persons (1): " in checked.stdout
    check_refusal(convert("coco", crowd), "labels-missing", "crowds (2)")
    with refused("labels-missing", "2 crowds"):
        raise read_annotations(crowd).no_labels()
    lost = odd_coco(
        tmp_path / "in", lambda document: [e.update(image_id=9) for e in document["annotations"]]
    )
    with refused("labels-missing", "2 annotations left out for 'image_id'"):
        raise read_annotations(lost, lenient=True).no_labels()


@pytest.mark.parametrize("key", ["images", "annotations", "categories"])
def test_entries_that_are_no_objects_are_named(tmp_path: Path, key: str) -> None:
    source = odd_coco(tmp_path / "in", lambda document: document[key].append(None))
    check_refusal(convert("coco", source), "annotations-invalid", f"'{key}', entry ")


def test_nothing_but_cancelled_annotations_is_an_error(tmp_path: Path) -> None:
    def cancel(tasks: Any) -> None:
        for task in tasks:
            task["annotations"][0]["was_cancelled"] = True

    done = convert("label-studio", edit_tasks(tmp_path / "in", cancel))
    check_refusal(done, "labels-missing", "tasks that were cancelled (2)")
    assert not (tmp_path / "out").exists()


def test_tracks_of_cvat_where_nobody_is_seen(tmp_path: Path) -> None:
    source = exports.cvat_video(tmp_path / "in")
    gone = "".join(
        f'<points label="{name}" outside="1" occluded="0" points="0,0"></points>'
        for name in exports.KEYPOINTS
    )
    more = (
        f'<track id="2" label="animal"><skeleton frame="1" keyframe="1">{gone}</skeleton></track>'
        '<track id="3" label="car"><box frame="0"/></track></annotations>'
    )
    source.write_text(source.read_text().replace("</annotations>", more))
    found, output = converted("cvat", source)
    assert len(found["annotations"]["annotations"]) == 2
    assert "left out: skeletons without a labeled keypoint (1)" in output
    assert "left out: tracks of other labels (1)" in output


def test_a_box_of_cvat_without_size_is_made_from_the_keypoints(tmp_path: Path) -> None:
    source = exports.cvat_images(tmp_path / "in")
    x, y, w, _ = exports.BOXES["a.jpg"]
    old = f'xbr="{x + w}" ybr="90.0"'
    assert old in source.read_text()
    source.write_text(source.read_text().replace(old, f'xbr="{x + w}" ybr="{y}"'))
    found, output = converted("cvat", source)
    assert ["bbox_guessed" in a for a in found["annotations"]["annotations"]] == [True, False]
    assert "boxes of 1 person were made" in output


def test_labelme_with_a_rectangle_for_each_person_but_no_groups(tmp_path: Path) -> None:
    source = exports.labelme(tmp_path / "in")
    label = source / "a.json"
    document = json.loads(label.read_text())
    shapes = document["shapes"]
    for shape in list(shapes):
        moved = [[x + 100, y] for x, y in shape["points"]]
        shapes.append({**shape, "points": moved})
    for shape in shapes:
        shape["group_id"] = None
    shapes.append({"label": "grass", "shape_type": "polygon", "points": [[0, 0], [1, 0], [0, 1]]})
    label.write_text(json.dumps(document))
    found, output = converted("labelme", source, "--images", str(tmp_path / "in" / "images"))
    first, second = (a["keypoints"] for a in found["annotations"]["annotations"][:2])
    assert first == exports.EXPECTED["a.jpg"][0]
    assert second[::3] == [x + 100 for x in first[::3]]
    assert "left out: shapes other than points and rectangles (1)" in output


def test_a_test_folder_of_roboflow_that_is_absent(tmp_path: Path) -> None:
    source = exports.yolo(tmp_path / "in")
    for subset, name in (("train", "train"), ("val", "valid")):
        (tmp_path / "in" / name).mkdir()
        for kind in ("images", "labels"):
            old = tmp_path / "in" / kind / subset
            old.rename(tmp_path / "in" / name / kind)
    text = source.read_text().partition("train:")[0].replace("path:", "# path:")
    source.write_text(
        f"{text}train: ../train/images\nval: ../valid/images\ntest: ../test/images\n"
        "nc: 1\nnames: ['animal']\nkpt_shape: [3, 3]\nflip_idx: [1, 0, 2]\n"
        "roboflow:\n  workspace: a\n  version: 1\n"
    )
    found, output = converted("yolo", source)
    assert {name: len(each["annotations"]) for name, each in found.items()} == {
        "train": 1,
        "val": 1,
    }
    assert "left out: test: ../test/images, which is absent" in output


@pytest.mark.parametrize(
    "train", ["C:\\Users\\me\\animals\\images\\train", "/content/images/train"]
)
def test_absolute_folders_of_another_machine(tmp_path: Path, train: str) -> None:
    source = exports.yolo(tmp_path / "in")
    source.write_text(source.read_text().replace("images/train", train))
    found, _ = converted("yolo", source)
    assert found["train"]["images"][0]["file_name"] == "images/train/a.jpg"


def test_lines_of_yolo_with_a_box_alone_and_other_classes(tmp_path: Path) -> None:
    source = exports.yolo(tmp_path / "in")
    source.write_text(source.read_text().replace("0: animal", "0: animal\n  1: plant"))
    label = tmp_path / "in" / "labels" / "train" / "a.txt"
    line = label.read_text()
    label.write_text(f"{line}0 0.5 0.5 0.1 0.1\n1{line[1:]}")
    found, output = converted("yolo", source, "--category", "animal")
    assert [a["num_keypoints"] for a in found["train"]["annotations"]] == [3, 0]
    assert "1 person without a labeled keypoint" in output
    assert "left out: persons of other classes (1)" in output


def test_labels_beside_the_images(tmp_path: Path) -> None:
    source = exports.yolo(tmp_path / "in")
    (tmp_path / "in" / "data").mkdir()
    for kind in ("images", "labels"):
        for file in (tmp_path / "in" / kind / "train").iterdir():
            file.rename(tmp_path / "in" / "data" / file.name)
    source.write_text(source.read_text().replace("images/train", "data"))
    found, _ = converted("yolo", source)
    assert found["train"]["annotations"][0]["keypoints"] == exports.EXPECTED["a.jpg"][0]


def test_names_of_keypoints_where_classes_belong(tmp_path: Path) -> None:
    source = exports.yolo(tmp_path / "in")
    names = "0: nose\n  1: left_eye\n  2: right_eye"
    source.write_text(source.read_text().replace("0: animal", names))
    check_refusal(convert("yolo", source), "category-unknown", "kpt_names", "left_eye")


def test_backslashes_of_windows_in_a_table(tmp_path: Path) -> None:
    source = exports.csv_table(tmp_path / "in")
    (tmp_path / "in" / "images" / "sub").mkdir()
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / "in" / "images" / name).rename(tmp_path / "in" / "images" / "sub" / name)
    text = source.read_text()
    source.write_text(text.replace("a.jpg", r".\sub\a.jpg").replace("b.jpg", r"sub\b.jpg"))
    found, _ = converted("csv", source)
    names = [image["file_name"] for image in found["annotations"]["images"]]
    assert names == ["sub/a.jpg", "sub/b.jpg"]


def test_pairs_and_keypoints_of_one_side_are_reported(tmp_path: Path) -> None:
    source = exports.csv_table(tmp_path / "in")
    text = source.read_text()
    source.write_text(text.replace("left_ear", "earL").replace("right_ear", "earR"))
    source.write_text(source.read_text().replace("tail", "tailL"))
    _, output = converted("csv", source)
    assert "flip pairs: earL/earR" in output
    assert "without a counterpart on the other side: tailL" in output


def coco(root: Path, **changes: Any) -> Path:
    """One person in each of two images, with ids that do not count from 1."""
    exports.images(root / "images")
    document = {
        "images": [
            {"id": 41 + row, "file_name": name, "width": 200, "height": 100}
            for row, name in enumerate(exports.EXPECTED)
        ],
        "annotations": [
            {
                "id": 71 + row, "image_id": 41 + row, "category_id": 3, "iscrowd": 0,
                "keypoints": values[0], "bbox": exports.BOXES[name],
            }
            for row, (name, values) in enumerate(exports.EXPECTED.items())
        ],
        "categories": [{"id": 3, "name": "animal", "keypoints": list(exports.KEYPOINTS)}],
    }  # fmt: skip
    source = root / "labels.json"
    source.write_text(json.dumps({**document, **changes}))
    return source


def test_ids_of_coco_files_are_kept_unless_asked_otherwise(tmp_path: Path) -> None:
    source = coco(tmp_path / "in")
    for options, first in (((), (41, 71)), (("--new-ids",), (1, 1))):
        found, _ = converted("coco", source, *options)
        document = found["annotations"]
        assert [image["id"] for image in document["images"]] == [first[0], first[0] + 1]
        ids = [(a["id"], a["image_id"]) for a in document["annotations"]]
        assert ids == [first[::-1], (first[1] + 1, first[0] + 1)]
        shutil.rmtree(tmp_path / "out")
    check_refusal(
        convert("csv", exports.csv_table(tmp_path / "in"), "--new-ids"), "option-conflict"
    )


def test_gzipped_json(tmp_path: Path) -> None:
    source = coco(tmp_path / "in")
    packed = source.with_suffix(".json.gz")
    packed.write_bytes(gzip.compress(source.read_bytes()))
    for name in ("coco", "cvat"):
        found, _ = converted(name, packed)
        assert len(found["annotations"]["annotations"]) == 2
        shutil.rmtree(tmp_path / "out")
    packed.write_bytes(packed.read_bytes()[:100])
    check_refusal(convert("coco", packed), "json-invalid", "labels.json.gz")


def test_gzip_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hrpose.io.MAX_JSON_BYTES", 10_000)
    (tmp_path / "a.json").write_bytes(gzip.compress(b" " * 20_000))
    with refused("file-too-large", "a.json"):
        read_json(tmp_path / "a.json")


def test_what_is_repaired_in_coco_files_is_reported(tmp_path: Path) -> None:
    source = coco(tmp_path / "in")
    document = json.loads(source.read_text())
    document["annotations"] += [
        {"id": 9, "image_id": 42, "category_id": 3, "keypoints": [], "bbox": [0, 0, 0, 0]}
    ]
    document["annotations"][0]["bbox"] = [20, 30, 40, 0]
    source.write_text(json.dumps(document))
    found, output = converted("coco", source)
    guessed = ["bbox_guessed" in a for a in found["annotations"]["annotations"]]
    assert guessed == [True, False]
    assert "1 annotation with neither keypoints nor a box" in output
    assert "boxes of 1 person were made" in output


def test_categories_of_one_skeleton_become_one(tmp_path: Path) -> None:
    source = coco(tmp_path / "in")
    document = json.loads(source.read_text())
    (category,) = document["categories"]
    document["categories"] += [{**category, "id": 5, "name": "dog"}, {**category, "id": 6}]
    document["annotations"][1]["category_id"] = 5
    source.write_text(json.dumps(document))
    check_refusal(convert("coco", source), "category-unknown", "'dog'", "--merge-categories")
    for options, persons in (
        (("--merge-categories",), 2),
        (("--category", "dog"), 1),
        (("--category", "3"), 1),  # two are called animal
    ):
        found, _ = converted("coco", source, *options)
        assert len(found["annotations"]["annotations"]) == persons
        shutil.rmtree(tmp_path / "out")


def test_keypoints_are_renamed(tmp_path: Path) -> None:
    source = exports.csv_table(tmp_path / "in")
    rename = ("--rename", "left_ear=left_horn", "--rename", "right_ear=right_horn")
    found, output = converted("csv", source, *rename)
    keypoints = found["annotations"]["categories"][0]["keypoints"]
    assert keypoints == ["left_horn", "right_horn", "tail"]
    assert found["annotations"]["annotations"][0]["keypoints"] == exports.EXPECTED["a.jpg"][0]
    assert "renamed: left_ear to left_horn, right_ear to right_horn" in output
    assert "flip pairs: left_horn/right_horn" in output
    shutil.rmtree(tmp_path / "out")
    for bad, mention in (("nose=snout", "nose"), ("tail=left_ear", "different"), ("tail", "=")):
        check_refusal(convert("csv", source, "--rename", bad), "option-invalid", mention)


def test_names_that_differ_in_spelling_only_are_matched(tmp_path: Path) -> None:
    source = exports.csv_table(tmp_path / "in")
    text = source.read_text().replace("left_ear", "Left Ear").replace("right_ear", "REar")
    source.write_text(text)
    skeleton = tmp_path / "animal.yaml"
    skeleton.write_text("keypoints: [tail, left_ear, right_ear]\nname: animal\n")
    found, output = converted("csv", source, "--skeleton", str(skeleton))
    values = exports.EXPECTED["a.jpg"][0]
    assert found["annotations"]["annotations"][0]["keypoints"] == values[6:] + values[:6]
    assert "renamed: Left Ear to left_ear, REar to right_ear" in output
    # The keypoints of a shipped skeleton are known without being named.
    lines = ["image,person,keypoint,x,y"]
    for row, name in enumerate(COCO_17.keypoints):
        lines.append(f"a.jpg,0,{name.replace('_', ' ').title()},{row},{row}")
    source.write_text("\n".join(lines))
    shutil.rmtree(tmp_path / "out")
    found, output = converted("csv", source)
    assert found["annotations"]["categories"][0]["keypoints"] == list(COCO_17.keypoints)
    assert "17 keypoints of coco-17" in output
