"""`Poses`: values, and every way out of them."""

import importlib.util
import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageShow

from hrpose.geometry import BODY_MARGIN
from hrpose.image import ImageSource, read_image
from hrpose.poses import MIN_KEYPOINTS, Poses, boxes_around, rescore
from hrpose.skeleton import Skeleton
from hrpose.skeletons import AP_10K, COCO_17
from hrpose.viz import draw
from refusals import refused

PAIR = Skeleton("pair", ("a", "b"))


def three_persons(**changed: Any) -> Poses:
    parts: dict[str, Any] = {
        "keypoints": np.arange(18, dtype=np.float32).reshape(3, 2, 3),
        "boxes": np.arange(12, dtype=np.float32).reshape(3, 4),
        "scores": np.array([0.5, 0.25, 1], np.float32),
        "skeleton": PAIR,
        "track_ids": np.array([7, 8, 9]),
    }
    return Poses(**{**parts, **changed})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("keypoints", np.zeros((3, 17, 3), np.float32)),
        ("keypoints", np.zeros((3, 2, 2), np.float32)),
        ("boxes", np.zeros((2, 4), np.float32)),
        ("boxes", np.zeros((3, 5), np.float32)),
        ("scores", np.zeros((3, 1), np.float32)),
        ("track_ids", np.zeros(2, np.int64)),
        ("filled", np.zeros((3, 3), np.bool_)),
        ("covariance", np.zeros((3, 2, 2), np.float32)),
        ("presence", np.zeros((3, 2), np.float32)),
    ],
)
def test_shapes_that_do_not_fit_are_refused(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"Poses\.{field}: expected shape .*, found"):
        three_persons(**{field: value})


@pytest.mark.parametrize(
    ("chosen", "ids"),
    [
        (1, [8]),
        (-1, [9]),
        (np.int64(2), [9]),
        (slice(1, None), [8, 9]),
        (slice(0, 0), []),
        (np.array([True, False, True]), [7, 9]),
        (np.array([2, 0]), [9, 7]),
        ([], []),
    ],
)
def test_persons_are_selected(chosen: Any, ids: list[int]) -> None:
    three = three_persons()
    some = three[chosen]
    assert some.track_ids is not None
    assert some.track_ids.tolist() == ids
    rows = [id_ - 7 for id_ in ids]
    np.testing.assert_array_equal(some.keypoints, three.keypoints[rows])
    np.testing.assert_array_equal(some.boxes, three.boxes[rows])
    np.testing.assert_array_equal(some.scores, three.scores[rows])


def test_an_index_outside_is_an_error() -> None:
    with pytest.raises(IndexError):
        three_persons()[3]


def test_one_by_one() -> None:
    assert [len(person) for person in three_persons()] == [1, 1, 1]
    assert [float(person.scores[0]) for person in three_persons(track_ids=None)] == [0.5, 0.25, 1]


def test_nobody() -> None:
    empty = Poses.empty(COCO_17)
    assert len(empty) == 0
    assert empty.keypoints.shape == (0, 17, 3)
    assert list(empty) == []
    assert empty.to_coco("image") == []


def three() -> Poses:
    """Three persons with known keypoints in an image of 40 x 20 pixels."""
    keypoints = np.zeros((3, 17, 3), np.float32)
    keypoints[..., :2] = np.arange(3 * 17 * 2).reshape(3, 17, 2) % 20
    keypoints[..., 2] = 0.5
    scores = np.array([0.57, 0.341, 1], np.float32)
    boxes = np.tile(np.float32([1, 2, 10, 15]), (3, 1))
    source = ImageSource(np.full((20, 40, 3), 99, np.uint8), "photo.png")
    return Poses(keypoints, boxes, scores, COCO_17, image_wh=(40, 20), source=source)


@pytest.mark.parametrize(
    ("poses", "line"),
    [
        (three(), "Poses(3 persons, coco-17, scores .57 .34 1.00)"),
        (three()[0], "Poses(1 person, coco-17, scores .57)"),
        (Poses.empty(COCO_17), "Poses(no persons, coco-17)"),
        (
            replace(three(), track_ids=np.array([1, 2, 7])),
            "Poses(3 persons, coco-17, scores .57 .34 1.00, ids 1 2 7)",
        ),
        (three()[[0] * 9], "Poses(9 persons, coco-17, scores .57 .57 .57 .57 .57 .57 ..)"),
    ],
)
def test_they_are_printed_in_one_line(poses: Poses, line: str) -> None:
    assert repr(poses) == line


def test_parts_of_poses() -> None:
    poses = three()
    assert poses.keypoint("left_wrist").tolist() == poses.keypoints[:, 9].tolist()
    assert poses[1].keypoint("nose").shape == (1, 3)
    with refused("keypoint-unknown", "'wrist'", "left_wrist"):
        poses.keypoint("wrist")
    assert poses.xy.tolist() == poses.keypoints[..., :2].tolist()
    assert poses.conf.shape == (3, 17)
    np.testing.assert_allclose(poses.xyn * [40, 20], poses.xy, rtol=1e-6)
    assert poses.boxes_xyxy[0].tolist() == [1, 2, 11, 17]
    with refused("image-missing", "xyn"):
        _ = replace(poses, image_wh=None).xyn
    # A selection keeps the image.
    assert [one.image_wh for one in poses] == [(40, 20)] * 3
    assert poses[:2].source is poses.source


def test_they_draw_themselves(tmp_path: Path) -> None:
    poses = three()
    expected = draw(np.full((20, 40, 3), 99, np.uint8), poses, boxes=True)
    np.testing.assert_array_equal(poses.draw(boxes=True), expected)
    saved = poses.save(tmp_path / "new" / "drawn.png", boxes=True)
    np.testing.assert_array_equal(read_image(saved), expected)
    png = poses._repr_png_()
    assert png is not None
    np.testing.assert_array_equal(read_image(png), poses.draw())
    other = np.zeros((20, 40, 3), np.uint8)
    np.testing.assert_array_equal(poses.draw(other), draw(other, poses))
    with refused("image-unsupported", "drawn.xyz", ".png"):
        poses.save(tmp_path / "drawn.xyz")


def test_poses_without_their_image() -> None:
    alone = replace(three(), source=None)
    assert alone._repr_png_() is None
    with refused("image-missing", "draw"):
        alone.draw()
    changed = replace(three(), image_wh=(41, 20))
    with refused("image-missing", "photo.png", "(41, 20)"):
        changed.draw()


def test_large_images_are_small_in_a_notebook() -> None:
    source = ImageSource(np.zeros((100, 3000, 3), np.uint8))
    png = replace(three(), image_wh=(3000, 100), source=source)._repr_png_()
    assert png is not None
    assert read_image(png).shape[1] == 1280


def test_json_has_the_form_of_the_server(tmp_path: Path) -> None:
    poses = replace(three(), track_ids=np.array([1, 2, 7]))
    found = json.loads(poses.save(tmp_path / "poses.json", threshold=0.6).read_bytes())
    assert found == json.loads(poses.to_json(threshold=0.6))
    persons = found.pop("persons")
    assert found == {
        "image": "photo.png", "width": 40, "height": 20, "skeleton": "coco-17", "threshold": 0.6
    }  # fmt: skip
    assert [person["score"] for person in persons] == [0.57, 0.341, 1]
    assert [person["track_id"] for person in persons] == [1, 2, 7]
    assert persons[0]["box"] == [1, 2, 10, 15]
    nose = {"name": "nose", "x": 0, "y": 1, "score": 0.5, "present": False}
    assert persons[0]["keypoints"][0] == nose


def test_showing_needs_a_viewer(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[tuple[int, int]] = []

    class Viewer(ImageShow.Viewer):
        def show(self, image: Image.Image, **options: Any) -> int:
            shown.append(image.size)
            return 1

    monkeypatch.setattr(ImageShow, "_viewers", [Viewer()])
    three().show()
    assert shown == [(40, 20)]
    monkeypatch.setattr(ImageShow, "_viewers", [])
    with refused("display-missing", "save"):
        three().show()


def test_coco_results() -> None:
    entries = three_persons().to_coco(image_id=42, category_id=3)
    assert len(entries) == 3
    assert entries[1] == {
        "image_id": 42,
        "category_id": 3,
        "keypoints": [6.0, 7.0, 8.0, 9.0, 10.0, 11.0],
        "score": 0.25,
        "bbox": [4.0, 5.0, 6.0, 7.0],
        "track_id": 8,
    }
    assert "track_id" not in three_persons(track_ids=None).to_coco(image_id=42)[0]


@pytest.mark.parametrize("ids", [None, np.array([7, 8, 9])])
@pytest.mark.parametrize("filled", [None, np.array([[True, False], [False, False], [True, True]])])
def test_coco_results_become_poses_again(ids: Any, filled: Any) -> None:
    poses = three_persons(track_ids=ids, filled=filled)
    again = Poses.from_coco(poses.to_coco(1), poses.skeleton)
    for field in ("keypoints", "boxes", "scores", "track_ids", "filled"):
        np.testing.assert_array_equal(getattr(again, field), getattr(poses, field))
    assert len(Poses.from_coco([], poses.skeleton)) == 0


def test_covariances_go_with_the_keypoints() -> None:
    spread = np.arange(6, dtype=np.float32).reshape(3, 2, 1, 1) * np.float32([[4, 1], [1, 2.5]])
    poses = three_persons(covariance=spread)
    assert poses.to_coco(1)[1]["covariance"] == [8, 2, 5, 12, 3, 7.5]
    again = Poses.from_coco(poses.to_coco(1), poses.skeleton)
    np.testing.assert_array_equal(again.covariance, spread)
    np.testing.assert_array_equal(poses[[2, 0]].covariance, spread[[2, 0]])
    row = poses.to_pandas().iloc[3]
    assert row[["var_x", "cov_xy", "var_y"]].tolist() == [12, 3, 7.5]
    assert "covariance" not in three_persons().to_coco(1)[0]
    present = np.array([0.5, 0.25, 0.25], np.float32) * np.ones((3, 2, 1), np.float32)
    poses = three_persons(presence=present)
    assert poses.to_coco(1)[0]["presence"] == [0.5, 0.25, 0.25] * 2
    again = Poses.from_coco(poses.to_coco(1), poses.skeleton)[1:]
    np.testing.assert_array_equal(again.presence, present[1:])
    assert "var_x" not in three_persons().to_pandas().columns


def test_interpolated_keypoints_are_marked() -> None:
    filled = np.array([[False, False], [False, True], [True, True]])
    poses = three_persons(filled=filled)
    assert [entry.get("filled") for entry in poses.to_coco(1)] == [None, [1], [0, 1]]
    assert poses[1:].filled.tolist() == filled[1:].tolist()


def test_rescore_is_the_mean_of_counted_keypoints_times_the_box() -> None:
    poses = np.zeros((3, 4, 3))
    poses[0, :, 2] = 0.9, 0.5, 0.2, 0.1  # 0.2 itself is not above 0.2
    poses[1, :, 2] = 0.2, 0.1, 0, 0
    poses[2, :, 2] = 1
    assert rescore(poses, [0.5, 1, 0.3]) == pytest.approx([0.35, 0, 0.3])


IMAGE_WH = (200, 100)
OLD = np.array([[1.0, 2, 3, 4]])


def person(*points: tuple[float, float, float]) -> NDArray[np.float32]:
    return np.array([points], np.float32)


def test_a_box_holds_the_sure_keypoints_and_a_margin() -> None:
    corners = [(20, 30, 0.9), (60, 30, 0.9), (20, 90, 0.9), (60, 90, 0.9)]
    unsure, beside = (150, 50, 0.1), (60, 120, 0.9)
    found = boxes_around(person(*corners, *corners[:2], unsure, beside), OLD, IMAGE_WH)
    margin = 60 * BODY_MARGIN
    np.testing.assert_allclose(
        found, [[20 - margin, 30 - margin, 40 + 2 * margin, 60 + 2 * margin]]
    )


@pytest.mark.parametrize(
    ("sure", "moves"), [(0, False), (MIN_KEYPOINTS - 1, False), (MIN_KEYPOINTS, True)]
)
def test_with_few_sure_keypoints_the_box_stays(sure: int, moves: bool) -> None:
    points = [(10.0 + i, 20.0 + i, 0.9 if i < sure else 0.1) for i in range(17)]
    found = boxes_around(person(*points), OLD, IMAGE_WH)
    assert (found != OLD).any() == moves


def test_keypoints_on_one_spot_do_not_make_a_speck() -> None:
    first = np.array([[0.0, 0, 80, 120]])
    np.testing.assert_allclose(
        boxes_around(person(*[(50.0, 60.0, 0.9)] * 17), first, IMAGE_WH), [[44, 54, 12, 12]]
    )


def test_nobody_has_no_box() -> None:
    found = boxes_around(np.zeros((0, 17, 3), np.float32), np.zeros((0, 4)), IMAGE_WH)
    assert found.shape == (0, 4)


@given(
    st.lists(
        st.tuples(st.floats(-50, 250), st.floats(-50, 150), st.floats(0, 1)),
        min_size=17,
        max_size=17,
    )
)
def test_any_box_is_one_that_can_be_cropped(points: list[tuple[float, float, float]]) -> None:
    ((x, y, w, h),) = boxes_around(person(*points), OLD, IMAGE_WH)
    assert w > 0
    assert h > 0
    # It touches the image.
    assert x < IMAGE_WH[0]
    assert y < IMAGE_WH[1]
    assert x + w > 0
    assert y + h > 0


@dataclass
class KeyPoints:
    """The fields of supervision's class of this name, 0.29 to 0.31."""

    xy: Any
    class_id: Any = None
    keypoint_confidence: Any = None
    detection_confidence: Any = None
    visible: Any = None
    data: Any = None


@dataclass
class OldKeyPoints:
    """The same before 0.29."""

    xy: Any
    class_id: Any = None
    confidence: Any = None
    data: Any = None


def stand_in(monkeypatch: pytest.MonkeyPatch, kind: type) -> None:
    module = ModuleType("supervision")
    module.KeyPoints = kind  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "supervision", module)


def poses(n: int = 2, ids: bool = True, skeleton: Skeleton = COCO_17) -> Poses:
    rng = np.random.default_rng(0)
    return Poses(
        rng.random((n, 17, 3), np.float32),
        np.tile(np.array([10, 20, 30, 40], np.float32), (n, 1)),
        rng.random(n, np.float32),
        skeleton,
        np.arange(n) + 7 if ids else None,
    )


def check(found: Any, given: Poses, threshold: float) -> None:
    n = len(given)
    np.testing.assert_array_equal(found.xy, given.keypoints[..., :2])
    np.testing.assert_array_equal(found.keypoint_confidence, given.keypoints[..., 2])
    np.testing.assert_array_equal(found.detection_confidence, given.scores)
    np.testing.assert_array_equal(found.visible, given.keypoints[..., 2] >= threshold)
    assert found.class_id.tolist() == [0] * n
    assert found.data["xyxy"].tolist() == [[10, 20, 40, 60]] * n
    assert list(found.data["class_name"]) == ["person"] * n
    assert ("tracker_id" in found.data) == (given.track_ids is not None)


@pytest.mark.parametrize("given", [poses(), poses(ids=False), poses(0)], ids=["2", "no ids", "0"])
def test_supervision_gets_every_field(monkeypatch: pytest.MonkeyPatch, given: Poses) -> None:
    stand_in(monkeypatch, KeyPoints)
    check(given.to_supervision(0.5), given, 0.5)


@pytest.mark.parametrize(
    ("skeleton", "name"),
    [(AP_10K, "animal"), (replace(COCO_17, name="robot", category=""), "robot")],
)
def test_bodies_are_called_what_their_skeleton_says(
    monkeypatch: pytest.MonkeyPatch, skeleton: Skeleton, name: str
) -> None:
    stand_in(monkeypatch, KeyPoints)
    assert list(poses(skeleton=skeleton).to_supervision().data["class_name"]) == [name] * 2


@pytest.mark.skipif(
    importlib.util.find_spec("supervision") is None, reason="supervision is not installed"
)
def test_the_real_supervision_takes_it() -> None:
    given = poses()
    check(given.to_supervision(0.5), given, 0.5)


def test_an_old_supervision_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, OldKeyPoints)
    with refused("package-outdated", "supervision"):
        poses().to_supervision()
