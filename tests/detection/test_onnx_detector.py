"""ONNX detectors: every layout gives the same persons, back in the image's pixels."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto

from hrpose.detection.onnx_detector import MEAN, STD, Layout, OnnxDetector, prepare, resize
from refusals import refused
from tiny_detectors import (
    Outputs,
    final_outputs,
    grid_outputs,
    query_outputs,
    scored_outputs,
    write_detector,
)

# Two persons in the input of 64 x 64, and one with a low score.
BOXES = [[8, 4, 24, 44], [30, 10, 50, 52], [40, 40, 60, 62]]
SCORES = [0.6, 0.9, 0.3]


def image(width: int, height: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def with_batch(outputs: Outputs) -> Outputs:
    return {name: values[None] for name, values in outputs.items()}


def reordered(outputs: Outputs) -> Outputs:
    return dict(sorted(outputs.items(), reverse=True))


# name of the file, its outputs, more about the file, the layout's name, stretched.
KINDS: list[tuple[str, Outputs, dict[str, Any], str, bool]] = [
    ("yolox_s", grid_outputs(BOXES, SCORES), {}, "YOLOX", False),
    ("persons_only", grid_outputs(BOXES, SCORES, classes=1), {}, "YOLOX", False),
    ("coarse", grid_outputs(BOXES, SCORES, stride=16), {}, "YOLOX", False),
    ("rtmdet", scored_outputs(BOXES, SCORES), {}, "RTMDet", False),
    ("rtmdet_mixed", reordered(scored_outputs(BOXES, SCORES)), {}, "RTMDet", False),
    ("yolox_m_humanart", scored_outputs(BOXES, SCORES), {}, "YOLOX of OpenMMLab", False),
    ("rf-detr", query_outputs(BOXES, SCORES), {}, "DETR", True),
    ("rf-detr_mixed", reordered(query_outputs(BOXES, SCORES)), {}, "DETR", True),
    ("detr", query_outputs(BOXES, SCORES, classes=92), {}, "DETR", True),
    ("tuned", query_outputs(BOXES, SCORES, classes=2), {}, "DETR", True),
    ("rtdetr", query_outputs(BOXES, SCORES, classes=80), {}, "RT-DETR", True),
    ("frcnn", final_outputs(BOXES, SCORES), {"input_shape": (3, 64, 64)}, "torchvision", False),
    ("batched", with_batch(final_outputs(BOXES, SCORES)), {}, "torchvision", False),
    (
        "dfine",
        reordered(with_batch(final_outputs(BOXES, SCORES, person=0))),
        {"asks_for_size": True},
        "end-to-end DETR",
        True,
    ),
]


@pytest.mark.parametrize(
    ("name", "outputs", "more", "layout", "stretched"), KINDS, ids=[kind[0] for kind in KINDS]
)
@pytest.mark.parametrize(("width", "height"), [(64, 64), (320, 160), (90, 600), (33, 17)])
def test_every_layout_finds_the_same_persons(
    tmp_path: Path,
    name: str,
    outputs: Outputs,
    more: dict[str, Any],
    layout: str,
    stretched: bool,
    width: int,
    height: int,
) -> None:
    detector = OnnxDetector(write_detector(tmp_path / f"{name}.onnx", outputs, **more))
    assert detector.name == f"{name}.onnx ({layout})"
    pixels = image(width, height)
    found = detector(pixels)
    # What was drawn on the input at a box is in the image at the box over the scale.
    _, scale = resize(pixels, (64, 64), stretched)
    corners = (np.array(BOXES)[[1, 0]].reshape(2, 2, 2) / scale).clip(0, (width, height))
    expected = np.concatenate([corners[:, 0], corners[:, 1] - corners[:, 0]], axis=1)
    # A person on the gray beside the image does not count.
    inside = (expected[:, 2:] > 0).all(axis=1)
    np.testing.assert_allclose(found.xywh, expected[inside], atol=0.01)
    np.testing.assert_allclose(found.scores, np.array([0.9, 0.6])[inside], atol=1e-3)


@pytest.mark.parametrize("stretched", [False, True])
@pytest.mark.parametrize(("width", "height"), [(640, 320), (200, 500), (40, 30)])
def test_the_way_back_leads_to_what_is_seen(width: int, height: int, stretched: bool) -> None:
    """A white rectangle, found again on the input, comes back to where it is in the image."""
    image = np.zeros((height, width, 3), np.uint8)
    x, y, w, h = width // 4, height // 3, width // 2, height // 4
    image[y : y + h, x : x + w] = 255
    canvas, scale = resize(image, (128, 128), stretched)
    rows, columns = np.nonzero((canvas > 127).all(axis=2))
    corners = np.array([[columns.min(), rows.min()], [columns.max() + 1, rows.max() + 1]]) / scale
    # As exact as a pixel of the input allows.
    pixel = 1 / scale.min() + 0.01
    np.testing.assert_allclose(corners, [[x, y], [x + w, y + h]], atol=pixel)


@given(st.integers(1, 3000), st.integers(1, 3000), st.booleans())
def test_any_image_fits_on_the_input(width: int, height: int, stretched: bool) -> None:
    image = np.broadcast_to(np.uint8(7), (height, width, 3))
    canvas, scale = resize(image, (96, 64), stretched)
    assert canvas.shape == (64, 96, 3)
    filled = (canvas == 7).all(axis=2)
    w, h = np.rint(scale * (width, height)).astype(int)
    assert filled[:h, :w].all()
    assert filled.sum() == w * h
    assert w == 96 or h == 64
    if not stretched and min(w, h) > 1:
        assert scale[0] == pytest.approx(scale[1], rel=1 / min(w, h))


@pytest.mark.parametrize(
    ("layout", "expected"),
    [
        (Layout("raw", lambda *_: (np.zeros(0), np.zeros(0)), bgr=True), (30, 20, 10)),
        (
            Layout("unit", lambda *_: (np.zeros(0), np.zeros(0)), std=(255, 255, 255)),
            (10 / 255, 20 / 255, 30 / 255),
        ),
        (
            Layout("normal", lambda *_: (np.zeros(0), np.zeros(0)), True, MEAN, STD),
            # The published numbers in BGR: 103.53, 116.28, 123.675 and 57.375, 57.12, 58.395.
            ((30 - 103.53) / 57.375, (20 - 116.28) / 57.12, (10 - 123.675) / 58.395),
        ),
    ],
    ids=lambda value: value.name if isinstance(value, Layout) else "",
)
def test_the_pixels_enter_as_the_layout_says(
    layout: Layout, expected: tuple[float, float, float]
) -> None:
    pixels = np.full((4, 5, 3), (10, 20, 30), np.uint8)
    tensor = prepare(pixels, layout)
    assert tensor.shape == (1, 3, 4, 5)
    assert tensor.dtype == np.float32
    np.testing.assert_allclose(tensor[0, :, 2, 3], expected, rtol=1e-5)


def test_red_is_the_last_plane_of_yolox(tmp_path: Path) -> None:
    """What the network itself gets: a red image raises its scores, a blue one does not."""
    outputs = scored_outputs(BOXES, [0.1, 0.1, 0.1])
    path = write_detector(tmp_path / "yolox.onnx", outputs, plus_mean_red="dets")
    detector = OnnxDetector(path, threshold=0.5)
    red, blue = np.zeros((2, 64, 64, 3), np.uint8)
    red[..., 0], blue[..., 2] = 1, 1
    assert len(detector(red)) == 3
    assert len(detector(blue)) == 0


@pytest.mark.parametrize("shape", [("n", 3, "h", "w"), (1, 3, -1, -1), ("n", "c", "h", "w")])
def test_a_model_of_any_size_gets_the_usual_one(
    tmp_path: Path, shape: tuple[int | str, ...]
) -> None:
    outputs = query_outputs([[160, 160, 320, 480]], [0.9], (640, 640))
    detector = OnnxDetector(write_detector(tmp_path / "any.onnx", outputs, input_shape=shape))
    np.testing.assert_allclose(detector(image(64, 32)).xywh, [[16, 8, 16, 16]], atol=1e-3)


def test_a_model_of_half_floats(tmp_path: Path) -> None:
    outputs = {
        name: values.astype(np.float16) for name, values in grid_outputs(BOXES, SCORES).items()
    }
    path = write_detector(tmp_path / "half.onnx", outputs, input_type=TensorProto.FLOAT16)
    found = OnnxDetector(path)(image(64, 64))
    np.testing.assert_allclose(found.xywh, [[30, 10, 20, 42], [8, 4, 16, 40]], atol=0.1)


@pytest.mark.parametrize(
    "outputs", [scored_outputs([], []), final_outputs([], [])], ids=["RTMDet", "torchvision"]
)
def test_nobody_is_found(tmp_path: Path, outputs: Outputs) -> None:
    detector = OnnxDetector(write_detector(tmp_path / "empty.onnx", outputs))
    assert len(detector(image(64, 64))) == 0


def test_one_person_comes_once_from_a_grid(tmp_path: Path) -> None:
    near = [[8, 4, 24, 44], [8, 5, 25, 52], [40, 4, 56, 44]]
    path = write_detector(tmp_path / "yolox.onnx", grid_outputs(near, [0.8, 0.9, 0.7]))
    found = OnnxDetector(path)(image(64, 64))
    np.testing.assert_allclose(found.scores, [0.9, 0.7], atol=1e-6)


def test_broken_numbers_are_nobody(tmp_path: Path) -> None:
    boxes = [[np.nan, 4, 24, 44], [30, 10, np.inf, 52], [24, 4, 8, 44], [8, 4, 24, 44]]
    path = write_detector(tmp_path / "d.onnx", scored_outputs(boxes, [0.9, 0.9, 0.9, np.nan]))
    found = OnnxDetector(path)(image(64, 64))
    # An edge at infinity is the image's edge.
    np.testing.assert_allclose(found.xywh, [[30, 10, 34, 42]])


def cells(*shape: int) -> Outputs:
    return {"output0": np.zeros(shape, np.float32)}


@pytest.mark.parametrize(
    ("outputs", "mention"),
    [
        (cells(1, 86, 8400), "output0 (1, 86, 8400)"),
        (cells(1, 83, 85), "output0 (1, 83, 85)"),
        (cells(1, 1000), "output0 (1, 1000)"),
        (cells(), "output0 ()"),
        (
            {"a": np.zeros((1, 9, 5), np.float32), "b": np.zeros((1, 8), np.int64)},
            "a (1, 9, 5), b (1, 8)",
        ),
        ({"a": np.zeros((1, 9, 4), np.float32), "b": np.zeros((1, 8, 91), np.float32)}, "91"),
        ({"a": np.zeros((9, 4), np.float32), "b": np.zeros((9,), np.int64)}, "b (9,)"),
        (
            {
                "boxes": np.zeros((1, 9, 4), np.float32),
                "scores": np.zeros((1, 9), np.float32),
                "masks": np.zeros((1, 9, 8, 8), np.float32),
            },
            "masks",
        ),
        ({**final_outputs(BOXES, SCORES), "labels": np.zeros(3, np.float32)}, "labels (3,)"),
        ({**final_outputs(BOXES, SCORES), "more": np.zeros(3, np.float32)}, "more"),
    ],
)
def test_an_unknown_layout_is_refused_with_its_shapes(
    tmp_path: Path, outputs: Outputs, mention: str
) -> None:
    path = write_detector(tmp_path / "other.onnx", outputs)
    with refused("detector-unsuitable", str(path), "64 x 64", mention):
        OnnxDetector(path)


def missing(path: Path) -> None:
    assert not path.exists()


def words(path: Path) -> None:
    path.write_text("not a network", encoding="utf-8")


def of_bytes(path: Path) -> None:
    write_detector(path, scored_outputs(BOXES, SCORES), input_type=TensorProto.UINT8)


def of_vectors(path: Path) -> None:
    write_detector(path, scored_outputs(BOXES, SCORES), input_shape=(1, 100))


def channels_last(path: Path) -> None:
    outputs = scored_outputs(BOXES, SCORES)
    write_detector(path, outputs, input_shape=(1, 64, 64, 3), plus_mean_red="dets")


@pytest.mark.parametrize(
    ("make", "code", "mention"),
    [
        (missing, "file-unreadable", ""),
        (words, "weights-damaged", ""),
        (of_bytes, "detector-unsuitable", "uint8"),
        (of_vectors, "detector-unsuitable", "[1, 100]"),
        (channels_last, "detector-unsuitable", "[1, 64, 64, 3]"),
    ],
)
def test_other_files_are_refused(
    tmp_path: Path, make: Callable[[Path], None], code: str, mention: str
) -> None:
    path = tmp_path / "detector.onnx"
    make(path)
    with refused(code, str(path), mention):
        OnnxDetector(path)
