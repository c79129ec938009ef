"""A disk that is full in the middle of a command: one line, and nothing half written."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from hrpose.metadata import Metadata
from hrpose.models import HRNet, checkpoint
from hrpose.synthetic import write_dataset


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_dataset(folder, 2, 0)
    torch.manual_seed(0)
    metadata = Metadata("w16-small", (96, 128), name="w16-test")
    checkpoint.save(folder / "w.safetensors", HRNet.from_name("w16-small"), metadata)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "kilobytes"),
    [
        ("data pack {data}/annotations.json --images {data}/images --out {out}", 8),
        ("data convert to-yolo {data}/annotations.json --images {data}/images --out {out}", 0),
        ("weights convert {data}/w.safetensors --out {out}.onnx", 100),
    ],
)
def test_a_file_that_cannot_grow(command: str, kilobytes: int, data: Path, tmp_path: Path) -> None:
    def bound() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000 * kilobytes, 1000 * kilobytes))

    line = command.format(data=data, out=tmp_path / "out").split()
    ran = subprocess.run(
        [sys.executable, "-m", "hrpose", *line], preexec_fn=bound, capture_output=True, text=True
    )
    assert ran.returncode == 2, ran.stderr
    assert "[write-failed]" in ran.stderr
    assert "Traceback" not in ran.stderr
    left = [p.name for p in tmp_path.rglob("*") if p.is_file() and p.suffix in (".onnx", ".txt")]
    assert left == []
