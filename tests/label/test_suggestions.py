"""Suggestions: which image is first, what a model finds wrong, and frames of clips."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from data.formats import exports
from hrpose.estimator import PoseEstimator
from hrpose.label.project import Project
from hrpose.label.store import Label
from hrpose.label.suggestions import FRAMES, Assistant, Suggestion, unlike_first

from .conftest import SKELETON, Labels

CLIP = Path(__file__).parents[2] / "examples" / "walking.mp4"
POINTS = np.array([[50.0, 12.0], [60.0, 10.0], [40.0, 10.0]])


def model_that_sees(points: Any, score: float = 0.9) -> PoseEstimator:
    """An estimator that predicts these keypoints (k, 2) in each box."""

    def stream(items: list[Any], select: bool) -> Any:
        for item in items:
            pose = np.column_stack([points, np.full(len(points), score)])
            poses = SimpleNamespace(keypoints=np.repeat(pose[None], len(item.boxes), axis=0))
            yield item, poses

    return cast(PoseEstimator, SimpleNamespace(stream=stream))


def suggestion(*boxes: list[float], spread: float = 0.0, score: float = 0.9) -> Suggestion:
    """Persons in these boxes, whose views differ so much."""
    labels = tuple(Label.checked(box, [[*point, 2] for point in POINTS.tolist()]) for box in boxes)
    each = (spread,) * len(boxes)
    return Suggestion(labels, (score,) * len(boxes), each, each)


@pytest.fixture
def shown(folder: Path, request: pytest.FixtureRequest) -> Callable[..., Labels]:
    """The folder with a model, and what it suggested of each image before."""

    def opened(estimator: PoseEstimator, known: dict[str, Suggestion]) -> Labels:
        project = Project(folder, str(folder / "horse.yaml"))
        for image in project.images():
            value = known.get(image.name, suggestion())
            project.store.predict(image.id, "model", value.to_json())
        labels = Labels(project, Assistant(project, estimator, "model"))
        request.addfinalizer(labels.close)
        return labels

    return opened


def test_images_whose_views_differ_most_come_first(shown: Callable[..., Labels]) -> None:
    box = [30.0, 5.0, 40.0, 40.0]
    known = {
        "0.jpg": suggestion(box, spread=0.1),
        "1.jpg": suggestion(box, box, spread=0.7),
        "2.jpg": suggestion(box, spread=0.4),
    }
    listed = shown(model_that_sees(POINTS), known).get("images")["images"]
    assert [image["name"] for image in listed] == ["1.jpg", "2.jpg", "0.jpg", "more/10.jpg"]


def test_without_a_model_each_image_is_unlike_those_before(opened: Callable[..., Labels]) -> None:
    labels = opened()
    end = time.monotonic() + 20
    while not labels.assistant.ready:
        assert time.monotonic() < end
        time.sleep(0.02)
    listed = [image["name"] for image in labels.get("images")["images"]]
    assert sorted(listed) == ["0.jpg", "1.jpg", "2.jpg", "more/10.jpg"]
    dark, like, bright = (np.full((16, 16, 3), value, np.float32) for value in (0, 30, 200))
    # The one nearest to the mean is first, and its neighbor last.
    assert unlike_first([dark, like, bright]) == [1, 2, 0]


def change(labels: Labels, points: Any, box: list[float] | None = None) -> None:
    label = {"box": box, "keypoints": [[*map(float, point), 2] for point in points]}
    answer = labels.change(
        {"id": "change-one", "image": 1, "version": 0, "person": "person-1", "label": label}
    )
    assert answer.status_code == 200, answer.text


def findings(labels: Labels) -> dict[str, Any]:
    return {each["kind"]: each for each in labels.get("images/1/findings")["findings"]}


def test_swapped_sides_are_found_by_the_model_and_repaired(shown: Callable[..., Labels]) -> None:
    labels = shown(model_that_sees(POINTS), {})
    change(labels, POINTS[[0, 2, 1]], [30, 0, 40, 40])
    found = findings(labels)
    assert found.keys() == {"swapped-sides"}
    assert found["swapped-sides"]["keypoints"] == ["left_ear", "right_ear"]
    repaired = np.array(found["swapped-sides"]["repair"]["keypoints"])
    assert repaired[:, :2].tolist() == POINTS.tolist()


@pytest.mark.parametrize(("score", "kinds"), [(0.9, {"outlier"}), (0.2, set())])
def test_a_keypoint_far_from_where_a_sure_model_sees_it(
    shown: Callable[..., Labels], score: float, kinds: set[str]
) -> None:
    labels = shown(model_that_sees(POINTS, score), {})
    change(labels, [[50, 35], *POINTS[1:]], [30, 0, 40, 40])
    found = findings(labels)
    assert found.keys() == kinds
    if kinds:
        assert found["outlier"]["keypoints"] == ["nose"]
        assert found["outlier"]["repair"]["keypoints"][0] == [50, 12, 2]


@pytest.mark.parametrize(("score", "missing"), [(0.9, True), (0.3, False)])
def test_a_person_whom_a_sure_model_sees_and_nobody_labeled(
    shown: Callable[..., Labels], score: float, missing: bool
) -> None:
    far = [70.0, 30.0, 20.0, 30.0]
    known = {"0.jpg": suggestion([30.0, 0.0, 40.0, 40.0], far, score=score)}
    labels = shown(model_that_sees(POINTS), known)
    assert labels.get("images/1")["name"] == "0.jpg"
    assert findings(labels) == {}  # nothing is missing where nobody has begun
    change(labels, POINTS, [30, 0, 40, 40])
    found = findings(labels)
    assert found.keys() == ({"missing-person"} if missing else set())
    if missing:
        assert found["missing-person"]["person"] is None
        assert found["missing-person"]["repair"]["box"] == far


def deeplabcut(root: Path) -> Path:
    """A folder of DeepLabCut with its images."""
    folder = root / "labeled-data" / "clip"
    exports.images(folder)
    source = Path(exports.__file__).parent / "files" / "deeplabcut.csv"
    return Path(shutil.copy(source, folder / "CollectedData_me.csv"))


@pytest.mark.parametrize("write", [exports.cvat_images, exports.label_studio, deeplabcut])
def test_labels_of_other_tools_are_taken_over_once(
    tmp_path: Path, write: Callable[[Path], Path]
) -> None:
    source = write(tmp_path / "export")
    folder = exports.images(tmp_path / "photos")
    for _ in range(2):
        project = Project(folder, None, source)
        document = project.coco()
        project.close()
        assert document["categories"][0]["keypoints"] == list(exports.KEYPOINTS)
        names = {image["id"]: image["file_name"] for image in document["images"]}
        assert all(image["labeled"] for image in document["images"])
        found = {names[each["image_id"]]: each["keypoints"] for each in document["annotations"]}
        assert found.keys() == exports.EXPECTED.keys()
        for name, points in found.items():
            rows = np.reshape(points, (3, 3))
            expected = np.reshape(exports.EXPECTED[name], (3, 3))
            np.testing.assert_allclose(rows[:, :2], expected[:, :2], atol=0.01)
            assert ((rows[:, 2] > 0) == (expected[:, 2] > 0)).all()  # DeepLabCut has no hidden


def test_frames_of_a_clip_are_images(tmp_path: Path) -> None:
    pytest.importorskip("av")
    folder = tmp_path / "clips"
    folder.mkdir()
    shutil.copy(CLIP, folder)
    skeleton = tmp_path / "horse.yaml"
    skeleton.write_text(SKELETON, "utf-8")
    project = Project(folder, str(skeleton))
    labels = Labels(project, Assistant(project, None, ""))
    end = time.monotonic() + 60
    while not labels.assistant.ready:
        assert time.monotonic() < end
        time.sleep(0.05)
    rows = project.images()
    assert 0 < len(rows) <= FRAMES
    assert {row.video for row in rows} == {"walking.mp4"}
    assert all((folder / row.name).is_file() for row in rows)
    numbers = [int(Path(row.name).stem) for row in rows]
    assert numbers == sorted(set(numbers))
    assert project.before(rows[1]) == rows[0]
    assert len(labels.get("images")["images"]) == len(rows)
    labels.close()
    # They are chosen once, and are there without the clip's being read again.
    again = Project(folder)
    assert again.clips_left() == []
    assert [row.name for row in again.images()] == [row.name for row in rows]
    again.close()
