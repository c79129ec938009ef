"""Which weights are exported how, and which are not."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import hrpose
from hrpose.cli.main import app
from hrpose.errors import UserError
from hrpose.metadata import DetectorMetadata, Metadata
from hrpose.models import HRNet, checkpoint, export


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
    ("name", "message"),
    [
        ("w16-small", "w16-small.onnx: is ONNX already; expected .safetensors or .ckpt"),
        ("no-such-name", "no-such-name: no such weights"),
        ("broken.safetensors", "broken.safetensors: expected a safetensors file, found: "),
    ],
)
def test_other_weights_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("broken.safetensors").write_bytes(b"no tensors")
    done = CliRunner().invoke(app, ["export", "--weights", name, "--out", "a.onnx"])
    assert isinstance(done.exception, UserError)
    assert message in str(done.exception)
    assert "\n" not in str(done.exception)
    assert not Path("a.onnx").exists()
