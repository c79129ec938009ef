"""MPII's official form: the same crops, the same PCKh, and back again."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.io import loadmat, savemat
from typer.testing import CliRunner

from data.mpii_files import NAMES, entries, truth, write_mpii
from golden_rules import arrays, facts
from hrpose.cli.main import app
from hrpose.data.coco import load_persons, read_annotations
from hrpose.data.formats.mpii import convert, from_coco, pckh_truth
from hrpose.geometry import Crop
from hrpose.metrics.pck import pckh
from hrpose.skeletons import MPII_16
from refusals import refused


@pytest.fixture(scope="module")
def annot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_mpii(tmp_path_factory.mktemp("mpii"))


def converted(path: Path, found: list[dict[str, Any]], heads: dict[str, Any] | None = None) -> Path:
    path.mkdir(exist_ok=True)
    (path / "valid.json").write_text(json.dumps(found))
    if heads is not None:
        savemat(path / "gt_valid.mat", heads)
    return convert(path, path / "out")[0].path


def official_crop(center: list[float], scale: float) -> tuple[list[float], float]:
    """Center and side in pixels counted from 0, by the rules that the official code has."""
    x, y = center
    if x != -1:
        y, scale = y + 15 * scale, scale * 1.25
    return [x - 1, y - 1], scale * 200


def test_crops_are_the_official_ones(annot: Path, tmp_path: Path) -> None:
    for name, count in (("train", 9), ("valid", 9)):
        convert(annot, tmp_path)
        table = load_persons(tmp_path / f"{name}.json")
        official = json.loads((annot / f"{name}.json").read_text())
        assert len(table) == count
        for box, entry in zip(table.boxes, official, strict=True):
            center, side = official_crop(entry["center"], entry["scale"])
            crop = Crop.from_box(box, (256, 256), padding=1.25)
            np.testing.assert_allclose(crop.center, center, atol=1e-9)
            np.testing.assert_allclose(crop.size, (side, side), rtol=1e-12)


@given(x=st.one_of(st.just(-1.0), st.floats(0, 4000)), y=st.floats(-1, 4000), s=st.floats(0.01, 20))
def test_any_center_and_scale(x: float, y: float, s: float) -> None:
    from hrpose.data.formats.mpii import _box

    center, side = official_crop([x, y], s)
    crop = Crop.from_box(_box([x, y], s), (256, 256))
    np.testing.assert_allclose(crop.center, center, atol=1e-8)
    np.testing.assert_allclose(crop.size, (side, side), rtol=1e-12)


def test_the_form(annot: Path, tmp_path: Path) -> None:
    done = convert(annot, tmp_path)
    assert [d.path.name for d in done] == ["train.json", "valid.json", "test.json"]
    assert [(d.persons, d.images, d.images_found, d.heads) for d in done] == [
        (9, 5, 5, 0),
        (9, 5, 5, 9),
        (3, 2, 2, 0),
    ]
    document = json.loads((tmp_path / "valid.json").read_text())
    assert document["categories"] == [MPII_16.to_coco_category()]
    assert all((i["width"], i["height"]) == (180, 170) for i in document["images"])
    official = json.loads((annot / "valid.json").read_text())
    table = load_persons(tmp_path / "valid.json")
    assert table.skeleton is MPII_16
    for row, entry in enumerate(official):
        keypoints = table.keypoints[row]
        visible = np.array(entry["joints_vis"]) > 0
        assert (keypoints[:, 2] > 0).tolist() == visible.tolist()
        assert not keypoints[~visible].any()
        expected = np.array(entry["joints"])[visible] - 1
        np.testing.assert_allclose(keypoints[visible, :2], expected, atol=1e-4)
        assert table.file_names[table.image_index[row]].decode() == entry["image"]


def test_persons_of_the_test_set_have_boxes_alone(annot: Path, tmp_path: Path) -> None:
    convert(annot, tmp_path)
    assert len(load_persons(tmp_path / "test.json")) == 0
    assert len(load_persons(tmp_path / "test.json", unlabeled=True)) == 3


def test_without_images_their_sizes_are_guessed(tmp_path: Path) -> None:
    annot = write_mpii(tmp_path, files=False)
    done = CliRunner().invoke(
        app, ["data", "convert", "mpii", str(annot), "--out", str(tmp_path / "out")]
    )
    assert done.exit_code == 0
    assert "5 images not found, with guessed sizes" in done.stdout
    document = json.loads((tmp_path / "out" / "valid.json").read_text())
    sizes = {i["id"]: (i["width"], i["height"]) for i in document["images"]}
    for person in document["annotations"]:
        keypoints = np.reshape(person["keypoints"], (16, 3))
        assert (keypoints[:, :2].max(axis=0) < sizes[person["image_id"]]).all()


def test_images_may_be_in_a_zip_file(annot: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        for path in sorted((annot.parent / "images").iterdir()):
            archive.write(path, f"images/{path.name}")
    done = convert(annot, tmp_path / "out", tmp_path / "images.zip")
    assert all(d.images_found == d.images for d in done)


def test_there_and_back(annot: Path, tmp_path: Path) -> None:
    runner = CliRunner()
    done = runner.invoke(
        app, ["data", "convert", "mpii", str(annot), "--out", str(tmp_path / "ours")]
    )
    assert done.exit_code == 0, done.stderr
    for name in ("train", "valid", "test"):
        ours, back = tmp_path / "ours" / f"{name}.json", tmp_path / "back"
        done = runner.invoke(app, ["data", "convert", "to-mpii", str(ours), "--out", str(back)])
        assert done.exit_code == 0, done.stderr
        expected = json.loads((annot / f"{name}.json").read_text())
        assert json.loads((back / f"{name}.json").read_text()) == expected
    assert sorted(p.name for p in (tmp_path / "back").glob("*.mat")) == ["gt_valid.mat"]
    expected, found = (loadmat(folder / "gt_valid.mat") for folder in (annot, tmp_path / "back"))
    for name in ("jnt_missing", "pos_gt_src", "headboxes_src"):
        np.testing.assert_array_equal(found[name], expected[name])
    # The official code finds joints like this.
    for joint, name in enumerate(NAMES):
        assert np.where(found["dataset_joints"] == name)[1][0] == joint


def test_points_of_unlabeled_joints_come_back(tmp_path: Path) -> None:
    official = entries(2)
    official[0]["joints_vis"][3] = 0  # with the point that it has
    official[1]["joints"][4], official[1]["joints_vis"][4] = [0.0, 0.0], 0
    ours = converted(tmp_path / "annot", official)
    runner = CliRunner()
    runner.invoke(app, ["data", "convert", "to-mpii", str(ours), "--out", str(tmp_path / "back")])
    assert json.loads((tmp_path / "back" / "valid.json").read_text()) == official


@pytest.mark.parametrize("differ", [False, True])
def test_pckh_from_our_form_alone(tmp_path: Path, differ: bool) -> None:
    # The golden persons, whose JSON labels are those of the .mat file or slightly different.
    part = {n: arrays("pipeline")[f"pckh_{n}"] for n in ("pred", "gt", "missing", "headboxes")}
    official = entries(len(part["gt"]))
    for entry, points, missing in zip(official, part["gt"], part["missing"], strict=True):
        entry["joints"] = (points + differ).tolist()
        entry["joints_vis"] = (1 - missing.astype(int)).tolist()
    if differ:
        official[0]["joints_vis"] = [1 - v for v in official[0]["joints_vis"]]
    heads = {
        "jnt_missing": part["missing"].T.astype(float),
        "pos_gt_src": part["gt"].transpose(1, 2, 0),
        "headboxes_src": part["headboxes"].transpose(1, 2, 0),
    }
    ours = converted(tmp_path / "annot", official, heads)
    persons = json.loads(ours.read_text())["annotations"]
    assert sum("pckh_keypoints" in person for person in persons) == differ * len(persons)
    found = pckh_truth(read_annotations(ours), [person["id"] for person in persons])
    assert found is not None
    assert found.known.all()
    scores = pckh(part["pred"], found.points, found.missing, found.head_boxes)
    official = dict(facts("pipeline")["pckh"])
    expected = {"PCKh": official.pop("Mean"), "PCKh@0.1": official.pop("Mean@0.1"), **official}
    assert scores.as_dict() == pytest.approx(expected, abs=1e-6)


def test_one_person_alone(tmp_path: Path) -> None:
    official = entries(1)
    heads = {name: value for name, value in truth(official).items() if name != "dataset_joints"}
    # As MATLAB writes it, without a last axis of length 1.
    heads = {**heads, "headboxes_src": heads["headboxes_src"][..., 0]}
    found = pckh_truth(read_annotations(converted(tmp_path / "annot", official, heads)), [1])
    assert found is not None
    np.testing.assert_array_equal(found.head_boxes[0], heads["headboxes_src"])


def test_files_without_heads(tmp_path: Path) -> None:
    assert pckh_truth(read_annotations(converted(tmp_path / "annot", entries(2))), [1, 2]) is None


def changed(**changes: Any) -> list[dict[str, Any]]:
    found = entries(3)
    found[1] |= changes
    return found


@pytest.mark.parametrize(
    ("official", "mention"),
    [
        ({}, "dict"),
        ([1], "list"),
        (changed(image="../a.jpg"), "entry 1: 'image'"),
        (changed(image=None), "entry 1: 'image'"),
        (changed(center=[1]), "entry 1: 'center'"),
        (changed(center=[1, float("nan")]), "entry 1: 'center'"),
        (changed(scale=0), "entry 1: 'scale'"),
        (changed(scale=-1), "entry 1: 'scale'"),
        (changed(scale="big"), "entry 1: 'scale'"),
        (changed(scale=[2, 2]), "entry 1: 'scale'"),
        (changed(joints=[[1, 2]] * 15), "entry 1: 'joints'"),
        (changed(joints=[[1, 2]] * 15 + [[1]]), "entry 1: 'joints'"),
        (changed(joints=None), "entry 1: 'joints'"),
        (changed(joints_vis=[1] * 17), "entry 1: 'joints_vis'"),
        (changed(joints_vis=[2] * 16), "entry 1: 'joints_vis'"),
    ],
)
def test_invalid_json(tmp_path: Path, official: Any, mention: str) -> None:
    with refused("annotations-invalid", "valid.json", mention):
        converted(tmp_path, official)
    assert not (tmp_path / "out").exists()


def test_a_folder_without_annotations(tmp_path: Path) -> None:
    with refused("annotations-invalid", "train.json, valid.json"):
        convert(tmp_path, tmp_path / "out")


def test_files_that_were_not_converted_from_mpii(tmp_path: Path) -> None:
    other = tmp_path / "coco.json"
    other.write_text(json.dumps({"images": [], "annotations": [{"id": 1, "image_id": 1}]}))
    with refused("annotations-invalid", "coco.json", "KeyError"):
        from_coco(other, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_sources_are_not_replaced(annot: Path, tmp_path: Path) -> None:
    before = (annot / "train.json").read_bytes()
    with refused("overwrite-refused", "annot"):
        convert(annot, annot.parent / "images" / ".." / "annot")
    assert (annot / "train.json").read_bytes() == before
    ours = convert(annot, tmp_path)[0].path
    with refused("overwrite-refused", str(tmp_path)):
        from_coco(ours, tmp_path)


def without(name: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda heads: {key: value for key, value in heads.items() if key != name}


def put(name: str, value: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda heads: {**heads, name: value}


@pytest.mark.parametrize(
    ("spoil", "code", "mention"),
    [
        (without("headboxes_src"), "mat-invalid", "'headboxes_src'"),
        (put("headboxes_src", np.zeros((2, 2, 4))), "mat-invalid", "'pos_gt_src'"),
        (put("headboxes_src", "text"), "mat-invalid", "'headboxes_src'"),
        (put("headboxes_src", np.full((2, 2, 3), np.nan)), "annotations-invalid", "person 0"),
        (put("jnt_missing", np.full((16, 3), 2.0)), "annotations-invalid", "person 0"),
        (put("jnt_missing", np.array([[{}] * 3] * 16)), "mat-invalid", "'jnt_missing'"),
    ],
)
def test_invalid_mat_files(
    tmp_path: Path, spoil: Callable[[dict[str, Any]], dict[str, Any]], code: str, mention: str
) -> None:
    official = entries(3)
    with refused(code, "gt_valid.mat", mention):
        converted(tmp_path, official, spoil(truth(official)))


def test_mat_files_of_other_persons(tmp_path: Path) -> None:
    with refused("annotations-invalid", "gt_valid.mat", "3", "4"):
        converted(tmp_path, entries(3), truth(entries(4)))
