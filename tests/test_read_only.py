"""A folder in which an ordinary user may not write: one line, and nothing is left in it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from conftest import ROOT
from hrpose.metadata import Metadata
from hrpose.models import HRNet, checkpoint
from hrpose.synthetic import write_dataset
from tiny_weights import write_tiny_weights

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="folders have no such rights there"),
]
# Who may write anywhere lays down the right to.
ORDINARY = ("setpriv", "--bounding-set=-all", "--inh-caps=-all")
TRAIN = "--set training.epochs=1 --set training.samples_per_epoch=4 --set training.batch_size=2"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for seed, part in enumerate(("train", "val")):
        write_dataset(folder / part, 2, seed)
    torch.manual_seed(0)
    metadata = Metadata("w16-small", (96, 128), name="w16-test")
    checkpoint.save(folder / "w.safetensors", HRNet.from_name("w16-small"), metadata)
    write_tiny_weights(folder / "tiny.onnx")
    return folder


@pytest.mark.parametrize(
    "command",
    [
        "export {data}/w.safetensors --out {out}/w.onnx",
        f"train {{recipe}} --data {{data}} --out {{out}} {TRAIN}",
        "batch {data}/train/images --out {out} --weights {data}/tiny.onnx --detector none",
        "predict {data}/train/images --out {out}/new --weights {data}/tiny.onnx --detector none",
    ],
    ids=lambda command: command.split()[0],
)
def test_a_read_only_folder(command: str, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "locked"
    out.mkdir(mode=0o555)
    line = command.format(data=data, out=out, recipe=ROOT / "recipes" / "synthetic.yaml").split()
    prefix: tuple[str, ...] = ()
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("needs setpriv, or an ordinary user")
        prefix = ORDINARY
    ran = subprocess.run(
        [*prefix, sys.executable, "-m", "hrpose", *line], capture_output=True, text=True
    )
    assert ran.returncode == 2, ran.stderr
    assert "[write-failed]" in ran.stderr.splitlines()[-1]
    assert str(out) in ran.stderr
    assert "Traceback" not in ran.stderr
    assert list(out.iterdir()) == []
