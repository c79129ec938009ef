"""Detectors by name, and those without a model."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from hrpose.detection import Boxes, open_detector
from hrpose.detection import person_detector as opening
from hrpose.detection.person_detector import FunctionDetector
from hrpose.estimator import FullImage
from hrpose.weights.registry import RELEASED, file_sha256
from refusals import refused
from tiny_detectors import grid_outputs, scored_outputs, write_detector

IMAGE = np.zeros((30, 40, 3), np.uint8)


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A cache without downloads, whatever this user has."""
    monkeypatch.setenv("HRPOSE_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "weights"


@pytest.fixture
def no_detector(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(opening, "builtin_file", lambda: tmp_path / "person-detector.onnx")


@pytest.mark.parametrize("name", ["full-image", "none"])
@pytest.mark.usefixtures("no_detector")
def test_the_full_image_is_asked_for_by_name(name: str) -> None:
    detector = open_detector(name)
    assert isinstance(detector, FullImage)
    found = detector(IMAGE)
    np.testing.assert_array_equal(found.xywh, [[0, 0, 40, 30]])
    np.testing.assert_array_equal(found.scores, [1])


@pytest.mark.parametrize("name", ["auto", "builtin"])
def test_where_nobody_is_there_is_nobody(name: str) -> None:
    detector = open_detector(name)
    assert detector.name == "builtin"
    assert len(detector(IMAGE)) == 0


def test_auto_takes_the_best_that_was_downloaded(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_cache.mkdir(parents=True)
    for name in ("yolox_nano.onnx", "yolox_tiny.onnx"):
        path = write_detector(own_cache / name, grid_outputs([[1, 1, 9, 9]], [0.9]))
        row = RELEASED[path.stem.replace("_", "-")]
        monkeypatch.setitem(RELEASED, row.name, replace(row, sha256=file_sha256(path)))
        assert open_detector("auto").name == f"{name} (YOLOX)"
    assert open_detector("yolox-nano").name == "yolox_nano.onnx (YOLOX)"
    # Nothing is downloaded.
    with refused("weights-not-downloaded", "hrpose weights download yolox-s"):
        open_detector("yolox-s")


def test_a_file_by_its_name(tmp_path: Path) -> None:
    path = write_detector(tmp_path / "rtmdet.onnx", scored_outputs([[1, 1, 9, 9]], [0.3]))
    image = np.zeros((64, 64, 3), np.uint8)
    for given in (path, str(path)):
        assert len(open_detector(given)(image)) == 0
        assert len(open_detector(given, threshold=0.2)(image)) == 1
        assert len(open_detector(given, threshold=0.0, threads=1)(image)) == 1


@pytest.mark.parametrize(
    ("name", "code", "mention"),
    [
        ("yolo", "detector-unknown", "torchvision, yolox-s"),
        ("nothing.onnx", "file-unreadable", "nothing.onnx"),
        ("builtin", "detector-unknown", "builtin"),
        ("auto", "detector-unknown", "builtin"),
        ("", "detector-unknown", "auto"),
    ],
)
@pytest.mark.usefixtures("no_detector")
def test_unknown_names(name: str, code: str, mention: str) -> None:
    with refused(code, mention):
        open_detector(name)


@pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan")])
def test_a_threshold_out_of_range(threshold: float) -> None:
    with refused("option-invalid", str(threshold)):
        open_detector("builtin", threshold)


@pytest.mark.parametrize("name", ["full-image", "none"])
def test_the_full_image_has_no_score_for_a_threshold(name: str) -> None:
    with refused("option-conflict", f"'{name}'"):
        open_detector(name, 0.5)


def boxes(image: NDArray[np.uint8]) -> Boxes:
    return Boxes(np.array([[1.0, 2, image.shape[1] / 2, 4]]), np.array([0.5]))


@pytest.mark.parametrize(
    ("find", "scores"),
    [
        (boxes, [0.5]),
        (lambda image: [[1, 2, 20, 4]], [1]),
        (lambda image: np.array([[1, 2, 20, 4, 0.25]], np.float32), [0.25]),
        (lambda image: [], []),
        (lambda image: np.zeros((0, 5)), []),
    ],
    ids=["boxes", "rows", "rows_and_scores", "empty", "no_rows"],
)
def test_a_function_is_a_detector(find: Callable[[Any], Any], scores: list[float]) -> None:
    found = open_detector(find)(IMAGE)
    np.testing.assert_array_equal(found.scores, scores)
    np.testing.assert_array_equal(found.xywh, np.array([[1, 2, 20, 4]])[: len(scores)])


def test_unsure_boxes_of_a_function_are_left_out() -> None:
    rows = [[1, 2, 20, 4, 0.25], [1, 2, 20, 4, 0.5], [1, 2, 20, 4, 0.75]]
    found = open_detector(lambda image: rows, threshold=0.5)(IMAGE)
    np.testing.assert_array_equal(found.scores, [0.5, 0.75])


@pytest.mark.parametrize("answer", [None, "persons", [[1, 2, 3]], np.zeros((2, 2, 4)), [[1, "a"]]])
def test_a_function_that_gives_something_else(answer: Any) -> None:
    def my_detector(image: NDArray[np.uint8]) -> Any:
        return answer

    with refused("boxes-invalid", "my_detector"):
        FunctionDetector(my_detector)(IMAGE)


def test_boxes_hold_together() -> None:
    three = Boxes(np.arange(12.0).reshape(3, 4), np.array([0.2, 0.9, 0.9]))
    best = three.best(2)
    # Of equals the first stays first.
    np.testing.assert_array_equal(best.xywh, three.xywh[[1, 2]])
    np.testing.assert_array_equal(three[three.scores < 0.5].scores, [0.2])
    assert len(Boxes.empty()) == 0
    with pytest.raises(ValueError, match=r"Boxes.scores: expected shape \(3,\), found \(2,\)"):
        Boxes(three.xywh, np.zeros(2))
    with pytest.raises(ValueError, match=r"Boxes.xywh: expected shape"):
        Boxes(np.zeros((3, 5)), np.zeros(3))


class StandIn(torch.nn.Module):
    """As torchvision's detectors behave: a list of images in, a list of dictionaries out."""

    def forward(self, images: list[torch.Tensor]) -> list[dict[str, torch.Tensor]]:
        (image,) = images
        # A person in the red, and a dog; both as sure as the image is red.
        assert image.shape == (3, 30, 40)
        assert image.dtype == torch.float32
        red = image[0].max()
        return [
            {
                "boxes": torch.tensor([[0.0, 0, 9, 9], [1, 2, 5, 8], [2, 2, 9, 12]]),
                "labels": torch.tensor([18, 1, 1]),
                "scores": torch.stack([red, red * 0.6, red * 0.9]),
            }
        ]


@pytest.fixture
def torchvision(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module: Any = ModuleType("torchvision.models.detection")
    module.FasterRCNN_MobileNet_V3_Large_FPN_Weights = SimpleNamespace(DEFAULT="coco")
    module.fasterrcnn_mobilenet_v3_large_fpn = lambda weights: StandIn()
    for name in ("torchvision", "torchvision.models"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module  # type: ignore[no-any-return]


@pytest.mark.usefixtures("torchvision")
def test_torchvision_where_it_is_installed() -> None:
    red = IMAGE.copy()
    red[5, 5, 0] = 255
    found = open_detector("torchvision")(red)
    np.testing.assert_allclose(found.xywh, [[2, 2, 7, 10], [1, 2, 4, 6]])
    np.testing.assert_allclose(found.scores, [0.9, 0.6], rtol=1e-6)
    assert len(open_detector("torchvision", threshold=0.7)(red)) == 1
    assert len(open_detector("torchvision")(IMAGE)) == 0


@pytest.mark.parametrize("kind", [OSError, RuntimeError])
def test_torchvision_without_its_weights(torchvision: ModuleType, kind: type[Exception]) -> None:
    def no_network(weights: str) -> None:
        raise kind("no route to host")

    torchvision.__dict__["fasterrcnn_mobilenet_v3_large_fpn"] = no_network
    with refused("download-failed", "no route to host"):
        open_detector("torchvision")


def test_torchvision_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with refused("package-missing", "pip install torchvision"):
        open_detector("torchvision")
