"""The folder that `hrpose site` writes."""

import json
import re
from importlib import resources
from pathlib import Path

import numpy as np
from typer.testing import CliRunner

from hrpose.cli.main import app
from hrpose.metadata import DetectorMetadata, Metadata, metadata_of
from hrpose.site import runtime
from hrpose.site.build import DETECTOR, POSE, detector_of
from hrpose.weights import find
from refusals import check_refusal, refused
from tiny_weights import write_tiny_weights

from .conftest import Write


def test_the_files_are_whole_and_their_addresses_relative(write: Write) -> None:
    site = write()
    html = (site / "index.html").read_text("utf-8")
    for address in re.findall(r'(?:href|src)="([^"]+)"', html):
        assert address == "/docs" or (site / address).is_file(), address  # which is not shown
    imported = r'(?:from|import) "\./([\w-]+\.js)"'
    for script in (site / "page").glob("*.js"):
        for name in re.findall(imported, script.read_text("utf-8")):
            assert (site / "page" / name).is_file(), f"{script.name}: {name}"
    worker = (site / "service-worker.js").read_text("utf-8")
    kept = json.loads(re.search(r"const FILES = (\[.*\]);", worker)[1])  # type: ignore[index]
    assert all((site / name).exists() for name in kept)
    assert "./" in kept
    assert "page/main.js" in kept
    # Large files are kept when they are used.
    assert not [name for name in kept if name.startswith(("models/", "runtime/"))]
    for text in (html, worker, *(f.read_text("utf-8") for f in site.rglob("page/*.js"))):
        assert "://" not in text.replace("http://www.w3.org", "")
        assert "__" not in text


def test_it_carries_the_metadata_of_the_weights(write: Write) -> None:
    site = write()
    described = json.loads((site / "site.json").read_text("utf-8"))
    assert (site / POSE).read_bytes() == find("w16-small").read_bytes()
    pose = metadata_of(site / POSE, Metadata)
    found = described["pose"]["metadata"]
    assert tuple(found["input_wh"]) == pose.input_wh
    assert found["codec"]["name"] == pose.codec.name
    assert tuple(found["skeleton"]["keypoints"]) == pose.skeleton.keypoints
    detector = metadata_of(site / DETECTOR, DetectorMetadata)
    assert described["detector"]["metadata"]["threshold"] == detector.threshold
    assert described["about"]["license"] == pose.license
    # The heatmaps that a browser compares with its own are those of a person.
    values = np.array(described["check"]["values"])
    assert len(values) > 200
    assert values.max() > 0.3


def test_folders_with_files_are_left_alone(write: Write, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    for overwrite in (False, True):
        with refused("folder-not-empty", "full"):
            write("full", overwrite=overwrite)
    assert [file.name for file in (tmp_path / "full").iterdir()] == ["mine.txt"]
    site = write()
    before = (site / "service-worker.js").read_bytes()
    with refused("folder-not-empty", "--overwrite"):
        write()
    write(webgpu=False, overwrite=True)
    assert (site / "service-worker.js").read_bytes() != before
    assert "webgpu" not in json.loads((site / "site.json").read_text("utf-8"))["runtime"]


def test_the_command(write: Write, tmp_path: Path) -> None:
    result = CliRunner().invoke(
        app, ["site", str(tmp_path / "out"), "--weights", "w16-small", "--json"]
    )
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout)
    files = [file for file in (tmp_path / "out").rglob("*") if file.is_file()]
    assert summary["bytes"] == sum(file.stat().st_size for file in files)
    assert summary["folder"] == str(tmp_path / "out")


def test_what_browsers_cannot_run_is_refused(write: Write, tmp_path: Path) -> None:
    def run(*words: str) -> object:
        return CliRunner().invoke(app, ["site", str(tmp_path / "out"), *words])

    (tmp_path / "w.safetensors").write_bytes(b"")
    check_refusal(run("--weights", str(tmp_path / "w.safetensors")), "weights-unsuitable", "export")
    plain = write_tiny_weights(tmp_path / "plain.onnx", None)
    check_refusal(run("--weights", str(plain)), "metadata-missing", "plain.onnx")
    tiny = write_tiny_weights(tmp_path / "tiny.onnx")
    check_refusal(run("--detector", str(tiny)), "weights-unsuitable", "tiny.onnx")
    assert not (tmp_path / "out").exists()


def test_own_weights_without_a_detector(write: Write, tmp_path: Path) -> None:
    site = write("tiny", weights=str(write_tiny_weights(tmp_path / "tiny.onnx")))
    assert json.loads((site / "site.json").read_text("utf-8"))["about"]["name"] == "tiny"
    assert detector_of("none") is None


def test_the_license_goes_with_the_runtime(write: Write) -> None:
    text = (write() / "runtime" / "LICENSE.txt").read_text("utf-8")
    assert "MIT" in text
    assert runtime.VERSION in text


def test_every_text_is_in_both_languages() -> None:
    text = (resources.files("hrpose.site") / "page" / "words-here.js").read_text("utf-8")
    english, chinese = (
        re.findall(r'(?m)^    "?([\w-]+)"?: ".+",$', part) for part in text.split("  zh: {")
    )
    assert len(english) >= 9
    assert english == chinese
