"""Targets of Keypoint R-CNN: as labels, as boxes, as predictions, and as data sets."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import hrpose
from hrpose.data.coco import read_annotations
from hrpose.image import read_image
from hrpose.keypoint_rcnn import Target, poses_of, target_of, write_coco
from hrpose.poses import Poses
from hrpose.skeleton import Skeleton
from hrpose.skeletons import AP_10K, COCO_17
from hrpose.synthetic import render_image
from refusals import refused

PAIR = Skeleton("pair", ("a", "b"))
IMAGE = read_image(Path(__file__).parents[1] / "examples" / "people" / "walking.jpg")
# One person and one label that is none.
TARGET: dict[str, Any] = {
    "boxes": [[10, 20, 30, 60], [0, 0, 5, 5]],
    "labels": [1, 3],
    "keypoints": [[[12, 30, 2], [0, 0, 0]], [[1, 1, 1], [2, 2, 1]]],
    "masks": "ignored",
}


def as_tensors(target: dict[str, Any]) -> dict[str, Any]:
    torch = pytest.importorskip("torch")
    return {k: torch.as_tensor(v) if k != "masks" else v for k, v in target.items()}


def as_arrays(target: dict[str, Any]) -> dict[str, Any]:
    return {k: np.asarray(v) for k, v in target.items()}


@pytest.mark.parametrize("form", [dict, as_arrays, as_tensors])
def test_a_labeled_person_is_a_pose(form: Callable[..., dict[str, Any]]) -> None:
    found = Poses.from_target(form(TARGET), PAIR)
    assert found.keypoints.tolist() == [[[12, 30, 1], [0, 0, 0]]]
    assert found.boxes.tolist() == [[10, 20, 20, 40]]
    assert found.scores.tolist() == [1]
    assert len(Poses.from_target(form(TARGET), PAIR, label=None)) == 2
    assert len(Poses.from_target(form(TARGET), PAIR, label=2)) == 0


PERSONS = st.integers(0, 3).flatmap(
    lambda n: st.tuples(
        arrays(np.float32, (n, 2, 3), elements=st.floats(0, 1, width=32)),
        arrays(np.float32, (n, 4), elements=st.floats(1, 100, width=32)),
        arrays(np.float32, n, elements=st.floats(0, 1, width=32)),
    )
)


@settings(max_examples=25, deadline=None)
@given(PERSONS, st.floats(0, 1))
def test_predictions_survive_the_round_trip(parts: Any, threshold: float) -> None:
    keypoints, boxes, scores = parts
    poses = Poses(keypoints * np.float32([500, 500, 1]), boxes, scores, PAIR)
    target = target_of(poses, threshold, np.ndarray.tolist)
    back = poses_of(target, PAIR)
    assert np.array_equal(back.keypoints, poses.keypoints)
    assert np.array_equal(back.scores, poses.scores)
    assert np.allclose(back.boxes, poses.boxes, atol=1e-4)
    visible = np.array(target["keypoints"]).reshape(-1, 2, 3)[..., 2]
    assert np.array_equal(visible > 0, poses.conf >= threshold)


def test_values_are_what_the_function_makes_of_them() -> None:
    torch = pytest.importorskip("torch")
    target = Poses.empty(COCO_17).to_target(torch.as_tensor)
    types = {key: (tuple(value.shape), str(value.dtype)) for key, value in target.items()}
    assert types == {
        "boxes": ((0, 4), "torch.float32"),
        "labels": ((0,), "torch.int64"),
        "scores": ((0,), "torch.float32"),
        "keypoints": ((0, 17, 3), "torch.float32"),
        "keypoints_scores": ((0, 17), "torch.float32"),
    }


def test_scores_on_any_scale_are_asked_for() -> None:
    target = {"boxes": [[0, 0, 9, 9]], "keypoints": [[[1, 1, 1], [2, 2, 1]]],
              "keypoints_scores": [[0, 12.5]], "scores": [0.5]}  # fmt: skip
    with refused("target-invalid", "keypoints_scores", "12.5", "logits=True"):
        poses_of(target, PAIR)
    found = poses_of(target, PAIR, logits=True)
    assert found.conf[0, 0] == 0.5
    assert 0.99 < found.conf[0, 1] < 1


WRONG: dict[str, tuple[Any, str]] = {
    "no dictionary": ([1], "boxes"),
    "no boxes": ({"keypoints": []}, "keys keypoints"),
    "boxes with width and height": ({**TARGET, "boxes": [[10, 20, 5, 9], [0, 0, 5, 5]]}, "left"),
    "another form": ({"boxes": SimpleNamespace(format=SimpleNamespace(value="XYWH"))}, "XYWH"),
    "another number": ({**TARGET, "boxes": [[10, 20, 30, 60]]}, "(1, k, 3)"),
    "points without visibility": ({**TARGET, "keypoints": np.zeros((2, 2, 2))}, "(2, 2, 2)"),
    "scores as visibility": ({**TARGET, "keypoints": np.full((2, 2, 3), 0.5)}, "visibility"),
    "words": ({"boxes": [["a", "b", "c", "d"]]}, "boxes"),
    "NaN": ({"boxes": [[0, 0, np.nan, 1]]}, "finite"),
    "far away": ({"boxes": [[0, 0, 1e7, 1]]}, "million"),
    "no keypoints": ({"boxes": [[0, 0, 1, 1]]}, "keypoints"),
    "nothing": ({}, "found none"),
    "a list of them": ([TARGET], "output[0]"),
    "numbers as words": ({**TARGET, "labels": ["1", "3"]}, "labels"),
    "complex numbers": ({**TARGET, "boxes": np.ones((2, 4), complex)}, "boxes"),
    "other keypoints": ({"boxes": [[0, 0, 1, 1]], "keypoints": np.zeros((1, 3, 3))}, "pair"),
}


@pytest.mark.parametrize("case", WRONG)
def test_other_targets_are_refused(case: str) -> None:
    target, named = WRONG[case]
    with refused("target-invalid", named):
        poses_of(target, PAIR)


@pytest.mark.parametrize("given", [None, [TARGET]])
def test_only_poses_and_a_target_are_drawn(given: Any) -> None:
    with refused("target-invalid", "boxes"):
        hrpose.draw(IMAGE, given)


def test_a_skeleton_is_not_its_name() -> None:
    with refused("target-invalid", "skeleton", "coco-17"):
        poses_of(TARGET, "coco-17")  # type: ignore[arg-type]


def test_numbers_of_any_precision_are_read() -> None:
    torch = pytest.importorskip("torch")
    for dtype in (torch.bfloat16, torch.float16, torch.int16):
        boxes = torch.tensor(TARGET["boxes"], dtype=dtype)
        assert Target.of({"boxes": boxes}).boxes.tolist() == TARGET["boxes"]


ANYTHING = st.recursive(
    st.none() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=12,
)
KEYS = st.sampled_from(["boxes", "labels", "keypoints", "scores", "image_id"])


@settings(max_examples=25, deadline=None)
@given(st.dictionaries(KEYS, ANYTHING))
def test_anything_is_read_or_refused(target: dict[str, Any]) -> None:
    problem = None
    try:
        assert Target.of(target).boxes.shape[1] == 4
    except hrpose.UserError as error:
        problem = error
    assert problem is None or (problem.code == "target-invalid" and "\n" not in str(problem))


def test_boxes_of_a_detector_are_boxes() -> None:
    estimator = hrpose.load("w16-small", detector="full-image")
    boxes = np.array([[440.0, 60, 120, 420], [100, 100, 50, 90]])
    output = {"boxes": [[440, 60, 560, 480], [0, 0, 9, 9]], "labels": [1, 18], "scores": [0.9, 0.8]}
    found = estimator(IMAGE, output)
    expected = estimator(IMAGE, boxes[:1], [0.9])
    assert np.array_equal(found.keypoints, expected.keypoints)
    assert np.array_equal(found.scores, expected.scores)
    assert np.allclose(estimator(IMAGE, output, [0.5]).scores, expected.scores / 0.9 * 0.5)
    with refused("boxes-invalid", "touches"):
        estimator(IMAGE, {"boxes": [[900, 0, 950, 50]]})


def test_a_tensor_with_a_target_is_drawn() -> None:
    torch = pytest.importorskip("torch")
    poses = hrpose.load("w16-small")(IMAGE)
    labels = {k: v for k, v in poses.to_target().items() if "scores" not in k}
    tensor = torch.as_tensor(IMAGE.transpose(2, 0, 1).copy())
    drawn = hrpose.draw(tensor, labels)
    assert np.array_equal(drawn, hrpose.draw(IMAGE, Poses.from_target(labels)))
    assert (drawn != IMAGE).any()


class Drawn:
    """A data set of drawn persons, as a torchvision user writes one."""

    def __init__(self, count: int = 2, **changed: Any) -> None:
        self.items = [render_image(np.random.default_rng(seed)) for seed in range(count)]
        self.changed = changed

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> tuple[Any, dict[str, Any]]:
        drawn = self.items[index]
        boxes = np.asarray(drawn.boxes)
        target = {
            "boxes": np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1),
            "labels": np.ones(len(boxes), np.int64),
            "keypoints": np.asarray(drawn.keypoints),
            "iscrowd": np.arange(len(boxes)) == 9,
            **self.changed,
        }
        return drawn.image.astype(np.uint8), target


def test_a_data_set_becomes_coco(tmp_path: Path) -> None:
    file = write_coco(Drawn(), tmp_path / "set")
    found = read_annotations(file).persons()
    _, target = Drawn()[1]
    assert found.skeleton.keypoints == COCO_17.keypoints
    rows = found.image_index == 1
    labeled = found.keypoints[rows][..., 2] > 0
    expected = target["keypoints"][labeled]
    assert np.allclose(found.keypoints[rows][labeled], expected, atol=1e-3)
    assert labeled.sum() == (target["keypoints"][..., 2] > 0).sum()
    for index in range(2):
        image = read_image(tmp_path / "set" / "images" / f"{index:08d}.png")
        assert np.array_equal(image, Drawn()[index][0])
    with refused("folder-not-empty", str(tmp_path)):
        write_coco(Drawn(), tmp_path / "set")


@pytest.mark.parametrize(
    ("dataset", "skeleton", "named"),
    [
        (Drawn(0), None, "(image, target)"),
        (Drawn(image_id=4), None, "dataset[1]"),
        (Drawn(image_id=[1, 2]), None, "dataset[0]: image_id"),
        (Drawn(), PAIR, "dataset[0]: keypoints"),
        ([(IMAGE,)], None, "dataset[0]"),
        (iter([(IMAGE, TARGET)]), None, "len()"),
        ([(IMAGE, {**TARGET, "labels": [2, 3]})], PAIR, "label=None"),
        ([(np.zeros((4, 4)), TARGET)], PAIR, "uint8"),
    ],
    ids=["empty", "id again", "no id", "skeleton", "no pair", "no index", "labels", "no image"],
)
def test_other_data_sets_are_refused(
    tmp_path: Path, dataset: Any, skeleton: Skeleton | None, named: str
) -> None:
    code = "array-invalid" if named == "uint8" else "target-invalid"
    with refused(code, named):
        write_coco(dataset, tmp_path / "set", skeleton)


def test_keypoints_have_the_names_that_are_given(tmp_path: Path) -> None:
    file = write_coco(Drawn(1, image_id=77), tmp_path / "set", AP_10K)
    found = read_annotations(file)
    assert found.persons().skeleton.keypoints == AP_10K.keypoints
    assert [image["id"] for image in found.images] == [77]


def test_evaluating_a_data_set_is_evaluating_its_files(tmp_path: Path) -> None:
    pytest.importorskip("lightning")
    file = write_coco(Drawn(), tmp_path / "set")
    options: dict[str, Any] = {"flip_test": False}
    found = hrpose.evaluate("w16-small", Drawn(), **options)
    expected = hrpose.evaluate("w16-small", file, file.parent / "images", **options)
    assert found.metrics == expected.metrics
    assert found.persons > 1
    with refused("option-conflict", "images"):
        hrpose.evaluate("w16-small", Drawn(), "images")
    with refused("option-missing", "images"):
        hrpose.evaluate("w16-small", file)


def test_a_training_keeps_its_data_set(tmp_path: Path) -> None:
    pytest.importorskip("lightning")
    wrong = ["optimizer.lrr=1"]
    with refused("option-missing", "out"):
        hrpose.finetune(Drawn(), Drawn(), overrides=wrong)
    for count, resume, written in ((1, False, 1), (2, True, 1), (2, False, 2)):
        with refused("recipe-invalid", "lrr"):
            hrpose.finetune(Drawn(), Drawn(count), tmp_path, overrides=wrong, resume=resume)
        assert len(read_annotations(tmp_path / "val" / "annotations.json").images) == written
