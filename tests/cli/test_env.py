"""`hrpose env`, and what commands say about the engine."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from hrpose import engines
from hrpose.cli.main import app
from hrpose.engines import conflicts
from refusals import check_refusal

IMAGE = str(Path(__file__).parents[2] / "examples" / "astronaut.jpg")


def hrpose(*arguments: str, **options: Any) -> Any:
    return CliRunner().invoke(app, list(arguments), **options)


def test_env_as_json() -> None:
    ran = hrpose("env", "--json")
    assert ran.exit_code == 0, ran.output
    found = json.loads(ran.stdout)
    assert found["uses"] == dict.fromkeys(("w32-small", "detector"), "ONNX Runtime on CPU, fp32")
    assert "cpu" in found["devices"]
    assert found["versions"]["onnxruntime"]
    first = found["runs"][0]
    assert (first["device"], first["precision"], first["heatmaps"]) == ("cpu", "fp32", 0)
    for run in found["runs"]:
        assert run["problem"] is None
        assert run["milliseconds"] > 0
        assert run["heatmaps"] < (0.05 if run["precision"] == "bf16" else 1e-3)


def test_env_as_text_names_what_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "provided", lambda kind: kind in ("cpu", "cuda"))
    monkeypatch.setattr(engines, "openvino", lambda: None)
    ran = hrpose("env", env={"HRPOSE_PRECISION": "fp32"})
    assert ran.exit_code == 0, ran.output
    line = next(line for line in ran.output.splitlines() if line.startswith("cuda "))
    assert "fails: " in line
    assert "HRPOSE_PRECISION" in ran.output


def test_two_onnx_runtimes_are_a_conflict() -> None:
    assert conflicts({"onnxruntime": "1.24.1", "numpy": "2.0"}) == []
    (sentence,) = conflicts({"onnxruntime": "1.24.1", "onnxruntime-gpu": "1.24.1"})
    assert "onnxruntime and onnxruntime-gpu" in sentence


def test_predict_says_what_ran(tmp_path: Path) -> None:
    ran = hrpose("predict", IMAGE, "--out", str(tmp_path), "--device", "cpu")
    assert ran.exit_code == 0, ran.output
    assert ran.output.splitlines()[-1].endswith("(ONNX Runtime on CPU, fp32)")
    header = json.loads((tmp_path / "poses.jsonl").read_text().splitlines()[0])
    assert header["engine"] == "ONNX Runtime on CPU, fp32"


@pytest.mark.parametrize("command", [["predict", IMAGE], ["serve"], ["batch", "examples"]])
def test_commands_refuse_unknown_devices(command: list[str], tmp_path: Path) -> None:
    out = [] if command[0] == "serve" else ["--out", str(tmp_path)]
    check_refusal(hrpose(*command, *out, "--device", "gpu"), "device-unknown", "gpu", "cuda")
