"""Eight-bit weights: smaller, nearly the same heatmaps, refused where they cost too much."""

import logging
from pathlib import Path

import numpy as np
import onnx
import pytest
from typer.testing import CliRunner

from hrpose import weights
from hrpose.cli.main import app
from hrpose.data.coco import load_persons
from hrpose.evaluation import quantize as quantize_module
from hrpose.evaluation.quantize import quantize
from hrpose.io import read_texts
from hrpose.metrics.oks import keypoint_similarities, oks
from hrpose.models.export import halved
from hrpose.session import OnnxSession
from hrpose.synthetic import write_dataset
from refusals import refused


@pytest.fixture(scope="module")
def persons(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("persons")
    write_dataset(folder, 6, seed=2)
    return folder


def options(persons: Path) -> list[str]:
    return ["--annotations", str(persons / "annotations.json"), "--images", str(persons / "images")]


@pytest.mark.slow
def test_the_command_writes_a_smaller_file_with_nearly_the_same_heatmaps(
    persons: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "small.onnx"
    arguments = ["quantize", "w16-small", "--out", str(out), *options(persons), "--max-drop", "1"]
    levels: list[int] = []
    monkeypatch.setattr(logging.getLogger(), "setLevel", levels.append)
    done = CliRunner().invoke(app, arguments)
    # It is quiet without changing how the process logs.
    assert (levels, caplog.messages) == ([], [])
    monkeypatch.undo()
    assert done.exit_code == 0, done.output
    assert "left_wrist" in done.output
    original = weights.find("w16-small")
    assert out.stat().st_size < 0.7 * original.stat().st_size  # of float16 to int8
    before, after = OnnxSession(original), OnnxSession(out)
    assert after.metadata.name == "w16-small-int8"
    assert after.metadata.codec == before.metadata.codec
    assert after.metadata.license == before.metadata.license
    (crops,) = quantize_module.calibration_crops(
        before.metadata,
        persons / "annotations.json",
        persons / "images",
        6,
        np.random.default_rng(0),
    )
    one, other = before(crops), after(crops)
    assert not np.array_equal(one, other)
    assert np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.98
    assert not any(key.startswith("onnx.") for key in read_texts(out))
    kinds = [node.op_type for node in onnx.load(out).graph.node]
    assert kinds.count("QuantizeLinear") > 40


def test_float16_weights_are_made_float32() -> None:
    shipped = onnx.load(weights.find("w16-small"))
    full = quantize_module._in_float32(shipped)
    half = halved(full)
    assert any(entry.data_type == onnx.TensorProto.FLOAT16 for entry in half.graph.initializer)
    found = quantize_module._in_float32(half).graph
    assert all(entry.data_type != onnx.TensorProto.FLOAT16 for entry in found.initializer)
    assert [node.name for node in found.node] == [node.name for node in full.graph.node]


@pytest.mark.slow
def test_too_great_a_drop_writes_nothing(
    persons: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Destroy the small file's arithmetic the way a bad calibration does: with wrong ranges.
    def black(*_: object) -> list[np.ndarray]:
        width, height = OnnxSession(weights.find("w16-small")).metadata.input_wh
        return [np.zeros((2, height, width, 3), np.uint8)]

    monkeypatch.setattr(quantize_module, "calibration_crops", black)
    real = quantize_module.measure

    def generous(path: Path, *rest: object) -> quantize_module.Measured:
        # The embedded weights find little in drawings; the drop is what is tried here.
        measured = real(path, *rest)  # type: ignore[arg-type]
        small = path.name == "small.onnx"
        return quantize_module.Measured(
            _scored(measured, 0.1 if small else 0.5), measured.similarity
        )

    monkeypatch.setattr(quantize_module, "measure", generous)
    with refused("drop-too-large", "0.400"):
        quantize(
            weights.find("w16-small"),
            tmp_path / "small.onnx",
            persons / "annotations.json",
            persons / "images",
        )
    assert not (tmp_path / "small.onnx").exists()


def _scored(measured: quantize_module.Measured, ap: float) -> quantize_module.KeypointScores:
    return type(measured.scores)(**{**measured.scores.as_dict(), "AP": ap})


def test_similarities_are_the_terms_of_the_oks(persons: Path) -> None:
    table = load_persons(persons / "annotations.json")
    moved = table.keypoints + np.random.default_rng(0).normal(0, 5, table.keypoints.shape)
    terms = keypoint_similarities(moved, table.keypoints, table.areas)
    labeled = table.keypoints[..., 2] > 0
    mean = (terms * labeled).sum(axis=1) / labeled.sum(axis=1)
    expected = np.diag(oks(moved, table.keypoints, table.areas))
    np.testing.assert_allclose(mean, expected, atol=1e-12)


@pytest.mark.slow
def test_what_is_quantized_already_is_refused(persons: Path, tmp_path: Path) -> None:
    first = tmp_path / "one.onnx"
    CliRunner().invoke(
        app, ["quantize", "w16-small", "--out", str(first), *options(persons), "--max-drop", "1"]
    )
    with refused("weights-unsuitable", "one.onnx"):
        quantize(
            first,
            tmp_path / "two.onnx",
            persons / "annotations.json",
            persons / "images",
            persons=4,
        )


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["w16-small", "--out", "small.bin"], "option-invalid"),
        (["w16-small", "--out", "small.onnx", "--calibration-images", "x"], "option-conflict"),
    ],
)
def test_bad_input(persons: Path, arguments: list[str], code: str) -> None:
    with refused(code):
        CliRunner().invoke(app, ["quantize", *arguments, *options(persons)], catch_exceptions=False)
