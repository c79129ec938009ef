"""`hrpose evaluate-detector`: metrics that can be counted by hand."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from hrpose.cli.main import app
from refusals import refused
from tiny_person_detector import REACH, SIDE, write_tiny_detector


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three images of 128 x 128: a red person, a red ghost, and a person who is not red."""
    (tmp_path / "images").mkdir()
    size = 2 * REACH * 128 / SIDE
    person = {"category_id": 1, "bbox": [64 - size / 2, 64 - size / 2, size, size]}
    for i in range(3):
        pixels = np.zeros((128, 128, 3), np.uint8)
        pixels[56:72, 56:72, 0] = 255 if i < 2 else 0
        Image.fromarray(pixels).save(tmp_path / "images" / f"{i}.png")
    document = {
        "images": [
            {"id": i, "file_name": f"{i}.png", "width": 128, "height": 128} for i in range(3)
        ],
        "annotations": [{"id": 1, "image_id": 0, **person}, {"id": 2, "image_id": 2, **person}],
        "categories": [{"id": 1, "name": "person"}],
    }
    (tmp_path / "boxes.json").write_text(json.dumps(document))
    write_tiny_detector(tmp_path / "tiny.onnx")
    return tmp_path


def run(data: Path, *options: str) -> str:
    done = CliRunner().invoke(
        app,
        [
            *("evaluate-detector", "--annotations", str(data / "boxes.json")),
            *("--images", str(data / "images"), "--detector", str(data / "tiny.onnx"), *options),
        ],
        catch_exceptions=False,
    )
    assert done.exit_code == 0, done.output
    return done.output


def test_recall_and_precision(data: Path) -> None:
    output = run(data, "--min-height", "20")
    assert "2 persons in 3 images, at least 20 px high" in output
    assert "threshold 0.50: recall 0.500, precision 0.500, 0.7 boxes per image" in output


def test_auto_is_measured_without_the_full_image(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HRPOSE_HOME", str(data / "no-downloads"))
    output = run(data, "--detector", "auto", "--box-threshold", "0.5")
    assert output.startswith("builtin: 0 persons in 3 images")
    # The full image, where it finds nobody, is no detection.
    assert "threshold 0.50: recall 0.000, precision 1.000, 0.0 boxes per image" in output


def test_persons_below_the_minimum_height_do_not_count(data: Path) -> None:
    assert "0 persons in 3 images, at least 96 px high" in run(data)


def test_a_missing_file_is_named(data: Path) -> None:
    with refused("file-unreadable", "none.onnx"):
        run(data, "--detector", str(data / "none.onnx"))
