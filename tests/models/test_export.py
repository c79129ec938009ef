"""The ONNX file: equal to PyTorch, of any batch size, with its metadata."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

import golden_rules
from hrpose.codec import Codec
from hrpose.metadata import Metadata
from hrpose.models import HRNet, checkpoint
from hrpose.models import export as export_module
from hrpose.models.export import CropsToKeypoints, ExportReport, export_pose
from refusals import refused

METADATA = Metadata("w16-small", (64, 96), codec=Codec(sigma=1.5), name="test")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights and statistics, so that nothing in the graph is zero or one by chance."""
    network = HRNet.from_name("w16-small")
    state = {
        key: torch.from_numpy(golden_rules.weight(key, tuple(value.shape)))
        for key, value in network.state_dict().items()
    }
    network.load_state_dict(state)
    path = tmp_path_factory.mktemp("export") / "test.safetensors"
    checkpoint.save(path, network, METADATA)
    return path


@pytest.fixture(scope="module")
def report(weights: Path) -> ExportReport:
    return export_pose(weights, weights.with_suffix(".onnx"))


@pytest.fixture(scope="module")
def session(report: ExportReport) -> Any:
    return ort.InferenceSession(report.path, providers=["CPUExecutionProvider"])


@pytest.mark.slow
def test_the_report_says_that_both_agree(report: ExportReport) -> None:
    assert report.heatmap_difference <= export_module.TOLERANCE
    assert report.keypoint_difference == 0
    assert report.crops > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dark", "udp"])
def test_the_taylor_step_is_exported_too(weights: Path, tmp_path: Path, name: str) -> None:
    network, metadata = checkpoint.load(weights)
    origin = tmp_path / f"{name}.safetensors"
    checkpoint.save(origin, network, replace(metadata, codec=Codec(name, 1.5)))
    report = export_pose(origin, tmp_path / f"{name}.onnx")
    assert report.keypoint_difference <= export_module.KEYPOINT_TOLERANCE


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_any_batch_equals_pytorch(weights: Path, session: Any, batch: int) -> None:
    crops = np.stack([golden_rules.image(seed, 96, 64) for seed in range(batch)])
    heatmaps, keypoints = session.run(["heatmaps", "keypoints"], {"crops": crops})
    with torch.inference_mode():
        expected = CropsToKeypoints(*checkpoint.load(weights))(torch.from_numpy(crops))
    assert heatmaps.shape == (batch, 17, 24, 16)
    assert np.abs(heatmaps - expected[0].numpy()).max() <= 1e-4 * float(expected[0].std())
    np.testing.assert_allclose(keypoints, expected[1].numpy(), rtol=0, atol=1e-3)


def test_the_metadata_travels_along(session: Any) -> None:
    metadata = session.get_modelmeta().custom_metadata_map
    assert Metadata.from_json(metadata[Metadata.keys[0]]) == METADATA


def test_the_input_is_raw_crops_of_any_number(session: Any) -> None:
    (crops,) = session.get_inputs()
    assert (crops.name, crops.type) == ("crops", "tensor(uint8)")
    assert isinstance(crops.shape[0], str)
    assert crops.shape[1:] == [96, 64, 3]


def test_the_file_tells_nothing_of_the_machine(report: ExportReport) -> None:
    content = report.path.read_bytes()
    for trace in (b".py", b"site-packages", str(Path.home()).encode() + b"/"):
        assert trace not in content
    onnx.checker.check_model(str(report.path), full_check=True)


def test_another_ending_is_refused(weights: Path, tmp_path: Path) -> None:
    with refused("option-invalid", "w.pb"):
        export_pose(weights, tmp_path / "w.pb")


@pytest.mark.slow
def test_a_difference_writes_nothing(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_module, "TOLERANCE", -1.0)
    with refused("export-differs"):
        export_pose(weights, tmp_path / "w.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_nan_is_a_difference(weights: Path, tmp_path: Path) -> None:
    network, metadata = checkpoint.load(weights)
    assert isinstance(network, HRNet)
    torch.nn.init.constant_(network.final_layer.bias, float("nan"))
    checkpoint.save(tmp_path / "broken.safetensors", network, metadata)
    with refused("export-differs", "nan"):
        export_pose(tmp_path / "broken.safetensors", tmp_path / "broken.onnx")
    assert not (tmp_path / "broken.onnx").exists()


@pytest.mark.slow
def test_another_score_is_a_difference(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = CropsToKeypoints.forward

    def surer(self: CropsToKeypoints, crops: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        heatmaps, keypoints = forward(self, crops)
        return heatmaps, keypoints + torch.tensor([0.0, 0.0, 0.1])

    monkeypatch.setattr(CropsToKeypoints, "forward", surer)
    with refused("export-differs"):
        export_pose(weights, tmp_path / "w.onnx")
