"""Which weights are exported how, and which are not."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import hrpose
from hrpose.metadata import DetectorMetadata, Metadata
from hrpose.models import HRNet, checkpoint, export
from refusals import refused


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
    monkeypatch.setattr(export, "export_detector", lambda *_: "detector")
    monkeypatch.setattr(export, "export_pose", lambda *_: "pose")
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
