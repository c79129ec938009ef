"""Export to ONNX: equal to PyTorch, of any batch size, with metadata."""

import json
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from typer.testing import CliRunner

import golden_rules
import hrpose
from hrpose.cli.main import app
from hrpose.codec import Codec
from hrpose.detection.person_detector import PersonDetector
from hrpose.metadata import DetectorMetadata, Metadata, metadata_of
from hrpose.models import HRNet, checkpoint
from hrpose.models import export as export_module
from hrpose.models.export import (
    CropsToKeypoints,
    DetectorReport,
    ExportReport,
    ImagesToMaps,
    export_detector,
    export_pose,
)
from refusals import refused

pytestmark = pytest.mark.slow

METADATA = Metadata(
    "w16-small",
    (64, 96),
    codec=Codec(sigma=1.5),
    name="test",
    distillation={"teacher": "w32-small", "license": "unknown", "accepted": True, "with": 0.5},
)


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
def graphs() -> list[onnx.ModelProto]:
    """The graph that PyTorch made for `report`."""
    return []


@pytest.fixture(scope="module")
def report(weights: Path, graphs: list[onnx.ModelProto]) -> ExportReport:
    to_onnx = export_module.to_onnx

    def keep(*given: Any, **named: Any) -> onnx.ModelProto:
        graphs.append(deepcopy(made := to_onnx(*given, **named)))
        return made

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export_module, "to_onnx", keep)
        return export_pose(weights, weights.with_suffix(".onnx"))


@pytest.fixture
def one_graph(
    report: ExportReport, graphs: list[onnx.ModelProto], monkeypatch: pytest.MonkeyPatch
) -> None:
    """PyTorch takes seconds for a graph; these tests are about what is done with it."""
    monkeypatch.setattr(export_module, "to_onnx", lambda *_, **__: deepcopy(graphs[0]))


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


@pytest.mark.usefixtures("one_graph")
def test_float16_weights_are_half_as_large_and_give_nearly_the_same(
    weights: Path, report: ExportReport, session: Any, tmp_path: Path
) -> None:
    path = tmp_path / "h.onnx"
    ran = CliRunner().invoke(app, ["export", str(weights), "--out", str(path), "--half"])
    assert ran.exit_code == 0, ran.output
    assert "float16" in ran.output
    assert path.stat().st_size < 0.55 * report.path.stat().st_size
    crops = np.stack([golden_rules.image(seed, 96, 64) for seed in range(3)])
    expected, found = (
        each.run(["heatmaps", "keypoints"], {"crops": crops})
        for each in (session, ort.InferenceSession(path))
    )
    assert np.abs(found[0] - expected[0]).max() <= 0.05 * float(expected[0].std())
    assert not np.array_equal(found[0], expected[0])
    assert np.median(np.abs(found[1] - expected[1])) < 0.05
    assert metadata_of(path, Metadata) == METADATA


@pytest.mark.slow
def test_trained_weights_are_exported_for_rtmlib_too(weights: Path, tmp_path: Path) -> None:
    command = ["export", str(weights), "--for", "rtmlib", "--half"]
    ran = CliRunner().invoke(app, [*command, "--out", str(tmp_path / "r.onnx"), "--json"])
    assert ran.exit_code == 0, ran.output
    assert json.loads(ran.stdout)["keypoint_difference"] < 1e-2
    assert [path.name for path in tmp_path.iterdir()] == ["r.onnx"]


@pytest.mark.usefixtures("one_graph")
def test_too_coarse_float16_weights_are_not_written(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_module, "HALF_HEATMAP_TOLERANCE", 1e-9)
    with refused("export-differs", "float16"):
        export_pose(weights, tmp_path / "w.onnx", half=True)
    assert not list(tmp_path.iterdir())


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


@pytest.mark.usefixtures("one_graph")
def test_a_difference_writes_nothing(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_module, "TOLERANCE", -1.0)
    with refused("export-differs"):
        export_pose(weights, tmp_path / "w.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("one_graph")
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


DETECTOR = DetectorMetadata("w16-small", 96, threshold=0.25, name="test")


@pytest.fixture(scope="module")
def detector_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights and statistics, as above."""
    network = HRNet.from_name("w16-small", DetectorMetadata.channels)
    state = {
        key: torch.from_numpy(golden_rules.weight(key, tuple(value.shape)))
        for key, value in network.state_dict().items()
    }
    network.load_state_dict(state)
    path = tmp_path_factory.mktemp("export") / "test.safetensors"
    checkpoint.save(path, network, DETECTOR)
    return path


@pytest.fixture(scope="module")
def detector_report(detector_weights: Path) -> DetectorReport:
    return export_detector(detector_weights, detector_weights.with_suffix(".onnx"))


@pytest.fixture(scope="module")
def detector_session(detector_report: DetectorReport) -> Any:
    return ort.InferenceSession(detector_report.path, providers=["CPUExecutionProvider"])


@pytest.mark.slow
def test_detector_the_report_says_that_both_agree(detector_report: DetectorReport) -> None:
    assert detector_report.difference <= export_module.DETECTOR_TOLERANCE
    assert detector_report.file_difference <= export_module.HALF_TOLERANCE


@pytest.mark.parametrize("shape", [(1, 96, 96), (3, 64, 96), (1, 160, 32)])
def test_images_of_any_number_and_size(
    detector_weights: Path, detector_session: Any, shape: tuple[int, int, int]
) -> None:
    batch, height, width = shape
    images = np.stack([golden_rules.image(seed, height, width) for seed in range(batch)])
    heat, distances = detector_session.run(["heat", "distances"], {"images": images})
    with torch.inference_mode():
        expected = ImagesToMaps(*checkpoint.load_detector(detector_weights)).eval()(
            torch.from_numpy(images)
        )
    assert heat.shape == (batch, height // 4, width // 4)
    assert np.abs(heat - expected[0].numpy()).max() <= export_module.HALF_TOLERANCE
    np.testing.assert_allclose(distances, expected[1].numpy(), rtol=export_module.HALF_TOLERANCE)


def test_the_file_is_half_as_large_as_its_weights(
    detector_weights: Path, detector_report: DetectorReport
) -> None:
    assert detector_report.path.stat().st_size < 0.6 * detector_weights.stat().st_size


def test_detector_the_metadata_travels_along(detector_session: Any) -> None:
    metadata = detector_session.get_modelmeta().custom_metadata_map
    assert DetectorMetadata.from_json(metadata[DetectorMetadata.keys[0]]) == DETECTOR


@pytest.fixture
def quick_export(detector_report: DetectorReport, monkeypatch: pytest.MonkeyPatch) -> None:
    """The exporter takes seconds; where the graph is not what is tested, once is enough."""
    graph = onnx.load(detector_report.path)
    monkeypatch.setattr(export_module, "to_onnx", lambda *_, **__: graph)


@pytest.mark.usefixtures("quick_export")
def test_detector_nothing_is_written_where_onnx_differs(
    detector_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_module, "DETECTOR_TOLERANCE", -1.0)
    with refused("export-differs"):
        export_detector(detector_weights, tmp_path / "out.onnx")
    assert not (tmp_path / "out.onnx").exists()


@pytest.mark.usefixtures("quick_export")
def test_detector_nan_is_a_difference(
    detector_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = ImagesToMaps.forward

    def broken(self: ImagesToMaps, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        heat, distances = forward(self, images)
        return heat * float("nan"), distances

    monkeypatch.setattr(ImagesToMaps, "forward", broken)
    with refused("export-differs", "nan"):
        export_detector(detector_weights, tmp_path / "out.onnx")


@pytest.mark.usefixtures("quick_export")
def test_the_command_knows_a_detector(
    detector_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_module, "DETECTOR_TOLERANCE", export_module.HALF_TOLERANCE)
    command = ["export", str(detector_weights), "--out", str(tmp_path / "out.onnx")]
    done = CliRunner().invoke(app, command, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "equal to PyTorch" in done.output
    assert PersonDetector(tmp_path / "out.onnx").metadata == DETECTOR


def test_a_pose_network_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "pose.safetensors"
    checkpoint.save(path, HRNet.from_name("w16-small", 5), Metadata("w16-small", (64, 96)))
    with refused("weights-unsuitable", "pose.safetensors"):
        export_detector(path, tmp_path / "out.onnx")


@pytest.mark.parametrize(
    ("write", "expected"),
    [
        (
            lambda path: checkpoint.save(
                path, HRNet.from_name("w16-small", 5), DetectorMetadata("w16-small", 96)
            ),
            "detector",
        ),
        (
            lambda path: checkpoint.save(
                path, HRNet.from_name("w16-small", 5), Metadata("w16-small", (64, 96))
            ),
            "pose",
        ),
    ],
)
def test_python_and_the_command_export_both_kinds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path], None], expected: str
) -> None:
    write(tmp_path / "a.safetensors")
    monkeypatch.setattr(export_module, "export_detector", lambda *_: "detector")
    monkeypatch.setattr(export_module, "export_pose", lambda *_: "pose")
    found: Any = hrpose.export(tmp_path / "a.safetensors", tmp_path / "a.onnx")
    assert found == expected


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("w16-small", "weights-unsuitable"),
        ("no-such-name", "weights-unknown"),
        ("broken.safetensors", "weights-damaged"),
    ],
)
def test_other_weights_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, code: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("broken.safetensors").write_bytes(b"no tensors")
    with refused(code, name):
        hrpose.export(name, "a.onnx")
    assert not Path("a.onnx").exists()
