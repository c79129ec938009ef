"""The person detector's ONNX file: equal to PyTorch, half as large, for images of any size."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from typer.testing import CliRunner

import golden_rules
from hrpose.cli.main import app
from hrpose.detection.person_detector import PersonDetector
from hrpose.metadata import DetectorMetadata, Metadata
from hrpose.models import HRNet, checkpoint
from hrpose.models import export as detector_export
from hrpose.models.export import DetectorReport, ImagesToMaps, export_detector
from refusals import refused

METADATA = DetectorMetadata("w16-small", 96, threshold=0.25, name="test")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights and statistics, so that nothing in the graph is zero or one by chance."""
    network = HRNet.from_name("w16-small", DetectorMetadata.channels)
    state = {
        key: torch.from_numpy(golden_rules.weight(key, tuple(value.shape)))
        for key, value in network.state_dict().items()
    }
    network.load_state_dict(state)
    path = tmp_path_factory.mktemp("export") / "test.safetensors"
    checkpoint.save(path, network, METADATA)
    return path


@pytest.fixture(scope="module")
def report(weights: Path) -> DetectorReport:
    return export_detector(weights, weights.with_suffix(".onnx"))


@pytest.fixture(scope="module")
def session(report: DetectorReport) -> Any:
    return ort.InferenceSession(report.path, providers=["CPUExecutionProvider"])


@pytest.mark.slow
def test_the_report_says_that_both_agree(report: DetectorReport) -> None:
    assert report.difference <= detector_export.DETECTOR_TOLERANCE
    assert report.file_difference <= detector_export.HALF_TOLERANCE


@pytest.mark.parametrize("shape", [(1, 96, 96), (3, 64, 96), (1, 160, 32)])
def test_images_of_any_number_and_size(
    weights: Path, session: Any, shape: tuple[int, int, int]
) -> None:
    batch, height, width = shape
    images = np.stack([golden_rules.image(seed, height, width) for seed in range(batch)])
    heat, distances = session.run(["heat", "distances"], {"images": images})
    with torch.inference_mode():
        expected = ImagesToMaps(*checkpoint.load_detector(weights)).eval()(torch.from_numpy(images))
    assert heat.shape == (batch, height // 4, width // 4)
    assert np.abs(heat - expected[0].numpy()).max() <= detector_export.HALF_TOLERANCE
    np.testing.assert_allclose(distances, expected[1].numpy(), rtol=detector_export.HALF_TOLERANCE)


def test_the_file_is_half_as_large_as_its_weights(weights: Path, report: DetectorReport) -> None:
    assert report.path.stat().st_size < 0.6 * weights.stat().st_size


def test_the_metadata_travels_along(session: Any) -> None:
    metadata = session.get_modelmeta().custom_metadata_map
    assert DetectorMetadata.from_json(metadata[DetectorMetadata.keys[0]]) == METADATA


@pytest.fixture
def quick(report: DetectorReport, monkeypatch: pytest.MonkeyPatch) -> None:
    """The exporter takes seconds; where the graph is not what is tested, once is enough."""
    graph = onnx.load(report.path)
    monkeypatch.setattr(detector_export, "to_onnx", lambda *_, **__: graph)


@pytest.mark.usefixtures("quick")
def test_nothing_is_written_where_onnx_differs(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detector_export, "DETECTOR_TOLERANCE", -1.0)
    with refused("export-differs"):
        export_detector(weights, tmp_path / "out.onnx")
    assert not (tmp_path / "out.onnx").exists()


@pytest.mark.usefixtures("quick")
def test_nan_is_a_difference(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = ImagesToMaps.forward

    def broken(self: ImagesToMaps, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        heat, distances = forward(self, images)
        return heat * float("nan"), distances

    monkeypatch.setattr(ImagesToMaps, "forward", broken)
    with refused("export-differs", "nan"):
        export_detector(weights, tmp_path / "out.onnx")


@pytest.mark.usefixtures("quick")
def test_the_command_knows_a_detector(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detector_export, "DETECTOR_TOLERANCE", detector_export.HALF_TOLERANCE)
    command = ["export", "--weights", str(weights), "--out", str(tmp_path / "out.onnx")]
    done = CliRunner().invoke(app, command, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "equal to PyTorch" in done.output
    assert PersonDetector(tmp_path / "out.onnx").metadata == METADATA


def test_a_pose_network_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "pose.safetensors"
    checkpoint.save(path, HRNet.from_name("w16-small", 5), Metadata("w16-small", (64, 96)))
    with refused("weights-unsuitable", "pose.safetensors"):
        export_detector(path, tmp_path / "out.onnx")
