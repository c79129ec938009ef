"""Files for rtmlib: what it reads from them are hrpose's keypoints and scores."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

import hrpose
from hrpose.api import export
from hrpose.cli.main import app
from hrpose.codec import Codec
from hrpose.metadata import Calibration, Metadata
from hrpose.models import rtmlib
from hrpose.models.onnx_pose import SOURCE_KEY
from hrpose.session import open_session
from hrpose.synthetic import render_image
from hrpose.weights import find
from refusals import check_refusal, refused
from tiny_weights import METADATA, write_tiny_weights

Boxes = NDArray[np.float64]


def read_as_rtmlib(drawn: NDArray[np.float32]) -> tuple[NDArray[Any], NDArray[Any]]:
    """The highest pixel of each heatmap (n, k, h, w) in [0, 1] of its width and height, which is
    what rtmlib reads but for its Newton step, and the height.
    """
    height, width = drawn.shape[-2:]
    index = drawn.reshape(*drawn.shape[:2], -1).argmax(axis=-1)
    points = np.stack([index % width, index // width], axis=-1) / [width - 1, height - 1]
    return points, drawn.max(axis=(2, 3))


@pytest.mark.parametrize("codec", [Codec(), Codec("dark", 1.5), Codec("udp", 1.5)], ids=str)
@pytest.mark.parametrize("calibration", [None, Calibration(0.6, 0.9)])
def test_peaks_are_where_hrpose_has_its_keypoints(
    tmp_path: Path, codec: Codec, calibration: Calibration | None
) -> None:
    metadata = replace(METADATA, codec=codec, calibration=calibration)
    weights = write_tiny_weights(tmp_path / "tiny.onnx", metadata)
    report = rtmlib.export_rtmlib(weights, tmp_path / "out.onnx")
    assert report.difference < 1e-3
    image = render_image(np.random.default_rng(1), (96, 128), 1).image
    crops = np.ascontiguousarray(image[None, ::2, ::2])
    session = ort.InferenceSession(report.path, providers=["CPUExecutionProvider"])
    (drawn,) = session.run(None, {"input": rtmlib.as_rtmlib(crops)})
    assert drawn.shape == (1, 17, 32, 24)
    points, peaks = metadata.codec.decode(open_session(weights)(crops))
    found, scores = read_as_rtmlib(drawn)
    # Within half a pixel of the drawn heatmap, whose ends are the box's to rtmlib.
    off = (found - points / METADATA.input_wh) * [23, 31]
    assert np.abs(off).max() <= 0.5 + 1e-3
    np.testing.assert_allclose(scores, metadata.keypoint_scores(peaks), atol=1e-5)


def test_the_pixels_are_restored_exactly() -> None:
    """Every value of a byte in every channel; the channels are turned."""
    crops = np.zeros((1, 64, 48, 3), np.uint8)
    crops.reshape(-1, 3)[:256] = np.arange(256)[:, None] ^ [0, 85, 170]
    graph = rtmlib._crops(METADATA)
    session = ort.InferenceSession(graph.SerializeToString())
    (found,) = session.run(None, {"input": rtmlib.as_rtmlib(crops)})
    np.testing.assert_array_equal(found, crops)


def test_the_command_needs_no_pytorch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "hrpose.models.export", raising=False)
    out = tmp_path / "out.onnx"
    ran = CliRunner().invoke(app, ["export", "w16-small", "--for", "rtmlib", "--out", str(out)])
    assert ran.exit_code == 0, ran.output
    assert 'pose_class="ViTPose"' in ran.output
    assert "pose_input_size=(128, 192)" in ran.output
    model = onnx.load(out)
    texts = {text.key: text.value for text in model.metadata_props}
    # License and training data travel along, but hrpose does not take it for a file of its own.
    assert Metadata.from_json(texts[SOURCE_KEY]).name == "w16-small"
    with refused("metadata-missing", str(out)):
        hrpose.load(out)


def test_what_is_no_pose_model_is_refused(tmp_path: Path) -> None:
    def exported(weights: str | Path, *options: str) -> Any:
        command = ["export", str(weights), "--for", "rtmlib", *options]
        return CliRunner().invoke(app, [*command, "--out", str(tmp_path / "out.onnx")])

    detector = find("w16-small").with_name("person-detector.onnx")
    check_refusal(exported(detector), "weights-unsuitable", detector.name)
    check_refusal(exported("w16-small", "--half"), "option-conflict", "half")
    foreign = write_tiny_weights(tmp_path / "foreign.onnx", None)
    check_refusal(exported(foreign), "metadata-missing", "foreign.onnx")
    old = onnx.load(write_tiny_weights(tmp_path / "old.onnx"))
    old.opset_import[0].version = 17
    onnx.save(old, tmp_path / "old.onnx")
    check_refusal(exported(tmp_path / "old.onnx"), "weights-unsuitable", "opset 18", "found 17")
    with refused("option-invalid", "'opencv'"):
        export("w16-small", tmp_path / "out.onnx", target="opencv")
    assert not (tmp_path / "out.onnx").exists()


def test_keypoints_that_differ_are_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rtmlib, "_calibrated", lambda scores, calibration: scores * 0.9)
    with refused("export-differs", "tiny.onnx"):
        rtmlib.export_rtmlib(write_tiny_weights(tmp_path / "tiny.onnx"), tmp_path / "out.onnx")
    assert not (tmp_path / "out.onnx").exists()


def test_rtmlib_itself_reads_hrposes_keypoints(tmp_path: Path) -> None:
    """Needs rtmlib, which is not among the packages of the tests: tried with 0.0.16."""
    package = pytest.importorskip("rtmlib")
    path = rtmlib.export_rtmlib(find("w16-small"), tmp_path / "out.onnx").path
    drawn = render_image(np.random.default_rng(4), (640, 480), 3)
    estimator = hrpose.load("w16-small", detector="none", device="cpu")
    model = package.Custom(
        pose_class="ViTPose", pose=str(path), pose_input_size=estimator.metadata.input_wh
    ).pose_model
    corners = np.concatenate([drawn.boxes[:, :2], drawn.boxes[:, :2] + drawn.boxes[:, 2:]], axis=1)
    keypoints, scores = model(drawn.image[..., ::-1], corners)
    poses = estimator(drawn.image, boxes=drawn.boxes)
    scale = np.sqrt(drawn.boxes[:, 2] * drawn.boxes[:, 3])[:, None]
    off = np.linalg.norm(keypoints - poses.keypoints[..., :2], axis=-1) / scale
    # Their crops differ by up to a pixel.
    assert np.median(off) < 0.01
    assert np.abs(scores - poses.keypoints[..., 2]).max() < 0.2
